"""torchconv-bench freeze: what weights that stay packed bring, one image at a time."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from torch import nn

import torchconv

from . import document as documents
from . import options as shared
from . import report
from .document import Row
from .run import INTERRUPTED, each, header
from .timing import interleaved

# Name: the layer and its input without the batch. From ResNet-50, VGG-16, ResNeXt-50,
# Inception-v3, wav2vec 2.0, a 3-d U-Net and DCGAN.
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet50 stem 7x7/2": (lambda: nn.Conv2d(3, 64, 7, 2, 3), (3, 224, 224)),
    "resnet50 3x3 64 @56": (lambda: nn.Conv2d(64, 64, 3, 1, 1), (64, 56, 56)),
    "resnet50 3x3 128 @28": (lambda: nn.Conv2d(128, 128, 3, 1, 1), (128, 28, 28)),
    "resnet50 3x3 256 @14": (lambda: nn.Conv2d(256, 256, 3, 1, 1), (256, 14, 14)),
    "resnet50 3x3 512 @7": (lambda: nn.Conv2d(512, 512, 3, 1, 1), (512, 7, 7)),
    "resnet50 3x3/2 512 @14": (lambda: nn.Conv2d(512, 512, 3, 2, 1), (512, 14, 14)),
    "resnet50 1x1 64-256 @56": (lambda: nn.Conv2d(64, 256, 1), (64, 56, 56)),
    "resnet50 1x1 1024-256 @14": (lambda: nn.Conv2d(1024, 256, 1), (1024, 14, 14)),
    "resnet50 1x1 512-2048 @7": (lambda: nn.Conv2d(512, 2048, 1), (512, 7, 7)),
    "vgg16 3x3 512 @14": (lambda: nn.Conv2d(512, 512, 3, 1, 1), (512, 14, 14)),
    "resnext50 3x3 g32 @14": (
        lambda: nn.Conv2d(512, 512, 3, 1, 1, groups=32),
        (512, 14, 14),
    ),
    "inception 1x7 192 @17": (
        lambda: nn.Conv2d(192, 192, (1, 7), 1, (0, 3)),
        (192, 17, 17),
    ),
    "wav2vec2 k3/2 512 @199": (lambda: nn.Conv1d(512, 512, 3, 2), (512, 199)),
    "unet3d 3x3x3 128 @8": (lambda: nn.Conv3d(128, 128, 3, 1, 1), (128, 8, 8, 8)),
    "dcgan 4x4/2 256-128 @16": (
        lambda: nn.ConvTranspose2d(256, 128, 4, 2, 1),
        (256, 16, 16),
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options."""
    shared.add_setting(parser, cache=None, layout=False)
    shared.add_files(parser, "json", "md")


def main(options: argparse.Namespace, console: Console, command: str) -> int:
    """Measures and prints microseconds of a forward pass.

    Raises:
        AssertionError: a frozen layer's result is not that of the layer.
    """
    shared.prepare(options)
    environment = header(console, command, options.device)
    rows: list[Row] = []
    wanted = [(dtype, name) for dtype in options.dtype for name in LAYERS]

    def work(item: tuple[str, str]) -> None:
        dtype, name = item
        make, size = LAYERS[name]
        layer = make().to(getattr(torch, dtype)).requires_grad_(False)
        x = torch.randn(1, *size, dtype=getattr(torch, dtype))
        ours = torchconv.convert(copy.deepcopy(layer))
        frozen = torchconv.freeze(copy.deepcopy(ours))
        assert torch.equal(frozen(x), ours(x)), name
        timings = interleaved(
            {
                "torch": _call(layer, x),
                "torchconv": _call(ours, x),
                "frozen": _call(frozen, x),
            },
            options.budget,
        )
        seconds = {side: timing.median for side, timing in timings.items()}
        rows.append({"layer": name, "dtype": dtype, **seconds})

    finished = each(console, wanted, lambda item: item[1], work)
    names = (
        *("layer", "dtype", "torch us", "torchconv us", "frozen us"),
        *("torch / frozen", "torchconv / frozen"),
    )
    table = [
        (
            *(row["layer"], row["dtype"]),
            *(f"{row[side] * 1e6:.0f}" for side in ("torch", "torchconv", "frozen")),
            *(f"{row[side] / row['frozen']:.2f}" for side in ("torch", "torchconv")),
        )
        for row in rows
    ]
    report.print_table(console, "Frozen layers, one image", names, table)
    if options.json:
        documents.write(
            documents.table_document("freeze", environment, rows), options.json
        )
    if options.md:
        text = ["# Frozen layers, one image", "", *report.markdown_table(names, table)]
        options.md.write_text("\n".join(text))
    return 0 if finished else INTERRUPTED


def _call(layer: nn.Module, x: torch.Tensor) -> Callable[[int], Any]:
    return lambda _: layer(x)
