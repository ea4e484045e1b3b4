"""Pooling: a window is a list of input coordinates."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from ._tables import (
    Index,
    Ints,
    across,
    each,
    flat_index,
    pool_output_size,
    positions,
    source,
    table,
    taps,
    tensor,
    zeros,
)


def pool_windows(
    size: Sequence[int],
    kernel: Index,
    stride: Index,
    padding: Index,
    dilation: Index,
    ceil_mode: bool,
) -> dict[Index, list[Index]]:
    """{output position: coordinates of its window, padding included}."""
    out = pool_output_size(size, kernel, stride, padding, dilation, ceil_mode)
    windows: dict[Index, list[Index]] = {o: [] for o in positions(*out)}
    for o, _, p in taps(out, kernel, stride, dilation, padding):
        windows[o].append(p)
    return windows


def adaptive_windows(size: Sequence[int], out: Index) -> dict[Index, list[Index]]:
    """Output o of `out` covers floor(o*size/out) up to ceil((o+1)*size/out)."""
    spans = [
        [range(i * n // m, -((i + 1) * n // -m)) for i in range(m)]
        for n, m in zip(size, out, strict=True)
    ]
    return box_windows(spans)


def box_windows(spans: Sequence[Sequence[range]]) -> dict[Index, list[Index]]:
    """Windows that are boxes, from the ranges that outputs 0, 1, ... of each dimension
    cover."""
    return {
        o: list(itertools.product(*(one[i] for one, i in zip(spans, o, strict=True))))
        for o in positions(*map(len, spans))
    }


def outer_size(windows: dict[Index, list[Index]]) -> Index:
    """The output size of a set of windows."""
    return tuple(max(at) + 1 for at in zip(*windows, strict=True))


def max_over(x: Tensor, windows: dict[Index, list[Index]]) -> tuple[Tensor, Tensor]:
    """The largest value of each window and its flat index in the input's plane: the
    first among equals; a NaN wins, the last one among several. (-inf, -1) where a
    window has no position inside the input."""
    size = x.shape[2:]
    shape = (*x.shape[:2], *outer_size(windows))
    xs, y, index = table(x), {}, {}
    for n, c in positions(*x.shape[:2]):
        for o, window in windows.items():
            inside = [i for i in window if source(i, size) is not None]
            if not inside:  # a dilated window may step over a small input
                y[(n, c, *o)], index[(n, c, *o)] = -math.inf, -1
                continue
            best = inside[0]
            for i in inside[1:]:
                v = xs[(n, c, *i)]
                if v > xs[(n, c, *best)] or math.isnan(v):
                    best = i
            y[(n, c, *o)] = xs[(n, c, *best)]
            index[(n, c, *o)] = flat_index(best, size)
    return tensor(y, shape, x), tensor(index, shape, torch.empty(0, dtype=torch.int64))


def max_pool(
    x: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:
    """(max over each window, its flat index in the plane); padding never wins."""
    nd = x.dim() - 2
    kernel = each(kernel_size, nd)
    steps = kernel if stride is None else each(stride, nd)
    pad, spread = each(padding, nd), each(dilation, nd)
    windows = pool_windows(x.shape[2:], kernel, steps, pad, spread, ceil_mode)
    return max_over(x, windows)


def adaptive_max_pool(x: Tensor, output_size: Ints) -> tuple[Tensor, Tensor]:
    """(max over each adaptive window, its flat index in the plane)."""
    return max_over(x, adaptive_windows(x.shape[2:], each(output_size, x.dim() - 2)))


def fractional_starts(sample: Tensor, size: int, out: int, kernel: int) -> list[int]:
    """Where the windows of one dimension begin: floor((o + u) a) - floor(u a) with
    a = (size - kernel) / (out - 1), and the last at the end. u is the random sample;
    the arithmetic is in its dtype, since a rounding may move a window."""
    if out == 1:
        return [size - kernel]
    wide = torch.zeros((), dtype=sample.dtype)
    alpha = (wide + (size - kernel)) / (wide + (out - 1))
    starts = [int((sample + o) * alpha) - int(sample * alpha) for o in range(out - 1)]
    return [*starts, size - kernel]


def fractional_max_pool(
    x: Tensor, random_samples: Tensor, kernel_size: Ints, output_size: Ints
) -> tuple[Tensor, Tensor]:
    """(max, flat index) over windows at pseudo-random steps. random_samples is
    (N, C, nd) in [0, 1), for depth, height, width in 3-d but, as torch has it, for
    width and then height in 2-d."""
    nd = x.dim() - 2
    size, kernel, out = x.shape[2:], each(kernel_size, nd), each(output_size, nd)
    shape = (*x.shape[:2], *out)
    y, index = zeros(*shape), zeros(*shape)
    for n, c in positions(*x.shape[:2]):
        u = random_samples[n, c].flip(0) if nd == 2 else random_samples[n, c]
        starts = [
            fractional_starts(*one) for one in zip(u, size, out, kernel, strict=True)
        ]
        windows = box_windows(
            [
                [range(i, i + k) for i in one]
                for one, k in zip(starts, kernel, strict=True)
            ]
        )
        value, at = max_over(x[n : n + 1, c : c + 1], windows)
        for o in positions(*out):
            y[(n, c, *o)] = value[(0, 0, *o)].item()
            index[(n, c, *o)] = at[(0, 0, *o)].item()
    return tensor(y, shape, x), tensor(index, shape, torch.empty(0, dtype=torch.int64))


def maxout(x: Tensor, k: int) -> Tensor:
    """max over every k consecutive channels; a NaN wins."""
    shape = (x.shape[0], x.shape[1] // k, *x.shape[2:])
    xs, y = table(x), {}
    for n, c, *i in positions(*shape):
        group = [xs[(n, c * k + j, *i)] for j in range(k)]
        y[(n, c, *i)] = math.nan if any(map(math.isnan, group)) else max(group)
    return tensor(y, shape, x)


def max_unpool(x: Tensor, indices: Tensor, output_size: Sequence[int]) -> Tensor:
    """Zeros of the spatial output_size with x at the flat indices; where several meet,
    the last in row-major order stays."""
    shape = (*x.shape[:2], *output_size)
    plane = list(positions(*output_size))
    xs, y = table(x), zeros(*shape)
    for index, at in table(indices).items():
        y[(*index[:2], *plane[at])] = xs[index]
    return tensor(y, shape, x)


def avg_pool(
    x: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The sum of each window over divisor_override, or over the number of its
    positions inside the input (inside the padded input with count_include_pad; what
    ceil_mode adds beyond the padding never counts). Integers round towards zero."""
    nd = x.dim() - 2
    size, kernel, pad = x.shape[2:], each(kernel_size, nd), each(padding, nd)
    steps = kernel if stride is None else each(stride, nd)
    windows = pool_windows(size, kernel, steps, pad, (1,) * nd, ceil_mode)
    padded = across(lambda n, p: n + 2 * p, size, pad)
    shape = (*x.shape[:2], *outer_size(windows))
    xs, y = table(x), {}
    for o, window in windows.items():
        inside = [i for i in window if source(i, size) is not None]
        shifted = [across(operator.add, i, pad) for i in window]
        counted = [i for i in shifted if source(i, padded) is not None]
        divisor = divisor_override or len(counted if count_include_pad else inside)
        for n, c in positions(*x.shape[:2]):
            total = sum(xs[(n, c, *i)] for i in inside)
            if x.dtype.is_floating_point:
                y[(n, c, *o)] = total / divisor
            else:
                y[(n, c, *o)] = abs(total) // divisor * (-1 if total < 0 else 1)
    return tensor(y, shape, x)


def adaptive_avg_pool(x: Tensor, output_size: Ints) -> Tensor:
    """The mean of each adaptive window."""
    windows = adaptive_windows(x.shape[2:], each(output_size, x.dim() - 2))
    shape = (*x.shape[:2], *outer_size(windows))
    xs, y = table(x), {}
    for n, c in positions(*x.shape[:2]):
        for o, window in windows.items():
            y[(n, c, *o)] = sum(xs[(n, c, *i)] for i in window) / len(window)
    return tensor(y, shape, x)


def lp_pool(
    x: Tensor,
    norm_type: float,
    kernel_size: Ints,
    stride: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """(sum of x**p over each window) ** (1/p) with p = norm_type, the root of a negative
    sum being NaN. A window that ceil_mode cuts off is scaled up to the full window's
    number of positions. For p = inf it is the largest |x|, for -inf the smallest."""
    if math.isinf(norm_type):
        sign = math.copysign(1, norm_type)
        size = sign * x.abs()
        return sign * max_pool(size, kernel_size, stride, ceil_mode=ceil_mode)[0]

    def power(v: float, p: float) -> float:
        return v**p if v >= 0 or p == int(p) else math.nan

    powers = tensor({i: power(v, norm_type) for i, v in table(x).items()}, x.shape, x)
    mean = avg_pool(powers, kernel_size, stride, 0, ceil_mode)
    count = math.prod(each(kernel_size, x.dim() - 2))
    y = {i: power(v * count, 1.0 / norm_type) for i, v in table(mean).items()}
    return tensor(y, mean.shape, x)
