"""Poolings that torch lacks which pick one position of each window: by chance or by rank.

Stochastic pooling takes the taps of the windows one after another as strided views, and
is made of average pooling when not training. Median pooling sorts an unfolded copy of the
input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .. import autograd
from ._windows import Windows, flat_positions, padded, taps, unfolded, windows_of
from .avg_pooling import AVG_POOL

Ints = int | Sequence[int]


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
        mean = AVG_POOL[nd](positive, *pool)
        safe = torch.where(mean > 0, mean, 1)
        return AVG_POOL[nd](positive.square(), *pool) / safe
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
