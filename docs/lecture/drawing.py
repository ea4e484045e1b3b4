"""What the pages share: a photograph, drawing of layers as graphs, and writing pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import torch
from skimage import data
from torch import Tensor


def photograph(size: int = 256, name: str = "camera") -> Tensor:
    """A grey photograph that scikit-image brings along, (1, 1, size, size) in [0, 1]."""
    pixels = np.asarray(getattr(data, name)(), dtype=np.float32) / 255
    if pixels.ndim == 3:
        pixels = pixels.mean(-1)
    side = min(pixels.shape)
    square = torch.from_numpy(pixels[:side, :side])[None, None]
    return torch.nn.functional.interpolate(
        square, size=size, mode="bilinear", antialias=True
    )


def show(axes: Any, image: Tensor, title: str = "", signed: bool = False) -> None:
    """An image of any leading dimensions; signed ones with zero in grey."""
    pixels = image.detach().reshape(image.shape[-2:]).numpy()
    top = float(np.abs(pixels).max()) or 1.0
    limits = (-top, top) if signed else (min(float(pixels.min()), 0.0), top)
    axes.imshow(pixels, cmap="gray", vmin=limits[0], vmax=limits[1])
    axes.set_title(title, fontsize=10)
    axes.set_axis_off()


Edge = tuple[int, int, Any]


def draw_layer(
    axes: Any,
    inputs: int,
    outputs: int,
    edges: Iterable[Edge],
    bottom: float = 0.0,
    lit: tuple[Iterable[int], Iterable[int]] = ((), ()),
) -> None:
    """Units as circles, inputs below outputs, and edges (input, output, colour)."""
    for i, o, colour in edges:
        grey = isinstance(colour, str) and colour.startswith("0.")
        order = 1 if grey else 1.5  # what is coloured lies above
        axes.plot(
            [i, o], [bottom, bottom + 1], color=colour, linewidth=1.6, zorder=order
        )
    for count, height, marked in (
        (inputs, bottom, lit[0]),
        (outputs, bottom + 1, lit[1]),
    ):
        for unit in range(count):
            face = "0.75" if unit in set(marked) else "white"
            axes.scatter(unit, height, s=260, c=face, edgecolors="black", zorder=2)
    axes.set_axis_off()
    axes.margins(0.08, 0.2)


def run(file: str, picture: Callable[[Path], None]) -> None:
    """Writes the page's picture beside its file."""
    target = Path(file).with_suffix(".png")
    picture(target)
    print(f"wrote {target.name}")


def save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=80)
    plt.close(figure)
