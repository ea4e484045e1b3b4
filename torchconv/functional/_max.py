"""Max pooling: over windows, adaptive, fractional, and its partial inverse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.overrides import (
    handle_torch_function,
    has_torch_function_unary,
    has_torch_function_variadic,
)

from .. import autograd
from .._pool_args import max_pool_plan
from .._sized_pool_args import adaptive_pool_plan, fractional_pool_plan, max_unpool_plan
from ._common import autocast_pool, cached, describe, keep

Ints = int | Sequence[int]
Sizes = int | Sequence[int | None]
Pair = tuple[Tensor, Tensor]

_max_pool_plan = cached(max_pool_plan, 2, 2, keep)
_adaptive_pool_plan = cached(adaptive_pool_plan, 2, 2, keep)
_fractional_pool_plan = cached(fractional_pool_plan, 2, 3, keep)
_max_unpool_plan = cached(max_unpool_plan, 2, 3, keep)

_autocast_on = torch._C._is_any_autocast_enabled


def _lift(window: Sequence[Any]) -> tuple[Any, ...]:
    """(kernel, stride, padding, dilation) of a 1-d pooling as those of one row."""
    kernel, stride, padding, dilation = window
    return (1, *kernel), (1, *stride), (0, *padding), (1, *dilation)


def _max_pool(
    function: Callable[..., Any],
    nd: int,
    input: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    if has_torch_function_unary(input):
        return handle_torch_function(
            function,
            (input,),
            input,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            ceil_mode=ceil_mode,
            return_indices=return_indices,
        )
    name = function.__name__
    if _autocast_on():
        input = autocast_pool(name, input)
    unbatched, lifted, args = _max_pool_plan(
        name,
        nd,
        describe(name, "input", input),
        kernel_size,
        stride,
        padding,
        dilation,
        ceil_mode,
    )
    x = input.unsqueeze(0) if unbatched else input
    # torch's 1-d pooling without gradients and indices is a kernel of its own, which
    # returns contiguous results whatever the input's strides are.
    lifted = lifted and (return_indices or autograd.wants_codes(x))
    if lifted:
        x = x.unsqueeze(-2)
        args = (*_lift(args[:4]), args[4], True)
    if return_indices:
        y, indices = autograd.max_pool_with_indices(x, args)
        if lifted:
            y, indices = y.squeeze(-2), indices.squeeze(-2)
        return (y.squeeze(0), indices.squeeze(0)) if unbatched else (y, indices)
    y = autograd.max_pool(x, args)
    if lifted:
        y = y.squeeze(-2)
    return y.squeeze(0) if unbatched else y


def _adaptive_max_pool(
    function: Callable[..., Any],
    nd: int,
    input: Tensor,
    output_size: Any,
    return_indices: bool,
) -> Any:
    if has_torch_function_unary(input):
        return handle_torch_function(
            function, (input,), input, output_size, return_indices=return_indices
        )
    name = function.__name__
    if _autocast_on():
        input = autocast_pool(name, input)
    unbatched, lifted, args = _adaptive_pool_plan(
        name, nd, describe(name, "input", input), output_size, False
    )
    x = input.unsqueeze(0) if unbatched else input
    if lifted:
        x = x.unsqueeze(-2)
        args = ((1, *args[0]), True)
    indices = None
    if return_indices:
        y, indices = autograd.adaptive_max_pool_with_indices(x, args)
    else:
        y = autograd.adaptive_max_pool(x, args)
    if lifted:
        y = y.squeeze(-2)
        indices = None if indices is None else indices.squeeze(-2)
    if unbatched:
        y = y.squeeze(0)
        indices = None if indices is None else indices.squeeze(0)
    return y if indices is None else (y, indices)


def _fractional_max_pool(
    function: Callable[..., Any],
    nd: int,
    input: Tensor,
    kernel_size: Any,
    output_size: Any,
    output_ratio: Any,
    return_indices: bool,
    samples: Tensor | None,
) -> Pair:
    if has_torch_function_variadic(input, samples):
        return handle_torch_function(
            function,
            (input, samples),
            input,
            kernel_size,
            output_size=output_size,
            output_ratio=output_ratio,
            return_indices=return_indices,
            _random_samples=samples,
        )
    name = function.__name__.removesuffix("_with_indices")
    if _autocast_on():
        input = autocast_pool(name, input)
        samples = None if samples is None else autocast_pool(name, samples)
    shape = describe(name, "input", input)[0]
    if output_size is None and output_ratio is None:
        raise ValueError(
            f"{name} requires specifying either an output_size or an output_ratio"
        )
    if len(shape) not in (nd + 1, nd + 2):
        kind = IndexError if len(shape) < nd + 1 else RuntimeError
        raise kind(
            f"{name}(): Expected {nd + 1}D or {nd + 2}D tensor, but got: {list(shape)} "
            f"(Dimension out of range for channels at dimension {-nd - 1})"
        )
    if output_size is None:
        ratios = output_ratio
        if not isinstance(ratios, Sequence):
            ratios = (ratios,) * nd
        if len(ratios) != nd:
            raise ValueError(
                f"{name} requires output_ratio to either be a single number or a tuple "
                f"of {nd} numbers, but got output_ratio={output_ratio!r}"
            )
        output_size = tuple(int(s * r) for s, r in zip(shape[-nd:], ratios))
    batch = 1 if len(shape) == nd + 1 else shape[0]
    if samples is None:
        samples = torch.rand(
            batch, shape[-nd - 1], nd, dtype=input.dtype, device=input.device
        )
    unbatched, _, args = _fractional_pool_plan(
        name,
        nd,
        describe(name, "input", input),
        describe(name, "_random_samples", samples),
        kernel_size,
        output_size,
    )
    x = input.unsqueeze(0) if unbatched else input
    if samples.shape[0] != batch:
        samples = samples[:batch]
    y, indices = autograd.fractional_max_pool(x, samples, args)
    return (y.squeeze(0), indices.squeeze(0)) if unbatched else (y, indices)


def _max_unpool(
    function: Callable[..., Tensor],
    nd: int,
    input: Tensor,
    indices: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    output_size: Any,
) -> Tensor:
    if has_torch_function_unary(input):
        return handle_torch_function(
            function,
            (input,),
            input,
            indices,
            kernel_size,
            stride=stride,
            padding=padding,
            output_size=output_size,
        )
    name = function.__name__
    if _autocast_on():
        input = autocast_pool(name, input)
    unbatched, _, args = _max_unpool_plan(
        name,
        nd,
        describe(name, "input", input),
        describe(name, "indices", indices),
        kernel_size,
        stride,
        padding,
        output_size,
    )
    if not unbatched:
        return autograd.max_unpool(input, indices, args)
    return autograd.max_unpool(input.unsqueeze(0), indices.unsqueeze(0), args).squeeze(
        0
    )
