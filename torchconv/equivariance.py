"""How far a function is from moving with its input, or from not noticing that it moves."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["equivariance_error", "invariance_curve"]

Shift = TypeVar("Shift", int, tuple[int, ...])
Function = Callable[[Tensor], Tensor]


def _steps(shift: int | Sequence[int], nd: int) -> tuple[int, ...]:
    """Steps along each spatial dimension; an int moves along the last."""
    steps = (*[0] * (nd - 1), shift) if isinstance(shift, int) else tuple(shift)
    if len(steps) != nd:
        raise ValueError(
            f"shifts should be ints or tuples of {nd} ints, one for each spatial "
            f"dimension of x, but got {shift!r}"
        )
    return steps


def _roll(x: Tensor, steps: Sequence[int]) -> Tensor:
    return torch.roll(x, tuple(steps), tuple(range(-len(steps), 0)))


def _check(x: Tensor) -> int:
    nd = x.dim() - 2
    if nd < 1:
        raise ValueError(f"x should be (N, C, *spatial), but got size {list(x.shape)}")
    return nd


def _relative(change: Tensor, size: Tensor) -> float:
    """|change| / |size|; 0 where nothing changed, infinite where size is 0."""
    norm = torch.linalg.vector_norm(change.double()).item()
    whole = torch.linalg.vector_norm(size.double()).item()
    if whole == 0:
        return math.inf if norm else 0.0
    return norm / whole


@torch.no_grad()
def equivariance_error(
    fn: Function, x: Tensor, shifts: Iterable[Shift], *, interior: int = 0
) -> dict[Shift, float]:
    """How far fn is from commuting with shifts of its input: 0 for f(g(x)) = g(f(x)).

    The error is |f(g(x)) - g(f(x))| / |f(x)|, where g moves by a number of steps and what
    leaves on one side comes in on the other (torch.roll). A function that strides by r has
    outputs r steps apart: for shifts that r does not divide, outputs are repeated r times
    and compared at the input's resolution (Zhang, "Making convolutional networks
    shift-invariant again", arXiv:1904.11486, section 3.2).

    Args:
        fn: from (N, C, *spatial) to (N, K, *out). r is size / out, rounded, for each
            dimension.
        x: the input.
        shifts: steps along each spatial dimension; an int moves along the last.
        interior: leaves out that many steps at every border, where a function that pads
            with zeros, or not at all, cannot be equivariant; at least the shift and the
            reach of the function.

    Returns:
        {shift: relative error}.

    Raises:
        ValueError: x without spatial dimensions; a shift of another number of steps; an
            interior that leaves nothing.
    """
    nd = _check(x)
    y = fn(x)
    if y.dim() != x.dim():
        raise ValueError(
            f"fn should return as many dimensions as x has, {x.dim()}, but returned size "
            f"{list(y.shape)}; for functions without positions see invariance_curve"
        )
    ratios = [max(round(n / m), 1) for n, m in zip(x.shape[2:], y.shape[2:])]
    result: dict[Shift, float] = {}
    for shift in shifts:
        steps = _steps(shift, nd)
        after, before = fn(_roll(x, steps)), y
        repeats = []
        for d, (step, ratio) in enumerate(zip(steps, ratios)):
            repeat = 1 if step % ratio == 0 else ratio
            repeats.append(repeat)
            after = after.repeat_interleave(repeat, 2 + d)
            before = before.repeat_interleave(repeat, 2 + d)
        moved = _roll(before, [s * k // r for s, k, r in zip(steps, repeats, ratios)])
        at: list[slice] = []
        for n, k, r in zip(moved.shape[2:], repeats, ratios):
            cut = -(-interior * k // r)
            if 2 * cut >= n:
                raise ValueError(f"interior={interior} leaves nothing to compare")
            at.append(slice(cut, n - cut))
        inside = (slice(None), slice(None), *at)
        result[shift] = _relative((after - moved)[inside], moved[inside])
    return result


@torch.no_grad()
def invariance_curve(
    fn: Function, x: Tensor, shifts: Iterable[Shift]
) -> dict[Shift, float]:
    """How much fn notices that its input moves: |f(g(x)) - f(x)| / |f(x)| by shift.

    Args:
        fn: any function of (N, C, *spatial).
        x: the input, which moves by torch.roll.
        shifts: steps along each spatial dimension; an int moves along the last.

    Returns:
        {shift: relative change}, 0 for an invariant function.

    Raises:
        ValueError: x without spatial dimensions; a shift of another number of steps.
    """
    nd = _check(x)
    y = fn(x)
    return {
        shift: _relative(fn(_roll(x, _steps(shift, nd))) - y, y) for shift in shifts
    }
