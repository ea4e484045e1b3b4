"""Compares two implementations of a layer: what they compute, what they take and how
long they need."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

import torchconv

from .layers import DIFFERENTIABLE, Layer, Tensors
from .observe import Memory, kernels_of, memory_of
from .timing import Timing, Turn, interleaved, sets_past_cache

# Largest difference to the reference, relative to its largest value, that is rounding.
TOLERANCE = {
    "float64": 1e-12,
    "float32": 2e-5,
    "float16": 4e-3,
    "bfloat16": 3e-2,
}
# Above this many FLOPs the reference is torch in the same type: float64 takes too long.
FLOAT64_FLOPS = 4e9
PASSES = ("fwd", "input_grad", "weight_grad", "train")
"""forward without gradients; one gradient alone; forward and all gradients"""
# What torchconv.explain calls the pass.
_EXPLAINED = {
    "fwd": "output",
    "input_grad": "gradient of input",
    "weight_grad": "gradient of weight",
}
TORCH = "torch"
OUTPUT = "output"
# In the errors of algorithms that do not take a problem, or that a device has not.
REFUSALS = ("cannot compute this", "unknown algorithm")


@dataclass(frozen=True)
class Setting:
    """How to measure: everything but the layer.

    algorithms: of torchconv's; "auto" is the planner's choice. cold: buffers take turns,
    so that no call finds its arguments in a cache. budget: seconds for each comparison.
    """

    dtype: str = "float32"
    channels_last: bool = False
    device: str = "cpu"
    passes: tuple[str, ...] = ("fwd", "train")
    algorithms: tuple[str, ...] = ("auto",)
    cold: bool = False
    budget: float = 0.5
    observe: bool = True

    @property
    def layout(self) -> str:
        """Its name."""
        return "channels_last" if self.channels_last else "nchw"

    @property
    def torch_dtype(self) -> torch.dtype:
        """The type itself."""
        dtype: torch.dtype = getattr(torch, self.dtype)
        return dtype


@dataclass(frozen=True)
class Side:
    """What a pass took with one implementation; kernel: what ran, in words."""

    timing: Timing
    kernel: str = ""
    memory: Memory | None = None


@dataclass(frozen=True)
class Pair:
    """A pass with torch and with torchconv."""

    torch: Side
    torchconv: Side

    @property
    def speedup(self) -> float:
        """How many times faster torchconv is; below 1 it is slower."""
        return self.torch.timing.median / self.torchconv.timing.median


@dataclass(frozen=True)
class Result:
    """What was found of a layer with one of torchconv's algorithms.

    error: the largest difference to the reference of output and gradients, relative to
    their largest value; torch_error: torch's own. A layer with wrong results has no
    passes: their times would say nothing.
    """

    layer: Layer
    setting: Setting
    algorithm: str
    error: float
    torch_error: float
    reference: str
    passes: dict[str, Pair] = field(default_factory=dict)

    @property
    def correct(self) -> bool:
        """Whether error is rounding; false for a NaN too."""
        return self.error <= TOLERANCE[self.setting.dtype]


@dataclass(frozen=True)
class Failure:
    """A layer that raised, or an algorithm that refuses it (refused)."""

    layer: Layer
    setting: Setting
    algorithm: str
    error: str
    refused: bool = False


def difference(ours: Tensor, reference: Tensor) -> float:
    """The largest difference, relative to the largest value of the reference."""
    if ours.shape != reference.shape:
        return float("inf")
    if ours.numel() == 0:
        return 0.0
    reference = reference.double()
    scale = reference.abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    return float((ours.double() - reference).abs().max() / scale)


class Case:
    """A layer with its data, ready to be run by either side in every pass."""

    def __init__(self, layer: Layer, setting: Setting) -> None:
        self.layer, self.setting = layer, setting
        torch.manual_seed(0)
        dtype = setting.torch_dtype
        tensors = layer.inputs(dtype, setting.channels_last, setting.device)
        with torch.no_grad():
            y = layer.call(torch.nn.functional, tensors)
        grad = torch.randn_like(y)  # in its memory format
        size = sum(t.numel() * t.element_size() for t in (*tensors.values(), grad))
        count = sets_past_cache(size, setting.device) if setting.cold else 1
        self.sets = [tensors] + [_copies(tensors) for _ in range(count - 1)]
        self.grads = [grad] + [grad.clone() for _ in range(count - 1)]
        self.leaves = [_leaves(one, DIFFERENTIABLE) for one in self.sets]

    def call(self, side: ModuleType, tensors: Tensors, algorithm: str) -> Tensor:
        """The output; the argument algorithm is given only where it says something."""
        if side is torch.nn.functional or algorithm == "auto":
            return self.layer.call(side, tensors)
        return self.layer.call(side, tensors, algorithm=algorithm)

    def results(
        self, side: ModuleType, algorithm: str = "auto", exact: bool = False
    ) -> Tensors:
        """The output, and the gradients by the argument's name; exact: in float64.

        A gradient that the algorithm refuses is left out.
        """
        tensors, grad = self.sets[0], self.grads[0]
        if exact:
            grad = grad.double()
            tensors = {
                k: t.double() if t.is_floating_point() else t
                for k, t in tensors.items()
            }
        tensors = _leaves(tensors, DIFFERENTIABLE)
        y = self.call(side, tensors, algorithm)
        found = {OUTPUT: y.detach()}
        for name in DIFFERENTIABLE:
            if name not in tensors:
                continue
            try:
                (found[name],) = torch.autograd.grad(
                    y, tensors[name], grad, retain_graph=True
                )
            except RuntimeError as error:
                if not _is_refusal(error):
                    raise
        return found

    def _both(
        self, side: ModuleType, tensors: Tensors, grad: Tensor, algorithm: str
    ) -> list[Tensor]:
        y = self.call(side, tensors, algorithm)
        leaves = [tensors[name] for name in DIFFERENTIABLE if name in tensors]
        return [y.detach(), *torch.autograd.grad(y, leaves, grad)]

    def turn(self, which: str, side: ModuleType, algorithm: str = "auto") -> Turn:
        """A pass, of those that the layer has, as a function to time."""
        count = len(self.sets)
        if which == "fwd":

            def forward(i: int) -> object:
                with torch.no_grad():
                    return self.call(side, self.sets[i % count], algorithm)

            return forward
        if which == "train":

            def train(i: int) -> object:
                i %= count
                return self._both(side, self.leaves[i], self.grads[i], algorithm)

            return train
        name = which.removesuffix("_grad")
        graphs = []
        for tensors in self.sets:
            one = _leaves(tensors, (name,))
            graphs.append((self.call(side, one, algorithm), one[name]))

        def backward(i: int) -> object:
            y, leaf = graphs[i % count]
            grad = self.grads[i % count]
            return torch.autograd.grad(y, leaf, grad, retain_graph=True)

        return backward


def _copies(tensors: Tensors) -> Tensors:
    return {name: t.clone() for name, t in tensors.items()}


def _leaves(tensors: Tensors, names: tuple[str, ...]) -> Tensors:
    return {
        name: t.detach().requires_grad_() if name in names else t
        for name, t in tensors.items()
    }


@dataclass(frozen=True)
class Checked:
    """A result before it is timed; passes: those of the setting that the algorithm takes
    and computes right."""

    result: Result
    passes: tuple[str, ...]


def check(case: Case, ours: ModuleType) -> tuple[list[Checked], list[Failure]]:
    """Compares each algorithm's output and gradients with float64.

    Raises:
        Exception: whatever torch itself raises on this layer.
    """
    layer, setting = case.layer, case.setting
    theirs = torch.nn.functional
    # Random windows depend on the rounding of the samples' own type.
    in_float64 = (
        layer.flops() <= FLOAT64_FLOPS and "_random_samples" not in case.sets[0]
    )
    reference = case.results(theirs, exact=in_float64)

    def error_of(found: Tensors) -> float:
        errors = [difference(t, reference[name]) for name, t in found.items()]
        return max(errors, key=lambda e: math.inf if math.isnan(e) else e)

    torch_error = error_of(case.results(theirs))
    named = "float64" if in_float64 else setting.dtype
    needed = {
        "fwd": {OUTPUT},
        "input_grad": {"input"},
        "weight_grad": {"weight"},
        "train": set(reference),
    }
    checked, failures = [], []
    for algorithm in setting.algorithms:
        try:
            found = case.results(ours, algorithm)
            error = error_of(found)
        except Exception as problem:  # noqa: BLE001 whatever a layer raises is reported
            refused = _is_refusal(problem)
            why = reason(problem)
            failures.append(Failure(layer, setting, algorithm, why, refused))
            continue
        result = Result(layer, setting, algorithm, error, torch_error, named)
        passes = [
            p for p in setting.passes if result.correct and needed[p] <= set(found)
        ]
        checked.append(Checked(result, tuple(passes)))
    return checked, failures


def measure(layer: Layer, ours: ModuleType, setting: Setting) -> list[Result | Failure]:
    """Compares torch.nn.functional with ours: output and gradients, then times.

    Args:
        layer: what to compute, on random data.
        ours: torchconv.functional, or a module that stands in for it.
        setting: how.

    Returns:
        One for each algorithm. Those with wrong results are not timed; what raises is a
        Failure, and nothing is raised.
    """
    try:
        case = Case(layer, setting)
        checked, failures = check(case, ours)
    except Exception as error:  # noqa: BLE001 whatever a layer raises is reported
        return [Failure(layer, setting, TORCH, reason(error))]
    found: list[Result | Failure] = [one.result for one in checked]
    found += failures
    for which in setting.passes:
        timed = [one.result for one in checked if which in one.passes]
        if not timed:
            continue
        try:
            sides = _time(case, which, ours, [result.algorithm for result in timed])
        except Exception as error:  # noqa: BLE001 whatever a layer raises is reported
            found.append(Failure(layer, setting, which, reason(error)))
            continue
        for result in timed:
            pair = Pair(sides[TORCH], sides[result.algorithm])
            result.passes[which] = pair
    return found


def _is_refusal(error: Exception) -> bool:
    return any(words in str(error) for words in REFUSALS)


def reason(error: Exception) -> str:
    """The first line of what an exception says, and its type."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def _time(
    case: Case, which: str, ours: ModuleType, algorithms: list[str]
) -> dict[str, Side]:
    """Times a pass of torch and of algorithms."""
    setting = case.setting
    turns = {TORCH: case.turn(which, torch.nn.functional)}
    turns |= {name: case.turn(which, ours, name) for name in algorithms}
    timings = interleaved(turns, setting.budget, setting.device)
    sides = {}
    for name, turn in turns.items():
        memory, kernel = None, ""
        if setting.observe:
            memory = memory_of(lambda turn=turn: turn(0), setting.device)
            if name == TORCH:
                kernel = kernels_of(lambda turn=turn: turn(0), setting.device)
        if name != TORCH:
            kernel = ", ".join(chosen(case, which, name))
        sides[name] = Side(timings[name], kernel, memory)
    return sides


def chosen(case: Case, which: str, algorithm: str) -> Iterator[str]:
    """The algorithms that the planner takes for a pass; none where there is no choice."""
    if not case.layer.is_conv:
        return
    explained = explanation(case, algorithm)
    if explained is None:
        return
    for plan in explained.passes:
        if plan.result in results_of(which) and plan.chosen is not None:
            yield plan.chosen.name


def results_of(which: str) -> list[str]:
    """What torchconv.explain calls the results of a pass."""
    return list(_EXPLAINED.values()) if which == "train" else [_EXPLAINED[which]]


def explanation(case: Case, algorithm: str = "auto") -> Any:
    """torchconv.explain of the case's call; None on devices it does not know."""
    tensors: dict[str, Any] = dict(case.sets[0])
    try:
        return torchconv.explain(
            case.layer.function, **tensors, **case.layer.options, algorithm=algorithm
        )
    except RuntimeError:
        return None
