"""Times two implementations of a layer side by side, and compares what they compute."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from .suites import Layer, Tensors

# Largest difference to the reference, relative to its largest value, that is rounding.
TOLERANCE = {
    torch.float64: 1e-12,
    torch.float32: 2e-5,
    torch.float16: 4e-3,
    torch.bfloat16: 3e-2,
}
# Above this many FLOPs the reference is torch in the same type: float64 takes too long.
FLOAT64_FLOPS = 4e9
DIFFERENTIABLE = ("input", "weight")
SHORTEST_SAMPLE = 1e-3  # seconds; shorter calls are repeated within a sample
FEWEST_PAIRS = 3
MOST_PAIRS = 201


@dataclass(frozen=True)
class Pair:
    """Median seconds of a call of torch's and of torchconv's.

    The fastest calls are kept too, for machines that are busy with something else.
    """

    torch: float
    torchconv: float
    torch_fastest: float
    torchconv_fastest: float
    samples: int

    @property
    def speedup(self) -> float:
        """How many times faster torchconv is; below 1 it is slower."""
        return self.torch / self.torchconv


@dataclass(frozen=True)
class Result:
    """What was measured of a layer."""

    layer: Layer
    dtype: torch.dtype
    layout: str
    forward: Pair
    both: Pair
    """forward and backward together"""
    error: float
    reference: str

    @property
    def correct(self) -> bool:
        """Whether error is rounding; false for a NaN too."""
        return self.error <= TOLERANCE[self.dtype]


def interleaved(
    torchs: Callable[[], object], ours: Callable[[], object], budget: float
) -> Pair:
    """Times two functions in turn, so that both see the same machine.

    Each runs once before, uncounted. The order changes from pair to pair.

    Args:
        torchs: the one, usually torch's.
        ours: the other.
        budget: seconds to spend, if FEWEST_PAIRS are done by then.
    """

    def sample(function: Callable[[], object], repeats: int) -> float:
        start = time.perf_counter()
        for _ in range(repeats):
            function()
        return (time.perf_counter() - start) / repeats

    functions = (torchs, ours)
    for function in functions:
        function()
    once = min(sample(function, 1) for function in functions)
    repeats = max(1, round(SHORTEST_SAMPLE / max(once, 1e-7)))
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + budget
    while len(times[0]) < MOST_PAIRS:
        for which in (0, 1) if len(times[0]) % 2 else (1, 0):
            times[which].append(sample(functions[which], repeats))
        if time.perf_counter() > end and len(times[0]) >= FEWEST_PAIRS:
            break
    return Pair(
        torch=statistics.median(times[0]),
        torchconv=statistics.median(times[1]),
        torch_fastest=min(times[0]),
        torchconv_fastest=min(times[1]),
        samples=len(times[0]),
    )


def difference(ours: Tensor, reference: Tensor) -> float:
    """The largest difference, relative to the largest value of the reference."""
    if ours.shape != reference.shape:
        return float("inf")
    if ours.numel() == 0:
        return 0.0
    reference = reference.double()
    scale = reference.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    return float((ours.double() - reference).abs().max() / scale)


def measure(
    layer: Layer,
    ours: ModuleType,
    dtype: torch.dtype,
    channels_last: bool,
    budget: float,
) -> Result:
    """Times torch.nn.functional against ours, forward without gradients and forward
    with backward, and compares output and gradients.

    Args:
        layer: what to compute, on random data.
        ours: torchconv.functional.
        dtype: of all tensors.
        channels_last: the memory format of input and weight.
        budget: seconds for each of the two timings.
    """
    torch.manual_seed(0)
    theirs = torch.nn.functional
    tensors = layer.inputs(dtype, channels_last)
    with torch.no_grad():
        grad = torch.randn_like(layer.call(theirs, tensors))  # in its memory format

    def tracked(to: torch.dtype) -> Tensors:
        return {
            name: t.to(to, copy=True).requires_grad_() if name in DIFFERENTIABLE else t
            for name, t in tensors.items()
        }

    def run(functional: ModuleType, tensors: Tensors, grad: Tensor) -> list[Tensor]:
        y = layer.call(functional, tensors)
        leaves = [tensors[name] for name in DIFFERENTIABLE if name in tensors]
        return [y.detach(), *torch.autograd.grad(y, leaves, grad)]

    # Random windows depend on the rounding of the samples' own type.
    in_float64 = layer.flops() <= FLOAT64_FLOPS and "_random_samples" not in tensors
    exact = torch.float64 if in_float64 else dtype
    reference = run(theirs, tracked(exact), grad.to(exact))
    leaves = tracked(dtype)
    error = max(map(difference, run(ours, leaves, grad), reference))
    del reference

    with torch.no_grad():
        forward = interleaved(
            lambda: layer.call(theirs, tensors),
            lambda: layer.call(ours, tensors),
            budget,
        )
    both = interleaved(
        lambda: run(theirs, leaves, grad), lambda: run(ours, leaves, grad), budget
    )
    layout = "channels_last" if channels_last else "nchw"
    return Result(
        layer, dtype, layout, forward, both, error, str(exact).removeprefix("torch.")
    )
