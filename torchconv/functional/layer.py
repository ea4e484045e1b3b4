"""The convolutional layer of textbooks: convolution, detector and pooling in one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as TF

from .._activation import ACTIVATIONS
from .avg_pooling import AVG_POOL
from .conv import CONV, Ints, Padding
from .max_pooling import MAX_POOL

Detector = str | Callable[[Tensor], Tensor] | None

# The detectors that never decrease: the largest of a window stays the largest.
_INCREASING: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": TF.relu,
    "leaky_relu": TF.leaky_relu,
    "elu": TF.elu,
    "softplus": TF.softplus,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "hardtanh": TF.hardtanh,
}
DETECTORS: dict[str, Callable[[Tensor], Tensor]] = {
    **_INCREASING,
    "abs": torch.abs,
    "gelu": TF.gelu,
    "silu": TF.silu,
}
_POOL = {"max": MAX_POOL, "avg": AVG_POOL}
POOLS = tuple(_POOL)


def check_stages(name: str, detector: Any, pool: Any) -> None:
    """
    Raises:
        ValueError: an unknown detector or pool.
    """
    if isinstance(detector, str) and detector not in DETECTORS:
        raise ValueError(
            f"{name}(): detector must be one of {tuple(DETECTORS)}, a function or None, "
            f"but got detector={detector!r}"
        )
    if pool is not None and pool not in POOLS:
        raise ValueError(
            f"{name}(): pool must be one of {POOLS} or None, but got pool={pool!r}"
        )


def _conv_layer(
    name: str,
    nd: int,
    conv: tuple[Any, ...],
    detector: Detector,
    pool: str | None,
    pool_size: Ints,
    pool_stride: Ints | None,
    options: dict[str, Any],
) -> Tensor:
    check_stages(name, detector, pool)
    named = detector if isinstance(detector, str) else None
    pooled_first = pool == "max" and named in _INCREASING
    if named in ACTIVATIONS and not pooled_first:
        y = CONV[nd](*conv, activation=named, **options)
        return _pooled(y, nd, pool, pool_size, pool_stride)
    y = CONV[nd](*conv, **options)
    detect = DETECTORS[detector] if isinstance(detector, str) else detector
    if pooled_first:
        # Detector and maximum change places: fewer values are left to detect. Values are
        # the same. So are gradients: where a detector makes ties of different values it
        # has no slope (relu of negatives), but for ties by rounding (sigmoid of large
        # ones), where the gradient goes to the larger instead of the first.
        y = _pooled(y, nd, pool, pool_size, pool_stride)
        return y.relu_() if detector == "relu" else detect(y)  # type: ignore[misc]
    y = y if detect is None else detect(y)
    return _pooled(y, nd, pool, pool_size, pool_stride)


def _pooled(
    y: Tensor, nd: int, pool: str | None, size: Ints, stride: Ints | None
) -> Tensor:
    return y if pool is None else _POOL[pool][nd](y, size, stride)


def conv_layer2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    detector: Detector = "relu",
    pool: str | None = "max",
    pool_size: Ints = 2,
    pool_stride: Ints | None = None,
    padding_mode: str = "zeros",
    algorithm: str | None = None,
    flip: bool = False,
) -> Tensor:
    """A 2-d convolutional layer in its three stages: convolution, detector, pooling
    (Goodfellow, Bengio, Courville, *Deep Learning* (2016), figure 9.7).

    The same values and gradients as the three calls. Where the detector never decreases
    and the pooling is max pooling, the detector runs on the pooled values, of which there
    are fewer.

    Args:
        input, weight, bias, stride, padding, dilation, groups, padding_mode, algorithm,
            flip: as :func:`conv2d`.
        detector: 'relu', 'leaky_relu', 'elu', 'softplus', 'sigmoid', 'tanh', 'hardtanh',
            'abs', 'gelu', 'silu', a function of a tensor, or None.
        pool: 'max', 'avg' or None.
        pool_size, pool_stride: window and distance of the pooling; no distance means that
            of the window.

    Raises:
        ValueError: an unknown detector or pool; as :func:`conv2d`.
        RuntimeError, TypeError: as :func:`conv2d` and :func:`max_pool2d`.
    """
    return _conv_layer(
        "conv_layer2d",
        2,
        (input, weight, bias, stride, padding, dilation, groups),
        detector,
        pool,
        pool_size,
        pool_stride,
        {"padding_mode": padding_mode, "algorithm": algorithm, "flip": flip},
    )


def conv_layer1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    detector: Detector = "relu",
    pool: str | None = "max",
    pool_size: Ints = 2,
    pool_stride: Ints | None = None,
    padding_mode: str = "zeros",
    algorithm: str | None = None,
    flip: bool = False,
) -> Tensor:
    """A 1-d convolutional layer; see :func:`conv_layer2d`."""
    return _conv_layer(
        "conv_layer1d",
        1,
        (input, weight, bias, stride, padding, dilation, groups),
        detector,
        pool,
        pool_size,
        pool_stride,
        {"padding_mode": padding_mode, "algorithm": algorithm, "flip": flip},
    )


def conv_layer3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    *,
    detector: Detector = "relu",
    pool: str | None = "max",
    pool_size: Ints = 2,
    pool_stride: Ints | None = None,
    padding_mode: str = "zeros",
    algorithm: str | None = None,
    flip: bool = False,
) -> Tensor:
    """A 3-d convolutional layer; see :func:`conv_layer2d`."""
    return _conv_layer(
        "conv_layer3d",
        3,
        (input, weight, bias, stride, padding, dilation, groups),
        detector,
        pool,
        pool_size,
        pool_stride,
        {"padding_mode": padding_mode, "algorithm": algorithm, "flip": flip},
    )
