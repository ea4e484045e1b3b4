"""Global pooling: one value for each channel, by any of the poolings."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .._args import shape_text
from .avg_pooling import AVG_POOL, lp_pool1d, lp_pool2d, lp_pool3d
from .max_pooling import MAX_POOL
from .picked_pooling import stochastic_pool1d, stochastic_pool2d, stochastic_pool3d
from .soft_pooling import (
    learned_lp_pool1d,
    learned_lp_pool2d,
    learned_lp_pool3d,
    mixed_pool1d,
    mixed_pool2d,
    mixed_pool3d,
)
from .weighted_pooling import masked_avg_pool1d, masked_avg_pool2d, masked_avg_pool3d

_POOLS: dict[str, dict[int, Any]] = {
    "max": MAX_POOL,
    "avg": AVG_POOL,
    "lp": {1: lp_pool1d, 2: lp_pool2d, 3: lp_pool3d},
    "mixed": {1: mixed_pool1d, 2: mixed_pool2d, 3: mixed_pool3d},
    "learned_lp": {1: learned_lp_pool1d, 2: learned_lp_pool2d, 3: learned_lp_pool3d},
    "masked_avg": {1: masked_avg_pool1d, 2: masked_avg_pool2d, 3: masked_avg_pool3d},
    "stochastic": {1: stochastic_pool1d, 2: stochastic_pool2d, 3: stochastic_pool3d},
}
GLOBAL_POOLINGS = (*_POOLS, "lse", "median")
# Whose second argument is not the kernel.
_NORMS = ("lp", "learned_lp")


def global_pool(input: Tensor, kind: str = "avg", **options: Any) -> Tensor:
    """Pools every channel to one value: the pooling ``kind`` with the whole plane as window.

    Args:
        input: (N, C, *spatial), one to three spatial dimensions, floating point.
        kind: 'max', 'avg', 'lp', 'lse', 'mixed', 'learned_lp', 'masked_avg', 'stochastic'
            or 'median'.
        options: what that pooling takes besides kernel_size, stride, padding and
            ceil_mode: norm_type, sharpness, alpha, mask, training, generator.

    Returns:
        (N, C, 1, ...), as many dimensions as the input.

    Raises:
        ValueError: an unknown kind.
        RuntimeError, TypeError: an input or options that do not fit.
    """
    if kind not in GLOBAL_POOLINGS:
        raise ValueError(
            f"global_pool(): kind must be one of {GLOBAL_POOLINGS}, but got kind={kind!r}"
        )
    nd = input.dim() - 2
    if nd not in (1, 2, 3) or 0 in input.shape[2:]:
        raise RuntimeError(
            "global_pool(): expected input (N, C, *spatial) with one to three spatial "
            f"dimensions that are not empty, but got {shape_text(input.shape)}"
        )
    ones = (1,) * nd
    if kind == "lse":
        r = options.pop("sharpness", 1.0)
        _no_more("lse", options)
        flat = input.flatten(2)
        r = r.unsqueeze(-1) if isinstance(r, Tensor) and r.dim() == 1 else r
        total = torch.logsumexp(flat * r, -1, keepdim=True)
        return ((total - math.log(flat.shape[-1])) / r).unflatten(-1, ones)
    if kind == "median":
        _no_more("median", options)
        return input.flatten(2).median(-1, keepdim=True).values.unflatten(-1, ones)
    pool, window = _POOLS[kind][nd], tuple(input.shape[2:])
    if kind in _NORMS:
        return pool(input, options.pop("norm_type"), window, **options)
    return pool(input, window, **options)


def _no_more(kind: str, options: dict[str, Any]) -> None:
    if options:
        raise TypeError(
            f"global_pool(): {kind} pooling does not take {sorted(options)}"
        )
