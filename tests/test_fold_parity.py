"""unfold and fold against torch: every problem, dtype and kernel variant."""

from __future__ import annotations

import pytest
import shapes
import torch
from common import COMPLEX, FLOATS, assert_same, each_isa, layouts, whole
from common import oracle as F

from torchconv import functional as TF

pytestmark = pytest.mark.usefixtures("kernel_device")

named = {"ids": lambda value: getattr(value, "name", str(value))}


def options_of(problem: shapes.Columns) -> tuple[shapes.Ints, ...]:
    return (problem.kernel, problem.dilation, problem.padding, problem.stride)


@pytest.mark.parametrize("dtype", (*FLOATS, *COMPLEX, torch.bool), **named)
@pytest.mark.parametrize("problem", shapes.COLUMNS, **named)
def test_values(problem: shapes.Columns, dtype: torch.dtype) -> None:
    options = options_of(problem)
    x = whole(problem.x_size, dtype, problem.name)
    columns = F.unfold(x, *options)
    entries = whole(columns.shape, dtype, "columns")
    folded = F.fold(entries, x.shape[2:], *options)
    for isa in each_isa():
        assert_same(TF.unfold(x, *options), columns, f"unfold on {isa}")
        found = TF.fold(entries, x.shape[2:], *options)
        assert_same(found, folded, f"fold on {isa}")
        if x.shape[0]:
            assert_same(TF.unfold(x[0], *options), columns[0], "unbatched unfold")
            found = TF.fold(entries[0], x.shape[2:], *options)
            assert_same(found, folded[0], "unbatched fold")


@pytest.mark.parametrize("dtype", (*FLOATS, *COMPLEX), **named)
@pytest.mark.parametrize("problem", shapes.COLUMNS, **named)
def test_gradients(problem: shapes.Columns, dtype: torch.dtype) -> None:
    options = options_of(problem)
    results = []
    for module in (F, TF):
        x = whole(problem.x_size, dtype, problem.name).requires_grad_()
        y = module.unfold(x, *options)
        grad = whole(y.shape, dtype, "grad")
        columns = whole(y.shape, dtype, "columns").requires_grad_()
        z = module.fold(columns, x.shape[2:], *options)
        back = whole(z.shape, dtype, "back")
        results.append(
            [
                torch.autograd.grad(y, x, grad)[0],
                torch.autograd.grad(z, columns, back)[0],
            ]
        )
    for found, expected in zip(*reversed(results), strict=True):
        assert_same(found, expected)


@pytest.mark.parametrize("problem", shapes.COLUMNS, **named)
def test_layouts(problem: shapes.Columns) -> None:
    options = options_of(problem)
    x = whole(problem.x_size, torch.float32, problem.name)
    columns = F.unfold(x, *options)
    folded = F.fold(columns, x.shape[2:], *options)
    for name, view in layouts(x).items():
        found = TF.unfold(view, *options)
        assert_same(found, columns, f"unfold of {name}")
        assert found.is_contiguous()
    for name, view in layouts(columns).items():
        found = TF.fold(view, x.shape[2:], *options)
        assert_same(found, folded, f"fold of {name}")
        assert found.is_contiguous()


def test_fold_inverts_unfold_without_overlap() -> None:
    x = whole((2, 3, 8, 12), torch.float32)
    assert_same(TF.fold(TF.unfold(x, 4, stride=4), (8, 12), 4, stride=4), x)
