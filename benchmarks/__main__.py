"""python -m benchmarks: the layers of a suite, torch and torchconv in turn."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from torchconv import functional

from . import report
from .measure import Result, measure
from .suites import FORMATS, SUITES, Layer, read, select

DTYPES = ("float32", "float64", "float16", "bfloat16")


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Times torch against torchconv, layer by layer, in turn. "
        "A speed-up above 1 means that torchconv is faster.",
    )
    add = parser.add_argument
    add("--suite", nargs="+", default=list(SUITES), help="conv, pool or a CSV file")
    add(
        "--only",
        nargs="+",
        default=[],
        metavar="WORD",
        help="in a layer's id or family",
    )
    add("--batch", type=int, default=1, help="batch size; 0: as the suite says")
    add("--threads", type=int, default=1)
    add("--dtype", nargs="+", default=["float32"], choices=DTYPES)
    add("--layout", default="nchw", choices=("nchw", "channels_last", "both"))
    add("--budget", type=float, default=0.5, help="seconds for a timing of a layer")
    add("--max-gflop", type=float, default=60, help="skip layers with more, forward")
    add("--max-gib", type=float, default=2, help="skip layers with larger tensors")
    add(
        "--families", action="store_true", help="show the families only, not each layer"
    )
    add("--fail-below", type=float, help="exit with 1 if a family's mean is below")
    add("--json", type=Path, metavar="FILE")
    add("--md", type=Path, metavar="FILE")
    return parser.parse_args(arguments)


def reason_to_skip(
    layer: Layer, dtype: torch.dtype, options: argparse.Namespace
) -> str:
    """Why a layer is not measured; "" if it is."""
    gflop, gib = layer.flops() / 1e9, layer.bytes(dtype) / 2**30
    if gflop > options.max_gflop:
        return f"{gflop:.0f} GFLOP, more than --max-gflop {options.max_gflop:g}"
    if gib > options.max_gib:
        return f"{gib:.1f} GiB of tensors, more than --max-gib {options.max_gib:g}"
    return ""


def print_table(
    console: Console, title: str, header: report.Row, rows: list[report.Row]
) -> None:
    """A table with numbers to the right."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for name in header:
        is_text = name in ("layer", "family", "dtype", "layout")
        table.add_column(name, justify="left" if is_text else "right", no_wrap=is_text)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def main(arguments: list[str]) -> int:
    """Measures, prints and writes; 1 if a result is wrong or a family too slow."""
    options = parse(arguments)
    torch.set_num_threads(options.threads)
    wide = None if sys.stdout.isatty() else 160
    console = Console(width=wide, highlight=False)
    header = report.environment(shlex.join(["python", "-m", "benchmarks", *arguments]))
    for name, value in header.items():
        console.print(f"{name}: {escape(value)}", soft_wrap=True)
    layers = [
        layer
        for suite in options.suite
        for layer in select(read(suite, options.batch or None), options.only)
    ]
    layouts = {"nchw": [False], "channels_last": [True], "both": [False, True]}
    jobs = [
        (layer, getattr(torch, dtype), channels_last)
        for dtype in options.dtype
        for channels_last in layouts[options.layout]
        for layer in layers
        if not channels_last or layer.dimensions in FORMATS
    ]
    results: list[Result] = []
    skipped: list[tuple[str, str]] = []
    columns = (TextColumn("{task.description}"), MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task("", total=len(jobs))
        for layer, dtype, channels_last in jobs:
            bar.update(task, description=layer.id)
            reason = reason_to_skip(layer, dtype, options)
            if reason:
                skipped.append((layer.id, reason))
            else:
                results.append(
                    measure(layer, functional, dtype, channels_last, options.budget)
                )
            bar.advance(task)

    for name, reason in skipped:
        console.print(f"not measured: {name}: {reason}")
    if not results:
        console.print("no layer was measured")
        return 1
    if not options.families:
        rows = [report.layer_row(result) for result in results]
        print_table(console, "Layers", report.LAYER_HEADER, rows)
    title = "Families: geometric means of the speed-ups"
    print_table(console, title, report.FAMILY_HEADER, report.family_rows(results))
    rows = report.worst_rows(results)
    print_table(console, "Worst layers, the worst last", report.LAYER_HEADER, rows)
    if options.json:
        options.json.write_text(report.as_json(header, results, skipped))
    if options.md:
        options.md.write_text(report.as_markdown(header, results, skipped))

    wrong = [result.layer.id for result in results if not result.correct]
    if wrong:
        console.print(f"wrong results: {', '.join(wrong)}")
    slow = [
        " ".join(key)
        for key, (_, *means) in report.families(results).items()
        if options.fail_below and min(means) < options.fail_below
    ]
    if slow:
        console.print(f"below {options.fail_below:g}: {', '.join(slow)}")
    return 1 if wrong or slow else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
