"""ConvLayer: the values and gradients of its three stages, one call after another."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from common import per_rank
from torch import Tensor
from torch.nn import functional as F

import torchconv
from torchconv import nn
from torchconv.functional.layer import DETECTORS

SHAPES = {1: (2, 3, 13), 2: (2, 3, 9, 10), 3: (2, 3, 7, 6, 8)}


def stages(x: Tensor, layer: Any, nd: int, detect: Any) -> Tensor:
    y = per_rank("conv", nd, F)(x, layer.weight, layer.bias, padding=1)
    y = detect(y)
    if layer.pool is None:
        return y
    return per_rank(f"{layer.pool}_pool", nd, F)(y, layer.pool_size, layer.pool_stride)


@pytest.mark.parametrize("nd", SHAPES)
@pytest.mark.parametrize(
    "detector",
    [*DETECTORS, None, torch.sin],
    ids=lambda d: getattr(d, "__name__", str(d)),
)
@pytest.mark.parametrize("pool", ["max", "avg", None], ids=str)
def test_three_stages(nd: int, detector: Any, pool: str | None) -> None:
    kind = per_rank("ConvLayer", nd, nn)
    layer = kind(3, 5, 3, padding=1, detector=detector, pool=pool, dtype=torch.float64)
    x = torch.randn(SHAPES[nd], dtype=torch.float64)
    with torch.no_grad():
        x[..., :4] = 0  # windows of equal values
        layer.bias[0] = -100  # and of negative ones
    x.requires_grad_()
    detect = DETECTORS[detector] if isinstance(detector, str) else detector
    y, expected = layer(x), stages(x, layer, nd, detect or (lambda t: t))
    torch.testing.assert_close(y, expected)
    grad = torch.randn_like(y)
    leaves = (x, *layer.parameters())
    for one, other in zip(
        torch.autograd.grad(y, leaves, grad),
        torch.autograd.grad(expected, leaves, grad),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        torch.testing.assert_close(layer(x[0]), expected[0])


def test_gradients_of_every_order() -> None:
    layer = nn.ConvLayer2d(2, 3, 3, pool_stride=1, detector="tanh").double()
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    leaves = (x, layer.weight, layer.bias)

    def call(*t: Tensor) -> Tensor:
        return torchconv.functional.conv_layer2d(*t, pool_stride=1, detector="tanh")

    assert torch.autograd.gradcheck(call, leaves)
    assert torch.autograd.gradgradcheck(call, leaves)


def test_layer_state_and_repr() -> None:
    layer = nn.ConvLayer2d(3, 8, 3, padding=1, pool_size=3, pool_stride=2)
    assert repr(layer) == (
        "ConvLayer2d(3, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), "
        "detector=relu, pool=max, pool_size=3, pool_stride=2)"
    )
    assert list(layer.state_dict()) == ["weight", "bias"]
    x = torch.randn(1, 3, 8, 8)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(twin) == repr(layer)
        assert torch.equal(twin(x), layer(x))
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))


def test_errors() -> None:
    with pytest.raises(ValueError, match="detector='some'"):
        nn.ConvLayer2d(3, 8, 3, detector="some")
    with pytest.raises(ValueError, match="pool='some'"):
        nn.ConvLayer1d(3, 8, 3, pool="some")
