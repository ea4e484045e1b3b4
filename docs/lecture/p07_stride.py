"""Stride: a convolution that computes only every s-th output.

The same as computing all of them and throwing the others away, for a part of the work
(Goodfellow, Bengio, Courville, *Deep Learning*, figure 9.12).
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from drawing import draw_layer, run, save

import torchconv
import torchconv.functional as F

INPUTS, STRIDE = 9, 2


def edges(stride: int) -> list[tuple[int, float, str]]:
    """(input, place of the output, colour) of each connection."""
    kernel = torch.ones(1, 1, 3)
    matrix = torchconv.conv_matrix(kernel, INPUTS, stride=stride).to_dense()
    places = [(i, o * stride + 1) for o, i in matrix.nonzero().tolist()]
    kept = [(place - 1) % STRIDE == 0 for _, place in places]
    return [
        (i, place, "tab:blue" if k else "0.8")
        for (i, place), k in zip(places, kept, strict=True)
    ]


def picture(path: Path) -> None:
    x, w = torch.randn(1, 1, INPUTS), torch.randn(1, 1, 3)
    strided, full = F.conv1d(x, w, stride=STRIDE), F.conv1d(x, w)
    torch.testing.assert_close(strided, full[..., ::STRIDE])
    figure, axes = plt.subplots(1, 2, figsize=(11, 3.4))
    for one, stride, title in (
        (axes[0], STRIDE, f"stride 2: {strided.numel()} outputs, all of them used"),
        (axes[1], 1, f"stride 1, then every second: {full.numel()} outputs computed"),
    ):
        draw_layer(one, INPUTS, 0, edges(stride))
        for place in range(1, INPUTS - 1, stride):
            used = (place - 1) % STRIDE == 0
            colour = "tab:blue" if used else "white"
            one.scatter(place, 1, s=260, c=colour, edgecolors="black", zorder=2)
        one.set_title(title, fontsize=11)
    figure.tight_layout()
    save(figure, path)


if __name__ == "__main__":
    run(__file__, picture)
