"""Tiled and locally connected convolution: kernels that depend on the output position."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_variadic

from .. import autograd
from .._conv_args import DIRECT
from .._local_args import UNTILED, tiled_conv_plan
from ._common import autocast_conv, cached, describe
from ._conv_routes import indirect
from .conv import CONV, Ints, Padding

_tiled_conv_plan = cached(tiled_conv_plan, 2, 4)

_autocast_on = torch._C._is_any_autocast_enabled


def _forward(x: Tensor, w: Tensor, b: Tensor | None, args: Any) -> Tensor:
    return autograd.local_conv_forward(x, w, b, args)


def _tiled_conv(
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
    flip: bool,
    local: bool,
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
            flip=flip,
        )
    if _autocast_on():
        input, weight, bias = autocast_conv(input, weight, bias)  # type: ignore
    name = function.__name__
    plan = _tiled_conv_plan(
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
        local,
    )
    if plan.route == UNTILED:
        return CONV[nd](
            input,
            weight[(0,) * nd],
            None if bias is None else bias[(0,) * nd],
            stride,
            padding,
            dilation,
            groups,
            padding_mode=padding_mode,
            flip=flip,
        )
    if flip:
        weight = weight.flip(tuple(range(-nd, 0)))
    x = input.unsqueeze(0) if plan.unbatched else input
    if plan.route == DIRECT:
        y = autograd.local_conv_forward(x, weight, bias, plan.args)
    else:
        y = indirect(_forward, plan.route, x, weight, bias, plan.args)
    return y.squeeze(0) if plan.unbatched else y


def tiled_conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    flip: bool = False,
) -> Tensor:
    """2-d tiled convolution: t_h * t_w kernels take turns over the output positions.

    y[n, k, i, j] = bias[i % t_h, j % t_w, k]
        + sum_{c, a, b} x[n, c, i * stride + a * dilation - low, ...]
                        * weight[i % t_h, j % t_w, k, c, a, b]

    A tile of 1 is convolution; a tile of the output's size is a locally connected layer
    (:func:`locally_connected2d`). In between, neighbours differ and weights are still
    shared (Goodfellow, Bengio, Courville, *Deep Learning*, 2016, section 9.5, equation
    9.10; Le et al., "Tiled convolutional neural networks", 2010). No unfolded copy of the
    input is made.

    Args:
        input: (N, C, H, W) or (C, H, W); dtypes as :func:`conv2d`.
        weight: (t_h, t_w, K, C / groups, kernel_h, kernel_w); the tile is read off its
            leading dimensions.
        bias: (t_h, t_w, K) or None.
        stride, padding, dilation, groups, padding_mode, flip: as :func:`conv2d`.

    Returns:
        (N, K, H_out, W_out), or without N, as :func:`conv2d`.

    Raises:
        RuntimeError, TypeError, ValueError: arguments that do not fit, as :func:`conv2d`.
    """
    return _tiled_conv(
        tiled_conv2d,
        2,
        input,
        weight,
        bias,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        flip,
        False,
    )


def locally_connected2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    flip: bool = False,
) -> Tensor:
    """2-d locally connected layer ("unshared convolution"): a kernel for each position.

    y[n, k, i, j] = bias[i, j, k]
        + sum_{c, a, b} x[n, c, i * stride + a * dilation - low, ...]
                        * weight[i, j, k, c, a, b]

    (Goodfellow, Bengio, Courville, *Deep Learning*, section 9.5, equation 9.9.)

    Args:
        input: (N, C, H, W) or (C, H, W); dtypes as :func:`conv2d`.
        weight: (H_out, W_out, K, C / groups, kernel_h, kernel_w).
        bias: (H_out, W_out, K) or None.
        stride, padding, dilation, groups, padding_mode, flip: as :func:`conv2d`.

    Returns:
        (N, K, H_out, W_out), or without N, as :func:`conv2d`.

    Raises:
        RuntimeError, TypeError, ValueError: arguments that do not fit, as :func:`conv2d`;
            RuntimeError also if the weight has not one kernel for each output position.
    """
    return _tiled_conv(
        locally_connected2d,
        2,
        input,
        weight,
        bias,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        flip,
        True,
    )


def tiled_conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    flip: bool = False,
) -> Tensor:
    """1-d tiled convolution; see :func:`tiled_conv2d`, with one spatial dimension:
    weight (*tile, K, C / groups, *kernel).
    """
    return _tiled_conv(
        tiled_conv1d,
        1,
        input,
        weight,
        bias,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        flip,
        False,
    )


def locally_connected1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    flip: bool = False,
) -> Tensor:
    """1-d locally connected layer; see :func:`locally_connected2d`, with one spatial dimension:
    weight (*output size, K, C / groups, *kernel).
    """
    return _tiled_conv(
        locally_connected1d,
        1,
        input,
        weight,
        bias,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        flip,
        True,
    )


def tiled_conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    flip: bool = False,
) -> Tensor:
    """3-d tiled convolution; see :func:`tiled_conv2d`, with three spatial dimensions:
    weight (*tile, K, C / groups, *kernel).
    """
    return _tiled_conv(
        tiled_conv3d,
        3,
        input,
        weight,
        bias,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        flip,
        False,
    )


def locally_connected3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    padding_mode: str = "zeros",
    flip: bool = False,
) -> Tensor:
    """3-d locally connected layer; see :func:`locally_connected2d`, with three spatial dimensions:
    weight (*output size, K, C / groups, *kernel).
    """
    return _tiled_conv(
        locally_connected3d,
        3,
        input,
        weight,
        bias,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        flip,
        True,
    )
