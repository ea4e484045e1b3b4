"""python -m benchmarks.refresh: measures this machine's selection of layers, and writes
benchmarks/results/, docs/roofline.png and the README's table from what it measured.

``make bench`` runs it. ``--readme`` writes the README's table again from the files alone.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from .cli import main as bench
from .document import Document, Row, load, slowest_speedup
from .options import Parser, seconds
from .regret import summary_text
from .report import markdown_table
from .run import INTERRUPTED

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path("benchmarks/results")
PICTURE = "docs/roofline.png"
MARKS = ("<!-- benchmarks -->", "<!-- /benchmarks -->")
SLOW = 0.95
PROGRAM = "python -m benchmarks"

# Arguments, and minutes of ten at most, by name.
_POOLS_TOO = "--suite conv pooling --layout both --max-gib 0.5"
_CONVS = "--suite conv --layout both --max-gib 0.5"
SELECTIONS = {
    "cpu_float32": (f"run {_POOLS_TOO} --cache warm --max-gflop 8", 4.0),
    "cpu_float32_cold": (
        f"run {_POOLS_TOO} --cache cold --pass fwd --max-gflop 4",
        1.4,
    ),
    # Is the ratio that of one thread?
    "cpu_float32_2threads": (
        f"run {_POOLS_TOO} --cache warm --max-gflop 1 --threads 2",
        2.0,
    ),
    "cpu_float64": (f"run {_CONVS} --cache warm --dtype float64 --max-gflop 1", 0.8),
    "cpu_bfloat16": (f"run {_CONVS} --cache warm --dtype bfloat16 --max-gflop 2", 0.9),
    "regret": (f"regret {_CONVS} --max-gflop 1", 0.9),
    "overhead": ("overhead", 0.2),
    "freeze": ("freeze --dtype float32 bfloat16", 0.2),
}
BUDGET = 0.1  # seconds for each comparison, in ten minutes


def commands(minutes: float) -> dict[str, list[str]]:
    """The arguments of each selection, with their share of the time."""
    found = {}
    for name, (text, share) in SELECTIONS.items():
        budget = f"{BUDGET * minutes / 10:.3g}"
        arguments = [*shlex.split(text), "--budget", budget]
        if name not in ("overhead", "freeze"):
            arguments += ["--minutes", f"{share * minutes / 10:.3g}"]
        arguments += ["--json", str(RESULTS / f"{name}.json")]
        arguments += ["--md", str(RESULTS / f"{name}.md")]
        if name == "cpu_float32":
            arguments += ["--plot", PICTURE, "--families"]
        found[name] = arguments
    return found


def readme_table(results: Path) -> str:
    """What stands between the marks in the README, from the files in results.

    Raises:
        ValueError: a file is missing or of another version.
    """
    main = load(results / "cpu_float32.json")
    environment = main["environment"]
    where = f"{environment['cpu']}, {environment['torchconv isa']}"
    introduction = (
        "Torch's time over torchconv's, geometric mean per family: batch 1, "
        f"{environment['threads']} thread, torch {environment['torch']}, {where}. Above "
        "1, torchconv is faster. Warm: the same tensors in every call; cold: nothing in a "
        "cache. Every layer, what torch called, and the commands are in "
        "[benchmarks/results](benchmarks/results); how it is measured, in "
        "[docs/benchmarks.md](docs/benchmarks.md)."
    )
    text = [introduction, ""]
    columns = []
    for layout, title in (("nchw", "NCHW"), ("channels_last", "channels_last")):
        for document, kind in (
            (main, ""),
            (load(results / "cpu_float32_cold.json"), "cold "),
        ):
            for name, word in (("fwd", "forward"), ("train", "fwd+bwd")):
                if any(name in row["passes"] for row in document["families"]):
                    columns.append((f"{title} {kind}{word}", document, layout, name))
    text += _table("float32", columns)
    threads = load(results / "cpu_float32_2threads.json")
    columns = []
    for layout, title in (("nchw", "NCHW"), ("channels_last", "channels_last")):
        for name, word in (("fwd", "forward"), ("train", "fwd+bwd")):
            columns.append((f"{title} {word}", threads, layout, name))
    text += _table("float32, warm, 2 threads", columns)
    columns = []
    for dtype in ("float64", "bfloat16"):
        document = load(results / f"cpu_{dtype}.json")
        for layout, title in (("nchw", "NCHW"), ("channels_last", "channels_last")):
            for name, word in (("fwd", "forward"), ("train", "fwd+bwd")):
                columns.append((f"{dtype} {title} {word}", document, layout, name))
    text += _table("other dtypes, warm", columns)
    text.append(_slow_layers(main))
    text.append(_planner(load(results / "regret.json", "regret")))
    return "\n".join(text) + "\n"


Column = tuple[str, Document, str, str]


def _table(corner: str, columns: list[Column]) -> list[str]:
    families = dict.fromkeys(
        row["family"] for _, document, _, _ in columns for row in document["families"]
    )
    rows = []
    for family in sorted(families, key="all".__eq__):
        cells = [_cell(family, *column[1:]) for column in columns]
        rows.append((family, *cells))
    return markdown_table((corner, *(column[0] for column in columns)), rows)


def _cell(family: str, document: Document, layout: str, name: str) -> str:
    for row in document["families"]:
        if (row["family"], row["layout"]) == (family, layout) and name in row["passes"]:
            return f"{row['passes'][name]['speedup']:.2f}"
    return "-"


def _slow_layers(document: Document) -> str:
    timed = [row for row in document["layers"] if row["passes"]]
    slow = sorted((r for r in timed if slowest_speedup(r) < SLOW), key=slowest_speedup)
    if not slow:
        return f"No layer of {len(timed)} is slower than {SLOW} times torch's speed."
    named = ", ".join(_slow_name(row) for row in slow[:12])
    more = f" and {len(slow) - 12} more" if len(slow) > 12 else ""
    return (
        f"Of {len(timed)} float32 layers, {len(slow)} are below {SLOW} in some pass: "
        f"{named}{more}."
    )


def _slow_name(row: Row) -> str:
    return f"`{row['id']}` {row['layout']} {slowest_speedup(row):.2f}"


def _planner(document: Document) -> str:
    return f"The planner, float32: {summary_text(document['summary'])}."


def write_readme(readme: Path, table: str) -> None:
    """Puts the table between the marks.

    Raises:
        ValueError: the marks are not there.
    """
    text = readme.read_text()
    start, end = (text.find(mark) for mark in MARKS)
    if not 0 <= start < end:
        raise ValueError(f"{readme} lacks the marks {MARKS[0]} and {MARKS[1]}")
    head, tail = text[: start + len(MARKS[0])], text[end:]
    readme.write_text(f"{head}\n{table}{tail}")


def main(arguments: list[str]) -> int:
    """Measures, unless only the README is asked for, and writes.

    Returns:
        1 if a result is wrong or a layer failed.
    """
    parser = Parser(prog="python -m benchmarks.refresh", description=__doc__)
    parser.add_argument("--minutes", type=seconds, default=10, help="about so many")
    parser.add_argument(
        "--readme", action="store_true", help="from files, no measuring"
    )
    names = list(SELECTIONS)
    parser.add_argument("--selection", nargs="+", default=names, choices=names)
    options: argparse.Namespace = parser.parse_args(arguments)
    status = 0
    if not options.readme:
        for name, given in commands(options.minutes).items():
            if name not in options.selection:
                continue
            done = bench(given, PROGRAM)
            if done in (2, INTERRUPTED):
                return done
            status = max(status, done)
    try:
        write_readme(ROOT / "README.md", readme_table(ROOT / RESULTS))
    except ValueError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
