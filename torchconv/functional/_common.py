"""What every function does on its way to an operator."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from .._bound import Bound
from .._conv_args import Spec

P = TypeVar("P")

_is_compiling = torch.compiler.is_compiling

# Plans are small; a model has one per layer and input size.
_CACHED_PLANS = 4096

# What ATen's autocast runs in float32 on CPU (its CUDA list has no pooling, but pow,
# which torch's Lp pooling is made of).
_FLOAT32_ON_CPU = frozenset(
    {
        "max_unpool1d",
        "max_unpool2d",
        "max_unpool3d",
        "fractional_max_pool2d",
        "fractional_max_pool3d",
        "max_pool3d",
        "avg_pool3d",
        "lp_pool3d",
        "adaptive_max_pool3d",
        "adaptive_avg_pool3d",
    }
)
_FLOAT32_ON_CUDA = frozenset({"lp_pool1d", "lp_pool2d", "lp_pool3d"})


def describe(name: str, argument: str, t: Any) -> tuple[Any, ...]:
    """A tensor argument without its data: the fields of a Spec.

    Raises:
        TypeError: it is no tensor.
    """
    try:
        return t.shape, t.stride(), t.dtype, t.device
    except AttributeError:
        raise TypeError(
            f"{name}(): argument '{argument}' must be Tensor, not {type(t).__name__}"
        ) from None


def cached(
    plan: Callable[..., P],
    first: int,
    last: int,
    prepare: Callable[..., P] | None = None,
) -> Callable[..., P]:
    """A plan function that remembers its answers.

    The arguments first..last are tensors: it takes them described (plain tuples are made
    faster) and the plan gets them as Specs. Arguments that cannot be keys (lists,
    symbolic sizes) are planned anew, and so is everything under torch.compile, which
    traces the plan itself. What is remembered can be prepared further: by ``prepare``, a
    function of the plan and the Specs.
    """

    def run(*key: Any) -> P:
        return plan(*key[:first], *specs(key), *key[last + 1 :])

    def specs(key: Any) -> list[Spec | None]:
        return [None if k is None else Spec(*k) for k in key[first : last + 1]]

    @lru_cache(maxsize=_CACHED_PLANS, typed=True)
    def remembered(*key: Any) -> P:
        answer = run(*key)
        return answer if prepare is None else prepare(answer, *specs(key))

    def look_up(*key: Any) -> P:
        if _is_compiling():
            return run(*key)
        try:
            return remembered(*key)
        except TypeError:
            pass
        return run(*key)

    return look_up


def keep(plan: Any, x: Spec, *_others: Spec | None) -> Any:
    """A pooling's plan whose arguments are read once, where it runs on the CPU."""
    return plan._replace(args=Bound(plan.args)) if x.device.type == "cpu" else plan


def _castable(t: Tensor | None, device_type: str) -> bool:
    return (
        t is not None
        and t.is_floating_point()
        and t.dtype is not torch.float64
        and t.device.type == device_type
    )


def autocast_conv(input: Tensor, *others: Tensor | None) -> tuple[Tensor | None, ...]:
    """The arguments in autocast's dtype, if autocast is on for the input's device."""
    device_type = input.device.type
    tensors = (input, *others)
    if not torch.is_autocast_enabled(device_type):
        return tensors
    dtype = torch.get_autocast_dtype(device_type)
    return tuple(
        t.to(dtype) if t is not None and _castable(t, device_type) else t
        for t in tensors
    )


def autocast_pool(name: str, input: Tensor) -> Tensor:
    """The input in float32, where autocast runs this pooling in float32."""
    device_type = input.device.type
    wide = _FLOAT32_ON_CUDA if device_type == "cuda" else _FLOAT32_ON_CPU
    enabled = name in wide and torch.is_autocast_enabled(device_type)
    return input.float() if enabled and _castable(input, device_type) else input
