"""Parameter sharing: the same three numbers in every row of the matrix.

A convolution is a matrix product with a Toeplitz matrix; of an image, with a block-Toeplitz
matrix of Toeplitz blocks. Equal colours are one parameter. A locally connected layer has
the same zeros, but shares nothing.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from drawing import run, save

import torchconv


def picture(path: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.4), width_ratios=(1, 1, 2.1))
    row = torch.tensor([[[0.2, 1.0, -0.5]]])
    torchconv.matrix_picture(row, 6, padding="same", axes=axes[0])
    axes[0].set_title("6 x 6: convolution of a signal,\n3 parameters", fontsize=11)

    # A locally connected layer is convolutions with one output each.
    unshared = torch.zeros(6, 6)
    pattern = torchconv.conv_matrix(row, 6, padding="same").to_dense() != 0
    unshared[pattern] = torch.arange(1.0, 17.0)
    shown = torch.where(pattern, unshared, torch.nan)
    axes[1].imshow(shown.numpy(), cmap="turbo", alpha=0.75)
    axes[1].set_title("locally connected,\n16 parameters", fontsize=11)
    axes[1].set_xticks([i - 0.5 for i in range(7)], minor=True)
    axes[1].set_yticks([i - 0.5 for i in range(7)], minor=True)
    axes[1].grid(which="minor", color="0.8", linewidth=0.5)
    axes[1].tick_params(which="both", length=0, labelbottom=False, labelleft=False)
    axes[1].set_xlabel("6 inputs")

    kernel = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    torchconv.matrix_picture(kernel, 6, axes=axes[2])
    axes[2].set_title(
        "16 x 36: convolution of a 6 x 6 image with a 3 x 3 kernel, 9 parameters",
        fontsize=11,
    )
    figure.tight_layout()
    save(figure, path)


if __name__ == "__main__":
    run(__file__, picture)
