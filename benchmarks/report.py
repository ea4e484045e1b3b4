"""What was measured, as text, Markdown and JSON."""

from __future__ import annotations

import json
import math
import platform
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from torchconv._extension import binary

from .measure import Pair, Result

WORST = 10
Row = tuple[str, ...]


def environment(command: str) -> dict[str, str]:
    """Where and with what the numbers were measured."""
    return {
        "command": command,
        "cpu": _cpu_model(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "torch isa": torch.backends.cpu.get_cpu_capability(),
        "torchconv isa": binary().active_isa(),
        "commit": _commit(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1] for line in lines if line.startswith("model name")]
    return names[0].strip() if names else platform.machine()


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    folder = Path(__file__).resolve().parent
    try:
        output = subprocess.run(command, cwd=folder, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return output.stdout.decode().strip()


def milliseconds(seconds: float) -> str:
    """Three significant digits, and no exponent."""
    digits = max(0, 2 - math.floor(math.log10(seconds * 1e3)))
    return f"{seconds * 1e3:.{digits}f}"


def _type_name(result: Result) -> str:
    return str(result.dtype).removeprefix("torch.")


def geometric_mean(values: Iterable[float]) -> float:
    """The mean that suits ratios."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


LAYER_HEADER: Row = (
    "layer",
    "family",
    "dtype",
    "layout",
    "torch fwd ms",
    "torchconv",
    "speed-up",
    "torch fwd+bwd ms",
    "torchconv",
    "speed-up",
    "error",
)


def layer_row(result: Result) -> Row:
    """A layer's line under LAYER_HEADER."""

    def cells(pair: Pair) -> Row:
        return (
            milliseconds(pair.torch),
            milliseconds(pair.torchconv),
            f"{pair.speedup:.2f}",
        )

    error = f"{result.error:.0e}" + ("" if result.correct else " WRONG")
    return (
        result.layer.id,
        result.layer.family,
        _type_name(result),
        result.layout,
        *cells(result.forward),
        *cells(result.both),
        error,
    )


FAMILY_HEADER: Row = (
    "family",
    "dtype",
    "layout",
    "layers",
    "fwd speed-up",
    "fwd+bwd speed-up",
)


def families(results: list[Result]) -> dict[Row, tuple[int, float, float]]:
    """By (family, dtype, layout): layers, geometric means of the speed-ups.

    The family "all" has the geometric mean over the layers.
    """
    groups: dict[Row, list[Result]] = defaultdict(list)
    for result in results:
        for family in (result.layer.family, "all"):
            groups[family, _type_name(result), result.layout].append(result)
    return {
        key: (
            len(group),
            geometric_mean(r.forward.speedup for r in group),
            geometric_mean(r.both.speedup for r in group),
        )
        for key, group in sorted(groups.items(), key=lambda item: item[0][0] == "all")
    }


def family_rows(results: list[Result]) -> list[Row]:
    """The lines under FAMILY_HEADER."""
    return [
        (*key, str(count), f"{forward:.2f}", f"{both:.2f}")
        for key, (count, forward, both) in families(results).items()
    ]


def worst_rows(results: list[Result]) -> list[Row]:
    """The layers of the smallest speed-ups in either pass, the worst last."""

    def worst(result: Result) -> float:
        return min(result.forward.speedup, result.both.speedup)

    return [layer_row(r) for r in sorted(results, key=worst)[:WORST]][::-1]


def as_markdown(
    header: dict[str, str], results: list[Result], skipped: list[tuple[str, str]]
) -> str:
    """All of it as a document."""

    def table(names: Row, rows: list[Row]) -> list[str]:
        lines = [names, tuple("---" for _ in names), *rows]
        return ["| " + " | ".join(line) + " |" for line in lines] + [""]

    text = ["# torchconv against torch", ""]
    text += [f"- {name}: `{value}`" for name, value in header.items()]
    text += [
        "",
        "Medians of interleaved calls; a speed-up above 1 means torchconv is faster.",
        "",
        "## Families (geometric means of the speed-ups)",
        "",
        *table(FAMILY_HEADER, family_rows(results)),
        "## Layers",
        "",
        *table(LAYER_HEADER, [layer_row(result) for result in results]),
        "## Worst layers, the worst last",
        "",
        *table(LAYER_HEADER, worst_rows(results)),
    ]
    if skipped:
        text += ["## Not measured", ""]
        text += [f"- {name}: {reason}" for name, reason in skipped]
    return "\n".join(text).rstrip() + "\n"


def as_json(
    header: dict[str, str], results: list[Result], skipped: list[tuple[str, str]]
) -> str:
    """All of it, times in seconds."""

    def pair(value: Pair) -> dict[str, float]:
        return {**vars(value), "speedup": value.speedup}

    rows: list[dict[str, Any]] = [
        {
            "id": r.layer.id,
            "family": r.layer.family,
            "dtype": _type_name(r),
            "layout": r.layout,
            "flops": r.layer.flops(),
            "forward": pair(r.forward),
            "forward_backward": pair(r.both),
            "error": r.error,
            "reference": r.reference,
            "correct": r.correct,
        }
        for r in results
    ]
    means = [
        {**dict(zip(FAMILY_HEADER, key, strict=False)), **named}
        for key, (count, forward, both) in families(results).items()
        for named in [{"layers": count, "forward": forward, "forward_backward": both}]
    ]
    not_measured = [{"id": name, "reason": reason} for name, reason in skipped]
    document = {
        "environment": header,
        "layers": rows,
        "families": means,
        "skipped": not_measured,
    }
    return json.dumps(document, indent=1) + "\n"
