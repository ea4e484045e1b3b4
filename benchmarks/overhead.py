"""torchconv-bench overhead: what a call costs beside its arithmetic, on tiny layers."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from torch import nn

import torchconv
from torchconv import functional

from . import document as documents
from . import options as shared
from . import report
from .document import Row
from .layers import parse_layer
from .measure import Case, Setting
from .run import INTERRUPTED, each, header
from .timing import interleaved

CALLS = (
    *("conv1d:c1w1k1r1", "conv2d:c1h1k1r1", "conv2d:c1h1k1r1bias1", "conv3d:c1h1k1r1"),
    *("conv_transpose2d:c1h1k1r1", "max_pool2d:c1h2r2", "max_pool2d:c1h2r2idx1"),
    *("avg_pool2d:c1h2r2", "lp_pool2d:c1h2r2", "adaptive_avg_pool2d:c1h2out1"),
    "adaptive_max_pool2d:c1h2out1",
)
MODULES: dict[str, Callable[[Any], nn.Module]] = {
    "nn.Conv2d(1, 1, 1)": lambda n: n.Conv2d(1, 1, 1),
    "nn.ConvTranspose2d(1, 1, 1)": lambda n: n.ConvTranspose2d(1, 1, 1),
    "nn.MaxPool2d(1)": lambda n: n.MaxPool2d(1),
    "nn.AvgPool2d(1)": lambda n: n.AvgPool2d(1),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    shared.add_setting(parser, cache=None, layout=False)
    parser.add_argument(
        "--fail-above",
        type=shared.seconds,
        metavar="FACTOR",
        help="exit with 1 if a call takes more than so many times torch's",
    )
    shared.add_files(parser, "json", "md")


def contests(
    setting: Setting,
) -> dict[tuple[str, str], dict[str, Callable[[int], Any]]]:
    """Pairs of functions to time, by the call and the pass."""
    found: dict[tuple[str, str], dict[str, Callable[[int], Any]]] = {}
    for spec in CALLS:
        case = Case(parse_layer(spec), setting)
        for which in ("fwd", "train"):
            found[spec, report.TITLES[which]] = {
                "torch": case.turn(which, torch.nn.functional),
                "torchconv": case.turn(which, functional),
            }
    for name, make in MODULES.items():
        x = torch.randn(1, 1, 1, 1, dtype=setting.torch_dtype, device=setting.device)
        x.requires_grad_()
        modules = {"torch": make(nn), "torchconv": make(torchconv.nn)}
        sides = {
            side: module.to(setting.device, setting.torch_dtype)
            for side, module in modules.items()
        }
        forward = {side: _forward(module, x) for side, module in sides.items()}
        found[name, "fwd, recording"] = forward
        both = {side: _both(module, x) for side, module in sides.items()}
        found[name, report.TITLES["train"]] = both
    return found


def _forward(module: nn.Module, x: torch.Tensor) -> Callable[[int], Any]:
    return lambda _: module(x)


def _both(module: nn.Module, x: torch.Tensor) -> Callable[[int], Any]:
    leaves = [x, *module.parameters()]
    return lambda _: torch.autograd.grad(module(x), leaves)


def main(options: argparse.Namespace, console: Console, command: str) -> int:
    """Measures and prints microseconds.

    Returns:
        1 if a call takes more than --fail-above times torch's.
    """
    shared.prepare(options)
    environment = header(console, command, options.device)
    rows: list[Row] = []
    wanted = [
        (dtype, *item)
        for dtype in options.dtype
        for item in contests(Setting(dtype=dtype, device=options.device)).items()
    ]

    def work(
        item: tuple[str, tuple[str, str], dict[str, Callable[[int], Any]]],
    ) -> None:
        dtype, (call, which), sides = item
        timings = interleaved(sides, options.budget, options.device)
        seconds = {side: timing.median for side, timing in timings.items()}
        rows.append({"call": call, "pass": which, "dtype": dtype, **seconds})

    finished = each(console, wanted, lambda item: item[1][0], work)
    names = ("call", "pass", "dtype", "torch us", "torchconv us", "times torch's")
    table = [
        (
            *(row["call"], row["pass"], row["dtype"]),
            *(f"{row[side] * 1e6:.1f}" for side in ("torch", "torchconv")),
            f"{row['torchconv'] / row['torch']:.2f}",
        )
        for row in rows
    ]
    report.print_table(console, "Tiny calls", names, table)
    if options.json:
        documents.write(
            documents.table_document("overhead", environment, rows), options.json
        )
    if options.md:
        options.md.write_text(
            "\n".join(["# Tiny calls", "", *report.markdown_table(names, table)])
        )
    if not finished:
        return INTERRUPTED
    limit = options.fail_above
    slow = [
        r for r in rows if limit is not None and r["torchconv"] > limit * r["torch"]
    ]
    for row in slow:
        console.print(f"above {limit:g}: {row['call']} {row['pass']}")
    return int(bool(slow))
