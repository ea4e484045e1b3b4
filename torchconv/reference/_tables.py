"""Indices and tables of Python numbers: what every definition is written in."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

Index = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]
Ints = int | Sequence[int]
# int, float or complex, with one name: Python's typing has no better one.
Number = Any


# -- indices: written once, for every operator and every rank -------------------


def positions(*sizes: int) -> Iterator[Index]:
    """All index tuples of an array with these sizes, in row-major order."""
    return itertools.product(*map(range, sizes))


def across(formula: Callable[..., int], *options: Sequence[Any]) -> Index:
    """The formula for each spatial dimension, from the options of that dimension."""
    return tuple(formula(*one) for one in zip(*options, strict=True))


def taps(
    out: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    low: Sequence[int],
) -> Iterator[tuple[Index, Index, Index]]:
    """Every (output position o, tap t, coordinate p = o*stride + t*dilation - low).

    p is a coordinate of the input, and may lie outside of it, in the padding.
    """
    for o in positions(*out):
        for t in positions(*kernel):
            at = zip(o, stride, t, dilation, low, strict=True)
            yield o, t, tuple(oi * s + ti * d - lo for oi, s, ti, d, lo in at)


def source(p: Index, size: Sequence[int], mode: str = "zeros") -> Index | None:
    """Where the padded input at coordinate p is read from; None where it is a zero."""
    found = []
    for i, n in zip(p, size, strict=True):
        if not 0 <= i < n:
            if mode == "zeros":
                return None
            if mode == "replicate":
                i = 0 if i < 0 else n - 1
            elif mode == "circular":
                i = i % n
            else:
                assert mode == "reflect", f"unknown padding_mode {mode!r}"
                i = -i if i < 0 else 2 * (n - 1) - i
        found.append(i)
    return tuple(found)


def each(value: Ints, nd: int) -> Index:
    """An option as one number per spatial dimension."""
    return (value,) * nd if isinstance(value, int) else tuple(value)


def padding_pairs(
    padding: str | Ints | Sequence[tuple[int, int]], kernel: Index, dilation: Index
) -> Pairs:
    """Padding as one (low, high) per dimension.

    With reach = dilation * (kernel - 1), what a window covers beyond its first tap:
    "valid" pads nothing; "same" pads reach in all, the odd one high, so that stride 1
    keeps the size; "full" pads reach on both sides; "causal" pads reach low, so that
    an output sees no later input.
    """
    reach = across(lambda d, k: d * (k - 1), dilation, kernel)
    if padding == "valid":
        return tuple((0, 0) for _ in reach)
    if padding == "same":
        return tuple((r // 2, r - r // 2) for r in reach)
    if padding == "full":
        return tuple((r, r) for r in reach)
    if padding == "causal":
        return tuple((r, 0) for r in reach)
    assert not isinstance(padding, str), f"unknown padding {padding!r}"
    per_dim = (padding,) * len(kernel) if isinstance(padding, int) else padding
    return tuple((p, p) if isinstance(p, int) else (p[0], p[1]) for p in per_dim)


def conv_output_size(
    size: Sequence[int], kernel: Index, stride: Index, pads: Pairs, dilation: Index
) -> Index:
    """floor((size + low + high - dilation * (kernel - 1) - 1) / stride) + 1."""
    return across(
        lambda n, k, s, pad, d: (n + sum(pad) - d * (k - 1) - 1) // s + 1,
        *(size, kernel, stride, pads, dilation),
    )


def pool_output_size(
    size: Sequence[int],
    kernel: Index,
    stride: Index,
    padding: Index,
    dilation: Index,
    ceil_mode: bool,
) -> Index:
    """As a convolution's; ceil_mode rounds up, but drops a window that would start
    beyond the input and its low padding."""

    def count(n: int, k: int, s: int, p: int, d: int) -> int:
        room = n + 2 * p - d * (k - 1) - 1
        if not ceil_mode:
            return room // s + 1
        last = -(room // -s)
        return last if last * s >= n + p else last + 1

    return across(count, size, kernel, stride, padding, dilation)


def flat_index(i: Index, size: Sequence[int]) -> int:
    """The row-major number of position i in a plane."""
    number = 0
    for at, n in zip(i, size, strict=True):
        number = number * n + at
    return number


# -- tensors as tables of Python numbers -----------------------------------------


def table(x: Tensor) -> dict[Index, Number]:
    """{index: value} of a tensor, values as Python numbers."""
    return dict(zip(positions(*x.shape), x.detach().reshape(-1).tolist(), strict=True))


def zeros(*sizes: int) -> dict[Index, Number]:
    """A table of integer zeros, which take the type of what is added to them."""
    return dict.fromkeys(positions(*sizes), 0)


def tensor(values: dict[Index, Number], sizes: Sequence[int], like: Tensor) -> Tensor:
    """A table as a tensor in the widest dtype of the kind of `like`."""
    dtype = torch.int64
    if like.dtype.is_complex:
        dtype = torch.complex128
    elif like.dtype.is_floating_point:
        dtype = torch.float64
    flat = [values[i] for i in positions(*sizes)]
    return torch.tensor(flat, dtype=dtype).reshape(tuple(sizes))
