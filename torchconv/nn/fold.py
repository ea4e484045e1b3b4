"""Unfold and Fold of torch.nn, computed by torchconv.

Source: torch.nn.modules.fold.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .. import functional as F

__all__ = ["Fold", "Unfold"]


class Unfold(torch.nn.Unfold):
    """torch.nn.Unfold by torchconv: windows of (N, C, H, W) as columns."""

    def forward(self, input: Tensor) -> Tensor:
        """The columns of input."""
        return F.unfold(
            input, self.kernel_size, self.dilation, self.padding, self.stride
        )


class Fold(torch.nn.Fold):
    """torch.nn.Fold by torchconv: columns (N, C * window, L) summed up."""

    def forward(self, input: Tensor) -> Tensor:
        """The sum of the columns, each at its window."""
        return F.fold(
            input,
            self.output_size,
            self.kernel_size,
            self.dilation,
            self.padding,
            self.stride,
        )
