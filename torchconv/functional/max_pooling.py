"""Max pooling functions, with torch.nn.functional's names and signatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from ._max import (
    Ints,
    Pair,
    Sizes,
    _adaptive_max_pool,
    _fractional_max_pool,
    _max_pool,
    _max_unpool,
)


def max_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | Pair:
    """2-d max pooling, as ``torch.nn.functional.max_pool2d``.

    Args:
        input: (N, C, H, W) or (C, H, W); floating point or integer.
        kernel_size: size of the window, an int or one per spatial dimension.
        stride: distance of the windows; default: kernel_size.
        padding: implicit minus infinity on both sides, at most half the kernel.
        dilation: distance of the taps in a window.
        ceil_mode: also windows that hang over the end, if they start inside the input
            or its left padding.
        return_indices: also return where each maximum was, as flat positions in the
            input's plane (int64). Nothing of the kind is computed otherwise; what
            backward needs takes one byte per output for kernels up to 256 taps.

    Returns:
        (N, C, H_out, W_out), or without N; with return_indices a pair of such tensors.
        NaN is a maximum, and of equal values the first.

    Raises:
        RuntimeError: sizes or dtypes that do not fit, as torch.
        TypeError: an argument that is not made of integers.
    """
    return _max_pool(
        max_pool2d,
        2,
        input,
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode,
        return_indices,
    )


def max_pool2d_with_indices(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Pair:
    """:func:`max_pool2d` with return_indices=True, whatever that argument says."""
    return _max_pool(
        max_pool2d_with_indices,
        2,
        input,
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode,
        True,
    )


def max_pool1d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | Pair:
    """1-d max pooling, as ``torch.nn.functional.max_pool1d``.

    See :func:`max_pool2d`, with one spatial dimension: input (N, C, L) or (C, L).
    """
    return _max_pool(
        max_pool1d,
        1,
        input,
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode,
        return_indices,
    )


def max_pool1d_with_indices(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Pair:
    """:func:`max_pool1d` with return_indices=True, whatever that argument says."""
    return _max_pool(
        max_pool1d_with_indices,
        1,
        input,
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode,
        True,
    )


def max_pool3d(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | Pair:
    """3-d max pooling, as ``torch.nn.functional.max_pool3d``.

    See :func:`max_pool2d`, with three spatial dimensions: input (N, C, D, H, W) or (C, D, H, W).
    """
    return _max_pool(
        max_pool3d,
        3,
        input,
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode,
        return_indices,
    )


def max_pool3d_with_indices(
    input: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Pair:
    """:func:`max_pool3d` with return_indices=True, whatever that argument says."""
    return _max_pool(
        max_pool3d_with_indices,
        3,
        input,
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode,
        True,
    )


def adaptive_max_pool2d(
    input: Tensor,
    output_size: Sizes,
    return_indices: bool = False,
) -> Tensor | Pair:
    """2-d adaptive max pooling, as ``torch.nn.functional.adaptive_max_pool2d``.

    Output o covers the inputs from floor(o * in / out) to ceil((o + 1) * in / out).

    Args:
        input: (N, C, H, W) or (C, H, W), floating point.
        output_size: an int or one per spatial dimension; None keeps that size.
        return_indices: also return where each maximum was, as flat positions in the
            input's plane (int64).

    Raises:
        RuntimeError, ValueError, TypeError: arguments that do not fit, as torch.
    """
    return _adaptive_max_pool(
        adaptive_max_pool2d, 2, input, output_size, return_indices
    )


def adaptive_max_pool2d_with_indices(
    input: Tensor,
    output_size: Sizes,
    return_indices: bool = False,
) -> Pair:
    """:func:`adaptive_max_pool2d` with return_indices=True."""
    return _adaptive_max_pool(
        adaptive_max_pool2d_with_indices, 2, input, output_size, True
    )


def adaptive_max_pool1d(
    input: Tensor,
    output_size: Ints,
    return_indices: bool = False,
) -> Tensor | Pair:
    """1-d adaptive max pooling, as ``torch.nn.functional.adaptive_max_pool1d``.

    See :func:`adaptive_max_pool2d`, with one spatial dimension.
    """
    return _adaptive_max_pool(
        adaptive_max_pool1d, 1, input, output_size, return_indices
    )


def adaptive_max_pool1d_with_indices(
    input: Tensor,
    output_size: Ints,
    return_indices: bool = False,
) -> Pair:
    """:func:`adaptive_max_pool1d` with return_indices=True."""
    return _adaptive_max_pool(
        adaptive_max_pool1d_with_indices, 1, input, output_size, True
    )


def adaptive_max_pool3d(
    input: Tensor,
    output_size: Sizes,
    return_indices: bool = False,
) -> Tensor | Pair:
    """3-d adaptive max pooling, as ``torch.nn.functional.adaptive_max_pool3d``.

    See :func:`adaptive_max_pool2d`, with three spatial dimensions.
    """
    return _adaptive_max_pool(
        adaptive_max_pool3d, 3, input, output_size, return_indices
    )


def adaptive_max_pool3d_with_indices(
    input: Tensor,
    output_size: Sizes,
    return_indices: bool = False,
) -> Pair:
    """:func:`adaptive_max_pool3d` with return_indices=True."""
    return _adaptive_max_pool(
        adaptive_max_pool3d_with_indices, 3, input, output_size, True
    )


def fractional_max_pool2d(
    input: Tensor,
    kernel_size: Ints,
    output_size: Ints | None = None,
    output_ratio: float | Sequence[float] | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Tensor | Pair:
    """2-d fractional max pooling, as ``torch.nn.functional.fractional_max_pool2d``.

    The windows' places are pseudo-random, increasing, and overlap (Graham 2014,
    "Fractional max-pooling").

    Args:
        input: (N, C, H, W) or (C, H, W), floating point.
        kernel_size: size of the window, an int or one per spatial dimension.
        output_size: an int or one per spatial dimension.
        output_ratio: instead of it, the output's share of the input's size.
        return_indices: also return where each maximum was, as flat positions in the
            input's plane (int64).
        _random_samples: (N, C, 2) in [0, 1): the places; default: torch.rand.

    Raises:
        RuntimeError, ValueError, TypeError: arguments that do not fit, as torch.
    """
    pair = _fractional_max_pool(
        fractional_max_pool2d,
        2,
        input,
        kernel_size,
        output_size,
        output_ratio,
        return_indices,
        _random_samples,
    )
    return pair if return_indices else pair[0]


def fractional_max_pool2d_with_indices(
    input: Tensor,
    kernel_size: Ints,
    output_size: Ints | None = None,
    output_ratio: float | Sequence[float] | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Pair:
    """:func:`fractional_max_pool2d` with return_indices=True."""
    return _fractional_max_pool(
        fractional_max_pool2d_with_indices,
        2,
        input,
        kernel_size,
        output_size,
        output_ratio,
        True,
        _random_samples,
    )


def fractional_max_pool3d(
    input: Tensor,
    kernel_size: Ints,
    output_size: Ints | None = None,
    output_ratio: float | Sequence[float] | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Tensor | Pair:
    """3-d fractional max pooling, as ``torch.nn.functional.fractional_max_pool3d``.

    See :func:`fractional_max_pool2d`, with three spatial dimensions.
    """
    pair = _fractional_max_pool(
        fractional_max_pool3d,
        3,
        input,
        kernel_size,
        output_size,
        output_ratio,
        return_indices,
        _random_samples,
    )
    return pair if return_indices else pair[0]


def fractional_max_pool3d_with_indices(
    input: Tensor,
    kernel_size: Ints,
    output_size: Ints | None = None,
    output_ratio: float | Sequence[float] | None = None,
    return_indices: bool = False,
    _random_samples: Tensor | None = None,
) -> Pair:
    """:func:`fractional_max_pool3d` with return_indices=True."""
    return _fractional_max_pool(
        fractional_max_pool3d_with_indices,
        3,
        input,
        kernel_size,
        output_size,
        output_ratio,
        True,
        _random_samples,
    )


def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Partial inverse of 2-d max pooling, as ``torch.nn.functional.max_unpool2d``.

    Args:
        input: (N, C, H, W) or (C, H, W), floating point.
        indices: of input's shape, int64: flat positions in the output's plane, as
            :func:`max_pool2d` returns them. Where several meet, the last one counts.
        kernel_size, stride, padding: of the pooling.
        output_size: the pooled input's size, if it is not the smallest possible one;
            its spatial part or all of it.

    Returns:
        The input at the indices, zeros elsewhere.

    Raises:
        RuntimeError: an index outside the output; sizes or dtypes that do not fit.
        ValueError: an output_size that no such pooling can have had.
        TypeError: an argument that is not made of integers.
    """
    return _max_unpool(
        max_unpool2d,
        2,
        input,
        indices,
        kernel_size,
        stride,
        padding,
        output_size,
    )


def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Partial inverse of 1-d max pooling, as ``torch.nn.functional.max_unpool1d``.

    See :func:`max_unpool2d`, with one spatial dimension.
    """
    return _max_unpool(
        max_unpool1d,
        1,
        input,
        indices,
        kernel_size,
        stride,
        padding,
        output_size,
    )


def max_unpool3d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """Partial inverse of 3-d max pooling, as ``torch.nn.functional.max_unpool3d``.

    See :func:`max_unpool2d`, with three spatial dimensions.
    """
    return _max_unpool(
        max_unpool3d,
        3,
        input,
        indices,
        kernel_size,
        stride,
        padding,
        output_size,
    )


# By the number of spatial dimensions.
MAX_POOL: dict[int, Any] = {1: max_pool1d, 2: max_pool2d, 3: max_pool3d}
