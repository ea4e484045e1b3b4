"""What tiled and locally connected layers have in common: a kernel for each residue."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from .._conv_args import PADDING_MODES
from ._conv_base import Padding, Size, canonical_padding


def per_dimension(name: str, value: Size, nd: int) -> tuple[int, ...]:
    """One positive int for each spatial dimension.

    Raises:
        ValueError: another number of them, or one that is not positive.
    """
    values = tuple(value) if isinstance(value, Sequence) else (value,) * nd
    if len(values) != nd or any(v <= 0 for v in values):
        raise ValueError(
            f"{name} should be a positive int or {nd} of them, but got {name}={value!r}"
        )
    return values


class TiledBase(torch.nn.Module):
    """Parameters, initialisation and repr of a layer with weight (*tile, out_channels,
    in_channels / groups, *kernel_size) and bias (*tile, out_channels)."""

    weight: torch.nn.Parameter
    bias: torch.nn.Parameter | None
    _functional: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        nd: int,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        tile: tuple[int, ...],
        stride: Size,
        padding: Padding,
        dilation: Size,
        groups: int,
        bias: bool,
        padding_mode: str,
        device: torch.types.Device,
        dtype: torch.dtype | None,
        flip: bool,
    ) -> None:
        super().__init__()
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups:
            raise ValueError("out_channels must be divisible by groups")
        if padding_mode not in PADDING_MODES:
            raise ValueError(
                f"padding_mode must be one of {PADDING_MODES}, but got "
                f"padding_mode='{padding_mode}'"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = per_dimension("kernel_size", kernel_size, nd)
        self.tile = tile
        self.stride = per_dimension("stride", stride, nd)
        self.padding = canonical_padding(padding)
        self.dilation = per_dimension("dilation", dilation, nd)
        self.groups = groups
        self.padding_mode = padding_mode
        self.flip = flip
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        size = (*tile, out_channels, in_channels // groups, *self.kernel_size)
        self.weight = torch.nn.Parameter(torch.empty(size, **options))
        if bias:
            self.bias = torch.nn.Parameter(torch.empty(size[: nd + 1], **options))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Each kernel as torch.nn.Conv2d draws its own: uniform within 1 / sqrt(fan_in)
        of zero."""
        fan_in = self.in_channels // self.groups * math.prod(self.kernel_size)
        bound = 1 / math.sqrt(fan_in) if fan_in else 0.0
        torch.nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            torch.nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        return self._functional(
            input,
            self.weight,
            self.bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            padding_mode=self.padding_mode,
            flip=self.flip,
        )

    def _size_repr(self) -> str:
        return f"tile={self.tile}"

    def extra_repr(self) -> str:
        text = (
            f"{self.in_channels}, {self.out_channels}, {self._size_repr()}, "
            f"kernel_size={self.kernel_size}, stride={self.stride}"
        )
        if self.padding not in (0, (0,) * len(self.kernel_size)):
            text += f", padding={self.padding}"
        if self.dilation != (1,) * len(self.dilation):
            text += f", dilation={self.dilation}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text + ", flip=True" if self.flip else text
