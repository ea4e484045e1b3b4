"""Depthwise convolution where rows are read in place: borders, strides, few rows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import torchconv.functional as F
from torchconv import _extension

ISAS = _extension.binary().supported_isas() if _extension.available() else []

# channels, groups' outputs, input size, kernel, stride, padding
CASES = [
    (3, 1, (7, 7), (3, 3), (1, 1), (1, 1)),
    (3, 1, (8, 17), (3, 3), (1, 1), (0, 1)),
    (2, 2, (15, 33), (3, 3), (1, 1), (2, 2)),
    (2, 1, (29, 31), (5, 5), (1, 1), (2, 2)),
    (2, 1, (9, 40), (7, 7), (1, 1), (3, 3)),
    (2, 1, (3, 3), (7, 7), (1, 1), (3, 3)),  # a kernel larger than the input
    (2, 1, (13, 70), (1, 5), (1, 1), (0, 2)),
    (2, 1, (6, 37), (1, 3), (1, 2), (0, 1)),
    (2, 1, (6, 37), (3, 1), (1, 1), (1, 0)),
    (2, 1, (15, 35), (3, 3), (2, 2), (1, 1)),
    (2, 3, (16, 64), (5, 4), (2, 2), (2, 1)),
    (2, 1, (14, 14), (7, 6), (2, 2), (0, 3)),
    (2, 1, (1, 130), (1, 4), (1, 1), (0, 3)),
    (2, 1, (5, 6, 19), (3, 3, 3), (1, 1, 1), (1, 1, 1)),
    (2, 1, (5, 8, 18), (3, 3, 3), (2, 2, 2), (1, 1, 1)),
    (2, 1, (6, 5, 40), (2, 3, 3), (2, 1, 1), (1, 1, 1)),
]


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    binary = _extension.binary()
    before = binary.active_isa()
    binary.set_isa(request.param)
    yield request.param
    binary.set_isa(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows_in_place(isa: str, case: tuple, dtype: torch.dtype) -> None:
    channels, outputs, size, kernel, stride, padding = case
    nd = len(size)
    x = torch.randn(2, channels, *size, dtype=torch.float64)
    w = torch.randn(channels * outputs, 1, *kernel, dtype=torch.float64)
    b = torch.randn(channels * outputs, dtype=torch.float64)
    results = []
    for functional, to in ((torch.nn.functional, torch.float64), (F, dtype)):
        leaves = [t.to(to).requires_grad_() for t in (x, w, b)]
        # What lies beside the tensor must not be read.
        wide = torch.full((2, channels, *size[:-1], size[-1] + 5), torch.nan, dtype=to)
        wide[..., : size[-1]] = leaves[0].detach()
        leaves[0] = wide[..., : size[-1]].requires_grad_()
        conv = getattr(functional, f"conv{nd}d")
        y = conv(*leaves, stride=stride, padding=padding, groups=channels)
        torch.manual_seed(1)
        grad = torch.randn(y.shape, dtype=torch.float64).to(to)
        results.append([y, *torch.autograd.grad(y, leaves, grad)])
    tolerance = 1e-11 if dtype == torch.float64 else 3e-5
    for expected, found in zip(*results):
        scale = float(expected.detach().abs().max())
        assert found.dtype == dtype
        assert (
            float((found.detach().double() - expected.detach()).abs().max())
            <= tolerance * scale
        )


def test_infinities_stay_where_they_belong(isa: str) -> None:
    """An element beyond the last position of a row meets no other tap's sum."""
    x = torch.randn(1, 1, 4, 20)
    x[0, 0, :, 19] = torch.inf
    w = torch.randn(1, 1, 3, 3, requires_grad=True)
    F.conv2d(x, w).sum().backward()
    expected = w.detach().clone().requires_grad_()
    torch.nn.functional.conv2d(x.double(), expected.double()).sum().backward()
    assert w.grad is not None and expected.grad is not None
    assert torch.equal(w.grad.isfinite(), expected.grad.isfinite())


@pytest.mark.parametrize("algorithm", ["auto", "direct", "im2col", "depthwise"])
def test_results_without_rows(algorithm: str) -> None:
    x = torch.zeros(0, 32, 0, 32, requires_grad=True)
    w = torch.zeros(32, 1, 1, 3)
    y = F.conv2d(x, w, padding=(1, 1), groups=32, algorithm=algorithm)
    assert y.shape == (0, 32, 2, 32)
    y.backward(torch.ones_like(y))
    assert x.grad is not None and x.grad.shape == x.shape


def test_weight_gradients_of_infinite_inputs() -> None:
    """An infinity reaches the taps that see it, and no other by a zero times it."""
    x, gy = torch.randn(1, 32, 5, 32), torch.randn(1, 32, 5, 32)
    x[0, 0, 4, 10] = torch.inf
    args = ([1, 1], [1, 1, 1, 1], [1, 1], 32, "zeros", False, "depthwise")
    gw = torch.ops.torchconv.conv_weight_grad(gy, x, [32, 1, 3, 3], *args)
    assert bool(gw[0, 0, 0].isfinite().all())
    assert not bool(gw[0, 0, 1].isfinite().any())
