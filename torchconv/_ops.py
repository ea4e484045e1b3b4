"""Handles on the operators of the binary, and their fake kernels.

The handles are ``torch.ops.torchconv.<name>.default``. If the binary is missing, or was
built from an older source and lacks an operator, the handle is a function that raises the
one message that says how to build it; so this module can always be imported.

A fake kernel says what a result looks like (shape, dtype, strides) without computing it:
torch.compile, export and the meta device run on them. They check nothing that the
operator itself checks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from . import _extension
from ._conv_args import conv_output_sizes
from ._fold_args import block_counts
from ._layout import memory_format
from ._pool_args import pool_output_size

# Tap numbers inside a window fit uint8 up to this many taps (csrc/core/pool_problem.h).
MAX_SMALL_CODES = 256


def _missing(name: str) -> Callable[..., Any]:
    def raise_missing(*_args: Any, **_kwargs: Any) -> Any:
        _extension.binary()
        raise RuntimeError(
            f"torchconv's compiled part is older than its Python code: it has no "
            f"operator {name}. Build it again in the source folder with: "
            f"{_extension.BUILD_COMMAND}"
        )

    return raise_missing


def _handle(name: str) -> Callable[..., Any]:
    """The operator's overload, or a function that says it is missing."""
    packet = getattr(torch.ops.torchconv, name, None)
    return _missing(name) if packet is None else packet.default


conv_forward = _handle("conv_forward")
conv_input_grad = _handle("conv_input_grad")
conv_forward_fused = _handle("conv_forward_fused")
conv_input_grad_fused = _handle("conv_input_grad_fused")
conv_weight_grad = _handle("conv_weight_grad")
conv_prepared = _handle("conv_prepared")  # has no fake kernel: see _prepared.py
conv_pack = _handle("conv_pack")  # has none either
bound = _handle("bound")  # nor these: see _bound.py
bound_pair = _handle("bound_pair")
channel_sum = _handle("channel_sum")
max_pool = _handle("max_pool")
max_pool_with_codes = _handle("max_pool_with_codes")
max_pool_with_indices = _handle("max_pool_with_indices")
pool_scatter = _handle("pool_scatter")
pool_gather = _handle("pool_gather")
adaptive_max_pool = _handle("adaptive_max_pool")
adaptive_max_pool_with_codes = _handle("adaptive_max_pool_with_codes")
adaptive_max_pool_with_indices = _handle("adaptive_max_pool_with_indices")
fractional_max_pool = _handle("fractional_max_pool")
max_unpool = _handle("max_unpool")
avg_pool = _handle("avg_pool")
avg_pool_input_grad = _handle("avg_pool_input_grad")
adaptive_avg_pool = _handle("adaptive_avg_pool")
adaptive_avg_pool_input_grad = _handle("adaptive_avg_pool_input_grad")
lp_pool = _handle("lp_pool")
lp_pool_input_grad = _handle("lp_pool_input_grad")
unfold = _handle("unfold")
fold = _handle("fold")
local_conv_forward = _handle("local_conv_forward")
local_conv_input_grad = _handle("local_conv_input_grad")
local_conv_weight_grad = _handle("local_conv_weight_grad")


def _empty(
    like: Tensor,
    size: Sequence[int],
    channels_last: bool = False,
    dtype: torch.dtype | None = None,
) -> Tensor:
    return torch.empty(
        tuple(size),
        dtype=like.dtype if dtype is None else dtype,
        device=like.device,
        memory_format=memory_format(channels_last, len(size) - 2),
    )


def _fake_conv_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    padding_mode: str,
    channels_last: bool,
    algorithm: str,
) -> Tensor:
    out = conv_output_sizes(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    return _empty(x, (x.shape[0], weight.shape[0], *out), channels_last)


def _fake_conv_input_grad(
    grad: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    input_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    padding_mode: str,
    channels_last: bool,
    algorithm: str,
) -> Tensor:
    return _empty(grad, input_size, channels_last)


# With an epilogue: args are those of the pass, then the activation, a, b.
def _fake_conv_forward_fused(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    *args: Any,
) -> Tensor:
    return _fake_conv_forward(x, weight, bias, *args[:-3])


def _fake_conv_input_grad_fused(
    grad: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    *args: Any,
) -> Tensor:
    return _fake_conv_input_grad(grad, weight, bias, *args[:-3])


def _fake_conv_weight_grad(
    grad: Tensor,
    x: Tensor,
    weight_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    padding_mode: str,
    channels_last: bool,
    algorithm: str,
) -> Tensor:
    return _empty(grad, weight_size, channels_last)


def _fake_channel_sum(x: Tensor) -> Tensor:
    return x.new_empty((x.shape[1],))


def _pooled_size(
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> tuple[int, ...]:
    windows = zip(x.shape[2:], kernel_size, stride, padding, dilation)
    out = [pool_output_size(*window, ceil_mode) for window in windows]
    return (*x.shape[:2], *out)


def _plane_codes(spatial: Sequence[int]) -> torch.dtype:
    """The dtype of flat positions in an input plane."""
    plane = 1
    for s in spatial:
        plane = plane * s
    return torch.int32 if plane < 2**31 else torch.int64


def _fake_max_pool(
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    channels_last: bool,
) -> Tensor:
    size = _pooled_size(x, kernel_size, stride, padding, dilation, ceil_mode)
    return _empty(x, size, channels_last)


def _fake_max_pool_with_codes(
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    channels_last: bool,
) -> tuple[Tensor, Tensor]:
    size = _pooled_size(x, kernel_size, stride, padding, dilation, ceil_mode)
    taps = 1
    for k in kernel_size:
        taps = taps * k
    codes = torch.uint8 if taps <= MAX_SMALL_CODES else _plane_codes(x.shape[2:])
    return _empty(x, size, channels_last), _empty(x, size, channels_last, codes)


def _fake_max_pool_with_indices(
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    channels_last: bool,
) -> tuple[Tensor, Tensor]:
    size = _pooled_size(x, kernel_size, stride, padding, dilation, ceil_mode)
    indices = _empty(x, size, channels_last, torch.int64)
    return _empty(x, size, channels_last), indices


def _fake_pool_scatter(
    grad: Tensor,
    codes: Tensor,
    input_size: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    channels_last: bool,
) -> Tensor:
    return _empty(grad, input_size, channels_last)


def _fake_pool_gather(
    x: Tensor,
    codes: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    channels_last: bool,
) -> Tensor:
    return _empty(x, codes.shape, channels_last)


def _fake_adaptive_pool(
    x: Tensor, output_size: Sequence[int], channels_last: bool
) -> Tensor:
    return _empty(x, (*x.shape[:2], *output_size), channels_last)


def _fake_adaptive_max_pool_with_codes(
    x: Tensor, output_size: Sequence[int], channels_last: bool
) -> tuple[Tensor, Tensor]:
    size = (*x.shape[:2], *output_size)
    codes = _empty(x, size, channels_last, _plane_codes(x.shape[2:]))
    return _empty(x, size, channels_last), codes


def _fake_adaptive_max_pool_with_indices(
    x: Tensor, output_size: Sequence[int], channels_last: bool
) -> tuple[Tensor, Tensor]:
    size = (*x.shape[:2], *output_size)
    indices = _empty(x, size, channels_last, torch.int64)
    return _empty(x, size, channels_last), indices


def _fake_fractional_max_pool(
    x: Tensor,
    random_samples: Tensor,
    kernel_size: Sequence[int],
    output_size: Sequence[int],
    channels_last: bool,
) -> tuple[Tensor, Tensor]:
    return _fake_adaptive_max_pool_with_indices(x, output_size, channels_last)


def _fake_max_unpool(
    x: Tensor, indices: Tensor, output_size: Sequence[int], channels_last: bool
) -> Tensor:
    return _empty(x, (*x.shape[:2], *output_size), channels_last)


def _fake_avg_pool(
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    channels_last: bool,
) -> Tensor:
    ones = (1,) * len(kernel_size)
    size = _pooled_size(x, kernel_size, stride, padding, ones, ceil_mode)
    return _empty(x, size, channels_last)


def _fake_avg_pool_input_grad(
    grad: Tensor,
    input_size: Sequence[int],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    channels_last: bool,
) -> Tensor:
    return _empty(grad, input_size, channels_last)


def _fake_adaptive_avg_pool_input_grad(
    grad: Tensor, input_size: Sequence[int], channels_last: bool
) -> Tensor:
    return _empty(grad, input_size, channels_last)


def _fake_lp_pool(
    x: Tensor,
    norm_type: float,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    ceil_mode: bool,
    channels_last: bool,
) -> Tensor:
    nd = len(kernel_size)
    zeros, ones = (0,) * nd, (1,) * nd
    size = _pooled_size(x, kernel_size, stride, zeros, ones, ceil_mode)
    return _empty(x, size, channels_last)


def _fake_lp_pool_input_grad(
    grad: Tensor,
    x: Tensor,
    y: Tensor,
    norm_type: float,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    ceil_mode: bool,
    channels_last: bool,
) -> Tensor:
    return _empty(x, x.shape, channels_last)


def _fake_unfold(
    x: Tensor,
    kernel_size: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Tensor:
    blocks = block_counts(x.shape[2:], kernel_size, dilation, padding, stride)
    taps = kernel_size[0] * kernel_size[1]
    return x.new_empty((x.shape[0], x.shape[1] * taps, blocks[0] * blocks[1]))


def _fake_fold(
    columns: Tensor,
    output_size: Sequence[int],
    kernel_size: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> Tensor:
    channels = columns.shape[1] // (kernel_size[0] * kernel_size[1])
    return columns.new_empty((columns.shape[0], channels, *output_size))


def _fake_local_conv_forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    padding_mode: str,
    channels_last: bool,
) -> Tensor:
    nd = x.dim() - 2
    options = (stride, padding, dilation, groups, padding_mode, channels_last, "auto")
    return _fake_conv_forward(x, weight[(0,) * nd], None, *options)


def _fake_local_conv_input_grad(
    grad: Tensor,
    weight: Tensor,
    input_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    padding_mode: str,
    channels_last: bool,
) -> Tensor:
    return _empty(grad, input_size, channels_last)


def _fake_local_conv_weight_grad(
    grad: Tensor,
    x: Tensor,
    weight_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    padding_mode: str,
) -> Tensor:
    return grad.new_empty(tuple(weight_size))


FAKES: dict[str, Callable[..., Any]] = {
    "conv_forward": _fake_conv_forward,
    "conv_input_grad": _fake_conv_input_grad,
    "conv_forward_fused": _fake_conv_forward_fused,
    "conv_input_grad_fused": _fake_conv_input_grad_fused,
    "conv_weight_grad": _fake_conv_weight_grad,
    "channel_sum": _fake_channel_sum,
    "max_pool": _fake_max_pool,
    "max_pool_with_codes": _fake_max_pool_with_codes,
    "max_pool_with_indices": _fake_max_pool_with_indices,
    "pool_scatter": _fake_pool_scatter,
    "pool_gather": _fake_pool_gather,
    "adaptive_max_pool": _fake_adaptive_pool,
    "adaptive_max_pool_with_codes": _fake_adaptive_max_pool_with_codes,
    "adaptive_max_pool_with_indices": _fake_adaptive_max_pool_with_indices,
    "fractional_max_pool": _fake_fractional_max_pool,
    "max_unpool": _fake_max_unpool,
    "avg_pool": _fake_avg_pool,
    "avg_pool_input_grad": _fake_avg_pool_input_grad,
    "adaptive_avg_pool": _fake_adaptive_pool,
    "adaptive_avg_pool_input_grad": _fake_adaptive_avg_pool_input_grad,
    "lp_pool": _fake_lp_pool,
    "lp_pool_input_grad": _fake_lp_pool_input_grad,
    "unfold": _fake_unfold,
    "fold": _fake_fold,
    "local_conv_forward": _fake_local_conv_forward,
    "local_conv_input_grad": _fake_local_conv_input_grad,
    "local_conv_weight_grad": _fake_local_conv_weight_grad,
}

for _name, _fake in FAKES.items():
    if hasattr(torch.ops.torchconv, _name):
        torch.library.register_fake(f"torchconv::{_name}", _fake)
