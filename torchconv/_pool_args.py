"""Arguments of pooling, unfold and fold: canonical form, checks, output sizes.

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
    COMPLEX,
    FLOATING,
    INTEGERS,
    check_device,
    check_dtype,
    integer,
    integers,
    shape_text,
)
from ._conv_args import Spec, effective_kernel
from ._layout import suggests_channels_last, suggests_channels_last_1d

MAX_POOL_DTYPES = FLOATING | INTEGERS
AVG_POOL_DTYPES = FLOATING | {torch.int64}
FOLD_DTYPES = FLOATING | COMPLEX | {torch.bool}

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


def _expand(
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


def _check_positive(name: str, nd: int, argument: str, values: Sequence[int]) -> None:
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


def _check_dims(name: str, nd: int, x: Spec, empty_channels: bool = False) -> bool:
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


def _check_input(name: str, x: Spec, supported: frozenset[torch.dtype]) -> None:
    check_device(name, "input", x.device)
    check_dtype(name, x.dtype, supported)


def _channels_last(nd: int, x: Spec, unbatched: bool) -> bool:
    """2-d pooling and 3-d max pooling follow the input's format."""
    return nd > 1 and not unbatched and suggests_channels_last(x.size, x.stride)


def _lifted(nd: int, x: Spec, unbatched: bool) -> bool:
    return nd == 1 and not unbatched and suggests_channels_last_1d(x.size, x.stride)


def window(
    name: str, nd: int, kernel_size: Any, stride: Any
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Kernel and stride; no stride (None or empty) means that of the kernel."""
    kernel = _expand(name, "kernel_size", kernel_size, nd)
    if stride is None:
        return kernel, kernel
    return kernel, _expand(name, "stride", stride, nd, default=kernel)


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
    pads = _expand(name, "padding", padding, nd)
    dilations = _expand(name, "dilation", dilation, nd)
    if nd == 1:
        unbatched = _check_dims(name, nd, x)
    _check_positive(name, nd, "kernel_size", kernel)
    _check_positive(name, nd, "stride", steps)
    _check_positive(name, nd, "dilation", dilations)
    _check_padding(pads, kernel, dilations)
    if nd != 1:
        unbatched = _check_dims(name, nd, x)
    out = [
        pool_output_size(s, k, st, p, d, ceil_mode)
        for s, k, st, p, d in zip(x.size[-nd:], kernel, steps, pads, dilations)
    ]
    _check_output(name, nd, x.size, out)
    _check_input(name, x, MAX_POOL_DTYPES)
    channels_last = _channels_last(nd, x, unbatched)
    args = (kernel, steps, pads, dilations, bool(ceil_mode), channels_last)
    return PoolPlan(unbatched, _lifted(nd, x, unbatched), args)


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
    pads = _expand(name, "padding", padding, nd)
    if divisor_override is not None:
        divisor_override = integer(name, "divisor_override", divisor_override)
        if divisor_override == 0:
            raise RuntimeError("divisor must be not zero, but got divisor_override=0")
    _check_positive(name, nd, "kernel_size", kernel)
    _check_positive(name, nd, "stride", steps)
    _check_padding(pads, kernel, (1,) * nd)
    if nd == 2 and len(x.size) < 3:
        _raise_index_error(name, x)
    unbatched = _check_dims(name, nd, x)
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
    _check_input(name, x, AVG_POOL_DTYPES)
    args = (
        kernel,
        steps,
        pads,
        bool(ceil_mode),
        bool(count_include_pad),
        divisor_override,
        nd == 2 and _channels_last(nd, x, unbatched),
    )
    return PoolPlan(unbatched, _lifted(nd, x, unbatched), args)


def _raise_index_error(name: str, x: Spec) -> None:
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
    unbatched = _check_dims(name, nd, x, empty_channels=average and nd < 3)
    _check_input(name, x, FLOATING)
    channels_last = nd == 2 and _channels_last(nd, x, unbatched)
    return PoolPlan(unbatched, _lifted(nd, x, unbatched), (out, channels_last))


def fractional_pool_plan(
    name: str, nd: int, x: Spec, samples: Spec, kernel_size: Any, output_size: Any
) -> PoolPlan:
    """Checks fractional pooling's arguments; ``args`` are ``fractional_max_pool``'s.

    Raises:
        TypeError: an argument that is not made of integers.
        RuntimeError: everything else, where torch raises it too.
    """
    kernel = _expand(name, "kernel_size", kernel_size, nd)
    out = _expand(name, "output_size", output_size, nd)
    unbatched = _check_dims(name, nd, x)
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
    _check_positive(name, nd, "kernel_size", kernel)
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
    _check_input(name, x, FLOATING)
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
    pads = _expand(name, "padding", padding, nd)
    if len(x.size) not in (nd + 1, nd + 2):
        raise RuntimeError(
            f"Input to {name} should be a {nd + 1}d or {nd + 2}d Tensor, but got a "
            f"tensor with {len(x.size)} dimensions of size {shape_text(x.size)}"
        )
    unbatched = len(x.size) == nd + 1
    out = unpool_output_size(x.size, kernel, steps, pads, output_size)
    if nd == 3:
        _check_positive(name, nd, "stride", steps)
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
    _check_dims(name, nd, x)
    _check_input(name, x, FLOATING)
    channels_last = nd == 2 and _channels_last(nd, x, unbatched)
    return PoolPlan(unbatched, False, (out, channels_last))


def _pair(argument: str, name: str, value: Any) -> tuple[int, ...]:
    """An int or exactly two."""
    values = integers(name, argument, value)
    if not isinstance(value, (list, tuple)):
        return values * 2
    if len(values) != 2:
        raise RuntimeError(
            f"It is expected {argument} equals to 2, but got size {len(values)}: "
            f"{argument}={list(values)}"
        )
    return values


def _blocks(
    name: str,
    kernel_size: Any,
    dilation: Any,
    padding: Any,
    stride: Any,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """kernel, dilation, padding, stride of unfold and fold."""
    kernel = _pair("kernel_size", name, kernel_size)
    dilations = _pair("dilation", name, dilation)
    pads = _pair("padding", name, padding)
    steps = _pair("stride", name, stride)
    _check_positive(name, 2, "kernel_size", kernel)
    _check_positive(name, 2, "dilation", dilations)
    _check_positive(name, 2, "stride", steps)
    if any(p < 0 for p in pads):
        raise RuntimeError(
            f"padding should be non-negative, but got padding={list(pads)}"
        )
    return kernel, dilations, pads, steps


def block_counts(
    size: Sequence[int],
    kernel: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> tuple[int, ...]:
    """Positions of unfold's window along each dimension."""
    return tuple(
        pool_output_size(s, k, st, p, d, False)
        for s, k, st, p, d in zip(size, kernel, stride, padding, dilation)
    )


def unfold_plan(
    name: str,
    x: Spec,
    kernel_size: Any,
    dilation: Any,
    padding: Any,
    stride: Any,
) -> PoolPlan:
    """Checks unfold's arguments; ``args`` are the operator's.

    Raises:
        TypeError: an argument that is not made of integers.
        IndexError: an input of fewer than three dimensions, as torch.
        RuntimeError: everything else, where torch raises it too.
    """
    kernel, dilations, pads, steps = _blocks(
        name, kernel_size, dilation, padding, stride
    )
    if len(x.size) < 3:
        _raise_index_error(name, x)
    unbatched = _check_dims(name, 2, x)
    spatial = x.size[-2:]
    blocks = block_counts(spatial, kernel, dilations, pads, steps)
    if any(b < 1 for b in blocks):
        raise RuntimeError(
            f"Given input with spatial size {tuple(spatial)}, kernel_size={kernel}, "
            f"dilation={dilations}, padding={pads}, calculated shape of the array of "
            f"sliding blocks as {blocks}, but its components must be at least one."
        )
    _check_input(name, x, FOLD_DTYPES)
    return PoolPlan(unbatched, False, (kernel, dilations, pads, steps))


def fold_plan(
    name: str,
    x: Spec,
    output_size: Any,
    kernel_size: Any,
    dilation: Any,
    padding: Any,
    stride: Any,
) -> PoolPlan:
    """Checks fold's arguments; ``args`` are the operator's.

    Raises:
        TypeError: an argument that is not made of integers.
        RuntimeError: everything else, where torch raises it too.
    """
    out = _pair("output_size", name, output_size)
    kernel, dilations, pads, steps = _blocks(
        name, kernel_size, dilation, padding, stride
    )
    if len(x.size) not in (2, 3) or 0 in x.size[-2:]:
        raise RuntimeError(
            "Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch size "
            f"and non-zero dimensions for input, but got: {shape_text(x.size)}"
        )
    taps = kernel[0] * kernel[1]
    if x.size[-2] % taps != 0:
        raise RuntimeError(
            "Expected size of input's dimension 1 to be divisible by the product of "
            f"kernel_size, but got input.size(1)={x.size[-2]} and kernel_size={kernel}."
        )
    if any(o < 1 for o in out):
        raise RuntimeError(
            f"Expected output spatial size to be positive, but got: output_size={out}."
        )
    blocks = block_counts(out, kernel, dilations, pads, steps)
    given = (
        f"Given output_size={out}, kernel_size={kernel}, dilation={dilations}, "
        f"padding={pads}, stride={steps}, "
    )
    if any(b < 1 for b in blocks):
        raise RuntimeError(
            f"{given}calculated shape of the array of sliding blocks as {blocks}, "
            "which is too small (non-positive)"
        )
    if x.size[-1] != blocks[0] * blocks[1]:
        raise RuntimeError(
            f"{given}expected size of input's dimension 2 to match the calculated "
            f"number of sliding blocks {blocks[0]} * {blocks[1]} = "
            f"{blocks[0] * blocks[1]}, but got input.size(2)={x.size[-1]}."
        )
    _check_input(name, x, FOLD_DTYPES)
    return PoolPlan(len(x.size) == 2, False, (out, kernel, dilations, pads, steps))
