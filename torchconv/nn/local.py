"""Locally connected layers: a kernel of its own for every output position."""

from __future__ import annotations

import torch

from .. import functional as F
from .._conv_args import canonical_pads, conv_output_sizes
from ._conv_base import Padding, PaddingMode, Size
from ._tiled_base import TiledBase, per_dimension

__all__ = ["LocallyConnected1d", "LocallyConnected2d", "LocallyConnected3d"]


class _LocallyConnected(TiledBase):
    """The size of the input gives that of the output, and with it the weight's."""

    def __init__(
        self,
        nd: int,
        in_channels: int,
        out_channels: int,
        input_size: Size,
        kernel_size: Size,
        stride: Size,
        padding: Padding,
        dilation: Size,
        groups: int,
        bias: bool,
        padding_mode: PaddingMode,
        device: torch.types.Device,
        dtype: torch.dtype | None,
        flip: bool,
    ) -> None:
        size = per_dimension("input_size", input_size, nd)
        kernel = per_dimension("kernel_size", kernel_size, nd)
        steps = per_dimension("stride", stride, nd)
        spread = per_dimension("dilation", dilation, nd)
        pads = canonical_pads(type(self).__name__, padding, nd, kernel, steps, spread)
        output_size = conv_output_sizes(size, kernel, steps, pads, spread)
        if any(n < 1 for n in output_size):
            raise ValueError(
                f"kernel_size={kernel} with dilation={spread} is larger than the padded "
                f"input of input_size={size}"
            )
        super().__init__(
            nd,
            in_channels,
            out_channels,
            kernel,
            output_size,
            steps,
            padding,
            spread,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
            flip,
        )
        self.input_size, self.output_size = size, output_size

    def _size_repr(self) -> str:
        return f"input_size={self.input_size}"


class LocallyConnected1d(_LocallyConnected):
    """1-d locally connected layer of (N, C, L) or (C, L); see LocallyConnected2d."""

    _functional = staticmethod(F.locally_connected1d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        input_size: Size,
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
        flip: bool = False,
    ) -> None:
        super().__init__(
            1,
            in_channels,
            out_channels,
            input_size,
            kernel_size,
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


class LocallyConnected2d(_LocallyConnected):
    """2-d locally connected layer of (N, C, H, W) or (C, H, W), also called unshared
    convolution: as Conv2d, with a kernel of its own at every output position
    (Goodfellow, Bengio, Courville, *Deep Learning*, section 9.5).

    Args:
        input_size: height and width of the inputs, an int or one per spatial dimension.
        padding: as torchconv.nn.Conv2d, by name and as (low, high) pairs too.
        flip: the kernels flipped, as in torchconv.nn.Conv2d.

    Attributes:
        weight: (*output_size, out_channels, in_channels / groups, *kernel_size).
        bias: (*output_size, out_channels), or None.
        output_size: height and width of the outputs.

    Raises:
        ValueError: the kernel is larger than the padded input.

    See torchconv.functional.locally_connected2d.
    """

    _functional = staticmethod(F.locally_connected2d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        input_size: Size,
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
        flip: bool = False,
    ) -> None:
        super().__init__(
            2,
            in_channels,
            out_channels,
            input_size,
            kernel_size,
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


class LocallyConnected3d(_LocallyConnected):
    """3-d locally connected layer of (N, C, D, H, W) or (C, D, H, W); see
    LocallyConnected2d."""

    _functional = staticmethod(F.locally_connected3d)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        input_size: Size,
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
        flip: bool = False,
    ) -> None:
        super().__init__(
            3,
            in_channels,
            out_channels,
            input_size,
            kernel_size,
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
