"""Convolution and transposed convolution in one, two and three dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_variadic

from .. import _prepared, autograd
from .._activation import ActivationLike
from .._args import shape_text
from .._config import operator_algorithm
from .._conv_args import (
    DIRECT,
    ConvPlan,
    Spec,
    batched,
    conv_plan,
    conv_transpose_plan,
)
from .._fused_args import FusedPlan, fused_plan, fused_transpose_plan
from ._common import autocast_conv, cached, describe
from ._conv_routes import FORWARD, TRANSPOSED, appended, fused, indirect

Padding = str | int | Sequence[int] | Sequence[Sequence[int]]
Ints = int | Sequence[int]


def _prepared_args(
    pass_name: str, plan: ConvPlan, x: Spec, w: Spec, args: tuple[Any, ...]
) -> tuple[Any, ...]:
    """An operator's arguments, prepared where the plan runs as one pass on the CPU."""
    if plan.route != DIRECT or plan.extra or x.device.type != "cpu":
        return args
    size, stride = batched(x, plan.unbatched)
    return _prepared.prepare(pass_name, size, stride, w.size, w.stride, x.dtype, args)


def _prepare(pass_name: str) -> Callable[..., ConvPlan]:
    def prepare(plan: ConvPlan, x: Spec, w: Spec, _bias: Spec | None) -> ConvPlan:
        return plan._replace(args=_prepared_args(pass_name, plan, x, w, plan.args))

    return prepare


_conv_plan = cached(conv_plan, 2, 4, _prepare("forward"))
_conv_transpose_plan = cached(conv_transpose_plan, 2, 4, _prepare("input_grad"))


def _prepare_fused(pass_name: str) -> Callable[..., FusedPlan]:
    """The same for plans with an epilogue."""

    def prepare(
        plan: FusedPlan, x: Spec, w: Spec, _bias: Spec | None, _residual: Spec | None
    ) -> FusedPlan:
        if not plan.fused:
            return plan
        args = _prepared_args(pass_name, plan.conv, x, w, plan.args)
        return plan._replace(args=args)

    return prepare


_fused_plan = cached(fused_plan, 2, 5, _prepare_fused("forward"))
_fused_transpose_plan = cached(fused_transpose_plan, 2, 5, _prepare_fused("input_grad"))

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
    activation: ActivationLike,
    residual: Tensor | None,
) -> Tensor:
    if has_torch_function_variadic(input, weight, bias, residual):
        return handle_torch_function(
            function,
            (input, weight, bias, residual),
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
            activation=activation,
            residual=residual,
        )
    if _autocast_on():
        input, weight, bias, residual = autocast_conv(  # type: ignore
            input, weight, bias, residual
        )
    name = function.__name__
    if flip or channel_map is not None:
        weight = _changed(name, nd, weight, flip, channel_map)
    if activation is not None or residual is not None:
        return fused(
            FORWARD,
            _fused_plan,
            name,
            nd,
            input,
            weight,
            bias,
            residual,
            activation,
            stride,
            padding,
            dilation,
            groups,
            padding_mode,
            operator_algorithm(algorithm, input.is_cuda),
        )
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
        y = indirect(FORWARD.plain, plan.route, x, weight, bias, plan.args)
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
    activation: ActivationLike,
    residual: Tensor | None,
) -> Tensor:
    if has_torch_function_variadic(input, weight, bias, residual):
        return handle_torch_function(
            function,
            (input, weight, bias, residual),
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
            activation=activation,
            residual=residual,
        )
    if _autocast_on():
        input, weight, bias, residual = autocast_conv(  # type: ignore
            input, weight, bias, residual
        )
    name = function.__name__
    if flip:
        weight = _changed(name, nd, weight, True, None)
    if activation is not None or residual is not None:
        return fused(
            TRANSPOSED,
            _fused_transpose_plan,
            name,
            nd,
            input,
            weight,
            bias,
            residual,
            activation,
            stride,
            padding,
            output_padding,
            dilation,
            groups,
            operator_algorithm(algorithm, input.is_cuda),
        )
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
        x = appended(x, plan.extra)
    if plan.route == DIRECT:
        y = autograd.conv_input_grad(x, weight, bias, plan.args)
    else:
        y = indirect(TRANSPOSED.plain, plan.route, x, weight, bias, plan.args)
    return y.squeeze(0) if plan.unbatched else y


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
    activation: ActivationLike = None,
    residual: Tensor | None = None,
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
        activation,
        residual,
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
    activation: ActivationLike = None,
    residual: Tensor | None = None,
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
        activation: what is applied to the result while it is written, in the same pass: a
            name, or a tuple of it and its parameters as torch.nn.functional's function of
            that name has them: "relu", "relu6", "hardtanh" or ("hardtanh", min_val,
            max_val), "leaky_relu" or ("leaky_relu", negative_slope), "hardswish",
            "hardsigmoid". None is the sum itself.
        residual: of the result's size, or one that expands to it, and of the input's
            dtype: activation(convolution + residual). No extra pass where its strides
            are those of the result, and a copy where they are not. Under autocast it is
            cast as the input is.

    Returns:
        (N, K, H_out, W_out), or without N, with the strides torch's result has.

    Raises:
        RuntimeError: sizes, dtypes or devices that do not fit, as torch.
        TypeError: an argument of the wrong type, as torch.
        ValueError: an unknown padding_mode, algorithm or activation.
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
        activation,
        residual,
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
    activation: ActivationLike = None,
    residual: Tensor | None = None,
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
        activation,
        residual,
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
    activation: ActivationLike = None,
    residual: Tensor | None = None,
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
        activation,
        residual,
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
    activation: ActivationLike = None,
    residual: Tensor | None = None,
) -> Tensor:
    """2-d transposed convolution, as ``torch.nn.functional.conv_transpose2d``.

    It is the input gradient of the convolution with the same arguments.

    Args:
        input: (N, C, H, W) or unbatched (C, H, W); dtypes as :func:`conv2d`.
        weight: (C, K / groups, kernel_h, kernel_w), of the input's dtype and device.
        bias: (K) or None.
        stride, dilation, groups, algorithm, flip, activation, residual: as
            :func:`conv2d`.
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
        activation,
        residual,
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
    activation: ActivationLike = None,
    residual: Tensor | None = None,
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
        activation,
        residual,
    )


# By the number of spatial dimensions.
CONV: dict[int, Any] = {1: conv1d, 2: conv2d, 3: conv3d}
