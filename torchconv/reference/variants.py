"""Poolings that torch lacks: each window by itself, as a list of Python numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor

from ._tables import Index, Ints, Number, each, positions, source, table, tensor
from .pooling import outer_size, pool_windows


def windowed(
    x: Tensor,
    formula: Callable[[list[Number]], Number],
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
) -> Tensor:
    """The formula of the values of each window that are inside the input."""
    nd = x.dim() - 2
    kernel, pad = each(kernel_size, nd), each(padding, nd)
    steps = kernel if stride is None else each(stride, nd)
    size = x.shape[2:]
    windows = pool_windows(size, kernel, steps, pad, (1,) * nd, ceil_mode)
    xs, y = table(x), {}
    shape = (*x.shape[:2], *outer_size(windows))
    for n, c in positions(*x.shape[:2]):
        for o, window in windows.items():
            inside = [i for i in window if source(i, size) is not None]
            y[(n, c, *o)] = formula([xs[(n, c, *i)] for i in inside])
    return tensor(y, shape, x)


def lse(values: Sequence[Number], sharpness: float) -> Number:
    """log(mean(exp(r x))) / r, the largest taken off before."""
    top = max(values)
    mean = sum(math.exp(sharpness * (v - top)) for v in values) / len(values)
    return top + math.log(mean) / sharpness


def mixed(values: Sequence[Number], alpha: float) -> Number:
    """alpha * max + (1 - alpha) * mean."""
    return alpha * max(values) + (1 - alpha) * sum(values) / len(values)


def norm(values: Sequence[Number], p: float) -> Number:
    """(sum of |x|^p)^(1/p)."""
    return sum(abs(v) ** p for v in values if v) ** (1 / p)


def mean_of_numbers(values: Sequence[Number]) -> Number:
    """The mean of what is not NaN; NaN if there is nothing else."""
    numbers = [v for v in values if not math.isnan(v)]
    return sum(numbers) / len(numbers) if numbers else math.nan


def median(values: Sequence[Number]) -> Number:
    """The middle value, the lower of two; NaN if there is one."""
    if any(math.isnan(v) for v in values):
        return math.nan
    return sorted(values)[(len(values) - 1) // 2]


def expected_activation(values: Sequence[Number]) -> Number:
    """Stochastic pooling's mean: sum(a^2) / sum(a) over the positive values a."""
    positive = [v for v in values if v > 0]
    return sum(v * v for v in positive) / sum(positive) if positive else 0.0


def drawn_activation(values: Sequence[Number], u: float) -> Number:
    """The first positive value at which the running sum of them passes u times their
    total; the last one if rounding leaves none."""
    positive = [v for v in values if v > 0]
    if not positive:
        return 0.0
    running, total = 0.0, sum(positive)
    for v in positive:
        running += v
        if running > u * total:
            return v
    return positive[-1]


def binomial_filter(size: int, nd: int) -> dict[Index, float]:
    """{tap: coefficient}: those of (1 + x)^(size - 1) along each dimension, sum 1."""
    row = [math.comb(size - 1, i) / 2 ** (size - 1) for i in range(size)]
    return {t: math.prod(row[i] for i in t) for t in positions(*(size,) * nd)}
