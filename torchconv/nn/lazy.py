"""The lazy convolution layers of torch.nn, computed by torchconv.

A lazy layer learns in_channels from its first input, and is then an ordinary layer of
torchconv.nn. Source: torch.nn.modules.conv and torch.nn.modules.lazy.
"""

from __future__ import annotations

import torch

from .._activation import ActivationLike, canonical_activation
from ._conv_base import Padding, PaddingMode, Size
from .conv import (
    Conv1d,
    Conv2d,
    Conv3d,
    ConvTranspose1d,
    ConvTranspose2d,
    ConvTranspose3d,
)

__all__ = [
    "LazyConv1d",
    "LazyConv2d",
    "LazyConv3d",
    "LazyConvTranspose1d",
    "LazyConvTranspose2d",
    "LazyConvTranspose3d",
]


class LazyConv1d(torch.nn.LazyConv1d, Conv1d):  # type: ignore[misc]
    """Conv1d with in_channels from the first input; see torch.nn.LazyConv1d."""

    cls_to_become = Conv1d

    def __init__(
        self,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
        *,
        algorithm: str | None = None,
        flip: bool = False,
        activation: ActivationLike = None,
    ) -> None:
        canonical_activation(type(self).__name__, activation)
        super().__init__(
            out_channels,
            kernel_size,  # type: ignore[arg-type]
            stride,  # type: ignore[arg-type]
            padding,  # type: ignore[arg-type]
            dilation,  # type: ignore[arg-type]
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )
        self._keep(algorithm, flip, activation)


class LazyConv2d(torch.nn.LazyConv2d, Conv2d):  # type: ignore[misc]
    """Conv2d with in_channels from the first input; see torch.nn.LazyConv2d."""

    cls_to_become = Conv2d

    def __init__(
        self,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
        *,
        algorithm: str | None = None,
        flip: bool = False,
        activation: ActivationLike = None,
    ) -> None:
        canonical_activation(type(self).__name__, activation)
        super().__init__(
            out_channels,
            kernel_size,  # type: ignore[arg-type]
            stride,  # type: ignore[arg-type]
            padding,  # type: ignore[arg-type]
            dilation,  # type: ignore[arg-type]
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )
        self._keep(algorithm, flip, activation)


class LazyConv3d(torch.nn.LazyConv3d, Conv3d):  # type: ignore[misc]
    """Conv3d with in_channels from the first input; see torch.nn.LazyConv3d."""

    cls_to_become = Conv3d

    def __init__(
        self,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
        *,
        algorithm: str | None = None,
        flip: bool = False,
        activation: ActivationLike = None,
    ) -> None:
        canonical_activation(type(self).__name__, activation)
        super().__init__(
            out_channels,
            kernel_size,  # type: ignore[arg-type]
            stride,  # type: ignore[arg-type]
            padding,  # type: ignore[arg-type]
            dilation,  # type: ignore[arg-type]
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )
        self._keep(algorithm, flip, activation)


class LazyConvTranspose1d(  # type: ignore[misc]
    torch.nn.LazyConvTranspose1d, ConvTranspose1d
):
    """ConvTranspose1d with in_channels from the first input."""

    cls_to_become = ConvTranspose1d

    def __init__(
        self,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: PaddingMode = "zeros",
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
        *,
        algorithm: str | None = None,
        flip: bool = False,
        activation: ActivationLike = None,
    ) -> None:
        canonical_activation(type(self).__name__, activation)
        super().__init__(
            out_channels,
            kernel_size,  # type: ignore[arg-type]
            stride,  # type: ignore[arg-type]
            padding,  # type: ignore[arg-type]
            output_padding,  # type: ignore[arg-type]
            groups,
            bias,
            dilation,  # type: ignore[arg-type]
            padding_mode,
            device,
            dtype,
        )
        self._keep(algorithm, flip, activation)


class LazyConvTranspose2d(  # type: ignore[misc]
    torch.nn.LazyConvTranspose2d, ConvTranspose2d
):
    """ConvTranspose2d with in_channels from the first input."""

    cls_to_become = ConvTranspose2d

    def __init__(
        self,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: PaddingMode = "zeros",
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
        *,
        algorithm: str | None = None,
        flip: bool = False,
        activation: ActivationLike = None,
    ) -> None:
        canonical_activation(type(self).__name__, activation)
        super().__init__(
            out_channels,
            kernel_size,  # type: ignore[arg-type]
            stride,  # type: ignore[arg-type]
            padding,  # type: ignore[arg-type]
            output_padding,  # type: ignore[arg-type]
            groups,
            bias,
            dilation,  # type: ignore[arg-type]
            padding_mode,
            device,
            dtype,
        )
        self._keep(algorithm, flip, activation)


class LazyConvTranspose3d(  # type: ignore[misc]
    torch.nn.LazyConvTranspose3d, ConvTranspose3d
):
    """ConvTranspose3d with in_channels from the first input."""

    cls_to_become = ConvTranspose3d

    def __init__(
        self,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Padding = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: PaddingMode = "zeros",
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
        *,
        algorithm: str | None = None,
        flip: bool = False,
        activation: ActivationLike = None,
    ) -> None:
        canonical_activation(type(self).__name__, activation)
        super().__init__(
            out_channels,
            kernel_size,  # type: ignore[arg-type]
            stride,  # type: ignore[arg-type]
            padding,  # type: ignore[arg-type]
            output_padding,  # type: ignore[arg-type]
            groups,
            bias,
            dilation,  # type: ignore[arg-type]
            padding_mode,
            device,
            dtype,
        )
        self._keep(algorithm, flip, activation)
