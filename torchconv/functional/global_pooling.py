"""Global pooling: one value for each channel, by any of the poolings."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .._args import shape_text
from . import soft_pooling
from .avg_pooling import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    lp_pool1d,
    lp_pool2d,
    lp_pool3d,
)
from .max_pooling import max_pool1d, max_pool2d, max_pool3d

_POOLS: dict[str, tuple[Any, Any, Any]] = {
    "max": (max_pool1d, max_pool2d, max_pool3d),
    "avg": (avg_pool1d, avg_pool2d, avg_pool3d),
    "lp": (lp_pool1d, lp_pool2d, lp_pool3d),
    **{
        kind: tuple(getattr(soft_pooling, f"{kind}_pool{nd}d") for nd in (1, 2, 3))
        for kind in ("mixed", "learned_lp", "masked_avg", "stochastic")
    },
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
    pool, window = _POOLS[kind][nd - 1], tuple(input.shape[2:])
    if kind in _NORMS:
        return pool(input, options.pop("norm_type"), window, **options)
    return pool(input, window, **options)


def _no_more(kind: str, options: dict[str, Any]) -> None:
    if options:
        raise TypeError(
            f"global_pool(): {kind} pooling does not take {sorted(options)}"
        )
