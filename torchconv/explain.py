"""``torchconv.explain``: which algorithm a call would use, and why not the others."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from . import _extension, functional
from ._config import TF32, operator_algorithm
from ._conv_args import (
    COMPLEX_PARTS,
    LIFTED,
    WIDENED,
    Spec,
)
from ._fused_args import fused_plan, fused_transpose_plan
from ._layout import memory_format
from .functional._conv_routes import lift

_CONVOLUTION = re.compile(r"conv(_transpose)?[123]d")
_COMPOSED = ("conv_layer", "convolve", "correlate")


@dataclass(frozen=True)
class Candidate:
    """One algorithm's answers about one pass.

    reason: why not, if it is not supported. cost: estimated nanoseconds on one core or on
    the GPU, of which only the order between algorithms means anything. workspace: bytes.
    """

    name: str
    supported: bool
    reason: str
    cost: float
    workspace: int
    chosen: bool


@dataclass(frozen=True)
class PassPlan:
    """The candidates for one result of a call: its output, or one of its gradients.

    flops: multiplications and additions. bytes: each tensor moved once. error: why no
    algorithm is chosen, else empty. measured: while ``torchconv.autotune`` is on and knows
    the problem, seconds by candidate; the choice goes by them, and may be "torch".
    """

    result: str
    kernel: str
    flops: float
    bytes: float
    candidates: tuple[Candidate, ...]
    error: str = ""
    measured: dict[str, float] = field(default_factory=dict)
    tuned: str = ""

    @property
    def chosen(self) -> Candidate | None:
        """The algorithm that would run; None if the one asked for cannot."""
        return next((c for c in self.candidates if c.chosen), None)


@dataclass(frozen=True)
class Explanation:
    """What :func:`explain` found; ``str()`` of it is a table."""

    call: str
    device: str
    threads: int
    passes: tuple[PassPlan, ...]

    def __str__(self) -> str:
        threads = "" if self.device.startswith("cuda") else f", {self.threads} threads"
        lines = [self.call, f"on {self.device}{threads}"]
        for plan in self.passes:
            flops = f"{_scaled(plan.flops)}FLOP, " if plan.flops else ""
            lines.append("")
            lines.append(
                f"{plan.result} ({plan.kernel}): {flops}{_scaled(plan.bytes)}B"
            )
            rows = [("", "algorithm", "cost", "workspace", "")]
            rows += [_row(c) for c in plan.candidates]
            widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
            for row in rows:
                cells = (
                    cell.rjust(width) if i in (2, 3) else cell.ljust(width)
                    for i, (cell, width) in enumerate(zip(row, widths, strict=True))
                )
                lines.append(("  " + "  ".join(cells)).rstrip())
            if plan.measured:
                found = ", ".join(
                    f"{name} {_duration(s * 1e9)}" if s >= 0 else f"{name} failed"
                    for name, s in plan.measured.items()
                )
                lines.append(f"  measured: {found}; runs: {plan.tuned}")
            if plan.error:
                lines.append(f"  refused: {plan.error}")
        return "\n".join(lines)


def _row(c: Candidate) -> tuple[str, str, str, str, str]:
    mark = ">" if c.chosen else ""
    if not c.supported:
        return mark, c.name, "-", "-", f"no: {c.reason}"
    cost = _duration(c.cost) if c.cost else "-"
    return mark, c.name, cost, f"{_scaled(c.workspace)}B", c.reason


def _duration(nanoseconds: float) -> str:
    for factor, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "us")):
        if nanoseconds >= factor:
            return f"{nanoseconds / factor:.3g} {unit}"
    return f"{nanoseconds:.3g} ns"


def _scaled(value: float) -> str:
    """1234567 as '1.23 M'."""
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {letter}"
    return f"{value:.3g} "


def explain(
    op: str | Callable[..., Any],
    *args: Any,
    device: str | torch.device | None = None,
    **kwargs: Any,
) -> Explanation:
    """What a call would do, without doing it.

    Args:
        op: a function of ``torchconv.functional`` (or torch's of the same name), or its
            name: "conv2d", "conv_transpose1d", "max_pool3d" ...
        args, kwargs: the arguments of the call. Tensors on the meta device will do.
        device: "cpu" or "cuda", whose algorithms to ask about; by default the device of
            the tensors, and the CPU for the meta device. There need be no GPU.

    Returns:
        For each pass (the output, the gradients) the candidates: supported or the
        reason why not, estimated cost, workspace, and which one is chosen; and the
        pass's FLOPs and bytes. ``print`` it for a table.

    Raises:
        ValueError: no such function, or one that only calls others (conv_layer2d,
            convolve); an unknown algorithm; a device without algorithms.
        RuntimeError: the call itself would raise it; or the compiled part is missing.

    Example::

        print(torchconv.explain("conv2d", x, weight, padding=1))
    """
    name = op if isinstance(op, str) else getattr(op, "__name__", repr(op))
    if name not in functional.__all__:
        known = ", ".join(functional.__all__)
        raise ValueError(f"no function {name!r} to explain; functions: {known}")
    if name.startswith(_COMPOSED):
        raise ValueError(
            f"{name}() calls other functions of torchconv: explain the convolution or "
            "pooling that it is made of"
        )
    binary = _extension.binary()
    function = getattr(functional, name)
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    if _CONVOLUTION.fullmatch(name):
        return _explain_conv(binary, name, bound.arguments, device)
    return _explain_pool(binary, name, function, bound)


def _spec(t: Tensor) -> Spec:
    return Spec(t.shape, t.stride(), t.dtype, t.device)


def _shapes(name: str, arguments: dict[str, Any]) -> str:
    """The call in words: tensors by dtype and shape, the rest as it is."""
    words = []
    for argument, value in arguments.items():
        if isinstance(value, Tensor):
            dtype = str(value.dtype).removeprefix("torch.")
            strides = "" if value.is_contiguous() else f" strides {value.stride()}"
            words.append(f"{argument}={dtype}{list(value.shape)}{strides}")
        elif value is not None:
            words.append(f"{argument}={value!r}")
    return f"{name}({', '.join(words)})"


def _empty(spec: Spec, size: Sequence[int], channels_last: bool) -> Tensor:
    """A tensor without data, laid out as an operator would lay it out."""
    form = memory_format(channels_last, len(size) - 2)
    return torch.empty(size, dtype=spec.dtype, device="meta", memory_format=form)


def _device_type(
    binary: Any, x: Tensor, device: str | torch.device | None
) -> tuple[str, str]:
    """ "cpu" or "cuda", and the device in words."""
    given = x.device if device is None else torch.device(device)
    kind = "cpu" if given.type == "meta" else given.type
    if kind == "cpu":
        return kind, f"{kind} ({binary.active_isa()})"
    if kind == "cuda" and binary.build_info()["cuda"]:
        return kind, kind
    raise ValueError(
        f"this build of torchconv has no algorithms for device {given}: "
        "expected cpu, or cuda where its kernels were built"
    )


def _explain_conv(
    binary: Any, name: str, a: dict[str, Any], device: str | torch.device | None
) -> Explanation:
    nd = int(name[-2])
    transposed = "transpose" in name
    kind, words = _device_type(binary, next(iter(a.values())), device)
    # The rules of a device (memory formats, routes) follow the specs.
    x, w, b, residual = (
        None if t is None else _spec(t)._replace(device=torch.device(kind))
        for t in (*list(a.values())[:3], a["residual"])
    )
    assert x is not None
    assert w is not None
    algorithm = operator_algorithm(a["algorithm"], kind == "cuda")
    tensors = (x, w, b, residual, a["activation"])
    if transposed:
        plan = fused_transpose_plan(
            name,
            nd,
            *tensors,
            a["stride"],
            a["padding"],
            a["output_padding"],
            a["dilation"],
            a["groups"],
            algorithm,
        ).conv
    else:
        plan = fused_plan(
            name,
            nd,
            *tensors,
            a["stride"],
            a["padding"],
            a["dilation"],
            a["groups"],
            a["padding_mode"],
            algorithm,
        ).conv
    call = _shapes(name, a)
    first = torch.empty_strided(x.size, x.stride, dtype=x.dtype, device="meta")
    weight = torch.empty_strided(w.size, w.stride, dtype=w.dtype, device="meta")
    first = first.unsqueeze(0) if plan.unbatched else first
    conv = plan.args
    if plan.extra:
        grown = [s + e for s, e in zip(first.shape[2:], plan.extra, strict=True)]
        first = first.new_empty((*first.shape[:2], *grown))
    if plan.route == COMPLEX_PARTS:
        call += "\nas three real convolutions, each of them:"
        first, weight = first.real, weight.real
    elif plan.route == WIDENED:
        call += "\nin int64:"
        first, weight = first.long(), weight.long()
    elif plan.route == LIFTED:
        first, weight, conv = first.unsqueeze(-2), weight.unsqueeze(-2), lift(conv)
    ops = torch.ops.torchconv
    if transposed:
        size, conv = conv[0], conv[1:]
        second = ops.conv_input_grad(first, weight, None, size, *conv)
        image, output = second, first
    else:
        second = ops.conv_forward(first, weight, None, *conv)
        image, output = first, second
    stride, padding, dilation, groups, mode, channels_last, _ = conv
    threads = torch.get_num_threads()

    def ask(kernel: str, result: str) -> PassPlan:
        # A pass writes its result in the format the operator gives it.
        parts = {"x": image, "w": weight, "y": output}
        written = {"forward": "y", "input_grad": "x", "weight_grad": "w"}[kernel]
        target = parts[written]
        parts[written] = _empty(_spec(target), target.shape, channels_last)
        answer = binary.explain_conv(
            kind,
            kernel,
            str(first.dtype).removeprefix("torch."),
            *(
                value
                for part in parts.values()
                for value in (list(part.shape), list(part.stride()))
            ),
            list(stride),
            list(padding),
            list(dilation),
            groups,
            mode,
            algorithm,
            threads,
        )
        tuned = answer.get("tuned", "")
        candidates = tuple(
            Candidate(
                **{k: c[k] for k in Candidate.__dataclass_fields__ if k != "chosen"},
                chosen=c["name"] == tuned if tuned else c["chosen"],
            )
            for c in answer["candidates"]
        )
        return PassPlan(
            result,
            kernel,
            answer["flops"],
            answer["bytes"],
            candidates,
            answer["error"],
            answer.get("measured", {}),
            tuned,
        )

    forward, back = (
        ("input_grad", "forward") if transposed else ("forward", "input_grad")
    )
    passes = [ask(forward, "output")]
    if first.is_floating_point():
        passes.append(ask(back, "gradient of input"))
        passes.append(ask("weight_grad", "gradient of weight"))
    if algorithm.endswith(TF32) and first.dtype is torch.float32:
        words += ", TF32 allowed"
    return Explanation(call, words, threads, tuple(passes))


def _explain_pool(
    binary: Any, name: str, function: Callable[..., Any], bound: inspect.BoundArguments
) -> Explanation:
    """Pooling has one algorithm per operator: what there is to say is what moves."""
    tensors = [v for v in bound.arguments.values() if isinstance(v, Tensor)]
    call = _shapes(name, bound.arguments)
    for argument, value in bound.arguments.items():
        if isinstance(value, Tensor):
            bound.arguments[argument] = torch.empty_strided(
                value.shape, value.stride(), dtype=value.dtype, device="meta"
            )
    results = function(*bound.args, **bound.kwargs)
    results = results if isinstance(results, tuple) else (results,)
    isa = binary.active_isa()

    def moved(result: str, kernel: str, ends: Sequence[Tensor]) -> PassPlan:
        total = sum(t.numel() * t.element_size() for t in ends)
        only = Candidate("direct", True, f"the only one ({isa})", 0.0, 0, True)
        return PassPlan(result, kernel, 0.0, total, (only,))

    passes = [moved("output", name, [*tensors, *results])]
    x = tensors[0]
    if x.is_floating_point():
        # What backward reads besides the gradient: the positions of maxima.
        positions = list(results[1:])
        if "max_pool" in name and not positions:
            with torch.enable_grad():
                leaf = bound.arguments["input"].requires_grad_()
                bound.arguments["input"] = leaf
                kept: list[Tensor] = []

                def keep(t: Tensor) -> Tensor:
                    kept.append(t)
                    return t

                with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
                    function(*bound.args, **bound.kwargs)
            positions = kept
        passes.append(moved("gradient of input", name, [results[0], x, *positions]))
    device = f"{x.device.type} ({isa})"
    return Explanation(call, device, torch.get_num_threads(), tuple(passes))
