"""Windows for poolings that are written in torch: their arguments and their taps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from .._args import FLOATING, check_dtype
from .._conv_args import Spec
from .._pool_args import max_pool_plan, pool_output_size
from ._common import cached, describe


class Windows(NamedTuple):
    """unbatched: the input lacks the batch dimension. pads: (low, high) in front of and
    behind each dimension, what ceil_mode adds included."""

    unbatched: bool
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    out: tuple[int, ...]


def windows_plan(
    name: str,
    nd: int,
    x: Spec,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
) -> Windows:
    """Checks the arguments as max pooling's; floating point only."""
    plan = max_pool_plan(name, nd, x, kernel_size, stride, padding, 1, ceil_mode)
    check_dtype(name, x.dtype, FLOATING)
    kernel, steps, low = plan.args[:3]
    sizes = tuple(x.size[-nd:])
    out = tuple(
        pool_output_size(n, k, s, p, 1, ceil_mode)
        for n, k, s, p in zip(sizes, kernel, steps, low)
    )
    pads = tuple(
        (p, max((o - 1) * s + k - n - p, 0))
        for n, k, s, p, o in zip(sizes, kernel, steps, low, out)
    )
    return Windows(plan.unbatched, kernel, steps, pads, out)


_plan = cached(windows_plan, 2, 2)


def windows_of(
    name: str,
    nd: int,
    x: Tensor,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
) -> Windows:
    """The windows of a pooling of x, its arguments checked."""
    described = describe(name, "input", x)
    return _plan(name, nd, described, kernel_size, stride, padding, bool(ceil_mode))


def padded(x: Tensor, windows: Windows, value: float) -> Tensor:
    """x with value in its padding; x itself if there is none."""
    flat = [p for pair in reversed(windows.pads) for p in pair]
    return pad(x, flat, value=value) if any(flat) else x


def taps(x: Tensor, windows: Windows) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """(tap, view of the padded x that has this tap of every window)."""
    for tap in itertools.product(*map(range, windows.kernel)):
        at: Any = tuple(
            slice(t, t + (o - 1) * s + 1, s)
            for t, o, s in zip(tap, windows.out, windows.stride)
        )
        yield tap, x[(..., *at)]


def unfolded(x: Tensor, windows: Windows) -> Tensor:
    """A view (*, *out, *kernel) of the padded x."""
    first = x.dim() - len(windows.kernel)
    for d, (k, s) in enumerate(zip(windows.kernel, windows.stride)):
        x = x.unfold(first + d, k, s)
    return x


def counts(x: Tensor, windows: Windows) -> Tensor:
    """(*out): how many positions of each window are inside the input."""
    total = x.new_ones(())
    sizes = x.shape[x.dim() - len(windows.kernel) :]
    for n, k, s, (low, _), o in zip(
        sizes, windows.kernel, windows.stride, windows.pads, windows.out
    ):
        first = torch.arange(o, device=x.device) * s - low
        inside = (first + k).clamp(max=n) - first.clamp(min=0)
        total = total.unsqueeze(-1) * inside.to(x.dtype)
    return total


def per_channel(value: Any, x: Tensor, nd: int) -> Any:
    """A tensor (C,) shaped to go with (*, C, *spatial); everything else as it is."""
    if isinstance(value, Tensor) and value.dim() == 1:
        return value.reshape(-1, *[1] * nd)
    return value


def flat_positions(
    firsts: Sequence[Tensor], sizes: Sequence[int], tap: Sequence[int]
) -> Tensor:
    """(*out): the flat position in the input's plane of a tap of every window, each
    dimension kept inside. firsts: where windows begin, along each dimension."""
    index = torch.zeros((), dtype=torch.int64, device=firsts[0].device)
    for first, n, t in zip(firsts, sizes, tap):
        index = index.unsqueeze(-1) * n + (first + t).clamp(0, n - 1)
    return index
