"""Pictures: every layer on the roofline, bars of ratios, curves of scaling."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .document import Document, Row
from .report import TITLES

MOST_BARS = 60
OURS, THEIRS, GREY = "#0b6e4f", "#b5651d", "#8a9199"


def _pyplot() -> Any:
    """matplotlib, which only pictures need.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import matplotlib
    except ImportError:
        raise ValueError(
            "pictures need matplotlib: pip install 'torchconv[bench]'"
        ) from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False})
    plt.rcParams.update({"axes.spines.right": False, "savefig.dpi": 120})
    return plt


def draw(document: Document, path: Path) -> None:
    """Left the roofline with the first pass of every layer, of both sides; right the
    ratio of each layer, or of each family where there are many layers."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(13, 6), layout="constrained")
    _roofline(axes[0], document)
    _bars(axes[1], document)
    figure.suptitle(
        f"torchconv against torch {document['environment']['torch']}, "
        f"{document['environment'].get('gpu') or document['environment']['cpu']}, "
        f"{document['environment']['threads']} thread(s)"
    )
    figure.savefig(path, format="png")
    plt.close(figure)


def _roofline(axes: Any, document: Document) -> None:
    rows = [row for row in document["layers"] if row["passes"]]
    axes.set(
        xscale="log",
        yscale="log",
        title="Roofline (pooling: elements read by its windows)",
    )
    axes.set(
        xlabel="operations per byte (each tensor moved once)", ylabel="1e9 operations/s"
    )
    roofline = document["roofline"]
    classes = roofline["copies"]
    intensity = [row["operations"] / row["bytes"] for row in rows] or [1.0]
    low, high = min(intensity) / 2, max(intensity) * 2
    grid = [low * (high / low) ** (i / 100) for i in range(101)]
    for dtype, peak in roofline["flops"].items():
        for (size, rate), style in ((classes[0], ":"), (classes[-1], "-")):
            axes.plot(
                grid,
                [min(peak, x * rate) / 1e9 for x in grid],
                style,
                color=GREY,
                label=f"{dtype}, {size / 2**20:.3g} MiB at {rate / 1e9:.0f} GB/s",
            )
    for side, colour, marker in (("torch", THEIRS, "x"), ("torchconv", OURS, "o")):
        points = []
        for row in rows:
            name, pair = next(iter(row["passes"].items()))
            # A pooling layer's backward reads what its forward does.
            work = (3 if row["flops"] else 2) if name == "train" else 1
            speed = work * row["operations"] / pair[side]["median"] / 1e9
            points.append((row["operations"] / row["bytes"], speed))
        if points:
            axes.scatter(*zip(*points), s=18, c=colour, marker=marker, label=side)
    axes.legend(fontsize=7)


def _bars(axes: Any, document: Document) -> None:
    rows: list[Row] = [row for row in document["layers"] if row["passes"]]
    label = "id"
    if len(rows) > MOST_BARS:
        rows, label = document["families"], "family"
    many = len({(row["dtype"], row["layout"]) for row in rows}) > 1
    passes = [n for n in TITLES if any(n in row["passes"] for row in rows)]
    height = 0.8 / max(len(passes), 1)
    for place, name in enumerate(passes):
        ys, values = [], []
        for y, row in enumerate(rows):
            if name in row["passes"]:
                ys.append(y + place * height)
                values.append(row["passes"][name]["speedup"])
        axes.barh(ys, values, height, label=TITLES[name])
    ticks = [
        f"{row[label]} {row['dtype']} {row['layout']}" if many else row[label]
        for row in rows
    ]
    axes.set_yticks([y + 0.4 for y in range(len(rows))], ticks, fontsize=7)
    axes.set(
        xscale="log", title="torch's time / torchconv's (above 1: torchconv faster)"
    )
    axes.axvline(1, color="black", linewidth=0.8)
    axes.invert_yaxis()
    axes.legend()


def fitted_exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The slope of log(seconds) over log(sizes), by least squares."""
    xs, ys = [math.log(x) for x in sizes], [math.log(y) for y in seconds]
    middle_x, middle_y = sum(xs) / len(xs), sum(ys) / len(ys)
    over = sum((x - middle_x) * (y - middle_y) for x, y in zip(xs, ys))
    under = sum((x - middle_x) ** 2 for x in xs)
    return over / under if under else math.nan


def draw_curves(
    title: str,
    curves: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]],
    path: Path,
) -> None:
    """A panel for each sweep: seconds of both sides over the size that grew."""
    plt = _pyplot()
    columns = min(len(curves), 3)
    rows = -(-len(curves) // columns)
    size = (4.2 * columns, 3.4 * rows)
    figure, axes = plt.subplots(
        rows, columns, figsize=size, layout="constrained", squeeze=False
    )
    for panel in axes.flat[len(curves) :]:
        panel.remove()
    for panel, (name, sides) in zip(axes.flat, curves.items()):
        panel.set(xscale="log", yscale="log", xlabel=name, ylabel="ms")
        for side, points in sides.items():
            xs, ys = zip(*points)
            slope = fitted_exponent(xs, ys)
            colour = THEIRS if side == "torch" else OURS
            panel.plot(
                xs,
                [y * 1e3 for y in ys],
                "o-",
                color=colour,
                label=f"{side}: exponent {slope:.2f}",
            )
        panel.set_xticks(xs, [f"{x:g}" for x in xs])
        panel.minorticks_off()
        panel.legend(fontsize=7)
    figure.suptitle(title)
    figure.savefig(path, format="png")
    plt.close(figure)
