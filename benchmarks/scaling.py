"""torchconv-bench scaling: how a layer's time grows with each of its sizes."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Iterator
from dataclasses import replace

import torch
from rich.console import Console

from torchconv import functional

from . import document as documents
from . import options as shared
from . import plot, report
from .document import Row
from .layers import Layer, make_layer, parse_layer
from .measure import Failure, Result, Setting, measure
from .run import INTERRUPTED, each, header

SWEEPS = ("batch", "channels", "size", "kernel", "threads")
DEFAULT_LAYER = "conv2d:n1c32h28w28k32r3p1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add = parser.add_argument
    add("layer", nargs="?", default=DEFAULT_LAYER, metavar="LAYER")
    add(
        "--sweep",
        type=shared.one_of("sweep", SWEEPS),
        default=list(SWEEPS),
        metavar="LIST",
        help=f"of {', '.join(SWEEPS)} (default: all)",
    )
    add("--steps", type=shared.count, default=4, help="sizes in a sweep, doubling")
    shared.add_setting(parser, cache="warm")
    shared.add_passes(parser, "fwd")
    shared.add_files(parser, "json", "md", "plot")


def grown(layer: Layer, sweep: str, step: int) -> tuple[int, Layer] | None:
    """The layer with one size 2**step times as large (kernels: 2 * step larger, padded to
    keep the output's size), and that size; None if it has no such size.

    Raises:
        ValueError: its groups do not allow it.
    """
    factor = 2**step
    x, weight, options = layer.x, layer.weight, dict(layer.options)
    if sweep == "batch":
        return x[0] * factor, layer.with_batch(x[0] * factor)
    if sweep == "size":
        x = (*x[:2], *(n * factor for n in x[2:]))
        return x[2], replace(layer, x=x)
    if sweep == "channels":
        depthwise = options.get("groups", 1) == x[1] > 1
        x = (x[0], x[1] * factor, *x[2:])
        if weight is not None:
            inner = weight[1] if depthwise else weight[1] * factor
            weight = (weight[0] * factor, inner, *weight[2:])
        if depthwise:
            options["groups"] = x[1]
        grew = make_layer(layer.function, x, weight, layer.bias, options)
        return x[1], grew
    if weight is None or "transpose" in layer.function:
        return None
    kernel = tuple(r + 2 * step for r in weight[2:])
    padding = options.get("padding", 0)
    if isinstance(padding, str):
        return None
    pads = padding if isinstance(padding, tuple) else (padding,) * len(kernel)
    options["padding"] = tuple(p + step for p in pads)
    grew = make_layer(layer.function, x, (*weight[:2], *kernel), layer.bias, options)
    return kernel[-1], grew


def points(
    layer: Layer, sweeps: list[str], steps: int
) -> Iterator[tuple[str, int, Layer, int]]:
    """Sweep, size, layer and threads of each measurement."""
    for sweep in sweeps:
        for step in range(steps):
            if sweep == "threads":
                threads = 2**step
                if threads <= (os.cpu_count() or 1):
                    yield sweep, threads, layer, threads
                continue
            found = grown(layer, sweep, step)
            if found is not None:
                yield sweep, found[0], found[1], 0


def main(options: argparse.Namespace, console: Console, command: str) -> int:
    """Measures, prints each sweep and its exponents, and draws them.

    Returns:
        1 if a layer failed or is wrong.
    """
    shared.prepare(options)
    layer = parse_layer(options.layer)
    environment = header(console, command, options.device)
    rows: list[Row] = []
    troubles: list[str] = []

    def work(job: tuple[Setting, tuple[str, int, Layer, int]]) -> None:
        setting, (sweep, size, one, threads) = job
        torch.set_num_threads(threads or max(1, options.threads))
        for result in measure(one, functional, setting):
            if isinstance(result, Failure):
                troubles.append(f"{one.spec}: {result.error}")
            elif not result.correct:
                troubles.append(f"{one.spec}: WRONG, error {result.error:.1e}")
            else:
                rows.extend(_rows(result, sweep, size))

    wanted = [
        (replace(setting, observe=False), point)
        for setting in shared.settings(options)
        for point in points(layer, options.sweep, max(1, options.steps))
    ]
    finished = each(console, wanted, lambda job: f"{job[1][0]} {job[1][1]}", work)
    torch.set_num_threads(max(1, options.threads))
    columns = ("sweep", "dtype", "layout", "pass", "size", "torch ms", "torchconv")
    columns += ("ratio",)
    table = [
        (
            *(row["sweep"], row["dtype"], row["layout"], report.TITLES[row["pass"]]),
            str(row["size"]),
            report.milliseconds(row["torch"]),
            report.milliseconds(row["torchconv"]),
            f"{row['torch'] / row['torchconv']:.2f}",
        )
        for row in rows
    ]
    report.print_table(console, layer.spec, columns, table, text=1)
    fits = exponents(rows)
    names = ("sweep", "dtype", "layout", "pass", "torch", "torchconv")
    fitted = [
        (
            *(fit["sweep"], fit["dtype"], fit["layout"], report.TITLES[fit["pass"]]),
            f"{fit['torch']:.2f}",
            f"{fit['torchconv']:.2f}",
        )
        for fit in fits
    ]
    title = "Exponents: time grows as size to the power of"
    report.print_table(console, title, names, fitted, text=1)
    for line in troubles:
        console.print(line, soft_wrap=True)
    if options.json:
        written = documents.table_document(
            "scaling", environment, rows, layer=layer.spec, exponents=fits
        )
        documents.write(written, options.json)
    if options.md:
        lines = [
            f"# Scaling of {layer.spec}",
            "",
            *report.markdown_table(names, fitted),
        ]
        options.md.write_text(
            "\n".join([*lines, *report.markdown_table(columns, table)])
        )
    if options.plot:
        plot.draw_curves(layer.spec, curves(rows), options.plot)
    return INTERRUPTED if not finished else int(bool(troubles))


def _rows(result: Result, sweep: str, size: int) -> Iterator[Row]:
    for name, pair in result.passes.items():
        yield {
            "sweep": sweep,
            "size": size,
            "spec": result.layer.spec,
            "dtype": result.setting.dtype,
            "layout": result.setting.layout,
            "pass": name,
            "torch": pair.torch.timing.median,
            "torchconv": pair.torchconv.timing.median,
        }


_CURVE = ("sweep", "dtype", "layout", "pass")


def _grouped(rows: list[Row]) -> dict[tuple[str, ...], list[Row]]:
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in _CURVE), []).append(row)
    return {key: group for key, group in groups.items() if len(group) > 1}


def exponents(rows: list[Row]) -> list[Row]:
    """For each curve the exponent of both sides, by least squares of logarithms."""
    fits = []
    for key, group in _grouped(rows).items():
        sizes = [row["size"] for row in group]
        fit: Row = dict(zip(_CURVE, key))
        for side in ("torch", "torchconv"):
            slope = plot.fitted_exponent(sizes, [row[side] for row in group])
            fit[side] = slope if math.isfinite(slope) else 0.0
        fits.append(fit)
    return fits


def curves(rows: list[Row]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """For each curve the points of both sides."""
    return {
        " ".join(key): {
            side: [(row["size"], row[side]) for row in group]
            for side in ("torch", "torchconv")
        }
        for key, group in _grouped(rows).items()
    }
