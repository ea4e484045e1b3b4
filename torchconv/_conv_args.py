"""Arguments of convolutions: canonical form, checks, output sizes.

``conv_plan`` and ``conv_transpose_plan`` take the arguments of a call, without the
tensors' data, and return everything the call needs to reach the operator. They are pure,
so that functional.py can keep their answers in a cache: a repeated call costs one look-up
and no check. Messages follow ATen's ``check_shape_forward``.
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
from ._config import check_algorithm
from ._layout import conv_channels_last, suggests_channels_last_1d

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")

# How functional.py runs a call.
DIRECT = 0  # the operator as it is
COMPLEX_PARTS = 1  # three real convolutions
WIDENED = 2  # integers narrower than int64, computed in int64
LIFTED = 3  # a 1-d problem whose strides ask for a 2-d memory format
EMPTY_CHANNELS = 4  # no input channels: torch returns no output channels

CONV_DTYPES = FLOATING | COMPLEX | INTEGERS


class Spec(NamedTuple):
    """A tensor argument without its data."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


class ConvPlan(NamedTuple):
    """unbatched: the input lacks the batch dimension. route: one of the constants above.
    args: the operator's arguments after the tensors. extra: zeros to append to each
    spatial dimension of the input (transposed convolution only)."""

    unbatched: bool
    route: int
    args: tuple[Any, ...]
    extra: tuple[int, ...] = ()


def effective_kernel(kernel: int, dilation: int) -> int:
    return dilation * (kernel - 1) + 1


def conv_output_size(
    size: int, kernel: int, stride: int, low: int, high: int, dilation: int
) -> int:
    """Outputs of a convolution along one dimension."""
    return (size + low + high - effective_kernel(kernel, dilation)) // stride + 1


def conv_output_sizes(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> tuple[int, ...]:
    """The same along every dimension; padding is low, high of the first, then of the next."""
    windows = zip(sizes, kernel, stride, padding[::2], padding[1::2], dilation)
    return tuple([conv_output_size(*window) for window in windows])


def conv_transpose_output_size(
    size: int,
    kernel: int,
    stride: int,
    low: int,
    high: int,
    dilation: int,
    output_padding: int,
) -> int:
    """Outputs of a transposed convolution along one dimension."""
    span = (size - 1) * stride + effective_kernel(kernel, dilation)
    return span - low - high + output_padding


def _expand(name: str, argument: str, value: Any, nd: int) -> tuple[int, ...]:
    """One value per spatial dimension."""
    values = integers(name, argument, value)
    if len(values) == 1:
        return values * nd
    if len(values) != nd:
        raise RuntimeError(
            f"expected {argument} to be a single integer value or a list of {nd} values "
            f"to match the convolution dimensions, but got {argument}={list(values)}"
        )
    return values


def _pairs(name: str, value: Any, nd: int) -> tuple[int, ...] | None:
    """[(low, high), ...] flattened, or None if the value is not of that form."""
    if not isinstance(value, (list, tuple)) or not value:
        return None
    if not all(isinstance(v, (list, tuple)) and len(v) == 2 for v in value):
        return None
    if len(value) != nd:
        raise RuntimeError(
            f"expected padding to have one (low, high) pair for each of the {nd} "
            f"convolution dimensions, but got padding={list(value)}"
        )
    return tuple(integer(name, "padding", v) for pair in value for v in pair)


def canonical_pads(
    name: str,
    value: Any,
    nd: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> tuple[int, ...]:
    """Any form of padding as low and high of each dimension in turn."""
    if isinstance(value, str):
        span = [d * (k - 1) for k, d in zip(kernel, dilation)]
        if value == "valid":
            return (0, 0) * nd
        if value == "full":
            return tuple(p for s in span for p in (s, s))
        if value == "causal":
            return tuple(p for s in span for p in (s, 0))
        if value == "same":
            if any(s != 1 for s in stride):
                raise RuntimeError(
                    "padding='same' is not supported for strided convolutions, "
                    f"but got stride={list(stride)}"
                )
            return tuple(p for s in span for p in (s // 2, s - s // 2))
        raise RuntimeError(
            f"Invalid padding string: {value!r} "
            "(known: 'valid', 'same', 'full', 'causal')"
        )
    pairs = _pairs(name, value, nd)
    if pairs is None:
        pairs = tuple(p for v in _expand(name, "padding", value, nd) for p in (v, v))
    if any(p < 0 for p in pairs):
        raise RuntimeError(f"negative padding is not supported, but got {value!r}")
    return pairs


def _check_tensors(name: str, x: Spec, w: Spec, b: Spec | None) -> None:
    check_device(name, "input", x.device)
    for label, other in (("weight", w), ("bias", b)):
        if other is None:
            continue
        if other.dtype != x.dtype:
            raise RuntimeError(
                f"Input type ({x.dtype}) and {label} type ({other.dtype}) "
                "should be the same"
            )
        if other.device != x.device:
            raise RuntimeError(
                f"Input device ({x.device}) and {label} device ({other.device}) "
                "should be the same"
            )
    check_dtype(name, x.dtype, CONV_DTYPES)


def _check_positive(argument: str, values: Sequence[int], wording: str) -> None:
    if any(v <= 0 for v in values):
        raise RuntimeError(
            f"non-positive {argument} is not supported: {wording} "
            f"should be greater than zero, but got {argument}={list(values)}"
        )


def _check_dims(name: str, nd: int, x: Spec, w: Spec) -> bool:
    """Checks the numbers of dimensions; whether the input is unbatched."""
    if len(x.size) not in (nd + 1, nd + 2):
        raise RuntimeError(
            f"Expected {nd + 1}D (unbatched) or {nd + 2}D (batched) input to {name}, "
            f"but got input of size: {shape_text(x.size)}"
        )
    if len(w.size) < 3:
        raise RuntimeError(
            "weight should have at least three dimensions, "
            f"but got weight of size {shape_text(w.size)}"
        )
    if len(w.size) != nd + 2:
        raise RuntimeError(
            f"Expected {len(w.size)}-dimensional input for {len(w.size)}-dimensional "
            f"weight {shape_text(w.size)}, but got {nd + 2}-dimensional input of size "
            f"{shape_text(x.size)} instead"
        )
    return len(x.size) == nd + 1


def _check_groups(w: Spec, groups: int) -> None:
    if groups <= 0:
        raise RuntimeError(
            f"non-positive groups is not supported, but got groups={groups}"
        )
    if w.size[0] < groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be at least {groups} at "
            f"dimension 0, but got weight of size {shape_text(w.size)} instead"
        )
    if w.size[0] % groups != 0:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be divisible by {groups} at "
            f"dimension 0, but got weight of size {shape_text(w.size)} instead"
        )
    if any(k <= 0 for k in w.size[2:]):
        raise RuntimeError(
            "kernel size should be greater than zero, "
            f"but got weight of size {shape_text(w.size)}"
        )


def _check_bias(w: Spec, b: Spec | None, channels: int, given: str) -> None:
    if b is not None and b.size != (channels,):
        raise RuntimeError(
            f"Given {given}weight of size {shape_text(w.size)}, expected bias to be "
            f"1-dimensional with {channels} elements, "
            f"but got bias of size {shape_text(b.size)} instead"
        )


def _check_nonempty(x_size: Sequence[int]) -> None:
    """An empty batch is fine, an empty image is not."""
    if any(s == 0 for s in x_size[2:]) and x_size[0] != 0:
        raise RuntimeError(
            "Only zero batch or zero channel inputs are supported, "
            f"but got input shape: {shape_text(x_size)}"
        )


def _check_padding_mode(
    mode: str, x_size: Sequence[int], padding: Sequence[int]
) -> None:
    if mode not in PADDING_MODES:
        raise ValueError(
            f"padding_mode must be one of {', '.join(map(repr, PADDING_MODES))}, "
            f"but got padding_mode={mode!r}"
        )
    for d, size in enumerate(x_size[2:]):
        pair = (padding[2 * d], padding[2 * d + 1])
        if mode == "reflect" and max(pair) >= size:
            raise RuntimeError(
                "Padding size should be less than the corresponding input dimension, "
                f"but got: padding {pair} at dimension {d + 2} of input "
                f"{shape_text(x_size)}"
            )
        if mode == "circular" and max(pair) > size:
            raise RuntimeError(
                "Padding value causes wrapping around more than once: "
                f"padding {pair} at dimension {d + 2} of input {shape_text(x_size)}"
            )


def batched(x: Spec, unbatched: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Size and stride after unsqueeze(0)."""
    if not unbatched:
        return x.size, x.stride
    return (1, *x.size), (x.size[0] * x.stride[0], *x.stride)


def _route(nd: int, x: Spec, w: Spec) -> int:
    if x.dtype in COMPLEX:
        return COMPLEX_PARTS
    if x.dtype in INTEGERS and x.dtype is not torch.int64:
        return WIDENED
    # torch makes a 1-d input contiguous and lets the weight alone decide.
    contiguous = x.device.type == "cuda" and x.dtype is torch.float64
    if nd == 1 and not contiguous and suggests_channels_last_1d(w.size, w.stride):
        return LIFTED
    return DIRECT


def conv_plan(
    name: str,
    nd: int,
    x: Spec,
    w: Spec,
    b: Spec | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: str,
    algorithm: str,
) -> ConvPlan:
    """Checks a convolution's arguments; ``args`` are those of ``conv_forward``.

    Raises:
        TypeError: an argument that is not made of integers.
        ValueError: an unknown padding mode or algorithm.
        RuntimeError: everything else, where torch raises it too.
    """
    unbatched = _check_dims(name, nd, x, w)
    kernel = w.size[2:]
    stride = _expand(name, "stride", stride, nd)
    dilation = _expand(name, "dilation", dilation, nd)
    groups = integer(name, "groups", groups)
    pads = canonical_pads(name, padding, nd, kernel, stride, dilation)
    _check_positive("stride", stride, "stride")
    _check_positive("dilation", dilation, "dilation")
    _check_groups(w, groups)
    x_size, x_stride = batched(x, unbatched)
    if x_size[1] != w.size[1] * groups:
        raise RuntimeError(
            f"Given groups={groups}, weight of size {shape_text(w.size)}, expected "
            f"input{shape_text(x_size)} to have {w.size[1] * groups} channels, "
            f"but got {x_size[1]} channels instead"
        )
    _check_bias(w, b, w.size[0], "")
    padded = [s + pads[2 * d] + pads[2 * d + 1] for d, s in enumerate(x_size[2:])]
    spans = [effective_kernel(k, d) for k, d in zip(kernel, dilation)]
    if any(p < s for p, s in zip(padded, spans)):
        raise RuntimeError(
            f"Calculated padded input size per channel: ({_by(padded)}). Kernel size: "
            f"({_by(spans)}). Kernel size can't be greater than actual input size"
        )
    _check_nonempty(x_size)
    _check_padding_mode(padding_mode, x_size, pads)
    _check_tensors(name, x, w, b)
    channels_last = conv_channels_last(
        x_size, x_stride, w.size, w.stride, x.dtype, x.device.type, groups
    )
    args = (
        stride,
        pads,
        dilation,
        groups,
        padding_mode,
        channels_last,
        check_algorithm(algorithm),
    )
    route = EMPTY_CHANNELS if x_size[1] == 0 else _route(nd, x, w)
    return ConvPlan(unbatched, route, args)


def conv_transpose_plan(
    name: str,
    nd: int,
    x: Spec,
    w: Spec,
    b: Spec | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: Any,
    algorithm: str,
) -> ConvPlan:
    """Checks a transposed convolution's arguments; ``args`` are ``conv_input_grad``'s.

    Raises:
        TypeError: an argument that is not made of integers, or a padding string.
        ValueError: an unknown algorithm.
        RuntimeError: everything else, where torch raises it too.
    """
    unbatched = _check_dims(name, nd, x, w)
    kernel = w.size[2:]
    stride = _expand(name, "stride", stride, nd)
    dilation = _expand(name, "dilation", dilation, nd)
    extra = _expand(name, "output_padding", output_padding, nd)
    groups = integer(name, "groups", groups)
    if isinstance(padding, str):
        raise TypeError(
            f"{name}(): argument 'padding' must be tuple of ints, "
            f"but got padding={padding!r}"
        )
    pads = canonical_pads(name, padding, nd, kernel, stride, dilation)
    if any(e < 0 for e in extra):
        raise RuntimeError(
            "negative output_padding is not supported, "
            f"but got output_padding={list(extra)}"
        )
    _check_positive("stride", stride, "stride")
    _check_positive("dilation", dilation, "dilation")
    _check_groups(w, groups)
    x_size, x_stride = batched(x, unbatched)
    if x_size[1] != w.size[0]:
        raise RuntimeError(
            f"Given transposed=1, weight of size {shape_text(w.size)}, expected "
            f"input{shape_text(x_size)} to have {w.size[0]} channels, "
            f"but got {x_size[1]} channels instead"
        )
    channels = w.size[1] * groups
    _check_bias(w, b, channels, "transposed=1, ")
    if any(e >= s and e >= d for e, s, d in zip(extra, stride, dilation)):
        raise RuntimeError(
            "output padding must be smaller than either stride or dilation, but got "
            f"output_padding={list(extra)} stride={list(stride)} "
            f"dilation={list(dilation)}"
        )
    _check_nonempty(x_size)
    out = [
        conv_transpose_output_size(
            s, kernel[d], stride[d], pads[2 * d], pads[2 * d + 1], dilation[d], extra[d]
        )
        for d, s in enumerate(x_size[2:])
    ]
    if any(o <= 0 for o in out):
        raise RuntimeError(
            f"Given input size per channel: ({_by(x_size[2:])}). Calculated output "
            f"size per channel: ({_by(out)}). Output size is too small"
        )
    _check_tensors(name, x, w, b)
    channels_last = conv_channels_last(
        x_size, x_stride, w.size, w.stride, x.dtype, x.device.type, groups
    )
    if nd == 3 and x.device.type == "cpu":
        # oneDNN does not take these, and the other 3-d backends return contiguous.
        channels_last &= all(e < s for e, s in zip(extra, stride))
    # An output padding of a stride or more (possible when the dilation is larger) would
    # be read back as one more input position: there the input gets zeros instead.
    zeros = tuple(e // s for e, s in zip(extra, stride))
    args = (
        (x_size[0], channels, *out),
        stride,
        pads,
        dilation,
        groups,
        "zeros",
        channels_last,
        check_algorithm(algorithm),
    )
    return ConvPlan(unbatched, _route(nd, x, w), args, zeros if any(zeros) else ())


def _by(sizes: Sequence[int]) -> str:
    return " x ".join(str(s) for s in sizes)
