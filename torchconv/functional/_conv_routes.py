"""From a plan to the operators: with an epilogue, and for what they do not take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad as _pad

from .. import autograd
from .._activation import activate
from .._conv_args import (
    COMPLEX_PARTS,
    DIRECT,
    EMPTY_CHANNELS,
    LIFTED,
    WIDENED,
    conv_output_sizes,
)
from .._fused_args import FusedPlan
from ._common import describe


class Ways(NamedTuple):
    """The functions of one pass: with its epilogue, and as `indirect` calls it."""

    fused: Callable[..., Tensor]
    plain: Callable[..., Tensor]


FORWARD = Ways(autograd.conv_forward_fused, autograd.conv_forward)
TRANSPOSED = Ways(autograd.conv_input_grad_fused, autograd.conv_input_grad)


def appended(x: Tensor, extra: Sequence[int]) -> Tensor:
    """x with so many zeros at the end of each spatial dimension."""
    return _pad(x, [p for zeros in reversed(extra) for p in (0, zeros)])


def fused(
    ways: Ways,
    planned: Callable[..., FusedPlan],
    name: str,
    nd: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    *options: Any,
) -> Tensor:
    """activation(convolution + residual); options are those of ``planned`` after its
    tensors, the activation first."""
    plan = planned(
        name,
        nd,
        describe(name, "input", input),
        describe(name, "weight", weight),
        None if bias is None else describe(name, "bias", bias),
        None if residual is None else describe(name, "residual", residual),
        *options,
    )
    conv, activation = plan.conv, plan.activation
    if plan.expand is not None:
        residual = residual.expand(plan.expand)  # type: ignore[union-attr]
    x = input
    if conv.unbatched:
        x = input.unsqueeze(0)
        residual = None if residual is None else residual.unsqueeze(0)
    if conv.extra:
        x = appended(x, conv.extra)
    if not plan.fused:
        y = indirect(ways.plain, conv.route, x, weight, bias, conv.args)
        y = activate(y if residual is None else y + residual, activation)
    elif activation.from_output or not _recorded(x, weight, bias, residual):
        y = ways.fused(x, weight, bias, residual, plan.args)
    else:
        # The sums are kept for backward, instead of computing them once more there.
        y = ways.fused(x, weight, bias, residual, plan.sum_args)
        y = activate(y, activation)
    return y.squeeze(0) if conv.unbatched else y


def _recorded(*tensors: Tensor | None) -> bool:
    """Whether a derivative of what is computed may be asked for."""
    return (
        torch.is_grad_enabled()
        and any(t is not None and t.requires_grad for t in tensors)
    ) or autograd.transforms_active()


# One run of a real convolution, (x, weight, bias, args), with everything batched.
Run = Callable[..., Tensor]


def lift(args: Any) -> Any:
    """The arguments of a 1-d problem as those of the 2-d problem with one row."""
    *size, stride, padding, dilation, groups, mode, _, algorithm = args
    size = [(*s[:2], 1, *s[2:]) for s in size]
    lifted = ((1, *stride), (0, 0, *padding), (1, *dilation))
    return (*size, *lifted, groups, mode, True, algorithm)


def indirect(
    run: Run, route: int, x: Tensor, w: Tensor, b: Tensor | None, args: Any
) -> Tensor:
    """The convolutions that the operators do not take as they are."""
    if route == DIRECT:
        return run(x, w, b, args)
    if route == COMPLEX_PARTS:
        return _complex(run, x, w, b, args)
    if route == WIDENED:
        # Exact: integer arithmetic wraps around the same way after the conversion.
        wide = run(x.long(), w.long(), None if b is None else b.long(), args)
        return wide.to(x.dtype)
    if route == LIFTED:
        y = run(x.unsqueeze(-2), w.unsqueeze(-2), b, lift(args))
        return y.squeeze(-2)
    assert route == EMPTY_CHANNELS
    # torch answers a convolution over no channels with no channels. The sums are over
    # nothing and connect the result with both arguments.
    kernel = w.shape[w.dim() - x.dim() + 2 :]  # a tiled weight's tile is in front
    out = conv_output_sizes(x.shape[2:], kernel, *args[:3])
    return x.new_zeros((x.shape[0], 0, *out)) + x.sum() + w.sum()


def _complex(run: Run, x: Tensor, w: Tensor, b: Tensor | None, args: Any) -> Tensor:
    """Three real convolutions, as torch: of the real parts, of the imaginary parts, and
    of their sums."""
    x_real, x_imag, w_real, w_imag = x.real, x.imag, w.real, w.imag
    b_real = b_sum = None
    if b is not None:
        b_real, b_sum = b.real, b.real + b.imag
    real = run(x_real, w_real, b_real, args)
    imag = run(x_imag, w_imag, None, args)
    both = run(x_real + x_imag, w_real + w_imag, b_sum, args)
    return torch.complex(real - imag, both - real - imag)
