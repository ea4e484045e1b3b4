"""Command line options that subcommands share, and what they mean."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import torch

from torchconv._config import ALGORITHMS, AUTO, AUTO_EXACT

from .layers import FORMATS, Layer, parse_layer
from .measure import PASSES, Setting
from .record import layers_of
from .suites import SUITES, distinct, read, select

DTYPES = ("float32", "float64", "float16", "bfloat16")
LAYOUTS = {"nchw": [False], "channels_last": [True], "both": [False, True]}
CACHES = {"cold": [True], "warm": [False], "both": [False, True]}
DEFAULT_SUITES = ("conv", "pool")


class Parser(argparse.ArgumentParser):
    """Answers a bad argument with one sentence."""

    def error(self, message: str) -> NoReturn:
        """Exits with 2."""
        self.exit(2, f"{self.prog}: {message}\n")


def words(text: str) -> list[str]:
    """ "a,b" as a list."""
    return [word for word in text.split(",") if word]


def one_of(kind: str, known: tuple[str, ...]) -> Callable[[str], list[str]]:
    """A reader of lists whose words have to be known."""

    def read_words(text: str) -> list[str]:
        for word in words(text):
            if word not in known:
                choices = ", ".join(known)
                raise argparse.ArgumentTypeError(
                    f"{word!r} is no {kind}: choose from {choices}"
                )
        return words(text)

    return read_words


def positive(kind: Callable[[str], float]) -> Callable[[str], float]:
    """A reader of numbers that refuses those below 0."""

    def read_number(text: str) -> float:
        try:
            number = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
        if number < 0:
            raise argparse.ArgumentTypeError(f"{text} is negative")
        return number

    return read_number


count, seconds = positive(int), positive(float)


def add_layers(parser: argparse.ArgumentParser) -> None:
    """Which layers."""
    add = parser.add_argument_group("layers").add_argument
    add(
        "layers",
        nargs="*",
        metavar="LAYER",
        help="in the short syntax, such as conv2d:n1c64h56w56k64r3p1 (docs/benchmarks.md)",
    )
    known = ", ".join([*SUITES, "all"])
    add("--suite", nargs="+", metavar="NAME", help=f"{known} or a CSV file")
    add("--model", metavar="PACKAGE.MODULE:FACTORY", help="the layers of a model")
    add("--input", nargs="+", metavar="SHAPE", help="of the model: 1x3x224x224")
    add("--only", nargs="+", default=[], metavar="WORD", help="in an id or a family")
    add(
        "--batch",
        type=count,
        help="batch size; 0: each layer's own (default: 1 for suites, else its own)",
    )
    add("--max-gflop", type=seconds, default=60, help="skip layers with more, forward")
    add("--max-gib", type=seconds, default=2, help="skip layers with larger tensors")


def add_setting(
    parser: argparse.ArgumentParser, cache: str | None = "cold", layout: bool = True
) -> None:
    """How to measure.

    Args:
        parser: takes the options.
        cache: the default of --cache; None for a subcommand that has no choice of it.
        layout: whether there is a choice of memory formats.
    """
    add = parser.add_argument_group("how").add_argument
    add("--device", default="cpu", choices=("cpu", "cuda"))
    add("--dtype", nargs="+", default=["float32"], choices=DTYPES)
    add("--threads", type=count, default=1)
    add("--budget", type=seconds, default=0.5, help="seconds for each comparison")
    if layout:
        add("--layout", default="nchw", choices=LAYOUTS)
    if cache is None:
        parser.set_defaults(cache="warm")
        return
    add(
        "--cache",
        default=cache,
        choices=CACHES,
        help="cold: buffers take turns past the last-level cache; warm: the same tensors "
        f"in every call (default: {cache})",
    )


def add_minutes(parser: argparse.ArgumentParser) -> None:
    """A limit on the time of a run."""
    text = "measure no layer that is not begun by then"
    parser.add_argument("--minutes", type=seconds, help=text)


def add_passes(parser: argparse.ArgumentParser, default: str) -> None:
    """Which passes."""
    parser.add_argument(
        "--pass",
        dest="passes",
        type=one_of("pass", PASSES),
        default=words(default),
        metavar="LIST",
        help=f"of {', '.join(PASSES)} (default: {default})",
    )


def add_algorithm(parser: argparse.ArgumentParser) -> None:
    """Which algorithm of torchconv."""
    parser.add_argument(
        "--algorithm",
        default="auto",
        choices=(*ALGORITHMS, "all"),
        help="all: each that takes the layer, and auto",
    )


OUT_OF_TIME = "no time left, see --minutes"


def clock(minutes: float | None) -> Callable[[], bool]:
    """A function that says whether there is time left."""
    end = math.inf if minutes is None else time.monotonic() + 60 * minutes
    return lambda: time.monotonic() < end


def prepare(options: argparse.Namespace) -> None:
    """Sets torch's threads, and checks the device.

    Raises:
        ValueError: there is no such device.
    """
    if options.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("device cuda: torch finds no CUDA device")
    torch.set_num_threads(max(1, options.threads))


def chosen_layers(options: argparse.Namespace) -> tuple[list[Layer], list[str]]:
    """The layers that the options name, and remarks on what could not be recorded.

    Raises:
        ValueError: an option does not name layers.
    """
    suites = options.suite or []
    remarks: list[str] = []
    found: list[Layer] = []
    if options.model:
        if not options.input:
            raise ValueError("--model needs --input, the shapes of its arguments")
        recorded, remarks = layers_of(options.model, options.input)
        found += recorded
    elif options.input:
        raise ValueError("--input belongs to --model, which is not given")
    found += [parse_layer(text) for text in options.layers]
    if not suites and not options.model and not options.layers:
        suites = list(DEFAULT_SUITES)
    batch = options.batch
    if batch:
        found = [layer.with_batch(batch) for layer in found]
    for name in suites:
        found += read(name, 1 if batch is None else batch or None)
    return select(distinct(found), options.only), remarks


def reason_to_skip(layer: Layer, setting: Setting, options: argparse.Namespace) -> str:
    """Why a layer is not measured; "" if it is."""
    gflop = layer.flops() / 1e9
    gib = 2 * layer.elements() * setting.torch_dtype.itemsize / 2**30
    if gflop > options.max_gflop:
        return f"{gflop:.0f} GFLOP, more than --max-gflop {options.max_gflop:g}"
    if gib > options.max_gib:
        return f"{gib:.1f} GiB of tensors, more than --max-gib {options.max_gib:g}"
    return ""


def settings(options: argparse.Namespace) -> Iterator[Setting]:
    """Every way of measuring that the options ask for."""
    algorithm = getattr(options, "algorithm", AUTO)
    every = tuple(name for name in ALGORITHMS if name != AUTO_EXACT)
    for dtype in options.dtype:
        for cold in CACHES[options.cache]:
            for channels_last in LAYOUTS[options.layout]:
                yield Setting(
                    dtype=dtype,
                    channels_last=channels_last,
                    device=options.device,
                    passes=tuple(options.passes),
                    algorithms=every if algorithm == "all" else (algorithm,),
                    cold=cold,
                    budget=options.budget,
                )


def jobs(
    layers: list[Layer], options: argparse.Namespace
) -> tuple[list[tuple[Layer, Setting]], list[tuple[str, str]]]:
    """What to measure, and what not, with the reason."""
    wanted, skipped = [], []
    for setting in settings(options):
        for layer in layers:
            if setting.channels_last and (
                layer.dimensions not in FORMATS or "fold" in layer.function
            ):
                continue
            reason = reason_to_skip(layer, setting, options)
            if reason:
                skipped.append((layer.id, reason))
            elif layer.is_conv:
                wanted.append((layer, setting))
            else:  # there is nothing to choose
                wanted.append((layer, replace(setting, algorithms=(AUTO,))))
    return wanted, list(dict.fromkeys(skipped))


def add_files(parser: argparse.ArgumentParser, *kinds: str) -> None:
    """Where to write."""
    add = parser.add_argument_group("files").add_argument
    about = {
        "json": "everything",
        "csv": "a line for each layer and pass",
        "md": "tables in Markdown",
        "plot": "a picture (PNG)",
        "html": "one self-contained page",
    }
    for kind in kinds:
        add(f"--{kind}", type=Path, metavar="FILE", help=about[kind])
