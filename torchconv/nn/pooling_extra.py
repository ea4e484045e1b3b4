"""Pooling layers that torch lacks; each calls the function of its name.

`stride`, `padding` and `ceil_mode` are those of torch.nn.MaxPool2d.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.parameter import Parameter

from .. import functional as F
from ._conv_base import Size

__all__ = [
    "BlurPool1d",
    "BlurPool2d",
    "BlurPool3d",
    "GlobalPool",
    "LSEPool1d",
    "LSEPool2d",
    "LSEPool3d",
    "LearnedLPPool1d",
    "LearnedLPPool2d",
    "LearnedLPPool3d",
    "MaskedAvgPool1d",
    "MaskedAvgPool2d",
    "MaskedAvgPool3d",
    "MaxBlurPool1d",
    "MaxBlurPool2d",
    "MaxBlurPool3d",
    "MedianPool1d",
    "MedianPool2d",
    "MedianPool3d",
    "MixedPool1d",
    "MixedPool2d",
    "MixedPool3d",
    "StochasticPool1d",
    "StochasticPool2d",
    "StochasticPool3d",
]


def _value(
    value: float, channels: int | None, learned: bool, options: dict[str, Any]
) -> Any:
    """A number, or a parameter: a scalar, or one for each channel."""
    if not learned:
        return value
    size = () if channels is None else (channels,)
    return Parameter(torch.full(size, float(value), **options))


def _shown(value: Any) -> str:
    if isinstance(value, Parameter):
        return f"learned{tuple(value.shape) if value.dim() else ''}"
    return f"{value}"


class _Pool(torch.nn.Module):
    """A window, and the function of one dimensionality."""

    _functional: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.padding = padding
        self.ceil_mode = ceil_mode

    def _window(self) -> tuple[Any, ...]:
        return self.kernel_size, self.stride, self.padding, self.ceil_mode

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, ceil_mode={self.ceil_mode}"
        )


class _LSEPool(_Pool):
    """Log-sum-exp pooling; see torchconv.functional.lse_pool2d.

    Args:
        sharpness: r of log(mean(exp(r x))) / r, positive.
        learned: r is a parameter, of one element or, with `channels`, one for each.
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        sharpness: float = 1.0,
        learned: bool = False,
        channels: int | None = None,
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        if sharpness <= 0:
            raise ValueError(f"sharpness must be positive, but got {sharpness}")
        options = {"device": device, "dtype": dtype}
        self.sharpness = _value(sharpness, channels, learned, options)

    def forward(self, input: Tensor) -> Tensor:
        return self._functional(input, *self._window(), self.sharpness)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, sharpness={_shown(self.sharpness)}"


class _MixedPool(_Pool):
    """alpha * max + (1 - alpha) * average; see torchconv.functional.mixed_pool2d.

    Args:
        alpha: the share of the maximum.
        learned: alpha is a parameter, of one element or, with `channels`, one for each.
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        alpha: float = 0.5,
        learned: bool = False,
        channels: int | None = None,
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = count_include_pad
        options = {"device": device, "dtype": dtype}
        self.alpha = _value(alpha, channels, learned, options)

    def forward(self, input: Tensor) -> Tensor:
        kernel, *rest = self._window()
        return self._functional(
            input, kernel, self.alpha, *rest, self.count_include_pad
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, alpha={_shown(self.alpha)}"


class _LearnedLPPool(torch.nn.Module):
    """Lp pooling whose norm p is a parameter; see torchconv.functional.learned_lp_pool2d.

    Args:
        norm_type: p to begin with.
        channels: a p for each channel; None for one for all.
    """

    _functional: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        norm_type: float,
        kernel_size: Size,
        stride: Size | None = None,
        ceil_mode: bool = False,
        channels: int | None = None,
        device: torch.types.Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if norm_type == 0:
            raise ValueError("norm_type must not be 0")
        options = {"device": device, "dtype": dtype}
        self.norm_type = _value(norm_type, channels, True, options)
        self.kernel_size = kernel_size
        self.stride = kernel_size if stride is None else stride
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        return self._functional(
            input, self.norm_type, self.kernel_size, self.stride, self.ceil_mode
        )

    def extra_repr(self) -> str:
        return (
            f"norm_type={_shown(self.norm_type)}, kernel_size={self.kernel_size}, "
            f"stride={self.stride}, ceil_mode={self.ceil_mode}"
        )


class _MaskedAvgPool(_Pool):
    """The average of what is not NaN, or of a mask; see
    torchconv.functional.masked_avg_pool2d."""

    def forward(self, input: Tensor, mask: Tensor | None = None) -> Tensor:
        return self._functional(input, *self._window(), mask)


class _StochasticPool(_Pool):
    """One position of each window, drawn in proportion to its activation while training;
    what is to be expected of it in evaluation. See
    torchconv.functional.stochastic_pool2d."""

    def forward(
        self, input: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        return self._functional(input, *self._window(), self.training, generator)


class _MedianPool(_Pool):
    """The middle value of each window; see torchconv.functional.median_pool2d."""

    def forward(self, input: Tensor) -> Tensor:
        return self._functional(input, *self._window())


class _BlurPool(torch.nn.Module):
    """A binomial low-pass filter and a stride; see torchconv.functional.blur_pool2d."""

    _functional: ClassVar[Callable[..., Tensor]]

    def __init__(
        self, filter_size: int = 3, stride: Size = 2, padding_mode: str = "reflect"
    ) -> None:
        super().__init__()
        self.filter_size = filter_size
        self.stride = stride
        self.padding_mode = padding_mode

    def forward(self, input: Tensor) -> Tensor:
        return self._functional(input, self.filter_size, self.stride, self.padding_mode)

    def extra_repr(self) -> str:
        return (
            f"filter_size={self.filter_size}, stride={self.stride}, "
            f"padding_mode={self.padding_mode}"
        )


class _MaxBlurPool(_BlurPool):
    """Max pooling with stride 1, then blur pooling: what replaces a strided max pooling
    (Zhang, arXiv:1904.11486, section 3.3)."""

    _max_pool: ClassVar[Callable[..., Any]]

    def __init__(
        self,
        kernel_size: Size,
        stride: Size = 2,
        filter_size: int = 3,
        padding_mode: str = "reflect",
    ) -> None:
        super().__init__(filter_size, stride, padding_mode)
        self.kernel_size = kernel_size

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(self._max_pool(input, self.kernel_size, 1))

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, {super().extra_repr()}"


class GlobalPool(torch.nn.Module):
    """(N, C, *spatial) to (N, C, 1, ...); see torchconv.functional.global_pool.

    Args:
        kind: 'max', 'avg', 'lp', 'lse', 'mixed', 'masked_avg', 'stochastic' or 'median'.
        options: what that pooling takes besides its window: norm_type, sharpness, alpha.
    """

    def __init__(self, kind: str = "avg", **options: Any) -> None:
        super().__init__()
        if kind not in F.GLOBAL_POOLINGS:
            raise ValueError(
                f"kind must be one of {F.GLOBAL_POOLINGS}, but got kind={kind!r}"
            )
        self.kind = kind
        self.options = options

    def forward(self, input: Tensor, **options: Any) -> Tensor:
        """options, such as a mask, are added to the layer's."""
        options = self.options | options
        if self.kind == "stochastic":
            options.setdefault("training", self.training)
        return F.global_pool(input, self.kind, **options)

    def extra_repr(self) -> str:
        return ", ".join([self.kind, *(f"{k}={v}" for k, v in self.options.items())])


class LSEPool1d(_LSEPool):
    __doc__ = _LSEPool.__doc__
    _functional = staticmethod(F.lse_pool1d)


class LSEPool2d(_LSEPool):
    __doc__ = _LSEPool.__doc__
    _functional = staticmethod(F.lse_pool2d)


class LSEPool3d(_LSEPool):
    __doc__ = _LSEPool.__doc__
    _functional = staticmethod(F.lse_pool3d)


class MixedPool1d(_MixedPool):
    __doc__ = _MixedPool.__doc__
    _functional = staticmethod(F.mixed_pool1d)


class MixedPool2d(_MixedPool):
    __doc__ = _MixedPool.__doc__
    _functional = staticmethod(F.mixed_pool2d)


class MixedPool3d(_MixedPool):
    __doc__ = _MixedPool.__doc__
    _functional = staticmethod(F.mixed_pool3d)


class LearnedLPPool1d(_LearnedLPPool):
    __doc__ = _LearnedLPPool.__doc__
    _functional = staticmethod(F.learned_lp_pool1d)


class LearnedLPPool2d(_LearnedLPPool):
    __doc__ = _LearnedLPPool.__doc__
    _functional = staticmethod(F.learned_lp_pool2d)


class LearnedLPPool3d(_LearnedLPPool):
    __doc__ = _LearnedLPPool.__doc__
    _functional = staticmethod(F.learned_lp_pool3d)


class MaskedAvgPool1d(_MaskedAvgPool):
    __doc__ = _MaskedAvgPool.__doc__
    _functional = staticmethod(F.masked_avg_pool1d)


class MaskedAvgPool2d(_MaskedAvgPool):
    __doc__ = _MaskedAvgPool.__doc__
    _functional = staticmethod(F.masked_avg_pool2d)


class MaskedAvgPool3d(_MaskedAvgPool):
    __doc__ = _MaskedAvgPool.__doc__
    _functional = staticmethod(F.masked_avg_pool3d)


class StochasticPool1d(_StochasticPool):
    __doc__ = _StochasticPool.__doc__
    _functional = staticmethod(F.stochastic_pool1d)


class StochasticPool2d(_StochasticPool):
    __doc__ = _StochasticPool.__doc__
    _functional = staticmethod(F.stochastic_pool2d)


class StochasticPool3d(_StochasticPool):
    __doc__ = _StochasticPool.__doc__
    _functional = staticmethod(F.stochastic_pool3d)


class MedianPool1d(_MedianPool):
    __doc__ = _MedianPool.__doc__
    _functional = staticmethod(F.median_pool1d)


class MedianPool2d(_MedianPool):
    __doc__ = _MedianPool.__doc__
    _functional = staticmethod(F.median_pool2d)


class MedianPool3d(_MedianPool):
    __doc__ = _MedianPool.__doc__
    _functional = staticmethod(F.median_pool3d)


class BlurPool1d(_BlurPool):
    __doc__ = _BlurPool.__doc__
    _functional = staticmethod(F.blur_pool1d)


class BlurPool2d(_BlurPool):
    __doc__ = _BlurPool.__doc__
    _functional = staticmethod(F.blur_pool2d)


class BlurPool3d(_BlurPool):
    __doc__ = _BlurPool.__doc__
    _functional = staticmethod(F.blur_pool3d)


class MaxBlurPool1d(_MaxBlurPool):
    __doc__ = _MaxBlurPool.__doc__
    _functional = staticmethod(F.blur_pool1d)
    _max_pool = staticmethod(F.max_pool1d)


class MaxBlurPool2d(_MaxBlurPool):
    __doc__ = _MaxBlurPool.__doc__
    _functional = staticmethod(F.blur_pool2d)
    _max_pool = staticmethod(F.max_pool2d)


class MaxBlurPool3d(_MaxBlurPool):
    __doc__ = _MaxBlurPool.__doc__
    _functional = staticmethod(F.blur_pool3d)
    _max_pool = staticmethod(F.max_pool3d)
