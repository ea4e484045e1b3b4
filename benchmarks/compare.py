"""torchconv-bench compare: two JSON files of run, layer by layer."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from . import document as documents
from . import report
from .document import Document, Row, geometric_mean

# What makes two measurements of a pass the same measurement.
KEYS = ("spec", "dtype", "layout", "cache", "threads", "algorithm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add = parser.add_argument
    add("before", type=Path, metavar="A.json")
    add("after", type=Path, metavar="B.json")
    add(
        "--by",
        default="ratio",
        choices=("ratio", "time"),
        help="ratio: of torch's time over torchconv's in B to that in A, which another "
        "machine state does not change (default); time: torchconv's in A over that in B",
    )
    add(
        "--fail-below",
        type=float,
        help="exit with 1 if a change is below, such as 0.95",
    )
    add("--only", nargs="+", default=[], metavar="WORD", help="in an id or a family")
    add("--json", type=Path, metavar="FILE")
    add("--md", type=Path, metavar="FILE")


def changes(before: Document, after: Document, by: str, only: list[str]) -> list[Row]:
    """A row for each pass that both have; change above 1: it became faster."""
    known = {tuple(row[key] for key in KEYS): row for row in before["layers"]}
    rows = []
    for row in after["layers"]:
        old = known.get(tuple(row[key] for key in KEYS))
        named = f"{row['id']} {row['family']}"
        if old is None or (only and not any(word in named for word in only)):
            continue
        for name, new in row["passes"].items():
            if name not in old["passes"]:
                continue
            was = old["passes"][name]
            seconds = (was["torchconv"]["median"], new["torchconv"]["median"])
            ratios = (was["speedup"], new["speedup"])
            change = ratios[1] / ratios[0] if by == "ratio" else seconds[0] / seconds[1]
            rows.append(
                {
                    **{key: row[key] for key in ("id", "family", *KEYS)},
                    "pass": name,
                    "seconds": seconds,
                    "ratios": ratios,
                    "change": change,
                }
            )
    return rows


def main(options: argparse.Namespace, console: Console, command: str) -> int:
    """Prints the changes, the worst last.

    Returns:
        1 if a change is below --fail-below, or a result became wrong.

    Raises:
        ValueError: a file cannot be read, or they have nothing in common.
    """
    before = documents.load(options.before)
    after = documents.load(options.after)
    rows = changes(before, after, options.by, options.only)
    if not rows:
        raise ValueError(
            f"{options.before} and {options.after} have no measurement in common"
        )
    for name in ("commit", "cpu", "gpu", "torch", "threads"):
        pair = [d["environment"].get(name) for d in (before, after)]
        if pair[0] != pair[1]:
            console.print(f"{name}: {pair[0]} -> {pair[1]}")
    rows.sort(key=lambda row: -row["change"])
    names = ("layer", "family", "dtype", "layout", "pass")
    names += ("ms before", "after", "ratio before", "after", "change")
    table = [
        (
            *(row["id"], row["family"], row["dtype"], row["layout"]),
            report.TITLES[row["pass"]],
            *map(report.milliseconds, row["seconds"]),
            *(f"{ratio:.2f}" for ratio in row["ratios"]),
            f"{row['change']:.2f}",
        )
        for row in rows
    ]
    report.print_table(
        console, "Changes (above 1: faster), the worst last", names, table
    )
    mean = geometric_mean(row["change"] for row in rows)
    console.print(f"geometric mean of {len(rows)} changes: {mean:.3f}")
    if options.json:
        environment = after["environment"] | {"command": command}
        written = documents.table_document("compare", environment, rows, mean=mean)
        documents.write(written, options.json)
    if options.md:
        lines = ["# Changes", "", *report.markdown_table(names, table)]
        lines += [f"Geometric mean of {len(rows)} changes: {mean:.3f}", ""]
        options.md.write_text("\n".join(lines))
    wrong = [row["id"] for row in after["layers"] if not row["correct"]]
    if wrong:
        console.print(f"WRONG in {options.after}: {', '.join(wrong)}")
    limit = options.fail_below
    slow = [row for row in rows if limit is not None and row["change"] < limit]
    if slow:
        found = ", ".join(f"{row['id']} {row['pass']}" for row in slow)
        console.print(f"below {limit:g}: {found}", soft_wrap=True)
    return int(bool(slow or wrong))
