"""Derivatives of the convolution passes.

Arguments end with (stride, padding, dilation, groups, padding_mode, channels_last,
algorithm); input_grad and weight_grad have the size of their result before that.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from .. import _ops, _prepared
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

_GROUPS = 3  # the place of groups in conv_forward's args


def _grouped(args: Any, factor: int) -> Any:
    """args with factor times as many groups."""
    return *args[:_GROUPS], args[_GROUPS] * factor, *args[_GROUPS + 1 :]


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


class _WithWeight(Rule):
    """Bilinear in its first tensor and the weight, plus a bias."""

    tensors = 3

    def save(self, needs: Needs, tensors: Tensors, output: Any) -> Tensors:
        first, weight, _ = tensors
        return first if needs[1] else None, weight if needs[0] else None

    def jvp(self, saved: Tensors, args: Any, tangents: Tensors) -> Tensor:
        first, weight = saved
        t_first, t_weight, t_bias = tangents
        if t_first is None:
            if t_weight is None:
                t_weight = torch.zeros_like(given(weight))
            return self.call(first, t_weight, t_bias, args)
        out = self.call(t_first, weight, t_bias, args)
        if t_weight is not None:
            out = out + self.call(first, t_weight, None, args)
        return out


class _ConvForward(_WithWeight):
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

    def vmap(self, batch: int, in_dims: Dims, tensors: Tensors, args: Any) -> Any:
        x, weight, bias = given(tensors[0]), given(tensors[1]), tensors[2]
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


class _ConvInputGrad(_WithWeight):
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

    def vmap(self, batch: int, in_dims: Dims, tensors: Tensors, args: Any) -> Any:
        grad, weight, bias = given(tensors[0]), given(tensors[1]), tensors[2]
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
        grad, x = given(tensors[0]), given(tensors[1])
        dg, dx = in_dims
        (out, channels, *kernel), conv = args[0], args[1:]
        groups = conv[_GROUPS]
        if dx is None:
            rows = _channels_of_members(grad.movedim(given(dg), 0), groups)
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
        x = given(tensors[0]).movedim(given(in_dims[0]), 0)
        return split_batch(batch, 0, channel_sum(_side_by_side(x), args)), 0


FORWARD = _ConvForward()
INPUT_GRAD = _ConvInputGrad()

conv_forward = differentiable(
    _ops.conv_forward, FORWARD, partial(_prepared.eager, "forward")
)
conv_input_grad = differentiable(
    _ops.conv_input_grad, INPUT_GRAD, partial(_prepared.eager, "input_grad")
)
conv_weight_grad = differentiable(
    _ops.conv_weight_grad, _ConvWeightGrad(), partial(_prepared.eager, "weight_grad")
)
channel_sum = differentiable(_ops.channel_sum, _ChannelSum())
