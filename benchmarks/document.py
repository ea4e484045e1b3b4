"""What was measured as one JSON document, and questions to it.

Tables, pages, plots and comparisons are made from the document, so that they can be made
again from a file. Times are in seconds, sizes in bytes. Its shape (``SCHEMA``):

    schema       2
    kind         "run"; the other subcommands' files have rows instead of layers
    environment  what the machine and the versions are, the command
    settings     passes, threads, budget
    roofline     flops: {dtype: FLOP/s}; copies: [[bytes, bytes/s], ...]
    layers       id, spec (the short syntax), family, source, count, dtype, layout,
                 cache, threads, algorithm, flops, operations (of pooling too:
                 elements read by windows), bytes (of one pass), error, torch_error, reference, correct, passes: {name: {speedup, floor,
                 torch: side, torchconv: side}}; a side is median, fastest, spread,
                 samples, kernel, peak, workspace, roof (floor / median), gflops, gbs
                 (1e9 FLOP/s; 1e9 bytes/s, each tensor moved once)
    families     family, dtype, layout, cache, algorithm, layers, passes: {name:
                 {speedup, slowest, roof}}
    failed       id, spec, dtype, layout, algorithm, error
    refused      the same, of algorithms that do not take a layer
    skipped      id, reason
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .machine import Roofline
from .measure import Failure, Result, Side

SCHEMA = 2
WORST = 10
Row = dict[str, Any]
Document = dict[str, Any]
# What makes results comparable: everything but the layer.
GROUP = ("family", "dtype", "layout", "cache", "algorithm")
# How much of a pass's work there is in each; a pooling layer has no weight_grad.
_WORK = {"fwd": 1, "input_grad": 1, "weight_grad": 1}


def layer_row(result: Result, roofline: Roofline, threads: int) -> Row:
    """A result as plain values."""
    layer, setting = result.layer, result.setting
    flops = layer.flops()
    moved = layer.elements() * setting.torch_dtype.itemsize
    cold = setting.cold
    passes = {}
    for name, pair in result.passes.items():
        work = _WORK.get(name, 3 if layer.is_conv else 2)
        floor = work * roofline.floor(setting.dtype, flops, moved, cold)
        passes[name] = {
            "speedup": pair.speedup,
            "floor": floor,
            "torch": _side(pair.torch, floor, work * flops, work * moved),
            "torchconv": _side(pair.torchconv, floor, work * flops, work * moved),
        }
    return {
        "id": layer.id,
        "spec": layer.spec,
        "family": layer.family,
        "source": layer.source,
        "count": layer.count,
        "dtype": setting.dtype,
        "layout": setting.layout,
        "cache": "cold" if cold else "warm",
        "threads": threads,
        "algorithm": result.algorithm,
        "flops": flops,
        "operations": layer.operations(),
        "bytes": moved,
        "error": result.error,
        "torch_error": result.torch_error,
        "reference": result.reference,
        "correct": result.correct,
        "passes": passes,
    }


def _side(side: Side, floor: float, flops: float, moved: float) -> Row:
    seconds = side.timing.median
    row = {**vars(side.timing), "kernel": side.kernel, "roof": floor / seconds}
    row |= {"gflops": flops / seconds / 1e9, "gbs": moved / seconds / 1e9}
    if side.memory is not None:
        row |= vars(side.memory)
    return row


def failure_row(failure: Failure) -> Row:
    """A failure as plain values."""
    setting = failure.setting
    return {
        "id": failure.layer.id,
        "spec": failure.layer.spec,
        "dtype": setting.dtype,
        "layout": setting.layout,
        "algorithm": failure.algorithm,
        "error": failure.error,
    }


def build(
    environment: dict[str, str],
    settings: Row,
    roofline: Roofline,
    found: Iterable[Result | Failure],
    skipped: Iterable[tuple[str, str]],
    threads: int,
) -> Document:
    """The document of a run."""
    found = list(found)
    results = [r for r in found if isinstance(r, Result)]
    failures = [f for f in found if isinstance(f, Failure)]
    layers = [layer_row(result, roofline, threads) for result in results]
    return {
        "schema": SCHEMA,
        "kind": "run",
        "environment": environment,
        "settings": settings,
        "roofline": roofline.as_json(),
        "layers": layers,
        "families": families(layers),
        "failed": [failure_row(f) for f in failures if not f.refused],
        "refused": [failure_row(f) for f in failures if f.refused],
        "skipped": [{"id": name, "reason": reason} for name, reason in skipped],
    }


def table_document(
    kind: str, environment: dict[str, str], rows: list[Row], **more: Any
) -> Document:
    """The document of a subcommand whose results are rows of their own kind."""
    head = {"schema": SCHEMA, "kind": kind, "environment": environment}
    return {**head, **more, "rows": rows}


def geometric_mean(values: Iterable[float]) -> float:
    """The mean that suits ratios."""
    logs = [math.log(value) for value in values]
    return math.exp(sum(logs) / len(logs))


def families(layers: list[Row]) -> list[Row]:
    """Geometric means by family, and over all layers, for each way of measuring."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in layers:
        if row["passes"]:
            for family in (row["family"], "all"):
                groups[(family, *(row[name] for name in GROUP[1:]))].append(row)
    rows = []
    for key, group in sorted(groups.items(), key=lambda item: item[0][0] == "all"):
        passes = {}
        for name in dict.fromkeys(name for row in group for name in row["passes"]):
            pairs = [row["passes"][name] for row in group if name in row["passes"]]
            passes[name] = {
                "speedup": geometric_mean(pair["speedup"] for pair in pairs),
                "slowest": min(pair["speedup"] for pair in pairs),
                "roof": geometric_mean(pair["torchconv"]["roof"] for pair in pairs),
            }
        rows.append({**dict(zip(GROUP, key)), "layers": len(group), "passes": passes})
    return rows


def slowest_speedup(row: Row) -> float:
    """Of a layer's passes; infinite where none was timed."""
    return min((p["speedup"] for p in row["passes"].values()), default=math.inf)


def worst(layers: list[Row]) -> list[Row]:
    """The layers of the smallest speed-ups in any pass, the worst last."""
    timed = [row for row in layers if row["passes"]]
    return sorted(timed, key=slowest_speedup)[:WORST][::-1]


def write(document: Document, path: Path) -> None:
    """As a JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1) + "\n")


def load(path: Path, kind: str = "run") -> Document:
    """A document of a subcommand from its file.

    Raises:
        ValueError: the file is not there or holds something else.
    """
    try:
        document = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise ValueError(f"{path} is no JSON file") from None
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise ValueError(f"{path} was not written by this version of torchconv-bench")
    if document.get("kind") != kind:
        raise ValueError(f"{path} was not written by torchconv-bench {kind}")
    return document
