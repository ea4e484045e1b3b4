"""Derivatives of activation(convolution + residual).

Arguments end with those of the convolution (conv.py) and (activation, a, b).
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from .. import _ops, _prepared
from .._activation import Activation, activate, through_activation
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
from .conv import FORWARD, INPUT_GRAD


def _split(args: Any) -> tuple[Any, Activation]:
    """The convolution's arguments and the activation."""
    return tuple(args[:-3]), Activation(*args[-3:])


class _Fused(Rule):
    """A pass with an epilogue, by the rule of the pass without.

    The slope of most activations follows from the result, which is saved; where it does
    not, the sums are computed once more.
    """

    tensors = 4

    def __init__(self, plain: Rule) -> None:
        self.plain = plain

    def save_with(
        self, needs: Needs, tensors: Tensors, args: Any, output: Any
    ) -> Tensors:
        _, activation = _split(args)
        if not activation.from_output:
            return *tensors, None
        kept = None if activation.name == "none" else output
        return *self.plain.save(needs[:3], tensors[:3], output), None, None, kept

    def _through(self, grad: Tensor, saved: Tensors, args: Any) -> Tensor:
        conv, activation = _split(args)
        first, weight, bias, residual, output = saved
        if activation.from_output:
            return through_activation(grad, output, activation)
        at = self.plain.call(first, weight, bias, conv)
        at = at if residual is None else at + residual
        return through_activation(grad, at, activation)

    def backward(
        self, needs: Needs, saved: Tensors, sizes: Any, args: Any, grad: Tensor
    ) -> Tensors:
        conv, _ = _split(args)
        grad = self._through(grad, saved, args)
        plain = self.plain.backward(needs[:3], saved[:2], sizes[:3], conv, grad)
        return *plain, grad if needs[3] else None

    def jvp(self, saved: Tensors, args: Any, tangents: Tensors) -> Tensor:
        conv, _ = _split(args)
        tangent = tangents[3]
        if any(t is not None for t in tangents[:3]):
            out = self.plain.jvp(saved[:2], conv, tangents[:3])
            tangent = out if tangent is None else out + tangent
        return self._through(given(tangent), saved, args)

    def vmap(self, batch: int, in_dims: Dims, tensors: Tensors, args: Any) -> Any:
        conv, activation = _split(args)
        first, weight, bias, residual = tensors
        d_first, d_weight, d_bias, d_residual = in_dims
        if d_weight is None and d_bias is None:
            first = batch_in_front(batch, d_first, given(first)).flatten(0, 1)
            if residual is not None:
                residual = batch_in_front(batch, d_residual, residual).flatten(0, 1)
            args = self.folded_args(batch, args)
            y = self.call(first, weight, bias, residual, args)
            return split_batch(batch, 0, y), 0
        y, _ = self.plain.vmap(batch, in_dims[:3], tensors[:3], conv)
        if residual is not None:
            y = y + batch_in_front(batch, d_residual, residual)
        return activate(y, activation), 0

    def folded_args(self, batch: int, args: Any) -> Any:
        """The arguments for samples that are batch times as many."""
        return args


class _FusedInputGrad(_Fused):
    def folded_args(self, batch: int, args: Any) -> Any:
        (n, *size), *rest = args
        return (n * batch, *size), *rest


conv_forward_fused = differentiable(
    _ops.conv_forward_fused, _Fused(FORWARD), partial(_prepared.eager, "forward")
)
conv_input_grad_fused = differentiable(
    _ops.conv_input_grad_fused,
    _FusedInputGrad(INPUT_GRAD),
    partial(_prepared.eager, "input_grad"),
)
