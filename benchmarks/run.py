"""torchconv-bench run: layers one after another, torch and torchconv in turn."""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from torchconv import functional

from . import document as documents
from . import options as shared
from . import plot, report
from .layers import Layer
from .machine import environment, measure_roofline
from .measure import Failure, Result, Setting, measure

INTERRUPTED = 130  # as a shell reports Ctrl-C
Item = TypeVar("Item")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    shared.add_layers(parser)
    shared.add_setting(parser)
    shared.add_passes(parser, "fwd,train")
    shared.add_minutes(parser)
    shared.add_algorithm(parser)
    add = parser.add_argument
    add(
        "--against", default="torch", choices=("torch",), help="whom to measure against"
    )
    add("--cudnn-benchmark", action="store_true", help="let cuDNN choose by measuring")
    add("--tf32", action="store_true", help="let cuDNN compute float32 in TF32")
    add("--families", action="store_true", help="show families, not each layer")
    add("--kernels", action="store_true", help="show what ran and the memory it took")
    add("--fail-below", type=float, help="exit with 1 if a family's mean is below")
    shared.add_files(parser, "json", "csv", "md", "plot", "html")


def each(
    console: Console,
    items: Iterable[Item],
    name: Callable[[Item], str],
    work: Callable[[Item], None],
) -> bool:
    """Calls work with each item under a progress bar.

    Returns:
        Whether all were done: Ctrl-C ends the loop and keeps what was measured.
    """
    items = list(items)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=len(items))
        try:
            for item in items:
                bar.update(task, description=escape(name(item)))
                work(item)
                bar.advance(task)
        except KeyboardInterrupt:
            return False
    return True


def header(console: Console, command: str, device: str) -> dict[str, str]:
    """Prints and returns the environment."""
    found = environment(command, device)
    for name, value in found.items():
        console.print(f"{name}: {escape(value)}", soft_wrap=True)
    return found


def main(options: argparse.Namespace, console: Console, command: str) -> int:
    """Measures, prints and writes.

    Returns:
        1 if a result is wrong, a layer failed or a family is too slow; 130 after Ctrl-C.
    """
    shared.prepare(options)
    if options.device == "cuda":
        torch.backends.cudnn.benchmark = options.cudnn_benchmark
        torch.backends.cudnn.allow_tf32 = options.tf32
        torch.backends.cuda.matmul.allow_tf32 = options.tf32
    layers, remarks = shared.chosen_layers(options)
    wanted, skipped = shared.jobs(layers, options)
    for remark in remarks:
        console.print(f"not recorded: {escape(remark)}", soft_wrap=True)
    if not wanted:
        raise ValueError(
            f"no layer is left to measure: {skipped[0][0]} has {skipped[0][1]}"
            if skipped
            else "no layer has such a word in its id or family"
        )
    found_environment = header(console, command, options.device)
    roofline = measure_roofline(options.dtype, options.device)
    found: list[Result | Failure] = []
    in_time = shared.clock(options.minutes)
    order = {(job[0].id, job[1]): place for place, job in enumerate(wanted)}
    if options.minutes is not None:  # what there is no time for is of every kind
        random.Random(0).shuffle(wanted)

    def work(job: tuple[Layer, Setting]) -> None:
        if in_time():
            found.extend(measure(job[0], functional, job[1]))
        else:
            skipped.append((job[0].id, shared.OUT_OF_TIME))

    finished = each(console, wanted, lambda job: job[0].id, work)
    found.sort(key=lambda one: order[one.layer.id, one.setting])
    document = documents.build(
        found_environment,
        {
            "passes": options.passes,
            "budget": options.budget,
            "finished": finished,
        },
        roofline,
        found,
        skipped,
        options.threads,
    )
    for line in report.roofline_lines(document):
        console.print(line, soft_wrap=True)
    report.print_document(console, document, options.families)
    if options.kernels:
        table = report.kernel_table(document["layers"])
        report.print_table(console, "Kernels and memory", *table)
    console.print(f"to reproduce: {escape(command)}", soft_wrap=True)
    if options.json:
        documents.write(document, options.json)
    files = {kind: getattr(options, kind) for kind in ("csv", "md", "plot", "html")}
    report.write_all(document, files, plot.draw)
    if not finished:
        console.print(f"interrupted: {len(found)} results kept of {len(wanted)} layers")
        return INTERRUPTED
    return verdict(console, document, options.fail_below)


def verdict(
    console: Console, document: documents.Document, fail_below: float | None
) -> int:
    """1 if a result is wrong, a layer failed or a family's mean is below a limit."""
    slow = [
        f"{row['family']} {row['dtype']} {row['layout']} {name} {found['speedup']:.2f}"
        for row in document["families"]
        for name, found in row["passes"].items()
        if fail_below is not None and found["speedup"] < fail_below
    ]
    if slow:
        console.print(f"below {fail_below:g}: {', '.join(slow)}")
    wrong = any(not row["correct"] for row in document["layers"])
    return int(bool(slow or wrong or document["failed"]))
