"""Max-out: the largest of k linear functions of the input.

Goodfellow, Warde-Farley, Mirza, Courville, Bengio, "Maxout networks", arXiv:1302.4389.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import functional as F
from ._conv_base import Size
from .conv import Conv1d, Conv2d, Conv3d

__all__ = ["Maxout", "MaxoutConv1d", "MaxoutConv2d", "MaxoutConv3d"]


class Maxout(torch.nn.Module):
    """The largest of every k consecutive channels; see torchconv.functional.maxout."""

    def __init__(self, k: int) -> None:
        super().__init__()
        if k < 1:
            raise ValueError(f"k must be positive, but got k={k}")
        self.k = k

    def forward(self, input: Tensor) -> Tensor:
        return F.maxout(input, self.k)

    def extra_repr(self) -> str:
        return f"{self.k}"


class MaxoutConv1d(Conv1d):
    """A 1-d convolution with k * out_channels kernels, and the largest of every k of their
    results: a detector that is learnt with the weights.

    Args:
        k: how many kernels make an output channel.
        options: as torchconv.nn.Conv1d.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        k: int = 2,
        **options: Any,
    ) -> None:
        if k < 1:
            raise ValueError(f"k must be positive, but got k={k}")
        super().__init__(in_channels, k * out_channels, kernel_size, **options)
        self.k = k

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        if input.dim() == 2:
            return F.maxout(super().forward(input.unsqueeze(0)), self.k).squeeze(0)
        return F.maxout(super().forward(input), self.k)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, k={self.k}"


class MaxoutConv2d(Conv2d):
    """A 2-d convolution with k * out_channels kernels, and the largest of every k of their
    results: a detector that is learnt with the weights.

    Args:
        k: how many kernels make an output channel.
        options: as torchconv.nn.Conv2d.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        k: int = 2,
        **options: Any,
    ) -> None:
        if k < 1:
            raise ValueError(f"k must be positive, but got k={k}")
        super().__init__(in_channels, k * out_channels, kernel_size, **options)
        self.k = k

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        if input.dim() == 3:
            return F.maxout(super().forward(input.unsqueeze(0)), self.k).squeeze(0)
        return F.maxout(super().forward(input), self.k)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, k={self.k}"


class MaxoutConv3d(Conv3d):
    """A 3-d convolution with k * out_channels kernels, and the largest of every k of their
    results: a detector that is learnt with the weights.

    Args:
        k: how many kernels make an output channel.
        options: as torchconv.nn.Conv3d.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        k: int = 2,
        **options: Any,
    ) -> None:
        if k < 1:
            raise ValueError(f"k must be positive, but got k={k}")
        super().__init__(in_channels, k * out_channels, kernel_size, **options)
        self.k = k

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        if input.dim() == 4:
            return F.maxout(super().forward(input.unsqueeze(0)), self.k).squeeze(0)
        return F.maxout(super().forward(input), self.k)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, k={self.k}"
