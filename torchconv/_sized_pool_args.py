"""Arguments of adaptive and fractional pooling and of unpooling.

Plans as in _pool_args.py, for the poolings whose output size is an argument.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ._args import FLOATING, integers, shape_text
from ._conv_args import Spec
from ._pool_args import (
    PoolPlan,
    check_dims,
    check_input,
    check_positive,
    expand,
    keeps_format,
    runs_as_2d,
    window,
)


def _output_size(name: str, nd: int, x: Spec, value: Any) -> tuple[int, ...]:
    """output_size of an adaptive pooling; None keeps the input's size (2-d and 3-d)."""
    if nd > 1 and isinstance(value, (list, tuple)) and None in value:
        if len(x.size) <= len(value):
            raise ValueError(
                f"Input dimension should be at least {len(value) + 1}, "
                f"but got input of size {shape_text(x.size)}"
            )
        sizes = x.size[-len(value) :]
        value = tuple(s if v is None else v for s, v in zip(sizes, value))
    values = integers(name, "output_size", value)
    if isinstance(value, (list, tuple)):
        if nd > 1 and len(x.size) <= len(values):
            raise ValueError(
                f"Input dimension should be at least {len(values) + 1}, "
                f"but got input of size {shape_text(x.size)}"
            )
        if len(values) != nd:
            hint = (
                "argument 'output_size' should contain one int"
                if nd == 1
                else f"output_size must be {nd}"
            )
            raise RuntimeError(
                f"{name}: {hint}, but got output_size={list(values)} "
                f"(internal error: output_size.size() must be {nd})"
            )
    else:
        values = values * nd
    if any(v < 0 for v in values):
        raise RuntimeError(
            f"{name}: elements of output_size must be greater than or equal to 0 but "
            f"received {list(values)} (Trying to create tensor with negative dimension)"
        )
    return values


def adaptive_pool_plan(
    name: str, nd: int, x: Spec, output_size: Any, average: bool
) -> PoolPlan:
    """Checks adaptive pooling's arguments; ``args`` are those of ``adaptive_*_pool``.

    Raises:
        TypeError: an argument that is not made of integers.
        ValueError: an input with fewer dimensions than output_size has entries.
        RuntimeError: everything else, where torch raises it too.
    """
    out = _output_size(name, nd, x, output_size)
    unbatched = check_dims(name, nd, x, empty_channels=average and nd < 3)
    check_input(name, x, FLOATING)
    # torch's 3-d adaptive pooling returns contiguous results, except for the mean of
    # everything, which is a function of its own.
    keeps = nd == 2 or (average and is_global(out))
    channels_last = keeps and keeps_format(nd, x, unbatched)
    return PoolPlan(unbatched, runs_as_2d(nd, x, unbatched), (out, channels_last))


def is_global(output_size: Sequence[int]) -> bool:
    """Whether an adaptive pooling has one output per plane."""
    return all(o == 1 for o in output_size)


def fractional_pool_plan(
    name: str, nd: int, x: Spec, samples: Spec, kernel_size: Any, output_size: Any
) -> PoolPlan:
    """Checks fractional pooling's arguments; ``args`` are ``fractional_max_pool``'s.

    Raises:
        TypeError: an argument that is not made of integers.
        RuntimeError: everything else, where torch raises it too.
    """
    kernel = expand(name, "kernel_size", kernel_size, nd)
    out = expand(name, "output_size", output_size, nd)
    unbatched = check_dims(name, nd, x)
    batch = 1 if unbatched else x.size[0]
    channels = x.size[-nd - 1]
    if samples.dtype != x.dtype:
        raise RuntimeError(
            "Expect _random_samples to have the same dtype as input, but got "
            f"{samples.dtype} and {x.dtype}"
        )
    if samples.device != x.device:
        raise RuntimeError(
            "Expect _random_samples to be on the same device as input, but got "
            f"{samples.device} and {x.device}"
        )
    if len(samples.size) != 3:
        raise RuntimeError(
            f"Expect _random_samples to have 3 dimensions, got {len(samples.size)}"
        )
    if samples.size[0] < batch:
        raise RuntimeError(
            "Expect _random_samples.size(0) no less then input batch size, "
            f"got {samples.size[0]} and {batch}"
        )
    if samples.size[1] != channels:
        raise RuntimeError(
            "Expect _random_samples.size(1) equals to input channel size, "
            f"got {samples.size[1]} and {channels}"
        )
    if samples.size[2] != nd:
        raise RuntimeError(
            f"Expect _random_samples.size(2) equals to {nd}; got {samples.size[2]}."
        )
    check_positive(name, nd, "kernel_size", kernel)
    if any(o < 0 for o in out):
        raise RuntimeError(
            f"{name}: Trying to create tensor with negative dimension: "
            f"output_size={list(out)}"
        )
    for size, k, o in zip(x.size[-nd:], kernel, out):
        # torch's 3-d form refuses a window that ends exactly at the border.
        last = o + k - 1 if nd == 2 else o + k
        if last > size:
            raise RuntimeError(
                f"{name}: pool size kernel_size={k} with output_size={o} too large "
                f"relative to input size {size}"
            )
    check_input(name, x, FLOATING)
    return PoolPlan(unbatched, False, (kernel, out, False))


def unpool_output_size(
    x_size: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    output_size: Any,
) -> tuple[int, ...]:
    """Spatial size of max_unpool: the given one if a pooling could have come from it.

    Raises:
        ValueError: it could not, or has the wrong length, or is negative.
    """
    nd = len(kernel)
    default = tuple(
        (x_size[d - nd] - 1) * stride[d] + kernel[d] - 2 * padding[d] for d in range(nd)
    )
    out = default
    if output_size is not None:
        out = tuple(output_size)
        if len(out) == nd + 2:
            out = out[2:]
        if len(out) != nd:
            raise ValueError(
                f"output_size should be a sequence containing {nd} or {nd + 2} elements, "
                f"but it has a length of '{len(out)}'"
            )
        for d in range(nd):
            least, most = default[d] - stride[d], default[d] + stride[d]
            if not least < out[d] < most:
                raise ValueError(
                    f'invalid output_size "{tuple(out)}" '
                    f"(dim {d} must be between {least} and {most})"
                )
    for d in range(nd):
        if out[d] < 0:
            raise ValueError(
                "max_unpooling: output_size must contain non-negative spatial "
                f"dimensions, but got output_size[{d}]={out[d]}"
            )
    return out


def max_unpool_plan(
    name: str,
    nd: int,
    x: Spec,
    indices: Spec,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    output_size: Any,
) -> PoolPlan:
    """Checks unpooling's arguments; ``args`` are those of ``max_unpool``.

    Indices are data: the operator checks their range before it writes.

    Raises:
        TypeError: an argument that is not made of integers.
        ValueError: an output_size that does not fit.
        RuntimeError: everything else, where torch raises it too.
    """
    kernel, steps = window(name, nd, kernel_size, stride)
    pads = expand(name, "padding", padding, nd)
    if len(x.size) not in (nd + 1, nd + 2):
        raise RuntimeError(
            f"Input to {name} should be a {nd + 1}d or {nd + 2}d Tensor, but got a "
            f"tensor with {len(x.size)} dimensions of size {shape_text(x.size)}"
        )
    unbatched = len(x.size) == nd + 1
    out = unpool_output_size(x.size, kernel, steps, pads, output_size)
    if nd == 3:
        check_positive(name, nd, "stride", steps)
    if indices.dtype is not torch.int64:
        raise RuntimeError(
            f"elements in indices should be type int64 but got: {indices.dtype}"
        )
    if indices.size != x.size:
        raise RuntimeError(
            "Expected shape of indices to be same as that of the input tensor "
            f"({shape_text(x.size)}) but got indices tensor with shape: "
            f"{shape_text(indices.size)}"
        )
    if indices.device != x.device:
        raise RuntimeError(
            "Expected indices to be on the same device as input, but got "
            f"{indices.device} and {x.device}"
        )
    check_dims(name, nd, x)
    check_input(name, x, FLOATING)
    channels_last = nd == 2 and keeps_format(nd, x, unbatched)
    return PoolPlan(unbatched, False, (out, channels_last))
