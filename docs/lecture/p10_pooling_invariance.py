"""Pooling: every detector moves, half of the maxima do not.

Top: the input moved one step to the right changes every detector value, but only some of
the maxima over three neighbours (Goodfellow, Bengio, Courville, *Deep Learning*, figure
9.8). Bottom: how much features of a photograph change with its shift.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from drawing import photograph, run, save

import torchconv
import torchconv.functional as F

DETECTORS = torch.tensor([0.1, 1.0, 0.2, 0.1, 0.0, 0.3, 0.9, 0.2])


def picture(path: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(13, 4.4), width_ratios=(1.25, 1))
    moved = DETECTORS.roll(1)
    pooled = [F.max_pool1d(v[None, None], 3, 1, 1)[0, 0] for v in (DETECTORS, moved)]
    rows = (pooled[0], DETECTORS, pooled[1], moved)
    names = ("max over 3", "detectors", "max over 3, moved", "detectors, moved")
    changed = (None, None, pooled[0] != pooled[1], moved != DETECTORS)
    for height, (row, name, marks) in enumerate(zip(rows, names, changed, strict=True)):
        y = -height - (0.6 if height > 1 else 0)
        axes[0].text(-0.9, y, name, ha="right", va="center", fontsize=10)
        for i, value in enumerate(row.tolist()):
            edge = "tab:red" if marks is not None and marks[i] else "black"
            face = plt.get_cmap("Greys")(0.6 * value)
            axes[0].scatter(i, y, s=620, color=face, edgecolors=edge, linewidths=2)
            axes[0].text(i, y, f"{value:.1f}", ha="center", va="center", fontsize=9)
    axes[0].set_xlim(-3.6, 7.6)
    axes[0].set_ylim(-4.2, 0.6)
    axes[0].set_axis_off()
    axes[0].set_title("one step to the right: red values changed", fontsize=11)

    x = photograph(128)
    edge = torch.tensor([[[[-1.0, 1.0]]]])
    functions = {
        "detectors (edges)": lambda x: F.conv2d(x, edge).relu(),
        "max over 4 x 4": lambda x: F.max_pool2d(F.conv2d(x, edge).relu(), 4),
        "max over 16 x 16": lambda x: F.max_pool2d(F.conv2d(x, edge).relu(), 16),
        "global max": lambda x: F.global_pool(F.conv2d(x, edge).relu(), "max"),
    }
    shifts = range(9)
    for name, function in functions.items():
        curve = torchconv.invariance_curve(function, x, shifts)
        axes[1].plot(list(curve), list(curve.values()), marker="o", label=name)
    axes[1].set_xlabel("shift of the photograph, pixels")
    axes[1].set_ylabel("relative change")
    axes[1].legend(fontsize=9, loc="center right", bbox_to_anchor=(1, 0.2))
    axes[1].spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    save(figure, path)


if __name__ == "__main__":
    run(__file__, picture)
