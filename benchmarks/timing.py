"""Times several functions side by side, so that all of them see the same machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from .machine import last_level_cache

SHORTEST_SAMPLE = 1e-3  # seconds; shorter calls are repeated within a sample
FEWEST_SAMPLES = 3
MOST_SAMPLES = 201
MOST_SETS = 256

Turn = Callable[[int], object]
"""A function to time; its argument counts calls, for buffers that take turns."""


@dataclass(frozen=True)
class Timing:
    """Seconds of a call.

    fastest is kept too, for machines that are busy with something else; spread is the
    interquartile range over the median.
    """

    median: float
    fastest: float
    spread: float
    samples: int


def interleaved(
    functions: Mapping[str, Turn],
    budget: float,
    device: str = "cpu",
    settle: bool = False,
) -> dict[str, Timing]:
    """Times functions in turn.

    Each runs once before, uncounted, and goes first in its share of the rounds.

    Args:
        functions: by name.
        budget: seconds to spend on each pair of them, if FEWEST_SAMPLES are done by then.
        device: "cuda" times with events, each sample after a flush of the L2 cache.
        settle: a call before each sample is not counted. Beside functions that take a
            hundred times as long and empty the caches, the first call is a slow one.
    """
    sample = _cuda_sample() if device == "cuda" else _cpu_sample
    for function in functions.values():
        function(0)
    # As many calls for each, so that all walk through the same buffers.
    once = min(sample(function, 1, 1) for function in functions.values())
    calls = 1 if device == "cuda" else max(1, round(SHORTEST_SAMPLE / max(once, 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in functions}
    names = list(functions)
    end = time.perf_counter() + budget * len(names) / 2
    for turn in range(MOST_SAMPLES):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            if settle:
                functions[name](turn * calls)
            times[name].append(sample(functions[name], calls, turn * calls))
        if time.perf_counter() > end and turn + 1 >= FEWEST_SAMPLES:
            break
    return {name: summary(values) for name, values in times.items()}


def summary(seconds: list[float]) -> Timing:
    """Median and spread of samples."""
    median = statistics.median(seconds)
    low, _, high = (
        statistics.quantiles(seconds, n=4) if len(seconds) > 1 else (median,) * 3
    )
    return Timing(median, min(seconds), (high - low) / median, len(seconds))


def _cpu_sample(function: Turn, repeats: int, first: int) -> float:
    start = time.perf_counter()
    for turn in range(first, first + repeats):
        function(turn)
    return (time.perf_counter() - start) / repeats


def _cuda_sample() -> Callable[[Turn, int, int], float]:
    flush = torch.empty(2 * last_level_cache("cuda"), dtype=torch.int8, device="cuda")

    def sample(function: Turn, repeats: int, first: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        # The flush keeps the GPU busy while Python enqueues the call.
        flush.zero_()
        start.record()
        for turn in range(first, first + repeats):
            function(turn)
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3 / repeats

    return sample


def sets_past_cache(bytes_of_one: int, device: str = "cpu") -> int:
    """How many sets of buffers, taken in turn, leave nothing of one in the last-level
    cache by the time it is read again; MOST_SETS at most."""
    wanted = 2 * last_level_cache(device)
    return max(1, min(MOST_SETS, -(-wanted // max(bytes_of_one, 1))))
