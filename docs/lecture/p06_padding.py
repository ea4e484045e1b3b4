"""Padding: how many outputs there are, and what lies beyond the border.

Top: without padding ('valid') every layer shrinks its input, 'same' keeps the size, 'full'
has every output that touches the input. Bottom: what the padding holds, shown by a large
blur with each padding mode. No mode makes a padded copy.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from drawing import photograph, run, save, show

import torchconv.functional as F


def picture(path: Path) -> None:
    x = photograph(96)
    size = 33
    weight = torch.full((1, 1, size, size), 1 / size**2)
    figure, axes = plt.subplots(2, 4, figsize=(11, 5.8))
    show(axes[0, 0], x, "input, 96 x 96")
    for one, padding in zip(axes[0, 1:], ("valid", "same", "full"), strict=True):
        y = F.conv2d(x, weight, padding=padding)
        canvas = torch.full((128, 128), float("nan"))
        corner = (128 - y.shape[-1]) // 2
        canvas[corner : corner + y.shape[-1], corner : corner + y.shape[-1]] = y[0, 0]
        one.imshow(canvas.numpy(), cmap="gray", vmin=0, vmax=0.8)
        one.set_title(f"{padding}: {y.shape[-2]} x {y.shape[-1]}", fontsize=10)
        one.set_axis_off()
    modes = ("zeros", "reflect", "replicate", "circular")
    for one, mode in zip(axes[1], modes, strict=True):
        show(one, F.conv2d(x, weight, padding="same", padding_mode=mode), mode)
    figure.tight_layout()
    save(figure, path)


if __name__ == "__main__":
    run(__file__, picture)
