"""Derivatives of the convolution whose kernel depends on the output position.

It is bilinear as every convolution is, so the derivatives of each pass are the other two.
Arguments end with (stride, padding, dilation, groups, padding_mode) and, but for
weight_grad, channels_last; input_grad and weight_grad have the size of their result before
that. A weight is (*tile, K, C / groups, *kernel), a bias (*tile, K).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import _ops
from ._function import (
    Dims,
    Needs,
    Rule,
    Tensors,
    batch_in_front,
    differentiable,
    given,
    split_batch,
)

_GROUPS = 3  # the place of groups in local_conv_forward's args


def _grouped(args: Any, factor: int) -> Any:
    """args with factor times as many groups."""
    return *args[:_GROUPS], args[_GROUPS] * factor, *args[_GROUPS + 1 :]


def _channels(batch: int, dim: int | None, t: Tensor) -> Tensor:
    """(B, N, C, ...) as (N, B * C, ...): every member of the batch its own groups."""
    return batch_in_front(batch, dim, t).movedim(0, 1).flatten(1, 2)


def _filters(batch: int, dim: int | None, w: Tensor, nd: int) -> Tensor:
    """(B, *tile, K, ...) as (*tile, B * K, ...)."""
    return batch_in_front(batch, dim, w).movedim(0, nd).flatten(nd, nd + 1)


def _bias_grad(grad: Tensor, size: Any) -> Tensor:
    """What is added at a position is the weight of an input of ones."""
    nd = grad.dim() - 2
    ones = grad.new_ones(()).expand(grad.shape[0], 1, *grad.shape[2:])
    args = ((*size, 1, *(1,) * nd), (1,) * nd, (0, 0) * nd, (1,) * nd, 1, "zeros")
    return local_conv_weight_grad(grad, ones, args).reshape(tuple(size))


class _Forward(Rule):
    tensors = 3

    def save(self, needs: Needs, tensors: Tensors, output: Any) -> Tensors:
        x, weight, _ = tensors
        return x if needs[1] else None, weight if needs[0] else None

    def backward(
        self, needs: Needs, saved: Tensors, sizes: Any, args: Any, grad: Tensor
    ) -> Tensors:
        x, weight = saved
        return (
            local_conv_input_grad(grad, weight, (sizes[0], *args))
            if needs[0]
            else None,
            local_conv_weight_grad(grad, x, (sizes[1], *args[:-1]))
            if needs[1]
            else None,
            _bias_grad(grad, sizes[2]) if needs[2] else None,
        )

    def jvp(self, saved: Tensors, args: Any, tangents: Tensors) -> Tensor:
        x, weight = saved
        t_x, t_weight, t_bias = tangents
        if t_x is None:
            if t_weight is None:
                t_weight = torch.zeros_like(given(weight))
            return local_conv_forward(x, t_weight, t_bias, args)
        out = local_conv_forward(t_x, weight, t_bias, args)
        if t_weight is not None:
            out = out + local_conv_forward(x, t_weight, None, args)
        return out

    def vmap(self, batch: int, in_dims: Dims, tensors: Tensors, args: Any) -> Any:
        x, weight, bias = given(tensors[0]), given(tensors[1]), tensors[2]
        dx, dw, db = in_dims
        if dw is None and db is None:
            folded = batch_in_front(batch, dx, x).flatten(0, 1)
            y = local_conv_forward(folded, weight, bias, args)
            return split_batch(batch, 0, y), 0
        nd = len(args[0])
        y = local_conv_forward(
            _channels(batch, dx, x),
            _filters(batch, dw, weight, nd),
            None if bias is None else _filters(batch, db, bias, nd),
            _grouped(args, batch),
        )
        return split_batch(batch, 1, y), 1


class _InputGrad(Rule):
    tensors = 2

    def save(self, needs: Needs, tensors: Tensors, output: Any) -> Tensors:
        grad, weight = tensors
        return grad if needs[1] else None, weight if needs[0] else None

    def backward(
        self, needs: Needs, saved: Tensors, sizes: Any, args: Any, grad: Tensor
    ) -> Tensors:
        first, weight = saved
        conv = args[1:]
        return (
            local_conv_forward(grad, weight, None, conv) if needs[0] else None,
            local_conv_weight_grad(first, grad, (sizes[1], *conv[:-1]))
            if needs[1]
            else None,
        )

    def jvp(self, saved: Tensors, args: Any, tangents: Tensors) -> Tensor:
        grad, weight = saved
        return _sum(
            lambda t: local_conv_input_grad(t, weight, args),
            lambda t: local_conv_input_grad(grad, t, args),
            tangents,
        )

    def vmap(self, batch: int, in_dims: Dims, tensors: Tensors, args: Any) -> Any:
        grad, weight = given(tensors[0]), given(tensors[1])
        dg, dw = in_dims
        (n, channels, *spatial), conv = args[0], args[1:]
        if dw is None:
            folded = batch_in_front(batch, dg, grad).flatten(0, 1)
            size = (n * batch, channels, *spatial)
            x = local_conv_input_grad(folded, weight, (size, *conv))
            return split_batch(batch, 0, x), 0
        size = (n, batch * channels, *spatial)
        x = local_conv_input_grad(
            _channels(batch, dg, grad),
            _filters(batch, dw, weight, len(spatial)),
            (size, *_grouped(conv, batch)),
        )
        return split_batch(batch, 1, x), 1


class _WeightGrad(Rule):
    tensors = 2

    def save(self, needs: Needs, tensors: Tensors, output: Any) -> Tensors:
        grad, x = tensors
        return grad if needs[1] else None, x if needs[0] else None

    def backward(
        self, needs: Needs, saved: Tensors, sizes: Any, args: Any, grad: Tensor
    ) -> Tensors:
        first, x = saved
        conv = (*args[1:], False)
        return (
            local_conv_forward(x, grad, None, conv) if needs[0] else None,
            local_conv_input_grad(first, grad, (sizes[1], *conv)) if needs[1] else None,
        )

    def jvp(self, saved: Tensors, args: Any, tangents: Tensors) -> Tensor:
        grad, x = saved
        return _sum(
            lambda t: local_conv_weight_grad(t, x, args),
            lambda t: local_conv_weight_grad(grad, t, args),
            tangents,
        )

    def vmap(self, batch: int, in_dims: Dims, tensors: Tensors, args: Any) -> Any:
        grad, x = given(tensors[0]), given(tensors[1])
        nd = len(args[1])
        size, conv = list(args[0]), args[1:]
        size[nd] = size[nd] * batch
        w = local_conv_weight_grad(
            _channels(batch, in_dims[0], grad),
            _channels(batch, in_dims[1], x),
            (tuple(size), *_grouped(conv, batch)),
        )
        return split_batch(batch, nd, w), nd


def _sum(first: Any, second: Any, tangents: Tensors) -> Tensor:
    """The product rule: first of the first tangent and second of the second."""
    one, other = tangents
    if one is None:
        return second(other)
    return first(one) if other is None else first(one) + second(other)


local_conv_forward = differentiable(_ops.local_conv_forward, _Forward())
local_conv_input_grad = differentiable(_ops.local_conv_input_grad, _InputGrad())
local_conv_weight_grad = differentiable(_ops.local_conv_weight_grad, _WeightGrad())
