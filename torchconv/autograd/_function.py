"""How one derivative rule serves every way to differentiate.

A :class:`Rule` states an operator's derivatives once. :func:`differentiable` makes of it

* a kernel for the dispatcher's autograd key, which torch.compile, torch.export, torch.func
  and forward-mode AD find. It is a ``Function`` of a single level: when transforms of
  torch.func are nested, the dispatcher calls it once for each of them;
* a rule for vmap;
* a plain ``autograd.Function`` for eager backward, with a shorter call path;

and returns the function that takes the right way. Without gradients that calls the
operator below the autograd keys, because a Python kernel there costs more than a small
convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._functorch import autograd_function
from torch.autograd import Function, forward_ad
from torch.autograd.function import _SingleLevelFunction

from .._bound import BelowAutograd

# Keeps the registrations below alive.
_library = torch.library.Library("torchconv", "IMPL")

_is_compiling = torch.compiler.is_compiling
_is_grad_enabled = torch.is_grad_enabled
_is_tracing = torch._C._is_tracing
_any_requires_grad = torch._C._any_requires_grad
_allow_single_level = autograd_function.enable_single_level_autograd_function  # type: ignore[attr-defined]
_after_autograd = torch._C._after_autograd_keyset
_will_execute = torch._C._will_engine_execute_node
_functorch_active = torch._C._are_functorch_transforms_active

# Multiply-adds of a gradient, about: half a percent of a core's time for three.
_WORTH_ASKING = 100_000_000

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

    def save_with(
        self, needs: Needs, tensors: Tensors, args: Any, output: Any
    ) -> Tensors:
        """The same, for operators whose other arguments decide."""
        return self.save(needs, tensors, output)

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


class Recording(NamedTuple):
    """How an operator of one tensor and one result is called where a gradient will be
    wanted, if not by calling it and saving what its rule says. All are functions of
    (tensor, args)."""

    compute: Callable[..., tuple[Tensor, Tensor]]
    """Below the autograd keys: the result, and a tensor to save."""
    rule: Rule
    """Whose backward reads that tensor."""
    in_graph: Callable[..., Tensor]
    """For graphs and transforms, which record by themselves."""


def differentiable(
    op: Any,
    rule: Rule,
    eager: Callable[[Any], Callable[..., Result]] | None = None,
    recording: Recording | None = None,
) -> Callable[..., Result]:
    """The operator as a function of (*tensors, args) that can be differentiated.

    Args:
        op: an overload (``torch.ops.torchconv.<name>.default``); anything else stands for
            an operator that the binary lacks, and is returned behind the same signature.
        rule: its derivatives.
        eager: makes of op the function of (*tensors, args) that eager calls without
            gradients use; by default the operator below the autograd keys.
        recording: what to do instead where a gradient will be wanted.
    """
    n = rule.tensors

    if not isinstance(op, torch._ops.OpOverload):
        return lambda *inputs: op()

    run = op._op
    everything = (True,) * n

    def run_below(*inputs: Any) -> Result:
        with BelowAutograd():
            return run(*inputs[:n], *inputs[n])

    compute = run_below if eager is None else eager(op)

    # What rules that save nothing are spared.
    saves = (type(rule).save, type(rule).save_with) != (Rule.save, Rule.save_with)

    def record(ctx: Any, needs: Needs, inputs: Any, output: Result) -> Tensors:
        """Fills ctx for backward and jvp; returns the saved tensors."""
        saved: Tensors = ()
        if saves:
            saved = rule.save_with(needs, inputs[:n], inputs[n], output)
            ctx.save_for_backward(*saved)
        ctx.sizes = tuple([None if t is None else t.shape for t in inputs[:n]])
        ctx.args = inputs[n]
        ctx.set_materialize_grads(False)
        if rule.integer_outputs:
            ctx.mark_non_differentiable(*(output[i] for i in rule.integer_outputs))
        return saved

    def level_backward(ctx: Any, *grads: Tensor | None) -> Tensors:
        grad, needs = grads[0], ctx.needs_input_grad[:n]
        if grad is None:
            return (None,) * (n + 2)
        saved = ctx.saved_tensors
        gradients = rule.backward(needs, saved, ctx.sizes, ctx.args, grad)
        return (*gradients, None, None)

    eager_rule = rule if recording is None else recording.rule

    def eager_backward(ctx: Any, *grads: Tensor | None) -> Tensors:
        grad = grads[0]
        if grad is None:
            return (None,) * (n + 1)
        needs = ctx.needs_input_grad[:n]
        if n > 1:
            needs = _wanted(ctx, needs)
        saved = ctx.saved_tensors
        gradients = eager_rule.backward(needs, saved, ctx.sizes, ctx.args, grad)
        return (*gradients, None)

    # Written out for one tensor and one result, here as below: what small poolings call
    # takes less than what would be done about other numbers.
    def eager_backward_one(ctx: Any, grad: Tensor | None) -> Tensors:
        if grad is None:
            return None, None
        saved = ctx.saved_tensors
        gradients = eager_rule.backward(everything, saved, ctx.sizes, ctx.args, grad)
        return gradients[0], None

    def jvp(ctx: Any, *tangents: Any) -> Any:
        tangent = rule.jvp(ctx.saved_tensors, ctx.args, tangents[:n])
        if not rule.integer_outputs:
            return tangent
        return (tangent, *(None for _ in rule.integer_outputs))

    def eager_forward(ctx: Any, *inputs: Any) -> Result:
        output = compute(*inputs)
        record(ctx, ctx.needs_input_grad[:n], inputs, output)
        return output

    def eager_forward_one(ctx: Any, x: Tensor, args: Any) -> Result:
        output = compute(x, args)
        if saves:
            ctx.save_for_backward(*rule.save_with(everything, (x,), args, output))
        ctx.sizes = (x.shape,)
        ctx.args = args
        ctx.set_materialize_grads(False)
        return output

    def recording_forward(ctx: Any, x: Tensor, args: Any) -> Tensor:
        output, saved = given(recording).compute(x, args)
        ctx.save_for_backward(saved)
        ctx.sizes = (x.shape,)
        ctx.args = args
        ctx.set_materialize_grads(False)
        return output

    def level_forward(ctx: Any, *inputs: Any) -> Result:
        keys = inputs[-1] & _after_autograd
        needs = ctx.needs_input_grad[:n]
        if not transforms_active():
            output = op.redispatch(keys, *inputs[:n], *inputs[n])
            record(ctx, needs, inputs, output)
            return output
        # Function switches gradients off, which the levels below this one may want.
        with torch.enable_grad(), forward_ad._set_fwd_grad_enabled(True):
            output = op.redispatch(keys, *inputs[:n], *inputs[n])
        ctx.save_for_forward(*record(ctx, everything, inputs, output))
        return output

    name = op._opname
    one = n == 1 and not rule.integer_outputs
    forward = eager_forward_one if one else eager_forward
    backward = eager_backward_one if one else eager_backward
    eager_function: Any = type(
        f"{name}_eager",
        (Function,),
        {
            "forward": staticmethod(
                forward if recording is None else recording_forward
            ),
            "backward": staticmethod(backward),
            # torch asks for it in every call; a miss costs half a microsecond.
            "boxed_grads_call": False,
        },
    )
    # What a node calls, in the place of torch's function that looks backward up.
    eager_function._backward_cls.apply = backward
    level: Any = type(
        f"{name}_level",
        (_SingleLevelFunction,),
        {
            "forward": staticmethod(level_forward),
            "backward": staticmethod(level_backward),
            "jvp": staticmethod(jvp),
        },
    )
    # Function.apply without its Python part, which serves torch.func only.
    apply_eager = super(Function, eager_function).apply

    def autograd_kernel(keys: Any, *flat: Any) -> Result:
        with _allow_single_level():
            return level.apply(*flat[:n], flat[n:], keys)

    def vmap(info: Any, in_dims: Any, *flat: Any) -> tuple[Result, Any]:
        return rule.vmap(info.batch_size, tuple(in_dims[:n]), flat[:n], flat[n:])

    _library.impl(name, autograd_kernel, "Autograd", with_keyset=True)
    torch.library.register_vmap(op, vmap, lib=_library)

    def operator(*inputs: Any) -> Result:
        return op(*inputs[:n], *inputs[n])

    in_graph = operator if recording is None else recording.in_graph

    # Written out for one and two tensors: taking tuples apart costs as much as the rest.
    def call_one(x: Tensor, args: Any) -> Result:
        if (
            _is_compiling()
            or _functorch_active()
            or forward_ad._current_level >= 0
            or _is_tracing()
        ):
            return in_graph(x, args)
        if _is_grad_enabled() and x.requires_grad:
            return apply_eager(x, args)
        return compute(x, args)

    def call_two(first: Tensor, second: Tensor, args: Any) -> Result:
        if (
            _is_compiling()
            or _functorch_active()
            or forward_ad._current_level >= 0
            or _is_tracing()
        ):
            return in_graph(first, second, args)
        if _is_grad_enabled() and (first.requires_grad or second.requires_grad):
            return apply_eager(first, second, args)
        return compute(first, second, args)

    def call_any(*inputs: Any) -> Result:
        # Graphs hold the operator, not a Python function.
        if _is_compiling() or transforms_active() or _is_tracing():
            return in_graph(*inputs)
        if _is_grad_enabled() and _any_requires_grad(*inputs[:n]):
            return apply_eager(*inputs)
        return compute(*inputs)

    call: Any = {1: call_one, 2: call_two}.get(n, call_any)

    call.__name__ = call.__qualname__ = name
    rule.call = call
    return call


def _wanted(ctx: Any, needs: Needs) -> Needs:
    """Which of the gradients that could be asked for the running backward pass uses.

    torch.autograd.grad(y, x) leaves that of a weight out, although it requires one. torch's
    own operators see that; a Function's needs_input_grad does not tell. Asking takes up to
    60 us, because torch answers for leaves by raising: as long as small gradients do.
    """
    if sum(needs) < 2:
        return needs
    first, second = ctx.sizes[0], ctx.sizes[1]
    # Each position meets the weights of its channel.
    if first.numel() * second.numel() < _WORTH_ASKING * max(first[1], 1):
        return needs
    sizes = ctx.sizes
    nodes = iter(ctx.next_functions)  # one for each argument that is a tensor
    wanted = tuple(
        size is not None and _executes(next(nodes)[0]) and need
        for size, need in zip(sizes, needs)
    )
    # None at all: somebody runs this node by hand within another pass.
    return wanted if any(wanted) else needs


def _executes(node: Any) -> bool:
    if node is None:
        return False
    try:
        return _will_execute(node)
    except RuntimeError:
        # A leaf whose gradient autograd.grad asks for, says torch by this error.
        return True


def transforms_active() -> bool:
    """Whether torch.func or forward-mode AD is at work around the caller."""
    return _functorch_active() or forward_ad._current_level >= 0
