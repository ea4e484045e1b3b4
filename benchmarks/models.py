"""torchconv-bench models: whole networks, as they are and converted."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from torch import Tensor, nn

import torchconv

from . import document as documents
from . import options as shared
from . import report, zoo
from .document import Row
from .layers import FORMATS
from .measure import TOLERANCE, Setting, difference, reason
from .observe import memory_of
from .record import load_model, parse_shape
from .run import INTERRUPTED, each, header
from .timing import interleaved

# Rounding grows on the way through a network.
DEPTH = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add = parser.add_argument
    known = ", ".join(zoo.MODELS)
    add("names", nargs="*", metavar="NAME", help=f"of {known} (default: all)")
    add("--model", metavar="PACKAGE.MODULE:FACTORY", help="another network")
    add("--input", metavar="SHAPE", help="of that network: 1x3x224x224")
    add("--batch", type=shared.count, help="batch size (default: 1)")
    add("--forward-only", action="store_true", help="no training steps")
    shared.add_setting(parser, cache=None)
    shared.add_files(parser, "json", "md")


def chosen_models(
    options: argparse.Namespace,
) -> dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]:
    """Factories and shapes by name.

    Raises:
        ValueError: an unknown name, or --model without --input.
    """
    found: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {}
    if options.model:
        if not options.input:
            raise ValueError("--model needs --input, the shape of its argument")
        found[options.model] = (
            lambda: load_model(options.model),
            parse_shape(options.input),
        )
    names = options.names or ([] if options.model else list(zoo.MODELS))
    for name in names:
        if name not in zoo.MODELS:
            known = ", ".join(zoo.MODELS)
            raise ValueError(f"model {name!r} is none of {known}")
        found[name] = (zoo.MODELS[name], zoo.INPUTS[name])
    if options.batch:
        found = {
            name: (make, (options.batch, *shape[1:]))
            for name, (make, shape) in found.items()
        }
    return found


def measure_model(
    make: Callable[[], nn.Module],
    shape: tuple[int, ...],
    setting: Setting,
    forward_only: bool,
) -> Row:
    """A row of one network: seconds, memory and error of both sides.

    Raises:
        Exception: whatever the network raises.
    """
    torch.manual_seed(0)
    theirs = make()
    x = torch.randn(shape)
    theirs, x = theirs.to(setting.device), x.to(setting.device)
    exact = copy.deepcopy(theirs).double().eval()
    with torch.no_grad():
        reference = exact(x.double())
    del exact
    theirs, x = theirs.to(setting.torch_dtype), x.to(setting.torch_dtype)
    if setting.channels_last:
        form = FORMATS[x.dim() - 2]
        theirs, x = theirs.to(memory_format=form), x.contiguous(memory_format=form)  # type: ignore[call-overload]
    ours = copy.deepcopy(theirs)
    torchconv.convert(ours)
    sides = {"torch": theirs, "torchconv": ours}
    row: Row = {"dtype": setting.dtype, "layout": setting.layout, "shape": list(shape)}
    errors = {}
    with torch.no_grad():
        for name, model in sides.items():
            errors[name] = difference(model.eval()(x), reference)
    row["error"], row["torch_error"] = errors["torchconv"], errors["torch"]
    limit = max(DEPTH * TOLERANCE[setting.dtype], 2 * errors["torch"])
    row["correct"] = errors["torchconv"] <= limit
    row["passes"] = {}
    if not row["correct"]:
        return row
    steps: dict[str, Callable[[nn.Module, Tensor], Callable[[int], Any]]] = {
        "fwd": _inference
    }
    if not forward_only:
        steps["train"] = _training
    for which, make_step in steps.items():
        turns = {name: make_step(model, x) for name, model in sides.items()}
        timings = interleaved(turns, setting.budget, setting.device)
        row["passes"][which] = {
            name: {
                **vars(timings[name]),
                **vars(memory_of(lambda turn=turns[name]: turn(0), setting.device)),
            }
            for name in sides
        }
    return row


def _inference(model: nn.Module, x: Tensor) -> Callable[[int], Any]:
    model.eval()

    def step(_: int) -> Any:
        with torch.no_grad():
            return model(x)

    return step


def _training(model: nn.Module, x: Tensor) -> Callable[[int], Any]:
    """Forward and backward; no optimizer, which is the same on both sides."""
    model.train()
    parameters = list(model.parameters())

    def step(_: int) -> Any:
        return torch.autograd.grad(model(x).float().square().mean(), parameters)

    return step


def main(options: argparse.Namespace, console: Console, command: str) -> int:
    """Measures and prints.

    Returns:
        1 if a network failed or is wrong.
    """
    shared.prepare(options)
    options.passes = []
    models = chosen_models(options)
    wanted = [
        (name, setting)
        for setting in shared.settings(options)
        for name, (_, shape) in models.items()
        if not setting.channels_last or len(shape) - 2 in FORMATS
    ]
    environment = header(console, command, options.device)
    rows: list[Row] = []
    failed: list[str] = []

    def work(job: tuple[str, Setting]) -> None:
        name, setting = job
        try:
            row = measure_model(*models[name], setting, options.forward_only)
        except Exception as error:  # noqa: BLE001 whatever a network raises is reported
            failed.append(f"{name}: {reason(error)}")
        else:
            rows.append({"id": name, **row})

    finished = each(console, wanted, lambda job: job[0], work)
    names, table = model_table(rows)
    report.print_table(console, "Networks", names, table)
    for line in failed:
        console.print(f"failed: {escape(line)}", soft_wrap=True)
    if options.json:
        documents.write(
            documents.table_document("models", environment, rows), options.json
        )
    if options.md:
        options.md.write_text(
            "\n".join(["# Networks", "", *report.markdown_table(names, table)])
        )
    if not finished:
        return INTERRUPTED
    return int(bool(failed) or not all(row["correct"] for row in rows))


def model_table(rows: list[Row]) -> tuple[report.Cells, list[report.Cells]]:
    """Names and cells."""
    passes = list(dict.fromkeys(name for row in rows for name in row["passes"]))
    names = ["network", "input", "dtype", "layout"]
    for name in passes:
        names += [f"torch {report.TITLES[name]} ms", "torchconv", "ratio"]
        names += ["torch peak", "torchconv peak"]
    table = []
    for row in rows:
        cells = [
            row["id"],
            "x".join(map(str, row["shape"])),
            row["dtype"],
            row["layout"],
        ]
        for name in passes:
            found = row["passes"].get(name)
            if found is None:
                cells += ["-"] * 5
                continue
            torch_side, ours = found["torch"], found["torchconv"]
            cells += [report.milliseconds(s["median"]) for s in (torch_side, ours)]
            cells.append(f"{torch_side['median'] / ours['median']:.2f}")
            cells += [report.scaled(s["peak"], "B") for s in (torch_side, ours)]
        error = f"{row['error']:.0e}" + ("" if row["correct"] else " WRONG")
        table.append((*cells, error))
    return (*names, "error"), table
