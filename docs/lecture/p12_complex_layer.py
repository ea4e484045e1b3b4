"""The complex layer: convolution, detector and pooling stage in one.

ConvLayer2d is the three stages (Goodfellow, Bengio, Courville, *Deep Learning*, figure
9.7); here it looks for horizontal and vertical edges.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import torch
from drawing import photograph, run, save, show

import torchconv.functional as F
from torchconv import nn

KERNELS = torch.tensor(
    [[[1.0, 2, 1], [0, 0, 0], [-1, -2, -1]], [[1.0, 0, -1], [2, 0, -2], [1, 0, -1]]]
)


def picture(path: Path) -> None:
    layer = nn.ConvLayer2d(1, 2, 3, padding=1, padding_mode="replicate", pool_size=4)
    with torch.no_grad():
        layer.weight.copy_(KERNELS[:, None])
        layer.bias.fill_(-0.2)
    x = photograph(240)
    linear = F.conv2d(x, layer.weight, layer.bias, padding=1, padding_mode="replicate")
    detected = linear.relu()
    pooled = layer(x)
    torch.testing.assert_close(pooled, F.max_pool2d(detected, 4))
    figure, axes = plt.subplots(2, 4, figsize=(12.5, 6.3))
    for k, name in enumerate(("horizontal", "vertical")):
        show(axes[k, 0], x, "input" if k == 0 else "")
        show(axes[k, 1], linear[0, k], f"convolution stage: {name}", True)
        show(axes[k, 2], detected[0, k], "detector stage: relu")
        show(axes[k, 3], pooled[0, k], "pooling stage: max 4 x 4")
    axes[1, 0].set_visible(False)
    figure.tight_layout()
    save(figure, path)


if __name__ == "__main__":
    run(__file__, picture)
