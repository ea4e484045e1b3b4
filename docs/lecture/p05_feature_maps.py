"""Feature maps: each kernel of a layer makes an image of what it looks for."""

import math
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from drawing import photograph, run, save, show
from torch import Tensor

import torchconv.functional as F


def gabor(angle: float, size: int = 11, wavelength: float = 6.0) -> Tensor:
    """A wave under a bell: what simple cells of the visual cortex respond to."""
    at = torch.arange(size) - size // 2
    y, x = torch.meshgrid(at, at, indexing="ij")
    along = x * math.cos(angle) + y * math.sin(angle)
    bell = torch.exp(-(x**2 + y**2) / (2 * (size / 5) ** 2))
    wave = bell * torch.cos(2 * math.pi * along / wavelength)
    return (wave - wave.mean()) / wave.abs().sum()


def picture(path: Path) -> None:
    x = photograph(240)
    angles = {"vertical": 0.0, "diagonal": math.pi / 4, "horizontal": math.pi / 2}
    kernels = {name: gabor(angle) for name, angle in angles.items()}
    bump = torch.outer(*[torch.hann_window(13, periodic=False)[1:-1]] * 2)
    kernels["blur"] = bump / bump.sum()
    weight = torch.stack(list(kernels.values()))[:, None]
    maps = F.conv2d(x, weight, padding="same", padding_mode="reflect")
    figure, axes = plt.subplots(2, 5, figsize=(13, 5.6))
    show(axes[0, 0], x, "input")
    axes[1, 0].set_axis_off()
    for i, (name, kernel) in enumerate(kernels.items(), 1):
        signed = name != "blur"
        response = maps[0, i - 1]
        show(axes[0, i], kernel, f"kernel: {name}", signed)
        shown = response.relu() ** 0.7 if signed else response
        show(axes[1, i], shown, "feature map" + (" (relu)" if signed else ""))
    figure.tight_layout()
    save(figure, path)


if __name__ == "__main__":
    run(__file__, picture)
