"""A document as tables: for the terminal, as Markdown, CSV and one page of HTML."""

from __future__ import annotations

import base64
import csv
import html
import io
import math
from collections.abc import Callable
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .document import Document, Row, worst

Cells = tuple[str, ...]
TITLES = {"fwd": "fwd", "input_grad": "gx", "weight_grad": "gw", "train": "fwd+bwd"}
_TEXT = {
    "layer",
    "family",
    "dtype",
    "layout",
    "cache",
    "algorithm",
    "layers",
    "call",
    "network",
    "pass",
}


def milliseconds(seconds: float) -> str:
    """Three significant digits, and no exponent."""
    digits = max(0, 2 - math.floor(math.log10(seconds * 1e3)))
    return f"{seconds * 1e3:.{digits}f}"


def scaled(value: float, unit: str) -> str:
    """1234567 as '1.23 M' with a unit."""
    for factor, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {letter}{unit}"
    return f"{value:.3g} {unit}"


def _passes(rows: list[Row]) -> list[str]:
    return [name for name in TITLES if any(name in row["passes"] for row in rows)]


def _varying(rows: list[Row]) -> list[str]:
    """The columns that tell rows apart, of those that often do not."""
    return [
        name
        for name in ("dtype", "layout", "cache", "algorithm")
        if len({row[name] for row in rows}) > 1 or name in ("dtype", "layout")
    ]


def layer_table(rows: list[Row]) -> tuple[Cells, list[Cells]]:
    """Names and cells: for each pass torch's and torchconv's milliseconds with the
    spread of the latter, their ratio, and the share of the roofline. More passes than
    two have a line each."""
    passes, keys = _passes(rows), _varying(rows)
    several = len(passes) > 2
    lines = [[name] for name in passes] if several else [passes]
    names = ["layer", "family", *keys]
    if several:
        names += ["pass", "torch ms", "torchconv", "+-", "ratio", "of roof"]
    for name in () if several else passes:
        names += [f"torch {TITLES[name]} ms", "torchconv", "+-", "ratio", "of roof"]
    names.append("error")
    table = []
    for row in rows:
        error = f"{row['error']:.0e}" + ("" if row["correct"] else " WRONG")
        for line in lines:
            cells = [row["id"], row["family"], *(row[key] for key in keys)]
            if several:
                if line[0] not in row["passes"] and row["passes"]:
                    continue
                cells.append(TITLES[line[0]])
            for name in line:
                cells += _pass_cells(row["passes"].get(name))
            table.append((*cells, error))
    return tuple(names), table


def _pass_cells(pair: Row | None) -> list[str]:
    if pair is None:
        return ["-"] * 5
    torch, ours = pair["torch"], pair["torchconv"]
    return [
        milliseconds(torch["median"]),
        milliseconds(ours["median"]),
        f"{ours['spread'] / 2:.0%}",
        f"{pair['speedup']:.2f}",
        f"{ours['roof']:.0%}",
    ]


def family_table(rows: list[Row]) -> tuple[Cells, list[Cells]]:
    """Names and cells: for each pass the geometric mean of the ratios, the smallest of
    them and the mean share of the roofline."""
    passes, keys = _passes(rows), _varying(rows)
    names = ["family", *keys, "n"]
    for name in passes:
        names += [f"{TITLES[name]} ratio", "lowest", "of roof"]
    table = []
    for row in rows:
        cells = [row["family"], *(row[key] for key in keys), str(row["layers"])]
        for name in passes:
            found = row["passes"].get(name)
            cells += (
                ["-"] * 3
                if found is None
                else [
                    f"{found['speedup']:.2f}",
                    f"{found['slowest']:.2f}",
                    f"{found['roof']:.0%}",
                ]
            )
        table.append(tuple(cells))
    return tuple(names), table


def kernel_table(rows: list[Row]) -> tuple[Cells, list[Cells]]:
    """Names and cells: what ran, how fast and with what memory, a line for each pass."""
    sides = ("GFLOP/s", "GB/s", "peak", "workspace")
    names = ("layer", "dtype", "layout", "pass", "torch called", *sides)
    names += ("torchconv took", *sides)
    table = []
    for row in rows:
        for name, pair in row["passes"].items():
            cells = [row["id"], row["dtype"], row["layout"], TITLES[name]]
            for side in (pair["torch"], pair["torchconv"]):
                cells.append(side["kernel"] or "-")
                cells.append(f"{side['gflops']:.3g}" if row["flops"] else "-")
                cells.append(f"{side['gbs']:.3g}")
                for key in ("peak", "workspace"):
                    cells.append(scaled(side[key], "B") if key in side else "-")
            table.append(tuple(cells))
    return names, table


def roofline_lines(document: Document) -> list[str]:
    """The two ceilings in words."""
    roofline = document["roofline"]
    lines = [
        f"{dtype} multiply-adds: {scaled(rate, 'FLOP/s')}"
        for dtype, rate in roofline["flops"].items()
    ]
    classes = ", ".join(
        f"{rate / 1e9:.0f} ({size / 2**20:g} MiB)" for size, rate in roofline["copies"]
    )
    lines.append(f"copies, GB/s read and written, by footprint: {classes}")
    return lines


def print_table(
    console: Console, title: str, names: Cells, rows: list[Cells], text: int = 0
) -> None:
    """A table with numbers to the right; the first `text` columns and those known to
    hold words to the left."""
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(names):
        words = name in _TEXT or place < text
        table.add_column(name, justify="left" if words else "right", no_wrap=words)
    for row in rows:
        table.add_row(*map(escape, row))
    console.print(table)


def print_document(console: Console, document: Document, only_families: bool) -> None:
    """Layers, families and the worst layers, the worst last; then what went wrong."""
    layers = document["layers"]
    if layers:
        if not only_families:
            print_table(console, "Layers", *layer_table(layers))
        title = "Families: geometric means of torch's time over torchconv's"
        print_table(console, title, *family_table(document["families"]))
        title = "Worst layers, the worst last"
        print_table(console, title, *layer_table(worst(layers)))
    for line in trouble(document):
        console.print(escape(line), soft_wrap=True)


def trouble(document: Document) -> list[str]:
    """A line for each layer that was not measured, failed or is wrong."""
    lines = [f"not measured: {s['id']}: {s['reason']}" for s in document["skipped"]]
    lines += [
        f"failed: {f['id']} ({f['dtype']}, {f['layout']}, {f['algorithm']}): {f['error']}"
        for f in document["failed"]
    ]
    lines += [
        f"WRONG, not timed: {r['id']} ({r['dtype']}, {r['layout']}, {r['algorithm']}): "
        f"error {r['error']:.1e}"
        for r in document["layers"]
        if not r["correct"]
    ]
    return lines


def markdown_table(names: Cells, rows: list[Cells]) -> list[str]:
    """Lines of Markdown."""
    lines = [names, tuple("---" for _ in names), *rows]
    return ["| " + " | ".join(line) + " |" for line in lines] + [""]


EXPLANATION = (
    "Medians of interleaved calls on random data; a ratio is torch's time over "
    "torchconv's: above 1, torchconv is faster. +- is half the interquartile range. "
    "'of roof' is the least time that the measured multiply-add rate and copy bandwidth "
    "allow, over the time taken; algorithms that multiply less can pass 100 %. "
    "Errors are against torch in float64, relative to the largest value. Arguments are "
    "{cache}."
)
_CACHES = {
    "cold": "taken in turn from sets larger than the last-level cache (cold)",
    "warm": "the same tensors in every call (warm)",
}


def explanation(document: Document) -> str:
    """What the tables hold."""
    found = dict.fromkeys(row["cache"] for row in document["layers"])
    return EXPLANATION.format(cache=" or ".join(_CACHES[name] for name in found))


def as_markdown(document: Document) -> str:
    """The whole document."""
    layers = document["layers"]
    text = ["# torchconv against torch", ""]
    text += [f"- {k}: `{v}`" for k, v in document["environment"].items()]
    text += [f"- {line}" for line in roofline_lines(document)]
    text += ["", explanation(document), ""]
    sections: list[tuple[str, tuple[Cells, list[Cells]]]] = []
    if layers:
        sections = [
            ("Families", family_table(document["families"])),
            ("Layers", layer_table(layers)),
            ("Kernels and memory", kernel_table(layers)),
            ("Worst layers, the worst last", layer_table(worst(layers))),
        ]
    for title, table in sections:
        text += [f"## {title}", "", *markdown_table(*table)]
    lines = trouble(document)
    if lines:
        text += ["## Not measured", "", *(f"- {line}" for line in lines)]
    return "\n".join(text).rstrip() + "\n"


def as_csv(document: Document) -> str:
    """A line for each layer and pass."""
    keys = ("id", "spec", "family", "dtype", "layout", "cache", "threads", "algorithm")
    totals = ("flops", "bytes", "error", "torch_error", "correct")
    side = ("median", "fastest", "spread", "samples", "gflops", "gbs", "roof")
    side += ("peak", "workspace")
    sides = ("torch", "torchconv")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [*keys, *totals, "pass", "speedup", "floor"]
    for which in sides:
        names += [f"{which}_{name}" for name in (*side, "kernel")]
    writer.writerow(names)
    for row in document["layers"]:
        start = [row[key] for key in (*keys, *totals)]
        for name, pair in row["passes"].items():
            cells = [*start, name, pair["speedup"], pair["floor"]]
            for which in sides:
                cells += [pair[which].get(key, "") for key in (*side, "kernel")]
            writer.writerow(cells)
        if not row["passes"]:
            writer.writerow(start)
    return out.getvalue()


_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 110rem;
       padding: 0 1rem; color: #1b1f24; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #d8dee4; }
th:first-child, td:first-child, td.text { text-align: left; }
th { position: sticky; top: 0; background: #f3f5f7; }
td.slow { background: #fbe3e0; } td.fast { background: #e3f3e6; }
img { max-width: 100%; } code { background: #f3f5f7; padding: .1rem .3rem; }
"""


def as_html(document: Document, image: bytes | None = None) -> str:
    """One page without other files; image: a PNG to show on top."""
    layers = document["layers"]
    body = ["<h1>torchconv against torch</h1>", "<ul>"]
    for name, value in document["environment"].items():
        body.append(f"<li>{html.escape(name)}: <code>{html.escape(value)}</code></li>")
    body += [f"<li>{html.escape(line)}</li>" for line in roofline_lines(document)]
    body += ["</ul>", f"<p>{html.escape(explanation(document))}</p>"]
    if image is not None:
        data = base64.b64encode(image).decode()
        body.append(
            f'<img alt="roofline and ratios" src="data:image/png;base64,{data}">'
        )
    if layers:
        for title, table in (
            ("Families", family_table(document["families"])),
            ("Worst layers, the worst last", layer_table(worst(layers))),
            ("Layers", layer_table(layers)),
            ("Kernels and memory", kernel_table(layers)),
        ):
            body += [f"<h2>{title}</h2>", _html_table(*table)]
    body += [f"<p>{html.escape(line)}</p>" for line in trouble(document)]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>torchconv against torch</title><style>{_STYLE}</style></head>\n<body>"
        + "\n".join(body)
        + "</body></html>\n"
    )


def _html_table(names: Cells, rows: list[Cells]) -> str:
    lines = ["<table><thead><tr>"]
    lines += [f"<th>{html.escape(name)}</th>" for name in names]
    lines.append("</tr></thead><tbody>")
    for row in rows:
        cells = []
        for name, cell in zip(names, row):
            kind = _kind(name, cell)
            cells.append(f"<td{kind}>{html.escape(cell)}</td>")
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return "\n".join([*lines, "</tbody></table>"])


def _kind(name: str, cell: str) -> str:
    if name in _TEXT or "called" in name or "took" in name:
        return ' class="text"'
    if "ratio" in name or name == "lowest":
        try:
            return f' class="{"slow" if float(cell) < 0.95 else "fast"}"'
        except ValueError:
            return ""
    return ""


def write_all(
    document: Document,
    files: dict[str, Path | None],
    draw: Callable[[Document, Path], None],
) -> None:
    """Writes the files that were asked for, by kind: md, csv, plot, html."""
    for path in files.values():
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
    if files.get("md") is not None:
        files["md"].write_text(as_markdown(document))  # type: ignore[union-attr]
    if files.get("csv") is not None:
        files["csv"].write_text(as_csv(document))  # type: ignore[union-attr]
    image = None
    plot, page = files.get("plot"), files.get("html")
    if plot is not None:
        draw(document, plot)
        image = plot.read_bytes()
    if page is not None:
        if image is None:
            picture = page.with_suffix(".plot.png")
            draw(document, picture)
            image = picture.read_bytes()
            picture.unlink()
        page.write_text(as_html(document, image))
