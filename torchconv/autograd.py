"""The derivative rules, each written once.

Convolution is bilinear in its input and weight: the derivatives of each of its three
passes are the other two. Max pooling picks values at coded positions: its derivative
scatters to them, whose derivative gathers from them. Average pooling and unfold are
linear: their derivatives are their adjoints. So every rule is made of functions of this
module, and derivatives exist to any order.

Each function here takes its tensors and then one tuple with the operator's other
arguments in canonical form (see the operators' schemas); _function.py says by which way a
call reaches the operator.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from . import _ops
from ._function import (
    Dims,
    Needs,
    Rule,
    Tensors,
    batch_in_front,
    differentiable,
    split_batch,
    transforms_active,
)

__all__ = [
    "adaptive_avg_pool",
    "adaptive_avg_pool_input_grad",
    "adaptive_max_pool",
    "adaptive_max_pool_with_codes",
    "adaptive_max_pool_with_indices",
    "avg_pool",
    "avg_pool_input_grad",
    "channel_sum",
    "conv_forward",
    "conv_input_grad",
    "conv_weight_grad",
    "fold",
    "fractional_max_pool",
    "lp_pool",
    "lp_pool_input_grad",
    "max_pool",
    "max_pool_with_codes",
    "max_pool_with_indices",
    "max_unpool",
    "pool_gather",
    "pool_scatter",
    "transforms_active",
    "unfold",
]

# --- Convolution: args end with (stride, padding, dilation, groups, ...); input_grad and
# weight_grad have the size of their result before that.

_GROUPS = 3  # the place of groups in conv_forward's args


def _grouped(args: Any, factor: int, offset: int = 0) -> Any:
    """args with factor times as many groups."""
    i = _GROUPS + offset
    return *args[:i], args[i] * factor, *args[i + 1 :]


def _members(t: Tensor, dim: int, batch: int, groups: int) -> Tensor:
    """Splits channels that are laid out (groups, batch, rest) and puts batch in front."""
    rest = t.shape[dim] // (batch * groups)
    split = t.unflatten(dim, (groups, batch, rest))
    return split.movedim(dim + 1, 0).flatten(dim + 1, dim + 2)


def _channels_of_members(t: Tensor, groups: int) -> Tensor:
    """The inverse: (B, N, groups * rest, ...) as (N, groups * B * rest, ...)."""
    split = t.unflatten(2, (groups, t.shape[2] // groups))
    return split.movedim(0, 2).flatten(1, 3)


def _side_by_side(t: Tensor) -> Tensor:
    """(B, N, C, ...) as (N, B * C, ...): every member of the batch its own groups."""
    return t.movedim(0, 1).flatten(1, 2)


def _add_bias(y: Tensor, bias: Tensor | None, dim: int | None) -> Tensor:
    """Adds (C,), or (B, C) with B in dim, to the channels of (B, N, C, ...)."""
    if bias is None:
        return y
    rows = bias.unsqueeze(0) if dim is None else bias.movedim(dim, 0)
    return y + rows.reshape(rows.shape[0], 1, -1, *(1,) * (y.dim() - 3))


class _ConvForward(Rule):
    tensors = 3

    def save(self, needs: Needs, tensors: Tensors, output: Any) -> Tensors:
        x, weight, _ = tensors
        return x if needs[1] else None, weight if needs[0] else None

    def backward(
        self, needs: Needs, saved: Tensors, sizes: Any, args: Any, grad: Tensor
    ) -> Tensors:
        x, weight = saved
        return (
            conv_input_grad(grad, weight, None, (sizes[0], *args))
            if needs[0]
            else None,
            conv_weight_grad(grad, x, (sizes[1], *args)) if needs[1] else None,
            channel_sum(grad, ()) if needs[2] else None,
        )

    def jvp(self, saved: Tensors, args: Any, tangents: Tensors) -> Tensor:
        x, weight = saved
        tx, tw, tb = tangents
        y = None
        if tx is not None:
            y = conv_forward(tx, weight, tb, args)
        if tw is not None:
            part = conv_forward(x, tw, None if tx is not None else tb, args)
            y = part if y is None else y + part
        if y is None:
            y = conv_forward(x, torch.zeros_like(_given(weight)), tb, args)
        return y

    def vmap(self, batch: int, in_dims: Dims, tensors: Tensors, args: Any) -> Any:
        x, weight, bias = _given(tensors[0]), _given(tensors[1]), tensors[2]
        dx, dw, db = in_dims
        groups = args[_GROUPS]
        if dw is None:
            shared = bias if db is None else None
            folded = batch_in_front(batch, dx, x).flatten(0, 1)
            y = split_batch(batch, 0, conv_forward(folded, weight, shared, args))
            return (y if db is None else _add_bias(y, bias, db)), 0
        weight = weight.movedim(dw, 0)
        if dx is None:
            # One convolution whose groups hold the kernels of all members.
            rows = weight.unflatten(1, (groups, -1)).movedim(0, 1).flatten(0, 2)
            y = _members(conv_forward(x, rows, None, args), 1, batch, groups)
        else:
            y = conv_forward(
                _side_by_side(x.movedim(dx, 0)),
                weight.flatten(0, 1),
                None,
                _grouped(args, batch),
            )
            y = split_batch(batch, 1, y).movedim(1, 0)
        return _add_bias(y, bias, db), 0


class _ConvInputGrad(Rule):
    tensors = 3

    def save(self, needs: Needs, tensors: Tensors, output: Any) -> Tensors:
        grad, weight, _ = tensors
        return grad if needs[1] else None, weight if needs[0] else None

    def backward(
        self, needs: Needs, saved: Tensors, sizes: Any, args: Any, grad: Tensor
    ) -> Tensors:
        first, weight = saved
        conv = args[1:]
        return (
            conv_forward(grad, weight, None, conv) if needs[0] else None,
            conv_weight_grad(first, grad, (sizes[1], *conv)) if needs[1] else None,
            channel_sum(grad, ()) if needs[2] else None,
        )

    def jvp(self, saved: Tensors, args: Any, tangents: Tensors) -> Tensor:
        first, weight = saved
        tg, tw, tb = tangents
        x = None
        if tg is not None:
            x = conv_input_grad(tg, weight, tb, args)
        if tw is not None:
            part = conv_input_grad(first, tw, None if tg is not None else tb, args)
            x = part if x is None else x + part
        if x is None:
            x = conv_input_grad(first, torch.zeros_like(_given(weight)), tb, args)
        return x

    def vmap(self, batch: int, in_dims: Dims, tensors: Tensors, args: Any) -> Any:
        grad, weight, bias = _given(tensors[0]), _given(tensors[1]), tensors[2]
        dg, dw, db = in_dims
        (n, channels, *spatial), conv = args[0], args[1:]
        groups = conv[_GROUPS]
        if dw is None:
            shared = bias if db is None else None
            folded = batch_in_front(batch, dg, grad).flatten(0, 1)
            size = (n * batch, channels, *spatial)
            x = conv_input_grad(folded, weight, shared, (size, *conv))
            x = split_batch(batch, 0, x)
            return (x if db is None else _add_bias(x, bias, db)), 0
        weight = weight.movedim(dw, 0)
        size = (n, batch * channels, *spatial)
        if dg is None:
            columns = weight.movedim(0, 1).flatten(1, 2)
            x = conv_input_grad(grad, columns, None, (size, *conv))
            x = _members(x, 1, batch, groups)
        else:
            x = conv_input_grad(
                _side_by_side(grad.movedim(dg, 0)),
                weight.flatten(0, 1),
                None,
                (size, *_grouped(conv, batch)),
            )
            x = split_batch(batch, 1, x).movedim(1, 0)
        return _add_bias(x, bias, db), 0


class _ConvWeightGrad(Rule):
    tensors = 2

    def save(self, needs: Needs, tensors: Tensors, output: Any) -> Tensors:
        grad, x = tensors
        return grad if needs[1] else None, x if needs[0] else None

    def backward(
        self, needs: Needs, saved: Tensors, sizes: Any, args: Any, grad: Tensor
    ) -> Tensors:
        first, x = saved
        conv = args[1:]
        return (
            conv_forward(x, grad, None, conv) if needs[0] else None,
            conv_input_grad(first, grad, None, (sizes[1], *conv)) if needs[1] else None,
        )

    def jvp(self, saved: Tensors, args: Any, tangents: Tensors) -> Tensor:
        grad, x = saved
        tg, tx = tangents
        parts = []
        if tg is not None:
            parts.append(conv_weight_grad(tg, x, args))
        if tx is not None:
            parts.append(conv_weight_grad(grad, tx, args))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def vmap(self, batch: int, in_dims: Dims, tensors: Tensors, args: Any) -> Any:
        grad, x = _given(tensors[0]), _given(tensors[1])
        dg, dx = in_dims
        (out, channels, *kernel), conv = args[0], args[1:]
        groups = conv[_GROUPS]
        if dx is None:
            rows = _channels_of_members(grad.movedim(_given(dg), 0), groups)
            size = (batch * out, channels, *kernel)
            return _members(
                conv_weight_grad(rows, x, (size, *conv)), 0, batch, groups
            ), 0
        if dg is None:
            columns = _channels_of_members(x.movedim(dx, 0), groups)
            size = (out, batch * channels, *kernel)
            w = conv_weight_grad(grad, columns, (size, *conv))
            return split_batch(batch, 1, w).movedim(1, 0), 0
        w = conv_weight_grad(
            _side_by_side(grad.movedim(dg, 0)),
            _side_by_side(x.movedim(dx, 0)),
            ((batch * out, channels, *kernel), *_grouped(conv, batch)),
        )
        return split_batch(batch, 0, w), 0


class _ChannelSum(Rule):
    def backward(
        self, needs: Needs, saved: Tensors, sizes: Any, args: Any, grad: Tensor
    ) -> Tensors:
        (size,) = sizes
        return (grad.view(1, -1, *(1,) * (len(size) - 2)).expand(size),)

    def jvp(self, saved: Tensors, args: Any, tangents: Tensors) -> Tensor:
        return channel_sum(tangents[0], args)

    def vmap(self, batch: int, in_dims: Dims, tensors: Tensors, args: Any) -> Any:
        x = _given(tensors[0]).movedim(_given(in_dims[0]), 0)
        return split_batch(batch, 0, channel_sum(_side_by_side(x), args)), 0


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

    def save(self, needs: Needs, tensors: Tensors, output: Any) -> Tensors:
        return (output[1],)

    def backward(
        self, needs: Needs, saved: Tensors, sizes: Any, args: Any, grad: Tensor
    ) -> Tensors:
        window = self.window(args, grad.dim() - 2)
        scatter_args = (sizes[0], *window, self.channels_last(args))
        gx = pool_scatter(grad, saved[0], scatter_args)
        return (gx, *(None,) * (self.tensors - 1))

    def jvp(self, saved: Tensors, args: Any, tangents: Tensors) -> Tensor:
        tx = _given(tangents[0])
        window = self.window(args, tx.dim() - 2)
        return pool_gather(tx, saved[0], (*window, self.channels_last(args)))


class _MaxPoolWithCodes(_PoolWithCodes):
    def window(self, args: Any, nd: int) -> Any:
        return args[:4]


class _FractionalMaxPool(_PoolWithCodes):
    tensors = 2


class _WithoutCodes(Rule):
    """The same pooling without codes: they are computed when they are needed.

    functional.py takes the operator with codes where a gradient will be wanted; this is
    for callers of the bare operator.
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


class _AvgPool(_Linear):
    def adjoint(self, grad: Tensor, size: Any, args: Any) -> Tensor:
        return avg_pool_input_grad(grad, (size, *args))


class _AvgPoolInputGrad(_Linear):
    def adjoint(self, grad: Tensor, size: Any, args: Any) -> Tensor:
        return avg_pool(grad, args[1:])

    def batch_args(self, batch: int, args: Any) -> Any:
        return _larger_batch(batch, args)


class _AdaptiveAvgPool(_Linear):
    def adjoint(self, grad: Tensor, size: Any, args: Any) -> Tensor:
        return adaptive_avg_pool_input_grad(grad, (size, args[1]))


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
        inner = lp.average(lp.power(_given(x), -1) * _given(tangents[0]))
        return lp.taps * lp.inverse_power(_given(y), 1) * inner


class _LpPoolInputGrad(Rule):
    tensors = 3

    def save(self, needs: Needs, tensors: Tensors, output: Any) -> Tensors:
        return tensors

    def backward(
        self, needs: Needs, saved: Tensors, sizes: Any, args: Any, grad: Tensor
    ) -> Tensors:
        g, x, y = (_given(t) for t in saved)
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
        g, x, y = (_given(t) for t in saved)
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


def _given(value: Any) -> Any:
    """A value that the rule's contract says is there."""
    assert value is not None
    return value


conv_forward = differentiable(_ops.conv_forward, _ConvForward())
conv_input_grad = differentiable(_ops.conv_input_grad, _ConvInputGrad())
conv_weight_grad = differentiable(_ops.conv_weight_grad, _ConvWeightGrad())
channel_sum = differentiable(_ops.channel_sum, _ChannelSum())

pool_scatter = differentiable(_ops.pool_scatter, _PoolScatter())
pool_gather = differentiable(_ops.pool_gather, _PoolGather())
max_pool_with_codes = differentiable(_ops.max_pool_with_codes, _MaxPoolWithCodes())
max_pool_with_indices = differentiable(_ops.max_pool_with_indices, _PoolWithCodes())
max_pool = differentiable(
    _ops.max_pool, _WithoutCodes(max_pool_with_codes, _MaxPoolWithCodes())
)
adaptive_max_pool_with_codes = differentiable(
    _ops.adaptive_max_pool_with_codes, _PoolWithCodes()
)
adaptive_max_pool_with_indices = differentiable(
    _ops.adaptive_max_pool_with_indices, _PoolWithCodes()
)
adaptive_max_pool = differentiable(
    _ops.adaptive_max_pool,
    _WithoutCodes(adaptive_max_pool_with_codes, _PoolWithCodes()),
)
fractional_max_pool = differentiable(_ops.fractional_max_pool, _FractionalMaxPool())
max_unpool = differentiable(_ops.max_unpool, _MaxUnpool())

avg_pool = differentiable(_ops.avg_pool, _AvgPool())
avg_pool_input_grad = differentiable(_ops.avg_pool_input_grad, _AvgPoolInputGrad())
adaptive_avg_pool = differentiable(_ops.adaptive_avg_pool, _AdaptiveAvgPool())
adaptive_avg_pool_input_grad = differentiable(
    _ops.adaptive_avg_pool_input_grad, _AdaptiveAvgPoolInputGrad()
)
lp_pool = differentiable(_ops.lp_pool, _LpPool())
lp_pool_input_grad = differentiable(_ops.lp_pool_input_grad, _LpPoolInputGrad())
unfold = differentiable(_ops.unfold, _Unfold())
fold = differentiable(_ops.fold, _Fold())
