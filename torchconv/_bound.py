"""Operators that eager calls keep with the arguments that follow their tensors.

Carrying lists through the dispatcher takes longer than a small pooling. The binary
therefore reads the arguments of an operator once; the operators ``bound`` and
``bound_pair`` take the tensors and a number. Compiled and traced programs never see them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from . import _extension, _ops

# About one per layer and input size.
_KEPT = 8192

dispatch_modes = torch._C._len_torch_dispatch_stack
BelowAutograd = torch._C._AutoDispatchBelowAutograd

ORDINARY = frozenset({Tensor, torch.nn.Parameter})
"""Types of tensors for which an operator may be replaced by a faster call of the same:
subclasses, like modes, are to see the operator itself."""

# Keeps the registrations below alive.
_library = torch.library.Library("torchconv", "IMPL")


def below_autograd(op: Any) -> Any:
    """The function behind an operator that is called only where no gradient is wanted."""
    if not isinstance(op, torch._ops.OpOverload):
        return op
    _library.impl(op._opname, torch.library.fallthrough_kernel, "Autograd")
    return op._op


_run_one = below_autograd(_ops.bound)
_run_pair = below_autograd(_ops.bound_pair)


class Bound(tuple[Any, ...]):
    """The arguments that follow an operator's tensors, for tensors on the CPU, with what
    the binary made of them."""

    ids: dict[str, int]
    """Numbers for ``bound`` or ``bound_pair``, by the operator's name."""

    ops: list[Any]
    """The binary's objects, which keep those numbers valid."""

    adjoint: Bound | None
    """The arguments of the operator's gradient, of the last size that was asked for."""

    def __init__(self, args: Any) -> None:
        """``args`` with nothing made of them yet."""
        self.ids, self.ops, self.adjoint = {}, [], None

    def __reduce__(self) -> Any:
        """Numbers are those of one process: others get the arguments alone."""
        return tuple, (tuple(self),)


_bound = lru_cache(maxsize=_KEPT)(Bound)


def with_size(args: Any, size: Any, make: Callable[[Any, Any], Any]) -> Any:
    """``make(size, args)``: the arguments of a gradient of such size. Made once and kept,
    if ``args`` are."""
    if type(args) is not Bound:
        return make(size, args)
    found = args.adjoint
    if found is None or found[0] != size:
        found = args.adjoint = Bound(make(size, args))
    return found


def _bind(name: str, args: Bound) -> int:
    op = _extension.binary().bind_op(name, tuple(args))
    args.ops.append(op)
    args.ids[name] = op.id
    return op.id


def eager(op: Any) -> Callable[..., Any]:
    """An operator below the autograd keys, as a function of its tensors (up to three) and
    the tuple of its other arguments, for eager calls that want no gradient and that no
    tracer sees."""
    if not isinstance(op, torch._ops.OpOverload):
        return lambda *inputs: op()
    run, name = op._op, op._opname
    tensors = sum(isinstance(a.type, torch.TensorType) for a in op._schema.arguments)
    pair = len(op._schema.returns) == 2
    run_bound = _run_pair if pair else _run_one
    # The tensors that the operator lacks.
    missing = (None,) * ((2 if pair else 3) - tensors)

    def below(*inputs: Any) -> Any:
        with BelowAutograd():
            return run(*inputs[:-1], *inputs[-1])

    def number(args: Any, first: Tensor) -> int | None:
        """What args that were not bound to this operator yet are bound to now, if they
        and the tensor's device allow it."""
        if type(args) is not Bound:
            if not first.is_cpu:
                return None
            # A caller of the operator itself may have given lists or symbols: no keys.
            with suppress(TypeError):
                args = _bound(args)
            if type(args) is not Bound:
                return None
        known = args.ids.get(name)
        return _bind(name, args) if known is None else known

    # Written out for one, two and three tensors: a loop takes as long as the rest.

    def call_one(first: Tensor, args: Any) -> Any:
        if type(first) in ORDINARY and not dispatch_modes():
            found = args.ids.get(name) if type(args) is Bound else None
            if found is None:
                found = number(args, first)
            if found is not None:
                return run_bound(first, *missing, found)
        return below(first, args)

    def call_two(first: Tensor, second: Tensor, args: Any) -> Any:
        if (
            type(first) in ORDINARY
            and type(second) in ORDINARY
            and not dispatch_modes()
        ):
            found = args.ids.get(name) if type(args) is Bound else None
            if found is None:
                found = number(args, first)
            if found is not None:
                return run_bound(first, second, *missing, found)
        return below(first, second, args)

    def call_three(first: Tensor, second: Tensor, third: Tensor, args: Any) -> Any:
        if (
            type(first) in ORDINARY
            and type(second) in ORDINARY
            and type(third) in ORDINARY
            and not dispatch_modes()
        ):
            found = number(args, first)
            if found is not None:
                return run_bound(first, second, third, found)
        return below(first, second, third, args)

    return (call_one, call_two, call_three)[tensors - 1]
