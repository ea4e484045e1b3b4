"""Layers that torch lacks, against what people write in their place.

    python -m benchmarks.variants [--only WORD] [--budget SECONDS] [--threads N]

Tiled and locally connected layers against unfold and einsum, ConvLayer2d against three
calls of torch, convolution with an epilogue against separate calls of torch and of torchconv
("apart"), pooling against its composition in torch. Both sides run in one process
in turn on random float32 data; medians; results and gradients are compared. Memory is
what the operators allocate in one forward, in units of the input.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

import torchconv
import torchconv.functional as TF

from .machine import environment
from .timing import interleaved

Function = Callable[..., Tensor]


@dataclass(frozen=True)
class Case:
    """theirs and ours are functions of the tensors; all of them get gradients."""

    name: str
    theirs: Function
    ours: Function
    tensors: tuple[Tensor, ...]


def unfold_tiled(x: Tensor, w: Tensor, b: Tensor, padding: int = 0) -> Tensor:
    """A tiled convolution as it is written today, for tiles that divide the output."""
    th, tw, k, _, kh, kw = w.shape
    n, _, h, width = x.shape
    out_h, out_w = h + 2 * padding - kh + 1, width + 2 * padding - kw + 1
    columns = F.unfold(x, (kh, kw), padding=padding)
    columns = columns.view(n, -1, out_h // th, th, out_w // tw, tw)
    y = torch.einsum("nrhawb,abkr->nkhawb", columns, w.reshape(th, tw, k, -1))
    y = y + b.permute(2, 0, 1)[:, None, :, None, :]
    return y.reshape(n, k, out_h, out_w)


def unfold_local(x: Tensor, w: Tensor, b: Tensor, padding: int = 0) -> Tensor:
    """A locally connected layer as it is written today."""
    h, width, k, _, kh, kw = w.shape
    columns = F.unfold(x, (kh, kw), padding=padding)
    y = torch.einsum("nrl,lkr->nkl", columns, w.reshape(h * width, k, -1))
    return y.reshape(x.shape[0], k, h, width) + b.permute(2, 0, 1)


def local_cases() -> Iterator[Case]:
    for n, c, k, size, kernel in (
        (1, 16, 16, 32, 3),
        (1, 64, 64, 14, 3),
        (8, 32, 32, 16, 3),
        (1, 3, 32, 32, 5),
        (32, 16, 16, 16, 3),
    ):
        p = kernel // 2
        yield Case(
            f"locally connected {kernel}x{kernel} {c}->{k}@{size} batch {n}",
            lambda x, w, b, p=p: unfold_local(x, w, b, p),
            lambda x, w, b, p=p: TF.locally_connected2d(x, w, b, padding=p),
            (
                torch.randn(n, c, size, size),
                torch.randn(size, size, k, c, kernel, kernel) / math.sqrt(c),
                torch.randn(size, size, k),
            ),
        )


def tiled_cases() -> Iterator[Case]:
    for n, c, k, size, tile in (
        (1, 16, 16, 64, 2),
        (1, 3, 16, 128, 2),
        (8, 16, 16, 32, 4),
        (1, 64, 64, 56, 2),
        (8, 8, 8, 64, 8),
    ):
        yield Case(
            f"tiled {tile}x{tile} 3x3 {c}->{k}@{size} batch {n}",
            lambda x, w, b: unfold_tiled(x, w, b, 1),
            lambda x, w, b: TF.tiled_conv2d(x, w, b, padding=1),
            (
                torch.randn(n, c, size, size),
                torch.randn(tile, tile, k, c, 3, 3) / math.sqrt(c),
                torch.randn(tile, tile, k),
            ),
        )


def layer_cases() -> Iterator[Case]:
    """Those convolutions of VGG-16 that a pooling follows, and its first."""
    for c, k, size in (
        (3, 64, 224),
        (64, 64, 112),
        (64, 128, 112),
        (128, 128, 112),
        (256, 256, 56),
        (512, 512, 28),
        (512, 512, 14),
    ):
        yield Case(
            f"conv layer 3x3 {c}->{k}@{size} relu max2",
            lambda x, w, b: F.max_pool2d(F.relu(F.conv2d(x, w, b, padding=1)), 2),
            lambda x, w, b: TF.conv_layer2d(x, w, b, padding=1),
            (
                torch.randn(1, c, size, size),
                torch.randn(k, c, 3, 3) / math.sqrt(9 * c),
                torch.randn(k),
            ),
        )


def epilogue_cases() -> Iterator[Case]:
    """Layers of ResNet-50, with what follows them there."""
    for c, k, size, kernel, residual in (
        (64, 64, 56, 3, False),
        (64, 256, 56, 1, True),
        (128, 128, 28, 3, False),
        (128, 512, 28, 1, True),
        (256, 1024, 14, 1, True),
        (512, 512, 7, 3, False),
    ):
        tensors = [
            torch.randn(1, c, size, size),
            torch.randn(k, c, kernel, kernel) / math.sqrt(kernel * kernel * c),
            torch.randn(k),
        ]
        if residual:
            tensors.append(torch.randn(1, k, size, size))

        def apart(conv: Function, padding: int) -> Function:
            def run(x: Tensor, w: Tensor, b: Tensor, *r: Tensor) -> Tensor:
                y = conv(x, w, b, padding=padding)
                return F.relu(y + r[0] if r else y)

            return run

        def fused(
            x: Tensor,
            w: Tensor,
            b: Tensor,
            r: Tensor | None = None,
            p: int = kernel // 2,
        ) -> Tensor:
            return TF.conv2d(x, w, b, padding=p, activation="relu", residual=r)

        what = (
            f"{kernel}x{kernel} {c}->{k}@{size}{' + residual' if residual else ''} relu"
        )
        for name, conv in (("", F.conv2d), (" apart", TF.conv2d)):
            yield Case(
                f"epilogue {what}{name}",
                apart(conv, kernel // 2),
                fused,
                tuple(tensors),
            )


FAMILIES: tuple[Callable[[], Iterator[Case]], ...] = (
    local_cases,
    tiled_cases,
    layer_cases,
    epilogue_cases,
)


def gradients(function: Function, tensors: tuple[Tensor, ...]) -> list[Tensor]:
    leaves = [t.detach().requires_grad_() for t in tensors]
    y = function(*leaves)
    return [y.detach(), *torch.autograd.grad(y, leaves, torch.ones_like(y).cos())]


def apart(ours: Tensor, theirs: Tensor) -> float:
    """|ours - theirs| / |theirs|. Not the largest difference: where two values of a pooling
    window are equal but for rounding, its gradient may go to either."""
    change, size = (
        torch.linalg.vector_norm(t.double()) for t in (ours - theirs, theirs)
    )
    return float(change / size)


def allocated(function: Function, tensors: tuple[Tensor, ...]) -> float:
    """Bytes that one forward allocates, in units of the first tensor."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        function(*tensors)
    total = sum(max(e.self_cpu_memory_usage, 0) for e in prof.events())
    return total / (tensors[0].numel() * tensors[0].element_size())


def main(arguments: list[str]) -> int:
    """Measures and prints; 1 if a result is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.variants")
    parser.add_argument("--only", default="", help="cases whose name has this")
    parser.add_argument("--budget", type=float, default=0.3, help="seconds a timing")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    command = f"python -m benchmarks.variants {' '.join(arguments)}".strip()
    for name, value in environment(command).items():
        console.print(f"{name}: {value}", soft_wrap=True, markup=False)
    table = Table(title=f"torchconv {torchconv.__version__} against compositions")
    for column in (
        "layer",
        "theirs ms",
        "ours ms",
        "forward x",
        "theirs ms",
        "ours ms",
        "fwd+bwd x",
        "memory theirs",
        "ours",
    ):
        table.add_column(column, justify="left" if column == "layer" else "right")
    wrong = []
    for family in FAMILIES:
        for case in family():
            if options.only not in case.name:
                continue
            theirs, ours, tensors = case.theirs, case.ours, case.tensors
            results = zip(gradients(ours, tensors), gradients(theirs, tensors))
            if not all(apart(a, b) < 1e-3 for a, b in results):
                wrong.append(case.name)
            with torch.no_grad():
                forward = interleaved(
                    {
                        "theirs": lambda _, f=theirs, t=tensors: f(*t),
                        "ours": lambda _, f=ours, t=tensors: f(*t),
                    },
                    options.budget,
                )
                memory = [allocated(f, tensors) for f in (theirs, ours)]
            both = interleaved(
                {
                    "theirs": lambda _, f=theirs, t=tensors: gradients(f, t),
                    "ours": lambda _, f=ours, t=tensors: gradients(f, t),
                },
                options.budget,
            )
            row = [case.name]
            for times in (forward, both):
                one, other = times["theirs"].median, times["ours"].median
                row += [f"{one * 1e3:.3f}", f"{other * 1e3:.3f}", f"{one / other:.2f}"]
            table.add_row(*row, *(f"{m:.1f}" for m in memory))
    console.print(table)
    if wrong:
        console.print(f"wrong results: {', '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
