"""Convolutions that eager calls keep prepared.

Carrying lists and strings through the dispatcher takes longer than a small convolution.
What follows from sizes, strides and arguments alone is therefore made once: the binary
keeps the problem with the planner's choice, and the operator ``conv_prepared`` takes the
tensors and a number. Compiled and traced programs never see that operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from . import _extension, _ops
from ._bound import ORDINARY, BelowAutograd, below_autograd, dispatch_modes

# About one per layer, pass and input size.
_KEPT = 8192

_run_prepared = below_autograd(_ops.conv_prepared)


class Args(tuple[Any, ...]):
    """The arguments of a convolution operator that follow its tensors, prepared for
    tensors of certain sizes and strides. Other strides are computed correctly too, only
    not as fast; other sizes are refused."""

    convolution: Any
    """The binary's object, which keeps ``id`` valid."""

    id: int


class FrozenWeight(Tensor):
    """A weight that nobody changes any more, so that it is kept packed.

    A view of the tensor that holds it (``tensor.as_subclass(FrozenWeight)``): the packed
    forms go with the view.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    of: Tensor
    """The tensor that this is a view of."""
    packed: dict[int, Args]
    """The calls prepared for this weight alone, by the number of those prepared for all
    weights of its size."""

    def __deepcopy__(self, memo: Any) -> None:
        """Packed forms are not copied, but made again."""


@lru_cache(maxsize=_KEPT)
def prepare(
    pass_name: str,
    first_size: Sequence[int],
    first_stride: Sequence[int],
    second_size: Sequence[int],
    second_stride: Sequence[int],
    dtype: torch.dtype,
    args: tuple[Any, ...],
) -> tuple[Any, ...]:
    """``args`` as Args; unchanged, if no algorithm takes the problem: the operator then
    says why."""
    result = () if pass_name == "forward" else args[0]
    others = args if pass_name == "forward" else args[1:]
    try:
        convolution = _extension.binary().prepare_conv(
            pass_name,
            str(dtype).removeprefix("torch."),
            first_size,
            first_stride,
            second_size,
            second_stride,
            result,
            *others,
        )
    except (RuntimeError, ValueError):
        return args
    prepared = Args(args)
    prepared.convolution = convolution
    prepared.id = convolution.id
    return prepared


_WEIGHTS = ORDINARY | {FrozenWeight}

# Sizes of the input for which a weight is kept packed; the oldest is dropped.
_PACKED = 8


def _packed(pass_name: str, first: Tensor, weight: FrozenWeight, args: Args) -> Args:
    """args, prepared for weight alone and with its packed form."""
    kept = weight.packed.get(args.id)
    if kept is None:
        for oldest in list(weight.packed)[: 1 - _PACKED]:
            weight.packed.pop(oldest, None)
        own = prepare.__wrapped__(
            pass_name,
            first.shape,
            first.stride(),
            weight.shape,
            weight.stride(),
            first.dtype,
            tuple(args),
        )
        kept = own if type(own) is Args and _ops.conv_pack(weight, own.id) else args
        weight.packed[args.id] = kept
    return kept


def eager(pass_name: str, op: Any) -> Callable[..., Tensor]:
    """The operator of a pass below the autograd keys, as a function of its tensors and
    args, for eager calls that want no gradient and that no tracer sees.

    Args:
        pass_name: "forward", "input_grad" or "weight_grad".
        op: the operator's overload.
    """
    run = op._op

    def call(first: Tensor, second: Tensor, *rest: Any) -> Tensor:
        args = rest[-1]
        bias = rest[0] if len(rest) > 1 else None
        residual = rest[1] if len(rest) > 2 else None
        # Subclasses and modes are to see the operator itself.
        if (
            type(first) in ORDINARY
            and type(second) in _WEIGHTS
            and (residual is None or type(residual) in ORDINARY)
            and not dispatch_modes()
        ):
            if type(args) is not Args and first.is_cpu:
                # A caller of the operator itself may have given lists: no keys.
                with suppress(TypeError):
                    args = prepare(
                        pass_name,
                        first.shape,
                        first.stride(),
                        second.shape,
                        second.stride(),
                        first.dtype,
                        args,
                    )
            if type(args) is Args:
                if type(second) is FrozenWeight:
                    args = _packed(pass_name, first, second, args)
                return _run_prepared(first, second, bias, residual, args.id)
        with BelowAutograd():
            return run(first, second, *rest[:-1], *args)

    return call
