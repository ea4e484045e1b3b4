"""The pooling layers of torch.nn, computed by torchconv.

Each class is torch.nn's own with another computation: constructor, repr and state_dict
are inherited, and `isinstance(layer, torch.nn.MaxPool2d)` holds.

Source: torch.nn.modules.pooling.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.modules import pooling

from .. import functional as F

__all__ = [
    "AdaptiveAvgPool1d",
    "AdaptiveAvgPool2d",
    "AdaptiveAvgPool3d",
    "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "FractionalMaxPool2d",
    "FractionalMaxPool3d",
    "LPPool1d",
    "LPPool2d",
    "LPPool3d",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "MaxUnpool1d",
    "MaxUnpool2d",
    "MaxUnpool3d",
]


class _MaxPool(pooling._MaxPoolNd):
    _functional: ClassVar[Callable[..., Any]]

    def forward(self, input: Tensor) -> Any:
        """The maximum over windows; with return_indices, (output, indices)."""
        return self._functional(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
            ceil_mode=self.ceil_mode,
            return_indices=self.return_indices,
        )


class MaxPool1d(_MaxPool, torch.nn.MaxPool1d):
    """torch.nn.MaxPool1d by torchconv, on (N, C, L) or (C, L)."""

    _functional = staticmethod(F.max_pool1d)


class MaxPool2d(_MaxPool, torch.nn.MaxPool2d):
    """torch.nn.MaxPool2d by torchconv, on (N, C, H, W) or (C, H, W)."""

    _functional = staticmethod(F.max_pool2d)


class MaxPool3d(_MaxPool, torch.nn.MaxPool3d):
    """torch.nn.MaxPool3d by torchconv, on (N, C, D, H, W) or (C, D, H, W)."""

    _functional = staticmethod(F.max_pool3d)


class _MaxUnpool(pooling._MaxUnpoolNd):
    _functional: ClassVar[Callable[..., Any]]

    def forward(
        self, input: Tensor, indices: Tensor, output_size: list[int] | None = None
    ) -> Tensor:
        """The inverse of max pooling: zero wherever there was no maximum."""
        return self._functional(
            input, indices, self.kernel_size, self.stride, self.padding, output_size
        )


class MaxUnpool1d(_MaxUnpool, torch.nn.MaxUnpool1d):
    """torch.nn.MaxUnpool1d by torchconv, on (N, C, L) or (C, L)."""

    _functional = staticmethod(F.max_unpool1d)


class MaxUnpool2d(_MaxUnpool, torch.nn.MaxUnpool2d):
    """torch.nn.MaxUnpool2d by torchconv, on (N, C, H, W) or (C, H, W)."""

    _functional = staticmethod(F.max_unpool2d)


class MaxUnpool3d(_MaxUnpool, torch.nn.MaxUnpool3d):
    """torch.nn.MaxUnpool3d by torchconv, on (N, C, D, H, W) or (C, D, H, W)."""

    _functional = staticmethod(F.max_unpool3d)


class AvgPool1d(torch.nn.AvgPool1d):
    """torch.nn.AvgPool1d by torchconv, on (N, C, L) or (C, L)."""

    def forward(self, input: Tensor) -> Tensor:
        """The mean over windows."""
        return F.avg_pool1d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
        )


class _AvgPool(pooling._AvgPoolNd):
    _functional: ClassVar[Callable[..., Any]]

    def forward(self, input: Tensor) -> Tensor:
        """The mean over windows."""
        return self._functional(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )


class AvgPool2d(_AvgPool, torch.nn.AvgPool2d):
    """torch.nn.AvgPool2d by torchconv, on (N, C, H, W) or (C, H, W)."""

    _functional = staticmethod(F.avg_pool2d)


class AvgPool3d(_AvgPool, torch.nn.AvgPool3d):
    """torch.nn.AvgPool3d by torchconv, on (N, C, D, H, W) or (C, D, H, W)."""

    _functional = staticmethod(F.avg_pool3d)


class _LPPool(pooling._LPPoolNd):
    _functional: ClassVar[Callable[..., Any]]

    def forward(self, input: Tensor) -> Tensor:
        """The p-norm over windows."""
        return self._functional(
            input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode
        )


class LPPool1d(_LPPool, torch.nn.LPPool1d):
    """torch.nn.LPPool1d by torchconv, on (N, C, L) or (C, L)."""

    _functional = staticmethod(F.lp_pool1d)


class LPPool2d(_LPPool, torch.nn.LPPool2d):
    """torch.nn.LPPool2d by torchconv, on (N, C, H, W) or (C, H, W)."""

    _functional = staticmethod(F.lp_pool2d)


class LPPool3d(_LPPool, torch.nn.LPPool3d):
    """torch.nn.LPPool3d by torchconv, on (N, C, D, H, W) or (C, D, H, W)."""

    _functional = staticmethod(F.lp_pool3d)


class _AdaptiveMaxPool(pooling._AdaptiveMaxPoolNd):
    _functional: ClassVar[Callable[..., Any]]

    def forward(self, input: Tensor) -> Any:
        """The maximum over bins; with return_indices, (output, indices)."""
        return self._functional(input, self.output_size, self.return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool, torch.nn.AdaptiveMaxPool1d):
    """torch.nn.AdaptiveMaxPool1d by torchconv, on (N, C, L) or (C, L)."""

    _functional = staticmethod(F.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMaxPool, torch.nn.AdaptiveMaxPool2d):
    """torch.nn.AdaptiveMaxPool2d by torchconv, on (N, C, H, W) or (C, H, W)."""

    _functional = staticmethod(F.adaptive_max_pool2d)


class AdaptiveMaxPool3d(_AdaptiveMaxPool, torch.nn.AdaptiveMaxPool3d):
    """torch.nn.AdaptiveMaxPool3d by torchconv, on (N, C, D, H, W) or (C, D, H, W)."""

    _functional = staticmethod(F.adaptive_max_pool3d)


class _AdaptiveAvgPool(pooling._AdaptiveAvgPoolNd):
    _functional: ClassVar[Callable[..., Any]]

    def forward(self, input: Tensor) -> Tensor:
        """The mean over bins."""
        return self._functional(input, self.output_size)


class AdaptiveAvgPool1d(_AdaptiveAvgPool, torch.nn.AdaptiveAvgPool1d):
    """torch.nn.AdaptiveAvgPool1d by torchconv, on (N, C, L) or (C, L)."""

    _functional = staticmethod(F.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptiveAvgPool, torch.nn.AdaptiveAvgPool2d):
    """torch.nn.AdaptiveAvgPool2d by torchconv, on (N, C, H, W) or (C, H, W)."""

    _functional = staticmethod(F.adaptive_avg_pool2d)


class AdaptiveAvgPool3d(_AdaptiveAvgPool, torch.nn.AdaptiveAvgPool3d):
    """torch.nn.AdaptiveAvgPool3d by torchconv, on (N, C, D, H, W) or (C, D, H, W)."""

    _functional = staticmethod(F.adaptive_avg_pool3d)


class _FractionalMaxPool(torch.nn.Module):
    _functional: ClassVar[Callable[..., Any]]

    def forward(self, input: Tensor) -> Any:
        """The maximum over random windows; with return_indices, (output, indices)."""
        return self._functional(
            input,
            self.kernel_size,
            self.output_size,
            self.output_ratio,
            self.return_indices,
            _random_samples=self._random_samples,
        )


class FractionalMaxPool2d(_FractionalMaxPool, torch.nn.FractionalMaxPool2d):
    """torch.nn.FractionalMaxPool2d by torchconv, on (N, C, H, W) or (C, H, W)."""

    _functional = staticmethod(F.fractional_max_pool2d)


class FractionalMaxPool3d(_FractionalMaxPool, torch.nn.FractionalMaxPool3d):
    """torch.nn.FractionalMaxPool3d by torchconv, on (N, C, D, H, W) or (C, D, H, W)."""

    _functional = staticmethod(F.fractional_max_pool3d)
