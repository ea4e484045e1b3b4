"""Derivatives of pooling, unfold and fold."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from .. import _bound, _ops
from .._sized_pool_args import is_global
from ._function import (
    Needs,
    Recording,
    Rule,
    Tensors,
    differentiable,
    given,
    transforms_active,
)

# --- Max pooling: codes say where the values came from. Codes that are flat positions
# need no window; the operators then ignore the one that is passed.


def _any_window(nd: int) -> Any:
    ones, zeros = (1,) * nd, (0,) * nd
    return ones, ones, zeros, ones


class _PoolWithCodes(Rule):
    """Outputs (y, codes); ``window(args, nd)`` is what decodes the codes."""

    integer_outputs = (1,)

    def window(self, args: Any, nd: int) -> Any:
        return _any_window(nd)

    def channels_last(self, args: Any) -> bool:
        return args[-1]

    def scatter_args(self, size: Any, args: Any) -> Any:
        return (size, *self.window(args, len(size) - 2), self.channels_last(args))

    def save(self, needs: Needs, tensors: Tensors, output: Any) -> Tensors:
        return (output[1],)

    def backward(
        self, needs: Needs, saved: Tensors, sizes: Any, args: Any, grad: Tensor
    ) -> Tensors:
        args = _bound.with_size(args, sizes[0], self.scatter_args)
        gx = pool_scatter(grad, saved[0], args)
        return (gx,) if self.tensors == 1 else (gx, *(None,) * (self.tensors - 1))

    def jvp(self, saved: Tensors, args: Any, tangents: Tensors) -> Tensor:
        tx = given(tangents[0])
        window = self.window(args, tx.dim() - 2)
        return pool_gather(tx, saved[0], (*window, self.channels_last(args)))


class _MaxPoolWithCodes(_PoolWithCodes):
    def window(self, args: Any, nd: int) -> Any:
        return args[:4]


class _AdaptiveMaxPoolWithCodes(_PoolWithCodes):
    def window(self, args: Any, nd: int) -> Any:
        return (), (), (), ()


class _FractionalMaxPool(_PoolWithCodes):
    tensors = 2


class _WithoutCodes(Rule):
    """The same pooling without codes: they are computed when they are needed.

    For callers of the bare operator: :func:`_without_codes` takes the one with codes where
    a gradient will be wanted.
    """

    def __init__(self, with_codes: Any, rule: _PoolWithCodes) -> None:
        self.with_codes = with_codes
        self.rule = rule

    def save(self, needs: Needs, tensors: Tensors, output: Any) -> Tensors:
        return tensors

    def backward(
        self, needs: Needs, saved: Tensors, sizes: Any, args: Any, grad: Tensor
    ) -> Tensors:
        codes = self.with_codes(saved[0], args)[1]
        return self.rule.backward(needs, (codes,), sizes, args, grad)

    def jvp(self, saved: Tensors, args: Any, tangents: Tensors) -> Tensor:
        codes = self.with_codes(saved[0], args)[1]
        return self.rule.jvp((codes,), args, tangents)


class _PoolScatter(Rule):
    tensors = 2

    def save(self, needs: Needs, tensors: Tensors, output: Any) -> Tensors:
        return (tensors[1],)

    def backward(
        self, needs: Needs, saved: Tensors, sizes: Any, args: Any, grad: Tensor
    ) -> Tensors:
        return pool_gather(grad, saved[0], args[1:]), None

    def jvp(self, saved: Tensors, args: Any, tangents: Tensors) -> Tensor:
        return pool_scatter(tangents[0], saved[0], args)

    def batch_args(self, batch: int, args: Any) -> Any:
        return _larger_batch(batch, args)


class _PoolGather(Rule):
    tensors = 2

    def save(self, needs: Needs, tensors: Tensors, output: Any) -> Tensors:
        return (tensors[1],)

    def backward(
        self, needs: Needs, saved: Tensors, sizes: Any, args: Any, grad: Tensor
    ) -> Tensors:
        return pool_scatter(grad, saved[0], (sizes[0], *args)), None

    def jvp(self, saved: Tensors, args: Any, tangents: Tensors) -> Tensor:
        return pool_gather(tangents[0], saved[0], args)


class _MaxUnpool(Rule):
    """Where several inputs meet on one position, the last one wins, but each of them
    gets that position's gradient, as torch has it."""

    tensors = 2

    def save(self, needs: Needs, tensors: Tensors, output: Any) -> Tensors:
        return (tensors[1],)

    def backward(
        self, needs: Needs, saved: Tensors, sizes: Any, args: Any, grad: Tensor
    ) -> Tensors:
        window = _any_window(grad.dim() - 2)
        return pool_gather(grad, saved[0], (*window, False)), None

    def jvp(self, saved: Tensors, args: Any, tangents: Tensors) -> Tensor:
        return max_unpool(tangents[0], saved[0], args)


# --- Linear operators on one tensor: the derivative is the adjoint.


class _Linear(Rule):
    def adjoint(self, grad: Tensor, size: Any, args: Any) -> Tensor:
        raise AssertionError("a linear rule has an adjoint")

    def backward(
        self, needs: Needs, saved: Tensors, sizes: Any, args: Any, grad: Tensor
    ) -> Tensors:
        return (self.adjoint(grad, sizes[0], args),)

    def jvp(self, saved: Tensors, args: Any, tangents: Tensors) -> Tensor:
        return self.call(tangents[0], args)


def _larger_batch(batch: int, args: Any) -> Any:
    """args that begin with a size (N, C, ...), for a batch times larger N."""
    (n, *rest), others = args[0], args[1:]
    return ((n * batch, *rest), *others)


def _in_front(size: Any, args: Any) -> Any:
    return (size, *args)


class _AvgPool(_Linear):
    def adjoint(self, grad: Tensor, size: Any, args: Any) -> Tensor:
        return avg_pool_input_grad(grad, _bound.with_size(args, size, _in_front))


class _AvgPoolInputGrad(_Linear):
    def adjoint(self, grad: Tensor, size: Any, args: Any) -> Tensor:
        return avg_pool(grad, args[1:])

    def batch_args(self, batch: int, args: Any) -> Any:
        return _larger_batch(batch, args)


class _AdaptiveAvgPool(_Linear):
    def adjoint(self, grad: Tensor, size: Any, args: Any) -> Tensor:
        args = _bound.with_size(args, size, self.gradient_args)
        return adaptive_avg_pool_input_grad(grad, args)

    @staticmethod
    def gradient_args(size: Any, args: Any) -> Any:
        # As torch, whose gradient of a mean over everything is contiguous.
        output_size, channels_last = args
        return size, channels_last and not is_global(output_size)


class _AdaptiveAvgPoolInputGrad(_Linear):
    def adjoint(self, grad: Tensor, size: Any, args: Any) -> Tensor:
        return adaptive_avg_pool(grad, (size[2:], args[1]))

    def batch_args(self, batch: int, args: Any) -> Any:
        return _larger_batch(batch, args)


class _Unfold(_Linear):
    def adjoint(self, grad: Tensor, size: Any, args: Any) -> Tensor:
        return fold(grad, (size[2:], *args))


class _Fold(_Linear):
    def adjoint(self, grad: Tensor, size: Any, args: Any) -> Tensor:
        return unfold(grad, args[1:])


# --- Lp pooling: with A the average over a window, k its taps and p the norm,
#     y = (k A x^p)^(1/p),   dy = k y^(1-p) A(x^(p-1) dx)
# so that the input gradient is k x^(p-1) A'(g y^(1-p)), A' being A's adjoint. A window
# whose y is 0 contributes 0, where torch's composition divides 0 by 0.


class _Lp:
    """The pieces of those formulas, from lp_pool's arguments."""

    def __init__(self, args: Any) -> None:
        self.p, kernel, stride, ceil_mode, channels_last = args
        self.taps = math.prod(kernel)
        zeros = (0,) * len(kernel)
        self.window = (kernel, stride, zeros, ceil_mode, True, None, channels_last)

    def average(self, x: Tensor) -> Tensor:
        return avg_pool(x, self.window)

    def spread(self, grad: Tensor, size: Any) -> Tensor:
        return avg_pool_input_grad(grad, (size, *self.window))

    def power(self, t: Tensor, shift: float) -> Tensor:
        """t ** (p + shift), and 1 where the exponent is 0, whatever t is."""
        return t.pow(self.p + shift)

    def inverse_power(self, y: Tensor, shift: float) -> Tensor:
        """y ** (shift - p), and 0 where y is 0."""
        zero = y == 0
        return torch.where(zero, 0, torch.where(zero, 1, y).pow(shift - self.p))


class _LpPool(Rule):
    def save(self, needs: Needs, tensors: Tensors, output: Any) -> Tensors:
        return tensors[0], output

    def backward(
        self, needs: Needs, saved: Tensors, sizes: Any, args: Any, grad: Tensor
    ) -> Tensors:
        x, y = saved
        return (lp_pool_input_grad(grad, x, y, args),)

    def jvp(self, saved: Tensors, args: Any, tangents: Tensors) -> Tensor:
        x, y = saved
        lp = _Lp(args)
        inner = lp.average(lp.power(given(x), -1) * given(tangents[0]))
        return lp.taps * lp.inverse_power(given(y), 1) * inner


class _LpPoolInputGrad(Rule):
    tensors = 3

    def save(self, needs: Needs, tensors: Tensors, output: Any) -> Tensors:
        return tensors

    def backward(
        self, needs: Needs, saved: Tensors, sizes: Any, args: Any, grad: Tensor
    ) -> Tensors:
        g, x, y = (given(t) for t in saved)
        lp = _Lp(args)
        weight = lp.inverse_power(y, 1)
        dg = dx = dy = None
        if needs[1] and lp.p != 1:
            spread = lp.spread(g * weight, x.shape)
            dx = lp.taps * (lp.p - 1) * grad * lp.power(x, -2) * spread
        if needs[0] or needs[2]:
            inner = lp.taps * lp.average(grad * lp.power(x, -1))
            if needs[0]:
                dg = inner * weight
            if needs[2] and lp.p != 1:
                dy = (1 - lp.p) * inner * g * lp.inverse_power(y, 0)
        return dg, dx, dy

    def jvp(self, saved: Tensors, args: Any, tangents: Tensors) -> Tensor:
        g, x, y = (given(t) for t in saved)
        tg, tx, ty = tangents
        lp = _Lp(args)
        weight = lp.inverse_power(y, 1)
        inner = torch.zeros_like(g) if tg is None else tg * weight
        if ty is not None:
            inner = inner + (1 - lp.p) * g * lp.inverse_power(y, 0) * ty
        out = lp.power(x, -1) * lp.spread(inner, x.shape)
        if tx is not None and lp.p != 1:
            spread = lp.spread(g * weight, x.shape)
            out = out + (lp.p - 1) * lp.power(x, -2) * tx * spread
        return lp.taps * out


def wants_codes(x: Tensor) -> bool:
    """Whether a graph or a transform, or an eager call, is to keep positions, because a
    derivative may be asked for.

    An exported or traced program is for inference; should it be differentiated all the
    same, the pooling's derivative rule finds the positions again.
    """
    if torch.compiler.is_compiling():
        wanted = torch.is_grad_enabled() and x.requires_grad
        return wanted and not torch.compiler.is_exporting()
    if torch.is_grad_enabled() and x.requires_grad:
        return not torch._C._is_tracing()
    return transforms_active()


def _without_codes(op: Any, op_with_codes: Any, rule: _PoolWithCodes) -> Any:
    """The pooling that returns no codes, and the one that does."""
    with_codes = differentiable(op_with_codes, rule, _bound.eager)

    def in_graph(x: Tensor, args: Any) -> Tensor:
        return with_codes(x, args)[0] if wants_codes(x) else op(x, *args)

    recording = Recording(_bound.eager(op_with_codes), rule, in_graph)
    without = _WithoutCodes(with_codes, rule)
    return differentiable(op, without, _bound.eager, recording), with_codes


def _differentiable(op: Any, rule: Rule) -> Any:
    return differentiable(op, rule, _bound.eager)


pool_scatter = _differentiable(_ops.pool_scatter, _PoolScatter())
pool_gather = _differentiable(_ops.pool_gather, _PoolGather())
max_pool, max_pool_with_codes = _without_codes(
    _ops.max_pool, _ops.max_pool_with_codes, _MaxPoolWithCodes()
)
max_pool_with_indices = _differentiable(_ops.max_pool_with_indices, _MaxPoolWithCodes())
adaptive_max_pool, adaptive_max_pool_with_codes = _without_codes(
    _ops.adaptive_max_pool,
    _ops.adaptive_max_pool_with_codes,
    _AdaptiveMaxPoolWithCodes(),
)
adaptive_max_pool_with_indices = _differentiable(
    _ops.adaptive_max_pool_with_indices, _AdaptiveMaxPoolWithCodes()
)
fractional_max_pool = _differentiable(_ops.fractional_max_pool, _FractionalMaxPool())
max_unpool = _differentiable(_ops.max_unpool, _MaxUnpool())

avg_pool = _differentiable(_ops.avg_pool, _AvgPool())
avg_pool_input_grad = _differentiable(_ops.avg_pool_input_grad, _AvgPoolInputGrad())
adaptive_avg_pool = _differentiable(_ops.adaptive_avg_pool, _AdaptiveAvgPool())
adaptive_avg_pool_input_grad = _differentiable(
    _ops.adaptive_avg_pool_input_grad, _AdaptiveAvgPoolInputGrad()
)
lp_pool = _differentiable(_ops.lp_pool, _LpPool())
lp_pool_input_grad = _differentiable(_ops.lp_pool_input_grad, _LpPoolInputGrad())
unfold = _differentiable(_ops.unfold, _Unfold())
fold = _differentiable(_ops.fold, _Fold())
