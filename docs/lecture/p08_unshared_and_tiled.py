"""Unshared, tiled and shared weights: how many kernels take turns.

All three have the same connections. A locally connected layer has a kernel for every
position, tiled convolution cycles through t of them, convolution has one (Goodfellow,
Bengio, Courville, *Deep Learning*, figure 9.16). Colours are parameters.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from drawing import draw_layer, run, save

import torchconv.functional as F

UNITS, TAPS = 8, 2


def picture(path: Path) -> None:
    figure, axes = plt.subplots(3, 1, figsize=(8.5, 7))
    outputs = UNITS - TAPS + 1
    x = torch.arange(float(UNITS)).reshape(1, 1, UNITS)
    for one, tile, name in (
        (axes[0], outputs, "locally connected"),
        (axes[1], 2, "tiled, t = 2"),
        (axes[2], 1, "convolution, t = 1"),
    ):
        weight = torch.randn(tile, 1, 1, TAPS)
        y = F.tiled_conv1d(x, weight)
        count = weight.numel()
        palette = plt.get_cmap("tab10" if count <= 10 else "tab20")
        edges = []
        for o in range(outputs):
            for t in range(TAPS):
                edges.append((o + t, o, palette(o % tile * TAPS + t)))
            expected = (weight[o % tile, 0, 0] * x[0, 0, o : o + TAPS]).sum()
            torch.testing.assert_close(y[0, 0, o], expected)
        draw_layer(one, UNITS, outputs, edges)
        one.set_title(f"{name}: {count} parameters", fontsize=11)
    figure.tight_layout()
    save(figure, path)


if __name__ == "__main__":
    run(__file__, picture)
