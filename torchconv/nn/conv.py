"""The convolution layers of torch.nn, computed by torchconv.

Each class is torch.nn's own with another computation: same constructor (and the
keyword-only `algorithm`, `flip` and `channel_map`), same parameters, initial weights,
state_dict and repr; and `isinstance(layer, torch.nn.Conv2d)` holds. `padding` takes what
torchconv.functional takes: besides torch's, 'full', 'causal' and a (low, high) pair per
dimension. A padding_mode other than 'zeros' makes no padded copy of the input.

Source: torch.nn.modules.conv.
"""

from __future__ import annotations

import torch

from .. import functional as F
from .._activation import ActivationLike
from ._conv_base import (
    ChannelMap,
    ConvBase,
    ConvTransposeBase,
    Padding,
    PaddingMode,
    Size,
)

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
]


class Conv1d(ConvBase, torch.nn.Conv1d):
    """A 1-d convolution of (N, C, L) or (C, L); see torch.nn.Conv1d.

    Args:
        algorithm: the algorithm to compute with, by name; None means "auto" or what
            a `with torchconv.algorithm(...)` around the call says.
        flip: convolution as mathematics has it, the kernel flipped; torch's layers (and
            this one, by default) compute cross-correlation.
        channel_map: (out_channels, in_channels / groups), bool: which input channels
            each output channel sees (None: all of its group).
        activation: applied to the result while it is written; see
            torchconv.functional.conv2d. `forward` takes a residual that is added before:
            activation(convolution + residual).
    """

    _functional = staticmethod(F.conv1d)

    def __init__(
        self,
        in_channels: int,
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
        channel_map: ChannelMap | None = None,
        activation: ActivationLike = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
            algorithm=algorithm,
            flip=flip,
            channel_map=channel_map,
            activation=activation,
        )


class Conv2d(ConvBase, torch.nn.Conv2d):
    """A 2-d convolution of (N, C, H, W) or (C, H, W); see torch.nn.Conv2d.

    Args:
        algorithm: the algorithm to compute with, by name; None means "auto" or what
            a `with torchconv.algorithm(...)` around the call says.
        flip: convolution as mathematics has it, the kernel flipped; torch's layers (and
            this one, by default) compute cross-correlation.
        channel_map: (out_channels, in_channels / groups), bool: which input channels
            each output channel sees (None: all of its group).
        activation: applied to the result while it is written; see
            torchconv.functional.conv2d. `forward` takes a residual that is added before:
            activation(convolution + residual).
    """

    _functional = staticmethod(F.conv2d)

    def __init__(
        self,
        in_channels: int,
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
        channel_map: ChannelMap | None = None,
        activation: ActivationLike = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
            algorithm=algorithm,
            flip=flip,
            channel_map=channel_map,
            activation=activation,
        )


class Conv3d(ConvBase, torch.nn.Conv3d):
    """A 3-d convolution of (N, C, D, H, W) or (C, D, H, W); see torch.nn.Conv3d.

    Args:
        algorithm: the algorithm to compute with, by name; None means "auto" or what
            a `with torchconv.algorithm(...)` around the call says.
        flip: convolution as mathematics has it, the kernel flipped; torch's layers (and
            this one, by default) compute cross-correlation.
        channel_map: (out_channels, in_channels / groups), bool: which input channels
            each output channel sees (None: all of its group).
        activation: applied to the result while it is written; see
            torchconv.functional.conv2d. `forward` takes a residual that is added before:
            activation(convolution + residual).
    """

    _functional = staticmethod(F.conv3d)

    def __init__(
        self,
        in_channels: int,
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
        channel_map: ChannelMap | None = None,
        activation: ActivationLike = None,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
            algorithm=algorithm,
            flip=flip,
            channel_map=channel_map,
            activation=activation,
        )


class ConvTranspose1d(ConvTransposeBase, torch.nn.ConvTranspose1d):
    """A 1-d transposed convolution of (N, C, L) or (C, L).

    See torch.nn.ConvTranspose1d; `algorithm`, `flip` and `activation` as in Conv1d.
    """

    _functional = staticmethod(F.conv_transpose1d)

    def __init__(
        self,
        in_channels: int,
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
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            output_padding=output_padding,
            groups=groups,
            bias=bias,
            dilation=dilation,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
            algorithm=algorithm,
            flip=flip,
            activation=activation,
        )


class ConvTranspose2d(ConvTransposeBase, torch.nn.ConvTranspose2d):
    """A 2-d transposed convolution of (N, C, H, W) or (C, H, W).

    See torch.nn.ConvTranspose2d; `algorithm`, `flip` and `activation` as in Conv2d.
    """

    _functional = staticmethod(F.conv_transpose2d)

    def __init__(
        self,
        in_channels: int,
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
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            output_padding=output_padding,
            groups=groups,
            bias=bias,
            dilation=dilation,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
            algorithm=algorithm,
            flip=flip,
            activation=activation,
        )


class ConvTranspose3d(ConvTransposeBase, torch.nn.ConvTranspose3d):
    """A 3-d transposed convolution of (N, C, D, H, W) or (C, D, H, W).

    See torch.nn.ConvTranspose3d; `algorithm`, `flip` and `activation` as in Conv3d.
    """

    _functional = staticmethod(F.conv_transpose3d)

    def __init__(
        self,
        in_channels: int,
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
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            output_padding=output_padding,
            groups=groups,
            bias=bias,
            dilation=dilation,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype,
            algorithm=algorithm,
            flip=flip,
            activation=activation,
        )
