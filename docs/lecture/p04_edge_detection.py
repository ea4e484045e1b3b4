"""Edge detection by a kernel of two taps.

Each pixel minus its left neighbour shows vertical edges: 2 multiplications and an addition
for every pixel. As a matrix product it would take a number for every pair of pixels
(Goodfellow, Bengio, Courville, *Deep Learning*, figure 9.6).
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from drawing import photograph, run, save, show

import torchconv.functional as F


def picture(path: Path) -> None:
    x = photograph(280)
    edges = F.conv2d(x, torch.tensor([[[[-1.0, 1.0]]]]))
    pixels, outputs = x.numel(), edges.numel()
    figure, axes = plt.subplots(1, 2, figsize=(9.5, 5))
    show(axes[0], x, "input")
    show(axes[1], edges.clamp(-0.35, 0.35), "each pixel minus its left neighbour", True)
    figure.suptitle(
        f"convolution: {3 * outputs:,} operations, 2 parameters    "
        f"matrix: {2 * outputs * pixels:,} operations, {outputs * pixels:,} entries",
        fontsize=10,
    )
    figure.tight_layout()
    save(figure, path)


if __name__ == "__main__":
    run(__file__, picture)
