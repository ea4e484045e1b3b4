"""Average and Lp pooling: over windows and adaptive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from .. import autograd
from .._args import FLOATING
from .._pool_args import avg_pool_plan, lp_pool_plan, window
from .._sized_pool_args import adaptive_pool_plan
from ._common import autocast_pool, cached, describe, keep

_avg_pool_plan = cached(avg_pool_plan, 2, 2, keep)
_lp_pool_plan = cached(lp_pool_plan, 2, 2, keep)
_adaptive_pool_plan = cached(adaptive_pool_plan, 2, 2, keep)

_autocast_on = torch._C._is_any_autocast_enabled


def _avg_pool(
    function: Callable[..., Tensor],
    nd: int,
    input: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    if has_torch_function_unary(input):
        override = {} if nd == 1 else {"divisor_override": divisor_override}
        return handle_torch_function(
            function,
            (input,),
            input,
            kernel_size,
            stride=stride,
            padding=padding,
            ceil_mode=ceil_mode,
            count_include_pad=count_include_pad,
            **override,
        )
    name = function.__name__
    if _autocast_on():
        input = autocast_pool(name, input)
    unbatched, lifted, args = _avg_pool_plan(
        name,
        nd,
        describe(name, "input", input),
        kernel_size,
        stride,
        padding,
        ceil_mode,
        count_include_pad,
        divisor_override,
    )
    if lifted:
        kernel, steps, pads, *rest, _ = args
        lift = ((1, *kernel), (1, *steps), (0, *pads), *rest, True)
        return autograd.avg_pool(input.unsqueeze(-2), lift).squeeze(-2)
    if not unbatched:
        return autograd.avg_pool(input, args)
    return autograd.avg_pool(input.unsqueeze(0), args).squeeze(0)


def _adaptive_avg_pool(
    function: Callable[..., Tensor], nd: int, input: Tensor, output_size: Any
) -> Tensor:
    if has_torch_function_unary(input):
        return handle_torch_function(function, (input,), input, output_size)
    name = function.__name__
    if _autocast_on():
        input = autocast_pool(name, input)
    unbatched, lifted, args = _adaptive_pool_plan(
        name, nd, describe(name, "input", input), output_size, True
    )
    if lifted:
        lift = ((1, *args[0]), True)
        return autograd.adaptive_avg_pool(input.unsqueeze(-2), lift).squeeze(-2)
    if not unbatched:
        return autograd.adaptive_avg_pool(input, args)
    return autograd.adaptive_avg_pool(input.unsqueeze(0), args).squeeze(0)


def _lp_pool(
    function: Callable[..., Tensor],
    max_pool: Callable[..., Any],
    avg_pool: Callable[..., Tensor],
    nd: int,
    input: Tensor,
    norm_type: Any,
    kernel_size: Any,
    stride: Any,
    ceil_mode: bool,
) -> Tensor:
    if has_torch_function_unary(input):
        return handle_torch_function(
            function,
            (input,),
            input,
            norm_type,
            kernel_size,
            stride=stride,
            ceil_mode=ceil_mode,
        )
    name = function.__name__
    if _autocast_on():
        input = autocast_pool(name, input)
    if isinstance(norm_type, (int, float)):
        if norm_type == float("inf"):
            return max_pool(input.abs(), kernel_size, stride, 0, 1, ceil_mode)
        if norm_type == -float("inf"):
            return -max_pool(-input.abs(), kernel_size, stride, 0, 1, ceil_mode)
    info = describe(name, "input", input)
    if not isinstance(norm_type, (int, float)) or info[2] not in FLOATING:
        # A tensor as norm, or integers: torch's own composition.
        taps = 1
        for k in window(name, nd, kernel_size, stride)[0]:
            taps = taps * k
        out = avg_pool(input.pow(norm_type), kernel_size, stride, 0, ceil_mode)
        positive = torch.sign(out) * torch.relu(torch.abs(out))
        return positive.mul(taps).pow(1.0 / norm_type)
    unbatched, lifted, args = _lp_pool_plan(
        name, nd, info, norm_type, kernel_size, stride, ceil_mode
    )
    if lifted:
        norm, kernel, steps, ceil, _ = args
        lift = (norm, (1, *kernel), (1, *steps), ceil, True)
        return autograd.lp_pool(input.unsqueeze(-2), lift).squeeze(-2)
    if not unbatched:
        return autograd.lp_pool(input, args)
    return autograd.lp_pool(input.unsqueeze(0), args).squeeze(0)
