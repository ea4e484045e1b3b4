"""Tiled convolution: kernels that take turns over the output positions."""

from __future__ import annotations

import torch

from .. import functional as F
from ._conv_base import Padding, PaddingMode, Size
from ._tiled_base import TiledBase, per_dimension

__all__ = ["TiledConv1d", "TiledConv2d", "TiledConv3d"]


class TiledConv1d(TiledBase):
    """1-d tiled convolution of (N, C, L) or (C, L); see TiledConv2d."""

    _functional = staticmethod(F.tiled_conv1d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        tile: Size,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
        *,
        flip: bool = False,
    ) -> None:
        super().__init__(
            1,
            in_channels,
            out_channels,
            kernel_size,
            per_dimension("tile", tile, 1),
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
            flip,
        )


class TiledConv2d(TiledBase):
    """2-d tiled convolution of (N, C, H, W) or (C, H, W).

    The output at (i, j) is computed with the kernel of number (i % tile_h, j % tile_w), so
    that neighbours have different kernels and every tile_h * tile_w-th the same
    (Goodfellow, Bengio, Courville, *Deep Learning*, section 9.5). A tile of 1 is Conv2d.

    Args:
        tile: how many kernels there are, an int or one per spatial dimension.
        padding: as torchconv.nn.Conv2d, by name and as (low, high) pairs too.
        flip: the kernels flipped, as in torchconv.nn.Conv2d.

    Attributes:
        weight: (*tile, out_channels, in_channels / groups, *kernel_size).
        bias: (*tile, out_channels), or None.

    See torchconv.functional.tiled_conv2d.
    """

    _functional = staticmethod(F.tiled_conv2d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        tile: Size,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
        *,
        flip: bool = False,
    ) -> None:
        super().__init__(
            2,
            in_channels,
            out_channels,
            kernel_size,
            per_dimension("tile", tile, 2),
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
            flip,
        )


class TiledConv3d(TiledBase):
    """3-d tiled convolution of (N, C, D, H, W) or (C, D, H, W); see TiledConv2d."""

    _functional = staticmethod(F.tiled_conv3d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        tile: Size,
        stride: Size = 1,
        padding: Padding = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
        *,
        flip: bool = False,
    ) -> None:
        super().__init__(
            3,
            in_channels,
            out_channels,
            kernel_size,
            per_dimension("tile", tile, 3),
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
            flip,
        )
