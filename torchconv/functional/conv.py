"""Convolution and transposed convolution in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad as _pad
from torch.overrides import handle_torch_function, has_torch_function_variadic

from .. import _prepared, autograd
from .._args import shape_text
from .._config import operator_algorithm
from .._conv_args import (
    COMPLEX_PARTS,
    DIRECT,
    EMPTY_CHANNELS,
    LIFTED,
    WIDENED,
    ConvPlan,
    Spec,
    batched,
    conv_output_size,
    conv_plan,
    conv_transpose_plan,
)
from ._common import autocast_conv, cached, describe

Padding = str | int | Sequence[int] | Sequence[Sequence[int]]
Ints = int | Sequence[int]


def _prepare(pass_name: str) -> Callable[..., ConvPlan]:
    """Prepares the plans that run as one pass on the CPU."""

    def prepare(plan: ConvPlan, x: Spec, w: Spec, _bias: Spec | None) -> ConvPlan:
        if plan.route != DIRECT or plan.extra or x.device.type != "cpu":
            return plan
        size, stride = batched(x, plan.unbatched)
        args = _prepared.prepare(
            pass_name, size, stride, w.size, w.stride, x.dtype, plan.args
        )
        return plan._replace(args=args)

    return prepare


_conv_plan = cached(conv_plan, 2, 4, _prepare("forward"))
_conv_transpose_plan = cached(conv_transpose_plan, 2, 4, _prepare("input_grad"))

_autocast_on = torch._C._is_any_autocast_enabled


def _conv(
    function: Callable[..., Tensor],
    nd: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: str,
    algorithm: str | None,
    flip: bool,
    channel_map: Tensor | None,
) -> Tensor:
    if has_torch_function_variadic(input, weight, bias):
        return handle_torch_function(
            function,
            (input, weight, bias),
            input,
            weight,
            bias,
            stride,
            padding,
            dilation,
            groups,
            padding_mode=padding_mode,
            algorithm=algorithm,
            flip=flip,
            channel_map=channel_map,
        )
    if _autocast_on():
        input, weight, bias = autocast_conv(input, weight, bias)  # type: ignore
    name = function.__name__
    if flip or channel_map is not None:
        weight = _changed(name, nd, weight, flip, channel_map)
    plan = _conv_plan(
        name,
        nd,
        describe(name, "input", input),
        describe(name, "weight", weight),
        None if bias is None else describe(name, "bias", bias),
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        operator_algorithm(algorithm, input.is_cuda),
    )
    x = input.unsqueeze(0) if plan.unbatched else input
    if plan.route == DIRECT:
        y = autograd.conv_forward(x, weight, bias, plan.args)
    else:
        y = indirect(_forward, plan.route, x, weight, bias, plan.args)
    return y.squeeze(0) if plan.unbatched else y


def _changed(
    name: str, nd: int, weight: Tensor, flip: bool, channel_map: Tensor | None
) -> Tensor:
    """The weight flipped, and without the connections that channel_map leaves out."""
    if channel_map is not None:
        if channel_map.shape != weight.shape[:2]:
            raise RuntimeError(
                f"{name}(): expected channel_map of size "
                f"{shape_text(weight.shape[:2])}, (out_channels, in_channels / "
                f"groups), but got channel_map of size {shape_text(channel_map.shape)}"
            )
        table = channel_map.to(weight.device, torch.bool)
        # Not a product: what is left out counts as zero, also where it is NaN.
        weight = torch.where(table[(...,) + (None,) * nd], weight, 0)
    return weight.flip(tuple(range(2, 2 + nd))) if flip else weight


def _conv_transpose(
    function: Callable[..., Tensor],
    nd: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    algorithm: str | None,
    flip: bool,
) -> Tensor:
    if has_torch_function_variadic(input, weight, bias):
        return handle_torch_function(
            function,
            (input, weight, bias),
            input,
            weight,
            bias,
            stride,
            padding,
            output_padding,
            groups,
            dilation,
            algorithm=algorithm,
            flip=flip,
        )
    if _autocast_on():
        input, weight, bias = autocast_conv(input, weight, bias)  # type: ignore
    name = function.__name__
    if flip:
        weight = _changed(name, nd, weight, True, None)
    plan = _conv_transpose_plan(
        name,
        nd,
        describe(name, "input", input),
        describe(name, "weight", weight),
        None if bias is None else describe(name, "bias", bias),
        stride,
        padding,
        output_padding,
        dilation,
        groups,
        operator_algorithm(algorithm, input.is_cuda),
    )
    x = input.unsqueeze(0) if plan.unbatched else input
    if plan.extra:
        x = _pad(x, [p for extra in reversed(plan.extra) for p in (0, extra)])
    if plan.route == DIRECT:
        y = autograd.conv_input_grad(x, weight, bias, plan.args)
    else:
        y = indirect(_transposed, plan.route, x, weight, bias, plan.args)
    return y.squeeze(0) if plan.unbatched else y


# One run of a real convolution, (x, weight, bias, args), with everything batched; lift
# turns the arguments of a 1-d problem into those of the 2-d problem with one row.
Run = Callable[..., Tensor]


def _forward(x: Tensor, w: Tensor, b: Tensor | None, args: Any) -> Tensor:
    return autograd.conv_forward(x, w, b, args)


def _transposed(x: Tensor, w: Tensor, b: Tensor | None, args: Any) -> Tensor:
    return autograd.conv_input_grad(x, w, b, args)


def lift(args: Any) -> Any:
    *size, stride, padding, dilation, groups, mode, _, algorithm = args
    size = [(*s[:2], 1, *s[2:]) for s in size]
    lifted = ((1, *stride), (0, 0, *padding), (1, *dilation))
    return (*size, *lifted, groups, mode, True, algorithm)


def indirect(
    run: Run, route: int, x: Tensor, w: Tensor, b: Tensor | None, args: Any
) -> Tensor:
    """The convolutions that the operators do not take as they are."""
    if route == COMPLEX_PARTS:
        return _complex(run, x, w, b, args)
    if route == WIDENED:
        # Exact: integer arithmetic wraps around the same way after the conversion.
        wide = run(x.long(), w.long(), None if b is None else b.long(), args)
        return wide.to(x.dtype)
    if route == LIFTED:
        y = run(x.unsqueeze(-2), w.unsqueeze(-2), b, lift(args))
        return y.squeeze(-2)
    assert route == EMPTY_CHANNELS
    # torch answers a convolution over no channels with no channels. The sums are over
    # nothing and connect the result with both arguments.
    stride, padding, dilation = args[:3]
    out = [
        conv_output_size(
            size,
            w.shape[w.dim() - x.dim() + 2 + d],  # a tiled weight's tile is in front
            stride[d],
            padding[2 * d],
            padding[2 * d + 1],
            dilation[d],
        )
        for d, size in enumerate(x.shape[2:])
    ]
    return x.new_zeros((x.shape[0], 0, *out)) + x.sum() + w.sum()


def _complex(run: Run, x: Tensor, w: Tensor, b: Tensor | None, args: Any) -> Tensor:
    """Three real convolutions, as torch: of the real parts, of the imaginary parts, and
    of their sums."""
    x_real, x_imag, w_real, w_imag = x.real, x.imag, w.real, w.imag
    b_real = b_sum = None
    if b is not None:
        b_real, b_sum = b.real, b.real + b.imag
    real = run(x_real, w_real, b_real, args)
    imag = run(x_imag, w_imag, None, args)
    both = run(x_real + x_imag, w_real + w_imag, b_sum, args)
    return torch.complex(real - imag, both - real - imag)


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    algorithm: str | None = None,
    flip: bool = False,
    channel_map: Tensor | None = None,
) -> Tensor:
    """1-d convolution (cross-correlation), as ``torch.nn.functional.conv1d``.

    See :func:`conv2d` for the arguments, with one spatial dimension: input (N, C, L) or
    (C, L), weight (K, C / groups, kernel), bias (K).
    """
    return _conv(
        conv1d,
        1,
        input,
        weight,
        bias,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        algorithm,
        flip,
        channel_map,
    )


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    algorithm: str | None = None,
    flip: bool = False,
    channel_map: Tensor | None = None,
) -> Tensor:
    """2-d convolution (cross-correlation), as ``torch.nn.functional.conv2d``.

    Args:
        input: (N, C, H, W) or unbatched (C, H, W), of any strides. float32, float64,
            float16, bfloat16, complex64, complex128 or an integer dtype.
        weight: (K, C / groups, kernel_h, kernel_w), of the input's dtype and device.
        bias: (K) or None.
        stride: an int or one per spatial dimension.
        padding: an int; one per spatial dimension; a (low, high) pair per spatial
            dimension; 'valid' (none); 'same' (output as large as the input, stride 1
            only); 'full' (dilation * (kernel - 1) on both sides: every output that
            touches the input); or 'causal' (all of that on the low side).
        dilation: distance of the kernel's taps, an int or one per spatial dimension.
        groups: channels are divided into this many independent convolutions.
        padding_mode: what the padding holds: 'zeros', 'reflect', 'replicate' or
            'circular'. No mode makes a padded copy of the input.
        algorithm: "auto", or the name of an algorithm (see ``torchconv.explain``); None
            takes that of the surrounding ``with torchconv.algorithm(...)``.
        flip: convolution as mathematics has it, s_t = sum_a u_a w_{t-a}: the kernel is
            flipped along every spatial dimension. Without it, torch's cross-correlation.
        channel_map: (K, C / groups), bool: which input channels each output channel
            sees, as LeNet-5's C3 has it. The other weights count as zero and get no
            gradient. None connects all of a group.

    Returns:
        (N, K, H_out, W_out), or without N, with the strides torch's result has.

    Raises:
        RuntimeError: sizes, dtypes or devices that do not fit, as torch.
        TypeError: an argument of the wrong type, as torch.
        ValueError: an unknown padding_mode or algorithm.
    """
    return _conv(
        conv2d,
        2,
        input,
        weight,
        bias,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        algorithm,
        flip,
        channel_map,
    )


def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    algorithm: str | None = None,
    flip: bool = False,
    channel_map: Tensor | None = None,
) -> Tensor:
    """3-d convolution (cross-correlation), as ``torch.nn.functional.conv3d``.

    See :func:`conv2d` for the arguments, with three spatial dimensions: input
    (N, C, D, H, W) or (C, D, H, W), weight (K, C / groups, *kernel), bias (K).
    """
    return _conv(
        conv3d,
        3,
        input,
        weight,
        bias,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        algorithm,
        flip,
        channel_map,
    )


def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | Sequence[Sequence[int]] = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
    *,
    algorithm: str | None = None,
    flip: bool = False,
) -> Tensor:
    """1-d transposed convolution, as ``torch.nn.functional.conv_transpose1d``.

    See :func:`conv_transpose2d` for the arguments, with one spatial dimension.
    """
    return _conv_transpose(
        conv_transpose1d,
        1,
        input,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
        algorithm,
        flip,
    )


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | Sequence[Sequence[int]] = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
    *,
    algorithm: str | None = None,
    flip: bool = False,
) -> Tensor:
    """2-d transposed convolution, as ``torch.nn.functional.conv_transpose2d``.

    It is the input gradient of the convolution with the same arguments.

    Args:
        input: (N, C, H, W) or unbatched (C, H, W); dtypes as :func:`conv2d`.
        weight: (C, K / groups, kernel_h, kernel_w), of the input's dtype and device.
        bias: (K) or None.
        stride, dilation, groups, algorithm, flip: as :func:`conv2d`.
        padding: an int, one per spatial dimension, or a (low, high) pair per spatial
            dimension: what is cut off the output's borders.
        output_padding: what is added to the output's high side, less than the stride or
            the dilation.

    Returns:
        (N, K, H_out, W_out), or without N, where H_out = (H - 1) * stride - low - high
        + dilation * (kernel - 1) + output_padding + 1.

    Raises:
        RuntimeError: sizes, dtypes or devices that do not fit, as torch.
        TypeError: an argument of the wrong type, as torch.
        ValueError: an unknown algorithm.
    """
    return _conv_transpose(
        conv_transpose2d,
        2,
        input,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
        algorithm,
        flip,
    )


def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | Sequence[Sequence[int]] = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
    *,
    algorithm: str | None = None,
    flip: bool = False,
) -> Tensor:
    """3-d transposed convolution, as ``torch.nn.functional.conv_transpose3d``.

    See :func:`conv_transpose2d` for the arguments, with three spatial dimensions.
    """
    return _conv_transpose(
        conv_transpose3d,
        3,
        input,
        weight,
        bias,
        stride,
        padding,
        output_padding,
        groups,
        dilation,
        algorithm,
        flip,
    )
