"""Channel-specific convolution: depthwise, and depthwise with pointwise."""

from __future__ import annotations

import torch
from torch import Tensor

from .._activation import ActivationLike
from ._conv_base import Padding, PaddingMode, Size
from .conv import Conv1d, Conv2d, Conv3d

__all__ = [
    "DepthwiseConv1d",
    "DepthwiseConv2d",
    "DepthwiseConv3d",
    "SeparableConv1d",
    "SeparableConv2d",
    "SeparableConv3d",
]


class DepthwiseConv1d(Conv1d):
    """1-d depthwise convolution; see DepthwiseConv2d."""

    def __init__(
        self,
        channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
        *,
        multiplier: int = 1,
        algorithm: str | None = None,
        flip: bool = False,
        activation: ActivationLike = None,
    ) -> None:
        super().__init__(
            channels,
            channels * multiplier,
            kernel_size,
            stride,
            padding,
            dilation,
            channels,
            bias,
            padding_mode,
            device,
            dtype,
            algorithm=algorithm,
            flip=flip,
            activation=activation,
        )


class DepthwiseConv2d(Conv2d):
    """Depthwise convolution: every channel is convolved by itself, with `multiplier`
    kernels of its own. Conv2d with groups=channels and channels * multiplier outputs.

    Args:
        channels: of the input.
        multiplier: outputs of each channel.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
        *,
        multiplier: int = 1,
        algorithm: str | None = None,
        flip: bool = False,
        activation: ActivationLike = None,
    ) -> None:
        super().__init__(
            channels,
            channels * multiplier,
            kernel_size,
            stride,
            padding,
            dilation,
            channels,
            bias,
            padding_mode,
            device,
            dtype,
            algorithm=algorithm,
            flip=flip,
            activation=activation,
        )


class DepthwiseConv3d(Conv3d):
    """3-d depthwise convolution; see DepthwiseConv2d."""

    def __init__(
        self,
        channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
        *,
        multiplier: int = 1,
        algorithm: str | None = None,
        flip: bool = False,
        activation: ActivationLike = None,
    ) -> None:
        super().__init__(
            channels,
            channels * multiplier,
            kernel_size,
            stride,
            padding,
            dilation,
            channels,
            bias,
            padding_mode,
            device,
            dtype,
            algorithm=algorithm,
            flip=flip,
            activation=activation,
        )


class SeparableConv1d(torch.nn.Module):
    """1-d separable convolution; see SeparableConv2d."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
        *,
        multiplier: int = 1,
        flip: bool = False,
        activation: ActivationLike = None,
    ) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv1d(
            in_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            False,
            padding_mode,
            device,
            dtype,
            multiplier=multiplier,
            flip=flip,
        )
        self.pointwise = Conv1d(
            in_channels * multiplier,
            out_channels,
            1,
            bias=bias,
            device=device,
            dtype=dtype,
            activation=activation,
        )

    def forward(self, input: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(input))


class SeparableConv2d(torch.nn.Module):
    """Separable convolution: a depthwise convolution, then a pointwise one that mixes
    channels. Parameters: multiplier * in_channels * (prod(kernel_size) + out_channels)
    instead of in_channels * out_channels * prod(kernel_size) (Chollet, "Xception",
    arXiv:1610.02357).

    Args:
        bias: of the pointwise convolution; the depthwise one has none.
        multiplier: outputs of each channel in between.
        activation: of the pointwise convolution; see Conv2d.

    The two layers are the attributes `depthwise` and `pointwise`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
        *,
        multiplier: int = 1,
        flip: bool = False,
        activation: ActivationLike = None,
    ) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv2d(
            in_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            False,
            padding_mode,
            device,
            dtype,
            multiplier=multiplier,
            flip=flip,
        )
        self.pointwise = Conv2d(
            in_channels * multiplier,
            out_channels,
            1,
            bias=bias,
            device=device,
            dtype=dtype,
            activation=activation,
        )

    def forward(self, input: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(input))


class SeparableConv3d(torch.nn.Module):
    """3-d separable convolution; see SeparableConv2d."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
        *,
        multiplier: int = 1,
        flip: bool = False,
        activation: ActivationLike = None,
    ) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv3d(
            in_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            False,
            padding_mode,
            device,
            dtype,
            multiplier=multiplier,
            flip=flip,
        )
        self.pointwise = Conv3d(
            in_channels * multiplier,
            out_channels,
            1,
            bias=bias,
            device=device,
            dtype=dtype,
            activation=activation,
        )

    def forward(self, input: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(input))
