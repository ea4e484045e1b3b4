"""The convolutional layer of textbooks as one module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from .. import functional as F
from ..functional.layer import Detector, check_stages
from ._conv_base import Padding, PaddingMode, Size
from .conv import Conv1d, Conv2d, Conv3d

__all__ = ["ConvLayer1d", "ConvLayer2d", "ConvLayer3d"]


class _Stages:
    """The detector and pooling stages behind a convolution."""

    detector: Detector
    pool: str | None
    pool_size: Size
    pool_stride: Size | None
    _layer: ClassVar[Callable[..., Tensor]]

    def _set_stages(
        self,
        detector: Detector,
        pool: str | None,
        pool_size: Size,
        pool_stride: Size | None,
    ) -> None:
        check_stages(type(self).__name__, detector, pool)
        self.detector = detector
        self.pool = pool
        self.pool_size = pool_size
        self.pool_stride = pool_stride

    def _run(self, conv: Any, input: Tensor) -> Tensor:
        return self._layer(
            input,
            conv.weight,
            conv.bias,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
            detector=self.detector,
            pool=self.pool,
            pool_size=self.pool_size,
            pool_stride=self.pool_stride,
            padding_mode=conv.padding_mode,
            algorithm=conv.algorithm,
            flip=conv.flip,
        )

    def _repr(self) -> str:
        if isinstance(self.detector, str) or self.detector is None:
            detector = self.detector
        else:
            detector = getattr(self.detector, "__name__", str(self.detector))
        text = f"detector={detector}, pool={self.pool}"
        if self.pool is not None:
            text += f", pool_size={self.pool_size}"
        if self.pool_stride is not None:
            text += f", pool_stride={self.pool_stride}"
        return text


class ConvLayer1d(_Stages, Conv1d):
    """The 1-d convolutional layer; see ConvLayer2d."""

    _layer = staticmethod(F.conv_layer1d)

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
        detector: Detector = "relu",
        pool: str | None = "max",
        pool_size: Size = 2,
        pool_stride: Size | None = None,
        algorithm: str | None = None,
        flip: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
            algorithm=algorithm,
            flip=flip,
        )
        self._set_stages(detector, pool, pool_size, pool_stride)

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        return self._run(self, input)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self._repr()}"


class ConvLayer2d(_Stages, Conv2d):
    """Convolution, detector and pooling in one layer; see
    torchconv.functional.conv_layer2d.

    Parameters and state_dict are Conv2d's: `weight` and `bias`.

    Args:
        detector: 'relu' and others by name, a function of a tensor, or None.
        pool: 'max', 'avg' or None.
        pool_size, pool_stride: window and distance of the pooling; no distance means that
            of the window.
    """

    _layer = staticmethod(F.conv_layer2d)

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
        detector: Detector = "relu",
        pool: str | None = "max",
        pool_size: Size = 2,
        pool_stride: Size | None = None,
        algorithm: str | None = None,
        flip: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
            algorithm=algorithm,
            flip=flip,
        )
        self._set_stages(detector, pool, pool_size, pool_stride)

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        return self._run(self, input)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self._repr()}"


class ConvLayer3d(_Stages, Conv3d):
    """The 3-d convolutional layer; see ConvLayer2d."""

    _layer = staticmethod(F.conv_layer3d)

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
        detector: Detector = "relu",
        pool: str | None = "max",
        pool_size: Size = 2,
        pool_stride: Size | None = None,
        algorithm: str | None = None,
        flip: bool = False,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
            algorithm=algorithm,
            flip=flip,
        )
        self._set_stages(detector, pool, pool_size, pool_stride)

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]
        return self._run(self, input)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, {self._repr()}"
