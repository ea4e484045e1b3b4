"""Trains a small convolutional network on scikit-learn's handwritten digits twice, from
the same seed: with torch.nn's layers, and with the same layers converted to torchconv.

    python examples/demo.py        (or: make demo)

Shows accuracy, losses and times of both, a few layers timed against torch, and saves a
picture of what the network learned in demo_output/.
"""

from __future__ import annotations

import copy
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]
from torch import Tensor, nn

import torchconv

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is part of the checkout, not installed

from benchmarks.measure import Result, Setting, measure
from benchmarks.report import milliseconds
from benchmarks.suites import read, select

OUTPUT = ROOT / "demo_output"
SEED = 0
EPOCHS = 20
BATCH = 64
WANTED_ACCURACY = 0.98
LAYERS = {
    "r50_3x3_64@56": "conv2d 3x3, 64@56x56",
    "dw7x7_96@56": "depthwise 7x7, 96@56x56",
    "mamba_dw_k4": "depthwise 4, 5120@2048",
    "mp2d_k3s2p1_64@112": "max_pool2d, 64@112x112",
    "ap2d_k2s2_192@56": "avg_pool2d, 192@56x56",
}


@dataclass
class Digits:
    """Images (N, 1, 8, 8) from 0 to 1 and their classes, in two parts."""

    train_x: Tensor
    test_x: Tensor
    train_y: Tensor
    test_y: Tensor


@dataclass
class Run:
    """A model in training, and what was seen of it."""

    name: str
    model: nn.Sequential
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def load() -> Digits:
    """The 1797 digits, a quarter of them for the test."""
    images, classes = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    y = torch.tensor(classes)
    return Digits(
        *train_test_split(x, y, test_size=0.25, random_state=SEED, stratify=y)
    )


def make_model() -> nn.Sequential:
    """The network, with torch.nn's layers and the weights of the seed."""
    torch.manual_seed(SEED)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, groups=32),
        nn.Conv2d(32, 64, 1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 2 * 2, 10),
    )


def start(name: str, model: nn.Sequential) -> Run:
    """A run of model from its first weights."""
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    return Run(name, model, optimizer, schedule)


def train_epoch(run: Run, digits: Digits, epoch: int) -> None:
    """One pass over the training images, in an order that only the epoch decides."""
    order = torch.randperm(
        len(digits.train_y), generator=torch.Generator().manual_seed(epoch)
    )
    run.model.train()
    losses = []
    begin = time.perf_counter()
    for batch in order.split(BATCH):
        loss = nn.functional.cross_entropy(
            run.model(digits.train_x[batch]), digits.train_y[batch]
        )
        run.optimizer.zero_grad()
        loss.backward()
        run.optimizer.step()
        losses.append(loss.detach())
    run.seconds.append(time.perf_counter() - begin)
    run.losses += torch.stack(losses).tolist()
    run.schedule.step()


@torch.no_grad()
def accuracy(run: Run, digits: Digits) -> float:
    """The share of the test images that the model gets right."""
    run.model.eval()
    right = run.model(digits.test_x).argmax(1) == digits.test_y
    return right.double().mean().item()


def train(runs: list[Run], digits: Digits, console: Console) -> None:
    """Trains the runs epoch by epoch in turn, so that both see the same machine."""
    columns = (TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn())
    loss = TextColumn("epochs   loss {task.fields[loss]:.4f}")
    with Progress(*columns, loss, console=console) as bar:
        tasks = [bar.add_task(run.name, total=EPOCHS, loss=0.0) for run in runs]
        for epoch in range(EPOCHS):
            for run, task in zip(runs, tasks, strict=True):
                train_epoch(run, digits, epoch)
                bar.update(task, advance=1, loss=run.losses[-1])


def time_layers(console: Console) -> bool:
    """Prints a few layers against torch; whether they computed the same."""
    layers = select([*read("conv", 1), *read("pool", 1)], list(LAYERS))
    table = Table(box=SIMPLE_HEAD, title_justify="left")
    table.title = "Layers at batch 1: medians in ms, forward and then with backward"
    table.add_column("layer", no_wrap=True)
    for name in ("torch", "ours", "ratio") * 2:
        table.add_column(name, justify="right")
    correct = True
    with console.status("timing layers"):
        for layer in layers:
            setting = Setting(budget=0.3, observe=False)
            (result,) = measure(layer, torchconv.functional, setting)
            if not isinstance(result, Result) or not result.correct:
                table.add_row(LAYERS[layer.id], "WRONG")
                correct = False
                continue
            cells = [
                text
                for pair in result.passes.values()
                for text in (
                    milliseconds(pair.torch.timing.median),
                    milliseconds(pair.torchconv.timing.median),
                    f"{pair.speedup:.2f}",
                )
            ]
            table.add_row(LAYERS[layer.id], *cells)
    console.print(table)
    return correct


@torch.no_grad()
def draw(run: Run, digits: Digits) -> Path:
    """Saves a picture of the first layer's filters and what they see in some digits."""
    shown, count = (0, 1, 2), 16
    first = run.model[0]
    assert isinstance(first, nn.Conv2d)
    images = torch.stack([digits.test_x[digits.test_y == n][0] for n in shown])
    maps = torch.relu(first(images))
    figure, axes = plt.subplots(
        1 + len(shown), 1 + count, figsize=(count * 0.7 + 0.7, 3.2)
    )
    for axis in axes.flat:
        axis.axis("off")
    limit = float(first.weight.abs().max())
    for column in range(count):
        weights = first.weight[column, 0].numpy()
        axes[0, column + 1].imshow(weights, cmap="RdBu", vmin=-limit, vmax=limit)
        for row in range(len(shown)):
            axes[row + 1, column + 1].imshow(maps[row, column].numpy(), cmap="gray")
    for row in range(len(shown)):
        axes[row + 1, 0].imshow(images[row, 0].numpy(), cmap="gray_r")
    figure.suptitle(
        f"{count} filters that {run.name} learned, and their maps of digits"
    )
    OUTPUT.mkdir(exist_ok=True)
    path = OUTPUT / "digits.png"
    figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(figure)
    return path


def main() -> int:
    """Runs the demo; 1 if a result is not what it should be."""
    console = Console(highlight=False)
    digits = load()
    console.print(
        f"torchconv {torchconv.__version__}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads; "
        f"{len(digits.train_y)} digits to learn, {len(digits.test_y)} to test"
    )
    model = make_model()
    converted = torchconv.convert(copy.deepcopy(model))
    console.print(str(torchconv.conversion_report(converted)))
    runs = [start("torch", model), start("torchconv", converted)]
    train(runs, digits, console)

    same = time_layers(console)
    picture = draw(runs[1], digits)
    accuracies = [accuracy(run, digits) for run in runs]
    for run, value in zip(runs, accuracies, strict=True):
        seconds = torch.tensor(run.seconds).median()
        console.print(
            f"{run.name:10} test accuracy {value:.4f}, {seconds:.3f} s per epoch"
        )
    apart = [abs(a - b) for a, b in zip(runs[0].losses, runs[1].losses, strict=True)]
    console.print(
        f"largest difference of the losses: {max(apart):.1e} "
        f"in {len(apart)} steps, {apart[0]:.1e} in the first"
    )
    console.print(f"filters and feature maps: {picture.relative_to(ROOT)}")
    if not same or min(accuracies) < WANTED_ACCURACY:
        console.print(f"expected equal results and an accuracy of {WANTED_ACCURACY}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
