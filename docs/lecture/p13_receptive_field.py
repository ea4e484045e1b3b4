"""The receptive field of each layer of a small network, drawn on its input."""

from pathlib import Path

import torch
from drawing import photograph, run, save

import torchconv
from torchconv import nn


def picture(path: Path) -> None:
    model = torch.nn.Sequential()
    channels = 1
    for i in range(1, 5):
        model.add_module(f"conv{i}", nn.Conv2d(channels, 8, 3, padding=1))
        model.add_module(f"relu{i}", torch.nn.ReLU())
        if i < 4:
            model.add_module(f"pool{i}", nn.MaxPool2d(2))
        channels = 8
    x = photograph(96)
    analysis = torchconv.analyze(model, x, show=__name__ == "__main__")
    save(analysis.picture(image=x[0]), path)


if __name__ == "__main__":
    run(__file__, picture)
