"""Averages with weights that torch lacks: over what a mask leaves, or through a low-pass
filter before the stride. Made of torchconv's average pooling and convolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._args import COMPLEX, FLOATING, check_dtype
from ._windows import windows_of
from .avg_pooling import AVG_POOL
from .conv import CONV

Ints = int | Sequence[int]


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
    total = AVG_POOL[nd](
        torch.where(there, x, 0).to(wide), kernel_size, stride, padding, ceil_mode
    )
    share = AVG_POOL[nd](there.to(wide), kernel_size, stride, padding, ceil_mode)
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
    return CONV[nd](
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
