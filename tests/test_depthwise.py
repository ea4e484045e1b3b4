"""Depthwise convolution where rows or pixels are read in place: borders, strides, few
rows, channels that fill no unit of lanes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from common import threads

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
    # Columns of one to five vectors, from the first row to the last.
    (2, 1, (9, 63), (3, 3), (1, 1), (1, 0)),
    (2, 1, (4, 81), (3, 3), (1, 1), (2, 1)),
    (2, 1, (1, 20), (3, 3), (1, 1), (1, 2)),
    (18, 1, (6, 49), (3, 3), (1, 1), (1, 1)),
    (2, 1, (8, 130), (3, 3), (2, 2), (0, 2)),
    (2, 1, (7, 67), (3, 3), (2, 2), (1, 1)),
    (2, 1, (2, 9), (3, 3), (2, 2), (2, 1)),
    (2, 1, (115, 6), (3, 3), (2, 2), (1, 0)),
    (2, 1, (9, 70), (7, 7), (2, 2), (3, 2)),
    (2, 1, (10, 66), (5, 5), (2, 2), (2, 2)),
    (2, 1, (1, 75), (1, 3), (1, 2), (0, 1)),
    (2, 1, (4, 9, 34), (3, 3, 3), (1, 2, 2), (1, 1, 1)),
    (2, 1, (7, 8, 18), (3, 5, 4), (2, 2, 2), (2, 1, 2)),
    (2, 1, (1, 5, 20), (3, 3, 3), (1, 1, 1), (1, 1, 1)),
    (2, 1, (2, 5, 19), (1, 3, 3), (1, 1, 1), (1, 1, 1)),  # planes of padding alone
    # Lines: more taps than lanes, and fewer.
    (3, 1, (70,), (8,), (1,), (4,)),
    (2, 2, (1, 333), (1, 16), (1, 1), (0, 8)),
    (2, 1, (300,), (17,), (1,), (8,)),
    (2, 1, (4, 290), (1, 31), (1, 1), (0, 15)),
    (2, 1, (401,), (33,), (1,), (30,)),
    (2, 1, (64,), (64,), (1,), (40,)),
    (2, 1, (64,), (9,), (1,), (600,)),  # input_grad begins vectors before the row
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


# channels, input size, kernel, stride, padding
PIXELS = [
    (16, (7, 7), (3, 3), (1, 1), (1, 1)),
    (33, (8, 9), (3, 3), (1, 1), (0, 2)),
    (54, (5, 23), (3, 3), (1, 1), (1, 1)),
    (20, (3, 3), (3, 3), (1, 1), (2, 2)),
    (17, (1, 2), (3, 3), (1, 1), (1, 1)),
    (24, (6, 8), (3, 5), (1, 1), (1, 2)),
    (24, (6, 14), (3, 2), (1, 1), (1, 0)),
    (40, (14, 14), (5, 5), (1, 1), (2, 2)),
    (16, (9, 13), (5, 5), (1, 1), (4, 1)),
    (18, (14, 15), (7, 7), (1, 1), (3, 3)),
    (16, (3, 3), (7, 7), (1, 1), (3, 3)),  # a kernel larger than the input
    (16, (11, 10), (4, 4), (1, 1), (2, 1)),
    (23, (12, 13), (9, 9), (1, 1), (4, 4)),
    (16, (6, 30), (13, 3), (1, 1), (8, 1)),
    (16, (5, 6), (31, 31), (1, 1), (15, 15)),
    (35, (15, 14), (3, 3), (2, 2), (1, 1)),
    (19, (9, 29), (5, 4), (2, 2), (2, 0)),
    (32, (13, 17), (7, 7), (2, 2), (3, 3)),
    (16, (9, 9), (3, 3), (2, 2), (0, 0)),
    (17, (3, 2), (3, 3), (2, 2), (1, 1)),
    (16, (12, 21), (3, 3), (2, 2), (2, 0)),
    (33, (14, 18), (5, 5), (2, 2), (2, 2)),
    (16, (11, 30), (7, 7), (2, 2), (2, 4)),
    (16, (6, 9, 10), (3, 3, 3), (2, 2, 2), (1, 1, 1)),
    (22, (5, 6, 9), (3, 3, 3), (1, 1, 1), (1, 1, 1)),
    (16, (5, 8, 14), (3, 3, 3), (1, 2, 2), (1, 1, 1)),
    (16, (4, 6, 7), (2, 5, 5), (2, 1, 1), (1, 2, 2)),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("case", PIXELS, ids=str)
def test_pixels_in_place(isa: str, case: tuple, dtype: torch.dtype) -> None:
    channels, size, kernel, stride, padding = case
    nd = len(size)
    x = torch.randn(2, channels, *size).to(dtype)
    w = torch.randn(channels, 1, *kernel).to(dtype)
    b = torch.randn(channels).to(dtype)
    # What lies beside the tensor must not be read.
    wide = torch.full((2, *size[:-1], size[-1] + 2, channels + 3), torch.nan).to(dtype)
    part = wide[..., 1:-1, 1:-2].movedim(-1, 1)
    part.copy_(x)
    results = []
    for functional, to, given in (
        (torch.nn.functional, torch.float64, x),
        (F, dtype, part),
    ):
        leaves = [t.detach().to(to).requires_grad_() for t in (given, w, b)]
        conv = getattr(functional, f"conv{nd}d")
        y = conv(*leaves, stride=stride, padding=padding, groups=channels)
        torch.manual_seed(1)
        grad = torch.randn(y.shape).to(dtype).to(to)
        grad = grad.movedim(1, -1).contiguous().movedim(-1, 1)
        results.append([y, *torch.autograd.grad(y, leaves, grad)])
    tolerance = {torch.float64: 1e-11, torch.float32: 3e-5, torch.bfloat16: 8e-3}[dtype]
    for expected, found in zip(*results):
        scale = float(expected.detach().abs().max())
        assert found.dtype == dtype
        assert (
            float((found.detach().double() - expected.detach()).abs().max())
            <= tolerance * scale
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("case", PIXELS, ids=str)
def test_planes_turned(isa: str, case: tuple, dtype: torch.dtype) -> None:
    """Contiguous tensors: half types, and planes that are narrow or often read."""
    channels, size, kernel, stride, padding = case
    x = torch.randn(2, channels, *size).to(dtype)
    w = torch.randn(channels, 1, *kernel).to(dtype)
    results = []
    for functional, to in ((torch.nn.functional, torch.float64), (F, dtype)):
        leaves = [t.to(to).requires_grad_() for t in (x, w)]
        conv = getattr(functional, f"conv{len(size)}d")
        y = conv(*leaves, stride=stride, padding=padding, groups=channels)
        torch.manual_seed(1)
        grad = torch.randn(y.shape).to(dtype).to(to)
        results.append([y, *torch.autograd.grad(y, leaves, grad)])
    tolerance = {torch.float32: 3e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}[dtype]
    for expected, found in zip(*results):
        scale = float(expected.detach().abs().max())
        error = (found.detach().double() - expected.detach()).abs().max()
        assert float(error) <= tolerance * scale


@pytest.mark.parametrize("kernel", [3, 5, 9])
def test_pixels_do_not_depend_on_threads_or_batch(kernel: int) -> None:
    """54 channels: the last unit of lanes overlaps the one before."""
    x = torch.randn(3, 54, 31, 29).to(memory_format=torch.channels_last)
    w = torch.randn(54, 1, kernel, kernel)

    def passes(x: torch.Tensor) -> list[torch.Tensor]:
        x = x.detach().requires_grad_()
        y = F.conv2d(x, w, padding=kernel // 2, groups=54)
        return [y.detach(), *torch.autograd.grad(y, x, torch.sin(x.detach()))]

    with threads(1):
        once = passes(x)
    for count in (2, 3):
        with threads(count):
            for one, other in zip(once, passes(x)):
                assert torch.equal(one, other)
    for one, other in zip(once, passes(x[1:2])):
        assert torch.equal(one[1:2], other)


def test_pixels_outside_meet_no_weight(isa: str) -> None:
    """An infinity in the weight reaches the results whose tap sees an element."""
    if isa == "baseline":
        pytest.skip("pixels in place need AVX2; strips multiply the padding's zeros")
    x = torch.randn(1, 32, 9, 9).to(memory_format=torch.channels_last)
    w = torch.randn(32, 1, 3, 3)
    w[:, :, 0, 0] = torch.inf
    y = F.conv2d(x, w, padding=1, groups=32)
    assert bool(y[:, :, 0].isfinite().all()) and bool(y[:, :, :, 0].isfinite().all())
    assert not bool(y[:, :, 1:, 1:].isfinite().any())


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
