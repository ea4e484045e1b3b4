"""Channels: which input channels an output channel sees.

Dense, grouped and depthwise layers, and the connection table of LeNet-5's layer C3 (LeCun,
Bottou, Bengio, Haffner, 1998, table 1), each computed by a layer of torchconv. A square is
a connection, whose kernel has 5 x 5 weights.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from drawing import run, save

from torchconv import nn

C3 = torch.zeros(16, 6, dtype=torch.bool)
for first in range(6):
    C3[first, [(first + i) % 6 for i in range(3)]] = True
    C3[6 + first, [(first + i) % 6 for i in range(4)]] = True
for first in range(3):
    C3[12 + first, [(first + i) % 6 for i in (0, 1, 3, 4)]] = True
C3[15] = True


def seen(layer: torch.nn.Module) -> torch.Tensor:
    """(out, in): whether an output channel changes with an input channel."""
    x = torch.randn(1, 6, 5, 5, requires_grad=True)
    y = layer(x)[0, :, 0, 0]
    rows = [torch.autograd.grad(v, x, retain_graph=True)[0] for v in y]
    return torch.stack([r[0].abs().sum((1, 2)) > 0 for r in rows])


def picture(path: Path) -> None:
    layers = {
        "dense": nn.Conv2d(6, 12, 5),
        "3 groups": nn.Conv2d(6, 12, 5, groups=3),
        "depthwise, multiplier 2": nn.DepthwiseConv2d(6, 5, multiplier=2),
        "LeNet-5's C3": nn.Conv2d(6, 16, 5, channel_map=C3),
    }
    figure, axes = plt.subplots(1, 4, figsize=(12, 5), sharey=True)
    for one, (name, layer) in zip(axes, layers.items(), strict=True):
        table = seen(layer)
        one.imshow(table.numpy(), cmap="Blues", vmin=0, vmax=1.4)
        one.set_xticks([i - 0.5 for i in range(7)], minor=True)
        one.set_yticks([i - 0.5 for i in range(table.shape[0] + 1)], minor=True)
        one.grid(which="minor", color="white", linewidth=2)
        one.tick_params(which="minor", length=0)
        one.set_title(f"{name}:\n{int(table.sum())} kernels", fontsize=11)
        one.set_xlabel("input channel")
    axes[0].set_ylabel("output channel")
    figure.tight_layout()
    save(figure, path)


if __name__ == "__main__":
    run(__file__, picture)
