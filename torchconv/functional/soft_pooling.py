"""Poolings that torch lacks: soft, mixed, stochastic, median, with a mask, blurred.

Those that torchconv's kernels can be made of (mixed, Lp, masked average, blur, and
stochastic when not training) run on them. Log-sum-exp and stochastic pooling take the taps
of the windows one after another as strided views: no unfolded copy is made, but the
gradient of log-sum-exp saves a tensor of the output's size for each tap. Median pooling
sorts an unfolded copy of the input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import autograd
from .._args import COMPLEX, FLOATING, check_dtype
from ._windows import (
    Windows,
    counts,
    flat_positions,
    padded,
    per_channel,
    taps,
    unfolded,
    windows_of,
)
from .avg_pooling import avg_pool1d, avg_pool2d, avg_pool3d
from .conv import conv1d, conv2d, conv3d
from .max_pooling import max_pool1d, max_pool2d, max_pool3d

Ints = int | Sequence[int]
Scalar = float | Tensor

_AVG: dict[int, Any] = {1: avg_pool1d, 2: avg_pool2d, 3: avg_pool3d}
_MAX: dict[int, Any] = {1: max_pool1d, 2: max_pool2d, 3: max_pool3d}
_CONV: dict[int, Any] = {1: conv1d, 2: conv2d, 3: conv3d}


_HALF = (torch.float16, torch.bfloat16)


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in _HALF else x


# -- log-sum-exp


def _lse_pool(
    name: str,
    nd: int,
    x: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    sharpness: Scalar,
) -> Tensor:
    windows = windows_of(name, nd, x, kernel_size, stride, padding, ceil_mode)
    if not isinstance(sharpness, Tensor) and not sharpness > 0:
        raise ValueError(f"{name}(): sharpness must be positive, but got {sharpness!r}")
    # Half types cannot count the taps of a large window.
    given, half, x = x.dtype, x.dtype in _HALF, _wide(x)
    r = per_channel(sharpness, x, nd)
    # The largest of a window cancels out, so it needs no gradient.
    top = _MAX[nd](x.detach(), kernel_size, stride, padding, 1, ceil_mode)
    top = torch.where(top.isinf(), 0, top)
    total = torch.zeros_like(top)
    for _, tap in taps(padded(x, windows, -math.inf), windows):
        there = tap != -math.inf  # else r would get the derivative 0 * inf
        term = ((torch.where(there, tap, top) - top) * r).exp()
        total = total + torch.where(there, term, 0)
    y = top + (total / counts(x, windows)).log() / r
    return y.to(given) if half else y


def lse_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    sharpness: Scalar = 1.0,
) -> Tensor:
    """2-d log-sum-exp pooling, a soft maximum: log(mean(exp(r x))) / r over each window.

    For r = sharpness towards 0 it becomes average, towards infinity max pooling (Pinheiro,
    Collobert, "From image-level to pixel-level labeling with convolutional networks",
    arXiv:1411.6228, equation 6). No exponential overflows: the largest value of the
    window is taken off before. Padding does not count.

    Args:
        input: (N, C, H, W) or (C, H, W), floating point.
        kernel_size, stride, padding, ceil_mode: as :func:`max_pool2d`.
        sharpness: r > 0, a number or a tensor (scalar, or (C,)), which may be learnt.

    Raises:
        ValueError: sharpness is a number that is not positive.
        RuntimeError, TypeError: arguments that do not fit, as :func:`max_pool2d`.
    """
    return _lse_pool(
        "lse_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, sharpness
    )


# -- mixed max and average


def _mixed_pool(
    name: str,
    nd: int,
    x: Tensor,
    kernel_size: Any,
    alpha: Scalar,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Tensor:
    windows_of(name, nd, x, kernel_size, stride, padding, ceil_mode)
    a = per_channel(alpha, x, nd)
    top = _MAX[nd](x, kernel_size, stride, padding, 1, ceil_mode)
    mean = _AVG[nd](x, kernel_size, stride, padding, ceil_mode, count_include_pad)
    return a * top + (1 - a) * mean


def mixed_pool2d(
    input: Tensor,
    kernel_size: Ints,
    alpha: Scalar,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """2-d mixed pooling: alpha * max + (1 - alpha) * average (Lee, Gallagher, Tu,
    "Generalizing pooling functions in convolutional neural networks", arXiv:1509.08985).

    Args:
        input: (N, C, H, W) or (C, H, W), floating point.
        alpha: a number or a tensor (scalar, or (C,)), which may be learnt.
        kernel_size, stride, padding, ceil_mode, count_include_pad: as
            :func:`max_pool2d` and :func:`avg_pool2d`.

    Raises:
        RuntimeError, TypeError: arguments that do not fit, as :func:`max_pool2d`.
    """
    return _mixed_pool(
        "mixed_pool2d",
        2,
        input,
        kernel_size,
        alpha,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
    )


# -- Lp with a norm that is learnt


def _learned_lp_pool(
    name: str,
    nd: int,
    x: Tensor,
    norm_type: Scalar,
    kernel_size: Any,
    stride: Any,
    ceil_mode: bool,
) -> Tensor:
    windows = windows_of(name, nd, x, kernel_size, stride, 0, ceil_mode)
    # Powers leave the range of half types.
    given, half, x = x.dtype, x.dtype in _HALF, _wide(x)
    p = per_channel(norm_type, x, nd)
    size = x.abs()
    # Zeros apart: their powers and roots have no derivative, here it is 0.
    zero = size == 0
    powers = torch.where(zero, 0, torch.where(zero, 1, size) ** p)
    mean = _AVG[nd](powers, kernel_size, stride, 0, ceil_mode)
    total = mean * math.prod(windows.kernel)
    zero = total == 0
    y = torch.where(zero, 0, torch.where(zero, 1, total) ** (1 / p))
    return y.to(given) if half else y


def learned_lp_pool2d(
    input: Tensor,
    norm_type: Scalar,
    kernel_size: Ints,
    stride: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """2-d Lp pooling of absolute values, (sum of |x|^p over each window)^(1/p), with a
    derivative for p (Gulcehre et al., "Learned-norm pooling for deep feedforward and
    recurrent neural networks", arXiv:1311.1780).

    Args:
        input: (N, C, H, W) or (C, H, W), floating point.
        norm_type: p, a number or a tensor (scalar, or (C,)), not 0.
        kernel_size, stride, ceil_mode: as :func:`lp_pool2d`, which takes signed powers and
            has no derivative for a number p.

    Raises:
        RuntimeError, TypeError: arguments that do not fit, as :func:`max_pool2d`.
    """
    return _learned_lp_pool(
        "learned_lp_pool2d", 2, input, norm_type, kernel_size, stride, ceil_mode
    )


# -- average of what is there


def _masked_avg_pool(
    name: str,
    nd: int,
    x: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    mask: Tensor | None,
) -> Tensor:
    windows_of(name, nd, x, kernel_size, stride, padding, ceil_mode)
    there = ~x.isnan() if mask is None else mask.to(torch.bool).expand(x.shape)
    wide = x.dtype if x.dtype is torch.float64 else torch.float32
    total = _AVG[nd](
        torch.where(there, x, 0).to(wide), kernel_size, stride, padding, ceil_mode
    )
    share = _AVG[nd](there.to(wide), kernel_size, stride, padding, ceil_mode)
    return (total / share).to(x.dtype)


def masked_avg_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    mask: Tensor | None = None,
) -> Tensor:
    """2-d average pooling over the positions that count: those not NaN, or those of a mask.

    Padding does not count. A window without such a position is NaN, as torch.nanmean's.

    Args:
        input: (N, C, H, W) or (C, H, W), floating point.
        kernel_size, stride, padding, ceil_mode: as :func:`avg_pool2d`.
        mask: true where input counts, of a size that can be expanded to the input's. None:
            where it is not NaN.

    Raises:
        RuntimeError, TypeError: arguments that do not fit, as :func:`max_pool2d`.
    """
    return _masked_avg_pool(
        "masked_avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, mask
    )


# -- poolings that pick one position


def _pick(x: Tensor, index: Tensor, nd: int) -> Tensor:
    """x at flat positions of its planes, differentiable."""
    ones, zeros = (1,) * nd, (0,) * nd
    return autograd.pool_gather(x, index, (ones, ones, zeros, ones, False))


def _firsts(x: Tensor, windows: Windows) -> list[Tensor]:
    """Where windows begin, along each dimension, counted in the input."""
    return [
        torch.arange(o, device=x.device) * s - low
        for o, s, (low, _) in zip(windows.out, windows.stride, windows.pads)
    ]


def _stochastic_pool(
    name: str,
    nd: int,
    x: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    training: bool,
    generator: torch.Generator | None,
) -> Tensor:
    windows = windows_of(name, nd, x, kernel_size, stride, padding, ceil_mode)
    positive = x.relu()
    if not training:
        pool = (kernel_size, stride, padding, ceil_mode)
        mean = _AVG[nd](positive, *pool)
        safe = torch.where(mean > 0, mean, 1)
        return _AVG[nd](positive.square(), *pool) / safe
    values = positive.unsqueeze(0) if windows.unbatched else positive
    with torch.no_grad():
        wide = x.dtype if x.dtype is torch.float64 else torch.float32
        a = padded(values.detach().to(wide), windows, 0.0)
        views = list(taps(a, windows))
        total = sum(tap for _, tap in views[1:]) + views[0][1]
        drawn = torch.rand(
            total.shape, dtype=wide, device=x.device, generator=generator
        )
        threshold = drawn * total
        firsts, sizes = _firsts(x, windows), values.shape[2:]
        origin = flat_positions(firsts, sizes, (0,) * nd)
        index = origin.expand(total.shape)
        running = torch.zeros_like(total)
        open_ = torch.ones_like(total, dtype=torch.bool)
        for tap, view in views:
            position = flat_positions(firsts, sizes, tap)
            index = torch.where(open_ & (view > 0), position, index)
            running += view
            open_ = open_ & (running <= threshold)
    y = _pick(values, index.contiguous(), nd)
    return y.squeeze(0) if windows.unbatched else y


def stochastic_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    training: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """2-d stochastic pooling: one position of each window, drawn in proportion to its
    activation (Zeiler, Fergus, "Stochastic pooling for regularization of deep convolutional
    neural networks", arXiv:1301.3557).

    Negative activations count as 0, and a window without a positive one gives 0. When not
    training the result is what is to be expected: sum(a^2) / sum(a).

    Args:
        input: (N, C, H, W) or (C, H, W), floating point.
        kernel_size, stride, padding, ceil_mode: as :func:`max_pool2d`.
        training: whether to draw.
        generator: where random numbers come from; None takes torch's, so that
            ``torch.manual_seed`` makes results reproducible.

    Raises:
        RuntimeError, TypeError: arguments that do not fit, as :func:`max_pool2d`.
    """
    return _stochastic_pool(
        "stochastic_pool2d",
        2,
        input,
        kernel_size,
        stride,
        padding,
        ceil_mode,
        training,
        generator,
    )


def _median_pool(
    name: str,
    nd: int,
    x: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
) -> Tensor:
    windows = windows_of(name, nd, x, kernel_size, stride, padding, ceil_mode)
    values = x.unsqueeze(0) if windows.unbatched else x
    with torch.no_grad():
        fixed = values.detach()
        flat = unfolded(padded(fixed, windows, math.nan), windows).flatten(-nd)
        any_padding = any(p for pair in windows.pads for p in pair)
        if any_padding:
            # Padding does not count, but a NaN of the input's is the result.
            found = flat.nanmedian(-1).indices
            bad = torch.zeros_like(found, dtype=torch.bool)
            for tap, view in taps(padded(fixed.isnan(), windows, False), windows):
                number = torch.tensor(_number(tap, windows.kernel), device=x.device)
                found = torch.where(view & ~bad, number, found)
                bad = bad | view
        else:
            found = flat.median(-1).indices
        position = torch.zeros_like(found)
        sizes, kernel = values.shape[2:], windows.kernel
        for d, first in enumerate(_firsts(x, windows)):
            inner = math.prod(kernel[d + 1 :])
            tap_ = found // inner % kernel[d]
            at = first.reshape(-1, *[1] * (nd - 1 - d)) + tap_
            position = position * sizes[d] + at
    y = _pick(values, position, nd)
    return y.squeeze(0) if windows.unbatched else y


def _number(tap: Sequence[int], kernel: Sequence[int]) -> int:
    """The number of a tap in row-major order."""
    number = 0
    for t, k in zip(tap, kernel):
        number = number * k + t
    return number


def median_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
) -> Tensor:
    """2-d median pooling: the middle value of each window, the lower of two as
    torch.median. Padding does not count; a NaN in the window is the result.

    The gradient goes to the position that was picked. An unfolded copy of the input is
    sorted: this pooling takes kernel_h * kernel_w / (stride_h * stride_w) times the
    input's memory.

    Args:
        input: (N, C, H, W) or (C, H, W), floating point.
        kernel_size, stride, padding, ceil_mode: as :func:`max_pool2d`.

    Raises:
        RuntimeError, TypeError: arguments that do not fit, as :func:`max_pool2d`.
    """
    return _median_pool(
        "median_pool2d", 2, input, kernel_size, stride, padding, ceil_mode
    )


# -- blur


def _blur_pool(
    name: str, nd: int, x: Tensor, filter_size: int, stride: Any, padding_mode: str
) -> Tensor:
    if not isinstance(filter_size, int) or filter_size < 1:
        raise ValueError(
            f"{name}(): filter_size must be a positive int, but got {filter_size!r}"
        )
    if not isinstance(x, Tensor) or x.dim() not in (nd + 1, nd + 2):
        size = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise RuntimeError(
            f"{name}: Expected {nd + 1}D or {nd + 2}D (batch mode) tensor for input, "
            f"but got: {size}"
        )
    check_dtype(name, x.dtype, FLOATING | COMPLEX)
    row = [
        math.comb(filter_size - 1, i) / 2 ** (filter_size - 1)
        for i in range(filter_size)
    ]
    one = torch.tensor(row, dtype=x.dtype, device=x.device)
    kernel = one
    for _ in range(nd - 1):
        kernel = kernel.unsqueeze(-1) * one
    channels = x.shape[-nd - 1]
    low = (filter_size - 1) // 2
    pads = [(low, filter_size - 1 - low)] * nd
    weight = kernel.expand(channels, 1, *kernel.shape)
    return _CONV[nd](
        x, weight, None, stride, pads, 1, channels, padding_mode=padding_mode
    )


def blur_pool2d(
    input: Tensor,
    filter_size: int = 3,
    stride: Ints = 2,
    padding_mode: str = "reflect",
) -> Tensor:
    """2-d blur pooling: a binomial low-pass filter, then every stride-th position.

    What a stride alone would fold into low frequencies is taken away first, which restores
    equivariance to shifts (Zhang, "Making convolutional networks shift-invariant again",
    arXiv:1904.11486). A depthwise convolution.

    Args:
        input: (N, C, H, W) or (C, H, W), floating point or complex.
        filter_size: taps of the filter along each dimension, the coefficients of
            (1 + x)^(filter_size - 1).
        stride: an int or one per spatial dimension.
        padding_mode: what is beyond the border, as :func:`conv2d`.

    Raises:
        ValueError: filter_size is no positive int; an unknown padding_mode.
        RuntimeError, TypeError: arguments that do not fit, as :func:`conv2d`.
    """
    return _blur_pool("blur_pool2d", 2, input, filter_size, stride, padding_mode)


# -- one and three dimensions


def lse_pool1d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    sharpness: Scalar = 1.0,
) -> Tensor:
    """1-d; see :func:`lse_pool2d`."""
    return _lse_pool(
        "lse_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, sharpness
    )


def lse_pool3d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    sharpness: Scalar = 1.0,
) -> Tensor:
    """3-d; see :func:`lse_pool2d`."""
    return _lse_pool(
        "lse_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, sharpness
    )


def mixed_pool1d(
    input: Tensor,
    kernel_size: Ints,
    alpha: Scalar,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """1-d; see :func:`mixed_pool2d`."""
    return _mixed_pool(
        "mixed_pool1d",
        1,
        input,
        kernel_size,
        alpha,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
    )


def mixed_pool3d(
    input: Tensor,
    kernel_size: Ints,
    alpha: Scalar,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """3-d; see :func:`mixed_pool2d`."""
    return _mixed_pool(
        "mixed_pool3d",
        3,
        input,
        kernel_size,
        alpha,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
    )


def learned_lp_pool1d(
    input: Tensor,
    norm_type: Scalar,
    kernel_size: Ints,
    stride: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """1-d; see :func:`learned_lp_pool2d`."""
    return _learned_lp_pool(
        "learned_lp_pool1d", 1, input, norm_type, kernel_size, stride, ceil_mode
    )


def learned_lp_pool3d(
    input: Tensor,
    norm_type: Scalar,
    kernel_size: Ints,
    stride: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """3-d; see :func:`learned_lp_pool2d`."""
    return _learned_lp_pool(
        "learned_lp_pool3d", 3, input, norm_type, kernel_size, stride, ceil_mode
    )


def masked_avg_pool1d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    mask: Tensor | None = None,
) -> Tensor:
    """1-d; see :func:`masked_avg_pool2d`."""
    return _masked_avg_pool(
        "masked_avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, mask
    )


def masked_avg_pool3d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    mask: Tensor | None = None,
) -> Tensor:
    """3-d; see :func:`masked_avg_pool2d`."""
    return _masked_avg_pool(
        "masked_avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, mask
    )


def stochastic_pool1d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    training: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """1-d; see :func:`stochastic_pool2d`."""
    return _stochastic_pool(
        "stochastic_pool1d",
        1,
        input,
        kernel_size,
        stride,
        padding,
        ceil_mode,
        training,
        generator,
    )


def stochastic_pool3d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    training: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """3-d; see :func:`stochastic_pool2d`."""
    return _stochastic_pool(
        "stochastic_pool3d",
        3,
        input,
        kernel_size,
        stride,
        padding,
        ceil_mode,
        training,
        generator,
    )


def median_pool1d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
) -> Tensor:
    """1-d; see :func:`median_pool2d`."""
    return _median_pool(
        "median_pool1d", 1, input, kernel_size, stride, padding, ceil_mode
    )


def median_pool3d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
) -> Tensor:
    """3-d; see :func:`median_pool2d`."""
    return _median_pool(
        "median_pool3d", 3, input, kernel_size, stride, padding, ceil_mode
    )


def blur_pool1d(
    input: Tensor,
    filter_size: int = 3,
    stride: Ints = 2,
    padding_mode: str = "reflect",
) -> Tensor:
    """1-d; see :func:`blur_pool2d`."""
    return _blur_pool("blur_pool1d", 1, input, filter_size, stride, padding_mode)


def blur_pool3d(
    input: Tensor,
    filter_size: int = 3,
    stride: Ints = 2,
    padding_mode: str = "reflect",
) -> Tensor:
    """3-d; see :func:`blur_pool2d`."""
    return _blur_pool("blur_pool3d", 3, input, filter_size, stride, padding_mode)
