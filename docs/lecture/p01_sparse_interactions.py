"""Sparse interactions: a unit sees k inputs instead of all n, and more with depth.

Top: which inputs the middle unit sees in a dense layer and in a convolution with three
taps. Bottom: through three layers the receptive field grows from 3 to 7 inputs.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from drawing import draw_layer, run, save

import torchconv
from torchconv import nn

UNITS = 9
MIDDLE = UNITS // 2


def picture(path: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), width_ratios=(1, 1, 1.1))
    dense = [
        (i, o, "tab:red" if o == MIDDLE else "0.85")
        for o in range(UNITS)
        for i in range(UNITS)
    ]
    draw_layer(axes[0], UNITS, UNITS, dense, lit=(range(UNITS), [MIDDLE]))
    axes[0].set_title(f"dense: {UNITS * UNITS} connections", fontsize=11)

    matrix = torchconv.conv_matrix(torch.ones(1, 1, 3), UNITS, padding="same")
    taps = [tuple(at) for at in matrix.to_dense().nonzero().tolist()]
    sparse = [(i, o, "tab:red" if o == MIDDLE else "0.8") for o, i in taps]
    seen = [i for o, i in taps if o == MIDDLE]
    draw_layer(axes[1], UNITS, UNITS, sparse, lit=(seen, [MIDDLE]))
    axes[1].set_title(f"convolution, 3 taps: {len(taps)} connections", fontsize=11)

    model = torch.nn.Sequential(*[nn.Conv1d(1, 1, 3, padding=1) for _ in range(3)])
    analysis = torchconv.analyze(model, torch.zeros(1, 1, UNITS), show=False)
    reach = [0, *((x.field.size[0] - 1) // 2 for x in analysis.layers)]
    for layer in range(3):
        radius = reach[3] - reach[layer]  # what the top unit sees of this layer's input
        upper = reach[3] - reach[layer + 1]
        edges = [
            (i, o, "tab:red" if abs(o - MIDDLE) <= upper else "0.85") for o, i in taps
        ]
        below = range(MIDDLE - radius, MIDDLE + radius + 1)
        above = range(MIDDLE - upper, MIDDLE + upper + 1)
        draw_layer(axes[2], UNITS, UNITS, edges, layer * 1.0, (below, above))
    sizes = [x.field.size[0] for x in analysis.layers]
    axes[2].set_title(f"receptive field with depth: {sizes}", fontsize=11)
    figure.tight_layout()
    save(figure, path)


if __name__ == "__main__":
    run(__file__, picture)
