"""Max-out against the definition and against torch's max over a dimension."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from common import FLOATS, assert_same, each_isa, expanded, layouts, normal, whole
from torch import Tensor
from torch.autograd.gradcheck import gradcheck, gradgradcheck
from torch.func import grad, jvp, vmap

from torchconv import functional as TF
from torchconv import reference

pytestmark = pytest.mark.usefixtures("kernel_device")

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)

# Input size and k: vector edges, one group, groups of one, more taps than a byte names.
SIZES = [
    ((2, 6), 3),
    ((3, 6, 17), 2),
    ((2, 4, 7, 5), 4),
    ((1, 8, 16, 16), 2),
    ((2, 30, 3, 3), 5),
    ((2, 5, 4, 6), 1),
    ((1, 7, 9, 1), 7),
    ((2, 9, 3, 4, 5), 3),
    ((1, 520, 2, 3), 260),
    ((0, 4, 5, 5), 2),
]

sized = pytest.mark.parametrize(("size", "k"), SIZES, ids=str)


def by_torch(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Values, and 1 where the first of the largest channels of a group is."""
    groups = x.unflatten(1, (x.shape[1] // k, k))
    y = groups.amax(2)
    largest = (groups == y.unsqueeze(2)) | groups.isnan()
    first = largest & (largest.cumsum(2) == 1)
    return y, first.flatten(1, 2)


@sized
def test_definition(size: tuple[int, ...], k: int) -> None:
    x = whole(size, torch.float64, "maxout")
    if x.numel():
        x.view(-1)[::5] = math.nan
    for isa in each_isa():
        assert_same(TF.maxout(x, k), reference.maxout(x, k), isa)


@pytest.mark.parametrize("dtype", (*FLOATS, *INTEGERS), ids=str)
@sized
def test_values_and_gradient(size: tuple[int, ...], k: int, dtype: torch.dtype) -> None:
    """Ties included: the first of equal channels has the gradient."""
    x = whole(size, dtype, "maxout")
    y, first = by_torch(x, k)
    for isa in each_isa():
        own = x.clone().requires_grad_(dtype.is_floating_point)
        found = TF.maxout(own, k)
        assert_same(found.detach(), y, f"values on {isa}")
        if dtype.is_floating_point:
            g = whole(y.shape, dtype, "grad")
            gx = g.repeat_interleave(k, 1) * first
            assert_same(torch.autograd.grad(found, own, g)[0], gx, f"gradient on {isa}")


@pytest.mark.parametrize(("size", "k"), [((2, 6, 5, 4), 3), ((2, 8, 3, 4, 5), 2)])
def test_layouts(size: tuple[int, ...], k: int) -> None:
    x = normal(size, torch.float32, "maxout")
    y, first = by_torch(x, k)
    for name, view in (layouts(x) | expanded(x)).items():
        expected = by_torch(view, k)[0]
        assert_same(TF.maxout(view, k), expected, name)
    last = layouts(x)["channels_last"]
    found = TF.maxout(last.requires_grad_(), k)
    assert found.stride() == layouts(y)["channels_last"].stride()
    gx = torch.autograd.grad(found, last, torch.ones_like(found))[0]
    assert_same(gx, first.to(x.dtype), "gradient")
    assert gx.stride() == last.stride()


@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
def test_derivatives(layout: str) -> None:
    x = torch.randperm(2 * 6 * 12, generator=torch.Generator().manual_seed(1)).double()
    x = layouts(x.reshape(2, 6, 3, 4) / 8)[layout]
    run: Any = lambda t: TF.maxout(t, 3)
    assert gradcheck(run, x.clone().requires_grad_(), check_forward_ad=True)
    assert gradgradcheck(run, x.clone().requires_grad_())
    tangent = torch.ones_like(x)
    assert_same(jvp(run, (x,), (tangent,))[1], torch.ones(2, 2, 3, 4).double())
    each = vmap(grad(lambda t: run(t.unsqueeze(0)).sum()))(x)
    assert_same(each, by_torch(x, 3)[1].double(), "vmap of grad")
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    assert_same(compiled(x), run(x), "compiled")


@pytest.mark.parametrize(
    ("size", "k", "error", "message"),
    [
        ((2, 6, 4), 4, RuntimeError, "k=4"),
        ((2, 6, 4), 0, RuntimeError, "k=0"),
        ((2, 6, 4), -3, RuntimeError, "k=-3"),
        ((6,), 2, RuntimeError, r"\[6\]"),
        ((2, 6, 0), 2, RuntimeError, r"\[2, 6, 0\]"),
        ((2, 6, 4), 1.5, TypeError, "k=1.5"),
    ],
)
def test_errors(size: Any, k: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TF.maxout(torch.zeros(size), k)
    with pytest.raises(TypeError, match="'input' must be Tensor"):
        TF.maxout([1.0], 1)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="complex64"):
        TF.maxout(torch.zeros(1, 2, dtype=torch.complex64), 2)
