"""Average and Lp pooling functions, with torch.nn.functional's names and signatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ._avg import _adaptive_avg_pool, _avg_pool, _lp_pool
from .max_pooling import max_pool1d, max_pool2d, max_pool3d

Ints = int | Sequence[int]
Sizes = int | Sequence[int | None]


def avg_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """2-d average pooling, as ``torch.nn.functional.avg_pool2d``.

    Args:
        input: (N, C, H, W) or (C, H, W); floating point or int64.
        kernel_size: size of the window, an int or one per spatial dimension.
        stride: distance of the windows; default: kernel_size.
        padding: implicit zeros on both sides, at most half the kernel.
        ceil_mode: also windows that hang over the end, if they start inside the input
            or its left padding; what hangs over is not counted.
        count_include_pad: whether padding counts in the divisor.
        divisor_override: divides by this instead.

    Returns:
        (N, C, H_out, W_out), or without N.

    Raises:
        RuntimeError, IndexError, TypeError: arguments that do not fit, as torch.
    """
    return _avg_pool(
        avg_pool2d,
        2,
        input,
        kernel_size,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
        divisor_override,
    )


def avg_pool1d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """1-d average pooling, as ``torch.nn.functional.avg_pool1d``.

    See :func:`avg_pool2d`, with one spatial dimension and no divisor_override.
    """
    return _avg_pool(
        avg_pool1d,
        1,
        input,
        kernel_size,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
        None,
    )


def avg_pool3d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """3-d average pooling, as ``torch.nn.functional.avg_pool3d``.

    See :func:`avg_pool2d`, with three spatial dimensions.
    """
    return _avg_pool(
        avg_pool3d,
        3,
        input,
        kernel_size,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
        divisor_override,
    )


def adaptive_avg_pool2d(
    input: Tensor,
    output_size: Sizes,
) -> Tensor:
    """2-d adaptive average pooling, as ``torch.nn.functional.adaptive_avg_pool2d``.

    Output o covers the inputs from floor(o * in / out) to ceil((o + 1) * in / out).

    Args:
        input: (N, C, H, W) or (C, H, W), floating point.
        output_size: an int or one per spatial dimension; None keeps that size.

    Raises:
        RuntimeError, ValueError, TypeError: arguments that do not fit, as torch.
    """
    return _adaptive_avg_pool(adaptive_avg_pool2d, 2, input, output_size)


def adaptive_avg_pool1d(
    input: Tensor,
    output_size: Ints,
) -> Tensor:
    """1-d adaptive average pooling, as ``torch.nn.functional.adaptive_avg_pool1d``.

    See :func:`adaptive_avg_pool2d`, with one spatial dimension.
    """
    return _adaptive_avg_pool(adaptive_avg_pool1d, 1, input, output_size)


def adaptive_avg_pool3d(
    input: Tensor,
    output_size: Sizes,
) -> Tensor:
    """3-d adaptive average pooling, as ``torch.nn.functional.adaptive_avg_pool3d``.

    See :func:`adaptive_avg_pool2d`, with three spatial dimensions.
    """
    return _adaptive_avg_pool(adaptive_avg_pool3d, 3, input, output_size)


def lp_pool2d(
    input: Tensor,
    norm_type: float,
    kernel_size: Ints,
    stride: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """2-d power-average pooling, as ``torch.nn.functional.lp_pool2d``.

    Each output is (sum of x ** norm_type over the window) ** (1 / norm_type); with
    ceil_mode, a window that hangs over the end is scaled up to a whole one.

    The gradient of a window whose output is 0 is 0, where torch's is NaN.

    Args:
        input: (N, C, H, W) or (C, H, W), floating point (int64 and bool as torch).
        norm_type: the power; infinity means :func:`max_pool2d` of absolute values.
        kernel_size, stride, ceil_mode: as :func:`avg_pool2d`.

    Raises:
        RuntimeError, IndexError, TypeError: arguments that do not fit, as torch.
    """
    return _lp_pool(
        lp_pool2d,
        max_pool2d,
        avg_pool2d,
        2,
        input,
        norm_type,
        kernel_size,
        stride,
        ceil_mode,
    )


def lp_pool1d(
    input: Tensor,
    norm_type: float,
    kernel_size: Ints,
    stride: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """1-d power-average pooling, as ``torch.nn.functional.lp_pool1d``.

    See :func:`lp_pool2d`, with one spatial dimension.
    """
    return _lp_pool(
        lp_pool1d,
        max_pool1d,
        avg_pool1d,
        1,
        input,
        norm_type,
        kernel_size,
        stride,
        ceil_mode,
    )


def lp_pool3d(
    input: Tensor,
    norm_type: float,
    kernel_size: Ints,
    stride: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """3-d power-average pooling, as ``torch.nn.functional.lp_pool3d``.

    See :func:`lp_pool2d`, with three spatial dimensions.
    """
    return _lp_pool(
        lp_pool3d,
        max_pool3d,
        avg_pool3d,
        3,
        input,
        norm_type,
        kernel_size,
        stride,
        ceil_mode,
    )


# By the number of spatial dimensions.
AVG_POOL: dict[int, Any] = {1: avg_pool1d, 2: avg_pool2d, 3: avg_pool3d}
