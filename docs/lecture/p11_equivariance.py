"""Equivariance: f(g(x)) = g(f(x)), exactly, nearly, or not.

A convolution moves with its input. With a stride it does so only for shifts that the stride
divides; max pooling with a stride too. A blur before the stride mends most of it (Zhang,
arXiv:1904.11486).
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from drawing import photograph, run, save
from torch import Tensor

import torchconv
import torchconv.functional as F
from torchconv import nn


def circular(x: Tensor, low: int, high: int) -> Tensor:
    """x as it continues when it wraps around."""
    return torch.nn.functional.pad(x, (low, high, low, high), mode="circular")


def picture(path: Path) -> None:
    torch.manual_seed(0)
    options = {"padding": 1, "padding_mode": "circular"}
    plain = nn.Conv2d(1, 8, 3, **options).double()
    strided = nn.Conv2d(1, 8, 3, stride=4, **options).double()
    strided.load_state_dict(plain.state_dict())

    def max_pool(x: Tensor) -> Tensor:
        return F.max_pool2d(circular(plain(x), 1, 2), 4, 4)

    def blur_pool(x: Tensor) -> Tensor:
        top = F.max_pool2d(circular(plain(x), 1, 2), 4, 1)
        return F.blur_pool2d(top, 7, 4, padding_mode="circular")

    x = photograph(128).double()
    shifts = list(range(9))
    figure, axes = plt.subplots(figsize=(8.5, 4.4))
    for name, function, style in (
        ("convolution (exact)", plain, "o-"),
        ("convolution, stride 4", strided, "s-"),
        ("max pooling 4 x 4, stride 4", max_pool, "^-"),
        ("max pooling and blur pooling, stride 4", blur_pool, "D-"),
    ):
        errors = torchconv.equivariance_error(function, x, shifts)
        axes.plot(shifts, list(errors.values()), style, label=name)
    axes.set_xlabel("shift, pixels")
    axes.set_ylabel("|f(g(x)) - g(f(x))| / |f(x)|")
    axes.legend(fontsize=9, loc="upper right")
    axes.set_ylim(top=axes.get_ylim()[1] * 1.35)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    save(figure, path)


if __name__ == "__main__":
    run(__file__, picture)
