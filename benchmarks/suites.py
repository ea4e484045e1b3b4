"""Named layers, read from CSV files, as calls of torch.nn.functional.

A layer is the name of a function and its arguments, so that one description runs with
torch.nn.functional and with torchconv.functional.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

FOLDER = Path(__file__).resolve().parent / "suites"
SUITES = {
    "conv": ("conv_layers.csv",),
    "pool": ("pool_layers.csv", "more_pool_layers.csv"),
}
Tensors = dict[str, Tensor]
FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


@dataclass(frozen=True)
class Layer:
    """One call of a function of torch.nn.functional.

    x and weight are shapes; options are the other arguments by name.
    """

    id: str
    family: str
    function: str
    x: tuple[int, ...]
    weight: tuple[int, ...] | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def dimensions(self) -> int:
        """Spatial ones."""
        return len(self.x) - 2

    def inputs(self, dtype: torch.dtype, channels_last: bool = False) -> Tensors:
        """Random tensors to call it with, by argument name."""
        tensors = {"input": torch.randn(self.x).to(dtype)}
        if self.weight is not None:
            scale = prod(self.weight[1:]) ** -0.5
            tensors["weight"] = (torch.randn(self.weight) * scale).to(dtype)
        if channels_last:
            form = FORMATS[self.dimensions]
            tensors = {k: t.contiguous(memory_format=form) for k, t in tensors.items()}
        if "unpool" in self.function:
            tensors["indices"] = self._distinct_places()
        if "fractional" in self.function:
            samples = torch.rand(*self.x[:2], self.dimensions)
            tensors["_random_samples"] = samples.to(dtype)
        return tensors

    def _distinct_places(self) -> Tensor:
        """Indices for unpooling, one in each window of 2, as max pooling makes them."""
        pool = getattr(torch.nn.functional, f"max_pool{self.dimensions}d")
        large = torch.randn(*self.x[:2], *(2 * n for n in self.x[2:]))
        indices: Tensor = pool(large, 2, return_indices=True)[1]
        return indices

    def call(self, functional: ModuleType, tensors: Tensors) -> Tensor:
        """The output, of torch.nn.functional or of a module that stands in for it."""
        output: Tensor = getattr(functional, self.function)(**tensors, **self.options)
        return output

    def output_shape(self) -> tuple[int, ...]:
        """The shape torch gives the output, without computing it."""
        if "unpool" in self.function:
            return (*self.x[:2], *(2 * n for n in self.x[2:]))
        if "fractional" in self.function:
            return (*self.x[:2], *[self.options["output_size"]] * self.dimensions)
        tensors = {"input": torch.empty(self.x, device="meta")}
        if self.weight is not None:
            tensors["weight"] = torch.empty(self.weight, device="meta")
        return tuple(self.call(torch.nn.functional, tensors).shape)

    def flops(self) -> int:
        """Multiplications and additions of a convolution's forward; 0 for others."""
        if self.weight is None:
            return 0
        pixels = self.x if "transpose" in self.function else self.output_shape()
        return 2 * pixels[0] * prod(pixels[2:]) * prod(self.weight)

    def bytes(self, dtype: torch.dtype) -> int:
        """Of the inputs, the output and the gradients of all of them."""
        shapes = [self.x, self.weight or (0,), self.output_shape()]
        return 2 * dtype.itemsize * sum(prod(shape) for shape in shapes)


def read(suite: str, batch: int | None) -> list[Layer]:
    """The layers of a suite of SUITES or of a CSV file.

    Args:
        suite: a name or a path.
        batch: the batch size; None takes each layer's own.

    Raises:
        FileNotFoundError: suite is neither.
        ValueError: a file has a kind of layer that is not known.
    """
    files = [FOLDER / name for name in SUITES.get(suite, ())] or [Path(suite)]
    layers = []
    for file in files:
        with file.open(newline="") as lines:
            for row in csv.DictReader(lines):
                row["N"] = str(batch or row["N"])
                make = _conv if "conv" in row["kind"] else _pool
                layers.append(make(row))
    return layers


def _numbers(text: str, count: int) -> tuple[int, ...]:
    """ "2x16x16" or "2", which stands for all dimensions."""
    numbers = tuple(int(part) for part in text.split("x"))
    return numbers * count if len(numbers) == 1 else numbers


def _conv(row: dict[str, str]) -> Layer:
    kind = row["kind"]
    nd = int(kind[-2])
    size = [int(row[name]) for name in ("D", "H", "W")][-nd:]
    kernel = [int(row[name]) for name in ("T", "R", "S")][-nd:]
    batch, channels, filters = int(row["N"]), int(row["C"]), int(row["K"])
    groups = int(row["groups"])
    options: dict[str, Any] = {
        "stride": _numbers(row["stride"], nd),
        "padding": _numbers(row["pad"], nd),
        "dilation": _numbers(row["dil"], nd),
        "groups": groups,
    }
    x = (batch, channels, *size)
    if kind.startswith("convT"):
        options["output_padding"] = _numbers(row["outpad"], nd)
        weight = (channels, filters // groups, *kernel)
        return Layer(
            row["id"], "transposed", f"conv_transpose{nd}d", x, weight, options
        )
    weight = (filters, channels // groups, *kernel)
    if groups == channels and groups > 1:
        family = f"depthwise {nd}d"
    elif groups > 1:
        family = "grouped"
    elif kernel == [3, 3] and set(options["stride"] + options["dilation"]) == {1}:
        family = "conv2d 3x3"
    elif nd == 2:
        family = "conv2d other"
    else:
        family = f"conv{nd}d"
    return Layer(row["id"], family, f"conv{nd}d", x, weight, options)


# kind without dimensions: family, function without dimensions
_POOLS = {
    "maxpool": ("max", "max_pool"),
    "avgpool": ("avg", "avg_pool"),
    "lppool": ("lp", "lp_pool"),
    "adaptive_avg": ("adaptive avg", "adaptive_avg_pool"),
    "adaptive_max": ("adaptive max", "adaptive_max_pool"),
    "fractional": ("fractional", "fractional_max_pool"),
    "unpool": ("unpool", "max_unpool"),
}


def _pool(row: dict[str, str]) -> Layer:
    size = tuple(int(part) for part in row["spatial"].split("x"))
    x = (int(row["N"]), int(row["C"]), *size)
    kind = row["kind"]
    if kind in ("fold", "unfold"):
        return _fold(row, x)
    stem = kind.removesuffix(f"{len(size)}d")
    if stem not in _POOLS:
        raise ValueError(f"layer {row['id']}: unknown kind {kind!r}")
    family, function = _POOLS[stem]
    function += f"{len(size)}d"
    if "adaptive" in stem:
        output = int(row["k"].removeprefix("adaptive"))
        return Layer(row["id"], family, function, x, options={"output_size": output})
    options: dict[str, Any] = {"kernel_size": int(row["k"])}
    if stem == "fractional":
        options["output_size"] = int(row["stride"].removeprefix("to"))
    else:
        options["stride"] = int(row["stride"])
    if stem == "lppool":
        options["norm_type"] = 2.0
    elif int(row["pad"]):
        options["padding"] = int(row["pad"])
    return Layer(row["id"], family, function, x, options=options)


def _fold(row: dict[str, str], x: tuple[int, ...]) -> Layer:
    window, stride, pad = int(row["k"]), int(row["stride"]), int(row["pad"])
    options: dict[str, Any] = {"kernel_size": window, "stride": stride, "padding": pad}
    if row["kind"] == "fold":
        options["output_size"] = x[2:]
        places = prod((n + 2 * pad - window) // stride + 1 for n in x[2:])
        x = (x[0], x[1] * window**2, places)
    return Layer(row["id"], row["kind"], row["kind"], x, options=options)


def select(layers: Iterable[Layer], words: list[str]) -> list[Layer]:
    """The layers with one of the words in their id or family; all for no words."""
    return [
        layer
        for layer in layers
        if not words or any(word in f"{layer.id} {layer.family}" for word in words)
    ]
