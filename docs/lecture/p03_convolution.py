"""Convolution flips the kernel, cross-correlation does not.

s_t = sum_a u_a w_{t-a}: every input impulse leaves a copy of the kernel. torch's layers
compute the correlation, in which it appears mirrored; flip=True computes the convolution,
which commutes.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from drawing import run, save

import torchconv


def picture(path: Path) -> None:
    u = torch.zeros(20)
    u[4], u[12] = 1.0, 0.6
    w = torch.tensor([1.0, 0.7, 0.45, 0.25, 0.1])
    true, mirrored = torchconv.convolve(u, w), torchconv.correlate(u, w)
    assert torch.equal(true, torchconv.convolve(w, u))
    figure, axes = plt.subplots(1, 4, figsize=(13, 2.8), sharey=True)
    for one, values, title, colour in (
        (axes[0], u, "signal u", "black"),
        (axes[1], w, "kernel w", "tab:green"),
        (axes[2], true, "convolution: copies of w", "tab:blue"),
        (axes[3], mirrored, "cross-correlation: mirrored", "tab:red"),
    ):
        marker, stems, base = one.stem(values.numpy())
        plt.setp((marker, stems), color=colour)
        plt.setp(base, color="0.7", linewidth=0.8)
        one.set_title(title, fontsize=11)
        one.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    save(figure, path)


if __name__ == "__main__":
    run(__file__, picture)
