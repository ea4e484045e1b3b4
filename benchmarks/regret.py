"""torchconv-bench regret: the planner's choice against the best algorithm, measured."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.markup import escape

from torchconv import functional
from torchconv._config import ALGORITHMS, AUTO, AUTO_EXACT

from . import document as documents
from . import options as shared
from . import report
from .document import Row
from .layers import Layer
from .measure import Case, Setting, check, explanation, reason, results_of
from .run import INTERRUPTED, each, header
from .timing import interleaved

CLOSE = 0.05  # a choice this close to the best counts as right
Chooser = Callable[[Case, str], str | None]
"""The algorithm that is taken for a pass of a case; None: nobody knows."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    shared.add_layers(parser)
    shared.add_setting(parser, cache="warm")
    shared.add_passes(parser, "fwd,input_grad,weight_grad")
    shared.add_minutes(parser)
    parser.add_argument(
        "--fail-above",
        type=shared.seconds,
        metavar="SHARE",
        help="exit with 1 if the regret in sum is above, such as 0.05",
    )
    shared.add_files(parser, "json", "md")


def planner(case: Case, which: str) -> str | None:
    """The choice of "auto", as torchconv.explain has it."""
    explained = explanation(case)
    for plan in () if explained is None else explained.passes:
        if plan.result in results_of(which) and plan.chosen is not None:
            return str(plan.chosen.name)
    return None


def measure_regret(
    layer: Layer,
    ours: ModuleType,
    setting: Setting,
    choose: Chooser = planner,
) -> list[Row]:
    """Times every algorithm that computes a layer right, pass by pass.

    Returns:
        A row for each pass: seconds by algorithm, the chosen one and the best, and
        regret, which is the chosen one's time over the best one's, less 1.
    """
    case = Case(layer, setting)
    checked, _ = check(case, ours)
    rows = []
    for which in setting.passes:
        names = [one.result.algorithm for one in checked if which in one.passes]
        chosen = choose(case, which)
        if not names or chosen not in names:
            continue
        turns = {name: case.turn(which, ours, name) for name in names}
        found = interleaved(
            turns, setting.budget, setting.device, settle=not setting.cold
        )
        seconds = {name: timing.median for name, timing in found.items()}
        best = min(seconds, key=lambda name: seconds[name])
        rows.append(
            {
                "id": layer.id,
                "spec": layer.spec,
                "family": layer.family,
                "dtype": setting.dtype,
                "layout": setting.layout,
                "pass": which,
                "chosen": chosen,
                "best": best,
                "seconds": seconds,
                "regret": seconds[chosen] / seconds[best] - 1,
            }
        )
    return rows


def summary(rows: list[Row]) -> dict[str, Any]:
    """In sum: the share of choices within CLOSE of the best, and the regret of the sum of
    the chosen times."""
    chosen = sum(row["seconds"][row["chosen"]] for row in rows)
    best = sum(row["seconds"][row["best"]] for row in rows)
    close = sum(row["regret"] <= CLOSE for row in rows)
    return {
        "choices": len(rows),
        "close": close / len(rows),
        "chosen_seconds": chosen,
        "best_seconds": best,
        "regret": chosen / best - 1,
    }


def main(options: argparse.Namespace, console: Console, command: str) -> int:
    """Measures and prints, the largest regret last.

    Returns:
        1 if the regret in sum is above --fail-above.
    """
    shared.prepare(options)
    if "train" in options.passes:
        raise ValueError("argument --pass: train takes several algorithms at once")
    layers, _ = shared.chosen_layers(options)
    layers = [layer for layer in layers if layer.is_conv]
    wanted, skipped = shared.jobs(layers, options)
    if not wanted:
        raise ValueError("no convolution is left to measure")
    environment = header(console, command, options.device)
    names = tuple(n for n in ALGORITHMS if n not in (AUTO, AUTO_EXACT))
    rows: list[Row] = []
    failed: list[str] = []

    in_time = shared.clock(options.minutes)

    def work(job: tuple[Layer, Setting]) -> None:
        layer, setting = job
        if not in_time():
            skipped.append((layer.id, shared.OUT_OF_TIME))
            return
        try:
            rows.extend(
                measure_regret(layer, functional, replace(setting, algorithms=names))
            )
        except Exception as error:  # noqa: BLE001 whatever a layer raises is reported
            failed.append(f"{layer.id}: {reason(error)}")

    finished = each(console, wanted, lambda job: job[0].id, work)
    for name, why in skipped:
        console.print(f"not measured: {name}: {why}")
    for line in failed:
        console.print(f"failed: {escape(line)}", soft_wrap=True)
    if not rows:
        raise ValueError("no algorithm was measured")
    rows.sort(key=lambda row: row["regret"])
    columns, table = regret_table(rows)
    report.print_table(console, "Regret, the largest last", columns, table)
    total = summary(rows)
    text = summary_text(total)
    console.print(text)
    if options.json:
        written = documents.table_document("regret", environment, rows, summary=total)
        documents.write(written, options.json)
    if options.md:
        lines = ["# The planner's choices", "", text, ""]
        options.md.write_text(
            "\n".join([*lines, *report.markdown_table(columns, table)])
        )
    if not finished:
        return INTERRUPTED
    limit = options.fail_above
    return int(bool(failed) or (limit is not None and total["regret"] > limit))


def summary_text(total: dict[str, Any]) -> str:
    """The summary in one sentence."""
    return (
        f"{total['close']:.0%} of {total['choices']} choices are within {CLOSE:.0%} of "
        f"the best; in sum they take {total['chosen_seconds'] * 1e3:.1f} ms, the best "
        f"{total['best_seconds'] * 1e3:.1f} ms: regret {total['regret']:.1%}"
    )


def regret_table(rows: list[Row]) -> tuple[report.Cells, list[report.Cells]]:
    """Names and cells, with a column of milliseconds for each algorithm."""
    algorithms = list(dict.fromkeys(name for row in rows for name in row["seconds"]))
    columns = ("layer", "family", "dtype", "layout", "pass", *algorithms)
    columns += ("chosen", "best", "regret")
    table = []
    for row in rows:
        cells = [row["id"], row["family"], row["dtype"], row["layout"]]
        cells.append(report.TITLES[row["pass"]])
        for name in algorithms:
            found = row["seconds"].get(name)
            cells.append("-" if found is None else report.milliseconds(found))
        cells += [row["chosen"], row["best"], f"{row['regret']:.0%}"]
        table.append(tuple(cells))
    return columns, table
