"""torchconv-bench memory: what each call allocates, on both sides."""

from __future__ import annotations

import argparse
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape

from torchconv import functional

from . import document as documents
from . import options as shared
from . import report
from .document import Row
from .layers import Layer
from .measure import Case, Setting, reason
from .observe import memory_of
from .run import INTERRUPTED, each, header

# What a convolution may take besides its result: this many times the weight, and this
# many bytes for each thread.
WEIGHTS, PER_THREAD = 4, 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    shared.add_layers(parser)
    shared.add_setting(parser, cache=None)
    shared.add_passes(parser, "fwd,input_grad,weight_grad,train")
    shared.add_algorithm(parser)
    shared.add_files(parser, "json", "md")


def measure_memory(layer: Layer, setting: Setting, threads: int) -> list[Row]:
    """A row for each pass and algorithm: peak and workspace of both sides, and bound, the
    workspace that a convolution is meant to keep to."""
    case = Case(layer, setting)
    weight = case.sets[0].get("weight")
    bound = PER_THREAD * threads
    if weight is not None:
        bound += WEIGHTS * weight.numel() * weight.element_size()
    rows = []
    for which in setting.passes:
        if which == "weight_grad" and weight is None:
            continue
        for algorithm in setting.algorithms:
            row: dict[str, Any] = {
                "id": layer.id,
                "spec": layer.spec,
                "family": layer.family,
                "dtype": setting.dtype,
                "layout": setting.layout,
                "algorithm": algorithm,
                "pass": which,
                "bound": bound,
            }
            sides = (("torch", torch.nn.functional), ("torchconv", functional))
            for name, side in sides:
                turn = case.turn(which, side, algorithm)
                turn(0)  # what is made once is no cost of a call
                row[name] = vars(memory_of(lambda turn=turn: turn(0), setting.device))
            rows.append(row)
    return rows


def main(options: argparse.Namespace, console: Console, command: str) -> int:
    """Measures and prints.

    Returns:
        1 if a layer failed.
    """
    shared.prepare(options)
    layers, _ = shared.chosen_layers(options)
    wanted, skipped = shared.jobs(layers, options)
    environment = header(console, command, options.device)
    rows: list[Row] = []
    failed: list[str] = []

    def work(job: tuple[Layer, Setting]) -> None:
        try:
            rows.extend(measure_memory(*job, options.threads))
        except Exception as error:  # noqa: BLE001 whatever a layer raises is reported
            failed.append(f"{job[0].id}: {reason(error)}")

    finished = each(console, wanted, lambda job: job[0].id, work)
    columns = ("layer", "family", "dtype", "layout", "algorithm", "pass")
    columns += ("torch peak", "workspace", "torchconv peak", "workspace", "")
    table = [
        (
            *(row[name] for name in ("id", *columns[1:5])),
            report.TITLES[row["pass"]],
            *(
                report.scaled(row[side][what], "B")
                for side in ("torch", "torchconv")
                for what in ("peak", "workspace")
            ),
            over_bound(row),
        )
        for row in rows
    ]
    title = "Bytes allocated during a call: at most, and beyond its results"
    report.print_table(console, title, columns, table)
    over = sum(bool(over_bound(row)) for row in rows)
    text = (
        f"{over} of {len(rows)} calls take a workspace above {WEIGHTS} times the weight "
        f"and {PER_THREAD >> 20} MiB per thread"
    )
    console.print(text)
    for name, why in skipped:
        console.print(f"not measured: {name}: {why}")
    for line in failed:
        console.print(f"failed: {escape(line)}", soft_wrap=True)
    if options.json:
        documents.write(
            documents.table_document("memory", environment, rows), options.json
        )
    if options.md:
        lines = ["# Memory", "", text, "", *report.markdown_table(columns, table)]
        options.md.write_text("\n".join(lines))
    return INTERRUPTED if not finished else int(bool(failed))


def over_bound(row: Row) -> str:
    """A mark where torchconv's workspace is above the bound."""
    return "over" if row["torchconv"]["workspace"] > row["bound"] else ""
