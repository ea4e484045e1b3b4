"""Arguments of max, average and Lp pooling: canonical form, checks, output sizes.

As in _conv_args.py, a plan is a pure function of everything but the data: it returns
(unbatched, lifted, args), where args are the operator's arguments after the tensors and
lifted says that a 1-d input's strides ask for a 2-d memory format, as torch, which runs
1-d pooling in 2-d, returns it. Messages follow ATen's ``pool2d_shape_check`` and its
siblings.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from ._args import (
    FLOATING,
    INTEGERS,
    check_device,
    check_dtype,
    integer,
    integers,
    shape_text,
)
from ._conv_args import Spec, effective_kernel
from ._layout import (
    gapless_channels_last,
    suggests_channels_last,
    suggests_channels_last_1d,
)

MAX_POOL_DTYPES = FLOATING | INTEGERS
AVG_POOL_DTYPES = FLOATING | {torch.int64}

_COUNT = {1: "one", 2: "two", 3: "three"}


class PoolPlan(NamedTuple):
    unbatched: bool
    lifted: bool
    args: tuple[Any, ...]


def pool_output_size(
    size: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool
) -> int:
    """Windows of a pooling along one dimension.

    With ceil_mode a window may hang over the end, but must start inside the input or
    its left padding.
    """
    span = size + 2 * padding - effective_kernel(kernel, dilation)
    if not ceil_mode:
        return span // stride + 1
    windows = (span + stride - 1) // stride + 1
    if (windows - 1) * stride >= size + padding:
        windows = windows - 1
    return windows


def expand(
    name: str, argument: str, value: Any, nd: int, default: tuple[int, ...] = ()
) -> tuple[int, ...]:
    """One value per spatial dimension; an empty sequence means the default, if any."""
    values = integers(name, argument, value)
    if not values and default:
        return default
    if len(values) == 1:
        return values * nd
    if len(values) != nd:
        raise RuntimeError(
            f"{name}: {argument} must either be a single int, or a tuple of "
            f"{_COUNT[nd]} ints, but got {argument}={list(values)} "
            f"(argument '{argument}' should contain one int or {nd})"
        )
    return values


def check_positive(name: str, nd: int, argument: str, values: Sequence[int]) -> None:
    if all(v > 0 for v in values):
        return
    if nd == 1:
        raise RuntimeError(
            f"{name}() {argument} must be greater than zero, but got {values[0]}"
        )
    raise RuntimeError(
        f"{argument.replace('_', ' ')} should be greater than zero, "
        f"but got {argument}={list(values)}"
    )


def _check_padding(
    padding: Sequence[int], kernel: Sequence[int], dilation: Sequence[int]
) -> None:
    for pad, k, d in zip(padding, kernel, dilation):
        if pad < 0:
            raise RuntimeError(f"pad must be non-negative, but got pad: {pad}")
        # ATen lets half of the dilated kernel pass here and then asks for half of the
        # plain one; both are one condition, since the second is the stricter.
        if pad > k // 2:
            raise RuntimeError(
                "pad should be at most half of effective kernel size, but got "
                f"pad={pad}, kernel_size={k} and dilation={d}"
            )


def check_dims(name: str, nd: int, x: Spec, empty_channels: bool = False) -> bool:
    """Checks dimensions and sizes; whether the input is unbatched.

    Only the batch may be empty (and, where torch allows it, the channels).
    """
    dims = len(x.size)
    if dims in (nd + 1, nd + 2):
        sizes = x.size[dims - nd - 1 :]
        if not any(s == 0 for s in (sizes[1:] if empty_channels else sizes)):
            return dims == nd + 1
        raise RuntimeError(
            f"{name}: Expected {nd + 1}D or {nd + 2}D (batch mode) tensor with optional "
            f"0 dim batch size for input, but got: {shape_text(x.size)}. "
            "Expected input's non-batch dimensions to have positive length (non-zero "
            "size for non-batch dimensions)"
        )
    message = (
        f"{name}: Expected {nd + 1}D or {nd + 2}D (batch mode) tensor with optional "
        f"0 dim batch size for input (non-empty {nd + 1}D or {nd + 2}D), "
        f"but got: {shape_text(x.size)}"
    )
    raise RuntimeError(message)


def _check_output(name: str, nd: int, size: Sequence[int], out: Sequence[int]) -> None:
    if all(o >= 1 for o in out):
        return
    if nd == 1:
        raise RuntimeError(
            f"{name}() Invalid computed output size: {out[0]} (input size {size[-1]}). "
            "Output size is too small"
        )
    given = "x".join(str(s) for s in size[-nd - 1 :])
    made = "x".join(str(s) for s in (size[-nd - 1], *out))
    raise RuntimeError(
        f"Given input size: ({given}). Calculated output size: ({made}). "
        "Output size is too small"
    )


def check_input(name: str, x: Spec, supported: frozenset[torch.dtype]) -> None:
    check_device(name, "input", x.device)
    check_dtype(name, x.dtype, supported)


def keeps_format(nd: int, x: Spec, unbatched: bool) -> bool:
    """2-d pooling and 3-d max pooling follow the input's format."""
    return nd > 1 and not unbatched and suggests_channels_last(x.size, x.stride)


def runs_as_2d(nd: int, x: Spec, unbatched: bool) -> bool:
    return nd == 1 and not unbatched and suggests_channels_last_1d(x.size, x.stride)


def window(
    name: str, nd: int, kernel_size: Any, stride: Any
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Kernel and stride; no stride (None or empty) means that of the kernel."""
    kernel = expand(name, "kernel_size", kernel_size, nd)
    if stride is None:
        return kernel, kernel
    return kernel, expand(name, "stride", stride, nd, default=kernel)


def max_pool_plan(
    name: str,
    nd: int,
    x: Spec,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
) -> PoolPlan:
    """Checks max pooling's arguments; ``args`` are those of ``max_pool``.

    Raises:
        TypeError: an argument that is not made of integers.
        RuntimeError: everything else, where torch raises it too.
    """
    kernel, steps = window(name, nd, kernel_size, stride)
    pads = expand(name, "padding", padding, nd)
    dilations = expand(name, "dilation", dilation, nd)
    if nd == 1:
        unbatched = check_dims(name, nd, x)
    check_positive(name, nd, "kernel_size", kernel)
    check_positive(name, nd, "stride", steps)
    check_positive(name, nd, "dilation", dilations)
    _check_padding(pads, kernel, dilations)
    if nd != 1:
        unbatched = check_dims(name, nd, x)
    out = [
        pool_output_size(s, k, st, p, d, ceil_mode)
        for s, k, st, p, d in zip(x.size[-nd:], kernel, steps, pads, dilations)
    ]
    _check_output(name, nd, x.size, out)
    check_input(name, x, MAX_POOL_DTYPES)
    channels_last = keeps_format(nd, x, unbatched)
    if nd == 3 and unbatched:  # here ATen looks at the strides without the batch too
        channels_last = gapless_channels_last(x.size, x.stride)
    args = (kernel, steps, pads, dilations, bool(ceil_mode), channels_last)
    return PoolPlan(unbatched, runs_as_2d(nd, x, unbatched), args)


def avg_pool_plan(
    name: str,
    nd: int,
    x: Spec,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: Any,
) -> PoolPlan:
    """Checks average pooling's arguments; ``args`` are those of ``avg_pool``.

    Raises:
        TypeError: an argument that is not made of integers.
        IndexError: a 2-d pooling of an input without channels, as torch.
        RuntimeError: everything else, where torch raises it too.
    """
    kernel, steps = window(name, nd, kernel_size, stride)
    pads = expand(name, "padding", padding, nd)
    if divisor_override is not None:
        divisor_override = integer(name, "divisor_override", divisor_override)
        if divisor_override == 0:
            raise RuntimeError("divisor must be not zero, but got divisor_override=0")
    check_positive(name, nd, "kernel_size", kernel)
    check_positive(name, nd, "stride", steps)
    _check_padding(pads, kernel, (1,) * nd)
    if nd == 2 and len(x.size) < 3:
        raise_index_error(name, x)
    unbatched = check_dims(name, nd, x)
    spatial = x.size[-nd:]
    if nd == 3 and any(s < k for s, k in zip(spatial, kernel)):
        raise RuntimeError(
            f"input image {shape_text(spatial)} smaller than kernel size "
            f"kernel_size={list(kernel)}"
        )
    out = [
        pool_output_size(s, k, st, p, 1, ceil_mode)
        for s, k, st, p in zip(spatial, kernel, steps, pads)
    ]
    _check_output(name, nd, x.size, out)
    check_input(name, x, AVG_POOL_DTYPES)
    args = (
        kernel,
        steps,
        pads,
        bool(ceil_mode),
        bool(count_include_pad),
        divisor_override,
        nd == 2 and keeps_format(nd, x, unbatched),
    )
    return PoolPlan(unbatched, runs_as_2d(nd, x, unbatched), args)


def raise_index_error(name: str, x: Spec) -> None:
    """torch looks for dimension -3 before it counts the dimensions."""
    raise IndexError(
        f"{name}: Dimension out of range: expected 3D or 4D (batch mode) tensor for "
        f"input, but got: {shape_text(x.size)}"
    )


def lp_pool_plan(
    name: str,
    nd: int,
    x: Spec,
    norm_type: float,
    kernel_size: Any,
    stride: Any,
    ceil_mode: bool,
) -> PoolPlan:
    """Checks Lp pooling's arguments; ``args`` are those of ``lp_pool``.

    Raises as :func:`avg_pool_plan`, of which torch's Lp pooling is made.
    """
    plan = avg_pool_plan(name, nd, x, kernel_size, stride, 0, ceil_mode, True, None)
    kernel, steps, _, ceil, _, _, channels_last = plan.args
    args = (float(norm_type), kernel, steps, ceil, channels_last)
    return PoolPlan(plan.unbatched, plan.lifted, args)


class MaxoutPlan(NamedTuple):
    channels_last: bool
    args: tuple[Any, ...]


def maxout_plan(name: str, x: Spec, k: Any) -> MaxoutPlan:
    """Checks max-out's arguments; ``args`` are those of ``max_pool``, over windows of k
    channels: along the one dimension of a channels_last or 2-d input's view, along the
    first of two else.

    Raises:
        TypeError: k is no integer.
        RuntimeError: everything else.
    """
    k = integer(name, "k", k)
    if len(x.size) < 2:
        raise RuntimeError(
            f"{name}: Expected input of 2 or more dimensions (N, C, ...), "
            f"but got: {shape_text(x.size)}"
        )
    if any(s == 0 for s in x.size[1:]):
        raise RuntimeError(
            f"{name}: Expected input's non-batch dimensions to have positive length, "
            f"but got: {shape_text(x.size)}"
        )
    if k < 1 or x.size[1] % k != 0:
        raise RuntimeError(
            f"{name}: k must be positive and divide the {x.size[1]} channels of input, "
            f"but got k={k}"
        )
    check_input(name, x, MAX_POOL_DTYPES)
    channels_last = suggests_channels_last(x.size, x.stride)
    one = channels_last or len(x.size) == 2
    kernel, ones, zeros = ((k,), (1,), (0,)) if one else ((k, 1), (1, 1), (0, 0))
    return MaxoutPlan(channels_last, (kernel, kernel, zeros, ones, False, False))
