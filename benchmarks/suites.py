"""Named lists of layers, read from CSV files, each row with its source.

A file has one of three headers: ``id,layer,count,source`` with layers in the short syntax
(layers.py), or the columns of conv_layers.csv or of pool_layers.csv.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .layers import Layer, make_layer, parse_layer

FOLDER = Path(__file__).resolve().parent / "suites"
_CONV = "conv_layers.csv"
_POOLS = ("pool_layers.csv", "more_pool_layers.csv")


@dataclass(frozen=True)
class Suite:
    """Files, and the beginnings of ids that it takes from conv_layers.csv."""

    about: str
    files: tuple[str, ...]
    prefixes: tuple[str, ...] = ()


SUITES = {
    "conv": Suite("convolutions of many models", (_CONV,)),
    "pool": Suite("pooling layers of many models", _POOLS),
    "resnet50": Suite("ResNet-50, ResNeXt", ("resnet50.csv",), ("resnext_",)),
    "mobilenet": Suite(
        "MobileNetV2, EfficientNet", ("mobilenet.csv",), ("dw3x3_", "dw5x5_", "pw_")
    ),
    "convnext": Suite(
        "ConvNeXt, RepLKNet, patch embedding",
        ("convnext.csv",),
        ("convnext_", "dw7x7_", "dw31x31_", "vit_"),
    ),
    "unet3d": Suite(
        "3D U-Net, video",
        ("unet3d.csv",),
        ("unet3d_", "nnunet3d_", "x3d_", "videovae_", "qwen_"),
    ),
    "audio": Suite(
        "wav2vec 2.0, HiFi-GAN, WaveNet, Conformer, Mamba",
        ("audio.csv",),
        (
            "w2v2_",
            "wavenet_",
            "hifigan_",
            "mamba_",
            "shortconv_",
            "conformer_",
            "speech_",
        ),
    ),
    "diffusion": Suite(
        "latent diffusion, 2-d U-Net",
        ("diffusion.csv",),
        ("sd_", "vae_", "unet2d_", "unet_"),
    ),
    "pooling": Suite("every kind of pooling", (*_POOLS, "pooling.csv")),
    "pathology": Suite(
        "layers that are slow somewhere",
        ("pathology.csv",),
        ("cifar_", "deeplab_", "big_", "video3d_", "resnext_g32_2048"),
    ),
}


def read(suite: str, batch: int | None = None) -> list[Layer]:
    """The layers of a suite of SUITES, of "all" or of a CSV file.

    Args:
        suite: a name or a path.
        batch: the batch size; None takes each layer's own.

    Raises:
        ValueError: suite is neither, or a file has a row that is no layer.
    """
    if suite == "all":
        return distinct(layer for name in SUITES for layer in read(name, batch))
    if suite in SUITES:
        chosen = SUITES[suite]
        rows = [row for name in chosen.files for row in _rows(FOLDER / name)]
        if chosen.prefixes:
            rows = [
                r for r in rows if r.get("layer") or r["id"].startswith(chosen.prefixes)
            ]
    elif Path(suite).is_file():
        rows = _rows(Path(suite))
    else:
        known = ", ".join([*SUITES, "all"])
        raise ValueError(f"suite {suite!r} is neither one of {known} nor a CSV file")
    layers = distinct(_layer(row) for row in rows)
    return layers if batch is None else [x.with_batch(batch) for x in layers]


def distinct(layers: Iterable[Layer]) -> list[Layer]:
    """The layers without those that compute the same as an earlier one."""
    first: dict[str, Layer] = {}
    for layer in layers:
        first.setdefault(layer.spec, layer)
    return list(first.values())


def select(layers: Iterable[Layer], words: list[str]) -> list[Layer]:
    """The layers with one of the words in their id or family; all for no words."""
    return [
        layer
        for layer in layers
        if not words or any(word in f"{layer.id} {layer.family}" for word in words)
    ]


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    if not rows or "id" not in rows[0]:
        raise ValueError(f"{file} has no rows with a column 'id'")
    return rows


def _layer(row: dict[str, str]) -> Layer:
    try:
        if row.get("layer"):
            layer = parse_layer(row["layer"])
        elif "conv" in row["kind"]:
            layer = _conv(row)
        else:
            layer = _pool(row)
        count = int(row.get("count") or 1)
    except (KeyError, ValueError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"layer {row['id']}: {reason}") from None
    return replace(layer, id=row["id"], source=row.get("source") or "", count=count)


def _numbers(text: str, count: int) -> tuple[int, ...]:
    """ "2x16x16" or "2", which stands for all dimensions."""
    numbers = tuple(int(part) for part in text.split("x"))
    return numbers * count if len(numbers) == 1 else numbers


def _conv(row: dict[str, str]) -> Layer:
    kind = row["kind"]
    nd = int(kind[-2])
    size = [int(row[name]) for name in ("D", "H", "W")][-nd:]
    kernel = [int(row[name]) for name in ("T", "R", "S")][-nd:]
    channels, filters, groups = int(row["C"]), int(row["K"]), int(row["groups"])
    options: dict[str, Any] = {
        "stride": _numbers(row["stride"], nd),
        "padding": _numbers(row["pad"], nd),
        "dilation": _numbers(row["dil"], nd),
        "groups": groups,
    }
    x = (int(row["N"]), channels, *size)
    if kind.startswith("convT"):
        options["output_padding"] = _numbers(row["outpad"], nd)
        weight = (channels, filters // groups, *kernel)
        return make_layer(f"conv_transpose{nd}d", x, weight, options=options)
    weight = (filters, channels // groups, *kernel)
    return make_layer(f"conv{nd}d", x, weight, options=options)


# kind without dimensions: function without dimensions
_KINDS = {
    "maxpool": "max_pool",
    "maxindices": "max_pool",
    "avgpool": "avg_pool",
    "lppool": "lp_pool",
    "adaptive_avg": "adaptive_avg_pool",
    "adaptive_max": "adaptive_max_pool",
    "fractional": "fractional_max_pool",
    "unpool": "max_unpool",
}


def _pool(row: dict[str, str]) -> Layer:
    size = tuple(int(part) for part in row["spatial"].split("x"))
    nd = len(size)
    x = (int(row["N"]), int(row["C"]), *size)
    kind = row["kind"]
    if kind in ("fold", "unfold"):
        return _fold(row, x)
    stem = kind.removesuffix(f"{nd}d")
    if stem not in _KINDS:
        raise ValueError(f"unknown kind {kind!r}")
    function = f"{_KINDS[stem]}{nd}d"
    if "adaptive" in stem:
        output = _numbers(row["k"].removeprefix("adaptive"), nd)
        return make_layer(function, x, options={"output_size": output})
    options: dict[str, Any] = {"kernel_size": _numbers(row["k"], nd)}
    if stem == "fractional":
        options["output_size"] = _numbers(row["stride"].removeprefix("to"), nd)
    else:
        options["stride"] = _numbers(row["stride"], nd)
    if stem == "lppool":
        options["norm_type"] = 2.0
    else:
        options["padding"] = _numbers(row["pad"] or "0", nd)
    if stem == "maxindices":
        options["return_indices"] = True
    return make_layer(function, x, options=options)


def _fold(row: dict[str, str], x: tuple[int, ...]) -> Layer:
    window, stride, pad = int(row["k"]), int(row["stride"]), int(row["pad"])
    options: dict[str, Any] = {"kernel_size": window, "stride": stride, "padding": pad}
    if row["kind"] == "fold":
        options["output_size"] = x[2:]
        places = math.prod((n + 2 * pad - window) // stride + 1 for n in x[2:])
        x = (x[0], x[1] * window**2, places)
    return make_layer(row["kind"], x, options=options)
