"""How one derivative rule serves every way to differentiate.

A :class:`Rule` states an operator's derivatives once. :func:`differentiable` makes of it

* a registration with the dispatcher (``torch.library.register_autograd``), which
  torch.compile and torch.export see;
* a plain ``autograd.Function`` for eager backward, with the short call path;
* an ``autograd.Function`` with ``setup_context``, ``vmap`` and ``jvp`` for torch.func and
  forward-mode AD;

and returns the function that takes the right one of them. Without gradients it calls the
operator below the autograd keys, because the dispatcher's Python autograd kernel costs
more than a small convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad

_BelowAutograd = torch._C._AutoDispatchBelowAutograd
_any_requires_grad = torch._C._any_requires_grad
_functorch_active = torch._C._are_functorch_transforms_active

Tensors = tuple[Tensor | None, ...]
Dims = tuple[int | None, ...]
Needs = tuple[bool, ...]
Result = Any  # a Tensor, or the tuple of Tensors that the operator returns


class Rule:
    """The derivatives of one operator, whose arguments are tensors, then others.

    ``args`` is the tuple of the other arguments. Every method that computes does so with
    differentiable functions, so that derivatives of any order follow.
    """

    tensors = 1
    """How many arguments are tensors (or None)."""

    integer_outputs: tuple[int, ...] = ()
    """Which outputs hold positions and have no derivative."""

    call: Callable[..., Any]
    """The differentiable operator itself, set by :func:`differentiable`."""

    def save(self, needs: Needs, tensors: Tensors, output: Any) -> Tensors:
        """The tensors that backward and jvp need, given whose gradient is wanted."""
        return ()

    def backward(
        self, needs: Needs, saved: Tensors, sizes: Any, args: Any, grad: Tensor
    ) -> Tensors:
        """The gradient of each tensor argument that needs one.

        ``sizes`` are the shapes of the tensor arguments; ``grad`` belongs to the first
        output.
        """
        raise AssertionError("a rule has a backward")

    def jvp(self, saved: Tensors, args: Any, tangents: Tensors) -> Tensor:
        """The tangent of the first output; ``saved`` as for gradients of everything."""
        raise AssertionError("a rule has a jvp")

    def batch_args(self, batch: int, args: Any) -> Any:
        """The arguments for a batch that is ``batch`` times larger."""
        return args

    def vmap(self, batch: int, in_dims: Dims, tensors: Tensors, args: Any) -> Any:
        """The batched result and where its batch dimension is.

        As written here, for operators that treat every sample by itself.
        """
        folded = (
            None if t is None else batch_in_front(batch, dim, t).flatten(0, 1)
            for dim, t in zip(in_dims, tensors)
        )
        out = self.call(*folded, self.batch_args(batch, args))
        if isinstance(out, Tensor):
            return split_batch(batch, 0, out), 0
        return tuple(split_batch(batch, 0, o) for o in out), (0,) * len(out)


def batch_in_front(batch: int, dim: int | None, t: Tensor) -> Tensor:
    """t with vmap's dimension first; expanded, if it has none."""
    return t.expand(batch, *t.shape) if dim is None else t.movedim(dim, 0)


def split_batch(batch: int, dim: int, t: Tensor) -> Tensor:
    """Splits vmap's dimension off the front of dimension dim."""
    return t.unflatten(dim, (batch, t.shape[dim] // batch if batch else 0))


def given(value: Any) -> Any:
    """A value that a rule's contract says is there."""
    assert value is not None
    return value


def _sizes(tensors: Tensors) -> tuple[Any, ...]:
    return tuple([None if t is None else t.shape for t in tensors])


def _register(op: Any, rule: Rule) -> None:
    """The rule for the dispatcher: inputs come flat, gradients go flat."""
    n = rule.tensors

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Result) -> None:
        tensors = inputs[:n]
        ctx.save_for_backward(*rule.save(ctx.needs_input_grad[:n], tensors, output))
        ctx.sizes = _sizes(tensors)
        ctx.args = inputs[n:]
        ctx.set_materialize_grads(False)

    def backward(ctx: Any, *grads: Tensor | None) -> Tensors:
        rest = (None,) * len(ctx.args)
        if grads[0] is None:
            return (None,) * n + rest
        needs = ctx.needs_input_grad[:n]
        saved = ctx.saved_tensors
        return rule.backward(needs, saved, ctx.sizes, ctx.args, grads[0]) + rest

    torch.library.register_autograd(op, backward, setup_context=setup_context)


def differentiable(op: Any, rule: Rule) -> Callable[..., Result]:
    """The operator as a function of (*tensors, args) that can be differentiated.

    Args:
        op: an overload (``torch.ops.torchconv.<name>.default``); anything else stands for
            an operator that the binary lacks, and is returned behind the same signature.
    """
    n = rule.tensors

    if not isinstance(op, torch._ops.OpOverload):
        return lambda *inputs: op()

    run = op._op
    _register(op, rule)

    def below_autograd(*inputs: Any) -> Result:
        with _BelowAutograd():
            return run(*inputs[:n], *inputs[n])

    def mark(ctx: Any, output: Result) -> None:
        if rule.integer_outputs:
            ctx.mark_non_differentiable(*(output[i] for i in rule.integer_outputs))
        ctx.set_materialize_grads(False)

    def backward(ctx: Any, *grads: Tensor | None) -> Tensors:
        if grads[0] is None:
            return (None,) * (n + 1)
        needs = ctx.needs_input_grad[:n]
        saved = ctx.saved_tensors
        return *rule.backward(needs, saved, ctx.sizes, ctx.args, grads[0]), None

    def eager_forward(ctx: Any, *inputs: Any) -> Result:
        output = below_autograd(*inputs)
        tensors = inputs[:n]
        ctx.save_for_backward(*rule.save(ctx.needs_input_grad[:n], tensors, output))
        ctx.sizes = _sizes(tensors)
        ctx.args = inputs[n]
        mark(ctx, output)
        return output

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Result) -> None:
        tensors = inputs[:n]
        saved = rule.save((True,) * n, tensors, output)
        ctx.save_for_backward(*saved)
        ctx.save_for_forward(*saved)
        ctx.sizes = _sizes(tensors)
        ctx.args = inputs[n]
        mark(ctx, output)

    def jvp(ctx: Any, *tangents: Any) -> Any:
        tangent = rule.jvp(ctx.saved_tensors, ctx.args, tangents[:n])
        if not rule.integer_outputs:
            return tangent
        return (tangent, *(None for _ in rule.integer_outputs))

    def vmap(info: Any, in_dims: Any, *inputs: Any) -> tuple[Result, Any]:
        return rule.vmap(info.batch_size, tuple(in_dims[:n]), inputs[:n], inputs[n])

    name = op._opname
    eager: Any = type(
        f"{name}_eager",
        (Function,),
        {"forward": staticmethod(eager_forward), "backward": staticmethod(backward)},
    )
    transformed: Any = type(
        f"{name}_transformed",
        (Function,),
        {
            "forward": staticmethod(below_autograd),
            "setup_context": staticmethod(setup_context),
            "backward": staticmethod(backward),
            "jvp": staticmethod(jvp),
            "vmap": staticmethod(vmap),
        },
    )
    # Function.apply without its Python part, which serves functorch only.
    apply = super(Function, eager).apply

    def call(*inputs: Any) -> Result:
        if torch.compiler.is_compiling():
            return op(*inputs[:n], *inputs[n])
        if _functorch_active() or forward_ad._current_level >= 0:
            return transformed.apply(*inputs)
        if torch.is_grad_enabled() and _any_requires_grad(*inputs[:n]):
            return apply(*inputs)
        with _BelowAutograd():
            return run(*inputs[:n], *inputs[n])

    call.__name__ = call.__qualname__ = name
    rule.call = call
    return call


def transforms_active() -> bool:
    """Whether torch.func or forward-mode AD is at work around the caller."""
    return _functorch_active() or forward_ad._current_level >= 0
