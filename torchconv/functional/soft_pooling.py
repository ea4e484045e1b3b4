"""Soft poolings that torch lacks: between the maximum and the average, or with a norm.

Mixed and Lp pooling are made of torchconv's kernels. Log-sum-exp takes the taps of the
windows one after another as strided views: no unfolded copy is made, but its gradient
saves a tensor of the output's size for each tap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ._windows import counts, padded, per_channel, taps, windows_of
from .avg_pooling import AVG_POOL
from .max_pooling import MAX_POOL

Ints = int | Sequence[int]
Scalar = float | Tensor

_HALF = (torch.float16, torch.bfloat16)


def _wide(x: Tensor) -> Tensor:
    return x.float() if x.dtype in _HALF else x


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
    top = MAX_POOL[nd](x.detach(), kernel_size, stride, padding, 1, ceil_mode)
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
    top = MAX_POOL[nd](x, kernel_size, stride, padding, 1, ceil_mode)
    mean = AVG_POOL[nd](x, kernel_size, stride, padding, ceil_mode, count_include_pad)
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
    mean = AVG_POOL[nd](powers, kernel_size, stride, 0, ceil_mode)
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
