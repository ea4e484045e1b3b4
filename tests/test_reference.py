"""The definitions against torch in float64, and torchconv against the definitions.

The first half shows that torchconv/reference means what torch means, so that it can
be trusted where torch has no counterpart; the second half holds torchconv to it.
"""

from __future__ import annotations

import math

import pytest
import shapes
import torch
from common import (
    assert_same,
    conv_options,
    normal,
    ops,
    per_rank,
    pool_options,
    torch_conv,
    torch_conv_transpose,
    transpose_options,
    whole,
)
from torch.nn import functional as F

from torchconv import functional as TF
from torchconv import reference

# Plain loops take a second per million products.
SMALL_CONVS = [p for p in shapes.OPTIONS + shapes.PADDED if p.products < 20_000]
SMALL_TRANSPOSES = [
    p
    for p in shapes.CONV_TRANSPOSES
    if math.prod(p.x_size) * math.prod(p.weight_size[1:]) < 20_000
]
SMALL_POOLS = [
    p
    for p in shapes.POOLS
    if math.prod(p.x_size) * math.prod(reference.each(p.kernel, p.nd)) < 40_000
]
UNDILATED = [p for p in SMALL_POOLS if p.dilation == 1]
UNPADDED = [p for p in UNDILATED if p.padding == 0]
SMALL_COLUMNS = [p for p in shapes.COLUMNS if math.prod(p.x_size) < 500]
F64 = torch.float64

named = {"ids": lambda problem: problem.name}
sized = {"ids": str}


def tensors_of(problem: shapes.Conv) -> tuple[torch.Tensor, ...]:
    """x, weight, bias and a gradient of whole numbers."""
    sizes = (
        problem.x_size,
        problem.weight_size,
        problem.weight_size[:1],
        problem.out_size,
    )
    return tuple(whole(s, F64, problem.name, i) for i, s in enumerate(sizes))


@pytest.mark.parametrize("problem", SMALL_CONVS, **named)
def test_conv(problem: shapes.Conv) -> None:
    x, w, b, grad = tensors_of(problem)
    options = conv_options(problem)
    y = reference.conv(x, w, b, **options)
    gx = reference.conv_input_grad(grad, w, x.shape, **options)
    gw = reference.conv_weight_grad(grad, x, w.shape, **options)
    if x.shape[0]:
        xt, wt = x.clone().requires_grad_(), w.clone().requires_grad_()
        expected = torch_conv(problem, xt, wt, b)
        assert_same(y, expected.detach(), "reference forward")
        wanted = torch.autograd.grad(expected, (xt, wt), grad)
        assert_same(gx, wanted[0], "reference input_grad")
        assert_same(gw, wanted[1], "reference weight_grad")
    x, w = x.requires_grad_(), w.requires_grad_()
    ours = per_rank("conv", problem.nd, TF)(x, w, b, **options)
    assert_same(ours.detach(), y, "forward")
    found = torch.autograd.grad(ours, (x, w), grad)
    assert_same(found[0], gx, "input_grad")
    assert_same(found[1], gw, "weight_grad")


@pytest.mark.parametrize("problem", SMALL_TRANSPOSES, **named)
def test_conv_transpose(problem: shapes.ConvTranspose) -> None:
    x = whole(problem.x_size, F64, problem.name)
    w = whole(problem.weight_size, F64, problem.name, "w")
    b = whole((problem.filters,), F64, problem.name, "b")
    options = transpose_options(problem)
    y = reference.conv_transpose(x, w, b, **options)
    assert_same(y, torch_conv_transpose(problem, x, w, b), "reference")
    assert_same(per_rank("conv_transpose", problem.nd, TF)(x, w, b, **options), y)


def test_channel_sum() -> None:
    x = whole((3, 5, 4, 2), F64)
    y = reference.channel_sum(x)
    assert_same(y, x.sum((0, 2, 3)), "reference")
    assert_same(ops.channel_sum(x), y)


@pytest.mark.parametrize("problem", SMALL_POOLS, **named)
def test_max_pool(problem: shapes.Pool) -> None:
    x = whole(problem.x_size, F64, problem.name, top=3)  # with many ties
    options = pool_options(problem, "max")
    y, index = reference.max_pool(x, **options)
    for module, what in ((F, "reference"), (TF, "")):
        found = per_rank("max_pool", problem.nd, module)(
            x, **options, return_indices=True
        )
        assert_same(found[0], y, what)
        assert_same(found[1], index, f"{what} indices")


@pytest.mark.parametrize("problem", UNDILATED, **named)
@pytest.mark.parametrize("count_include_pad", [True, False])
def test_avg_pool(problem: shapes.Pool, count_include_pad: bool) -> None:
    x = normal(problem.x_size, F64, problem.name)
    options = pool_options(problem, "avg") | {"count_include_pad": count_include_pad}
    # torch's 1-d average pooling has no divisor_override.
    for divisor in (None, 3) if problem.nd > 1 else (None,):
        if problem.nd > 1:
            options["divisor_override"] = divisor
        y = reference.avg_pool(x, **options)
        for module, what in ((F, "reference"), (TF, "torchconv")):
            found = per_rank("avg_pool", problem.nd, module)(x, **options)
            torch.testing.assert_close(found, y, msg=lambda m, w=what: f"{w}: {m}")


@pytest.mark.parametrize("problem", UNPADDED, **named)
@pytest.mark.parametrize("norm", [1.0, 2.0, 3.0, 2.5, math.inf, -math.inf])
def test_lp_pool(problem: shapes.Pool, norm: float) -> None:
    x = normal(problem.x_size, F64, problem.name)
    options = pool_options(problem, "lp")
    y = reference.lp_pool(x, norm, **options)
    for module, what in ((F, "reference"), (TF, "torchconv")):
        found = per_rank("lp_pool", problem.nd, module)(x, norm, **options)
        torch.testing.assert_close(
            found, y, equal_nan=True, msg=lambda m, w=what: f"{w}: {m}"
        )


@pytest.mark.parametrize("sizes", shapes.ADAPTIVE, **sized)
def test_adaptive(sizes: tuple) -> None:
    x_size, out = sizes
    nd = len(out)
    x = whole(x_size, F64, out, top=9)
    full = tuple(n if m is None else m for n, m in zip(x_size[2:], out, strict=True))
    y, index = reference.adaptive_max_pool(x, full)
    mean = reference.adaptive_avg_pool(x, full)
    asked = out[0] if nd == 1 else out
    for module, what in ((F, "reference"), (TF, "torchconv")):
        found = per_rank("adaptive_max_pool", nd, module)(x, asked, return_indices=True)
        assert_same(found[0], y, what)
        assert_same(found[1], index, f"{what} indices")
        average = per_rank("adaptive_avg_pool", nd, module)(x, asked)
        torch.testing.assert_close(average, mean, msg=lambda m, w=what: f"{w}: {m}")


@pytest.mark.parametrize("sizes", shapes.FRACTIONAL, **sized)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_fractional_max_pool(sizes: tuple, dtype: torch.dtype) -> None:
    x_size, kernel, out = sizes
    nd = len(out)
    x = normal(x_size, dtype, out)
    samples = torch.rand(*x_size[:2], nd, dtype=dtype)
    y, index = reference.fractional_max_pool(x, samples, kernel, out)
    for module, what in ((F, "reference"), (TF, "torchconv")):
        found = per_rank("fractional_max_pool", nd, module)(
            x, kernel, out, return_indices=True, _random_samples=samples
        )
        assert_same(found[0], y.to(dtype), what)
        assert_same(found[1], index, f"{what} indices")


@pytest.mark.parametrize("nd", [1, 2, 3])
def test_max_unpool(nd: int) -> None:
    x = normal((2, 3, *(7, 8, 6)[:nd]), F64)
    pooled, index = reference.max_pool(x, 2)
    size = tuple(x.shape[2:])
    y = reference.max_unpool(pooled, index, size)
    for module, what in ((F, "reference"), (TF, "torchconv")):
        unpool = per_rank("max_unpool", nd, module)
        assert_same(unpool(pooled, index, 2, output_size=size), y, what)


@pytest.mark.parametrize("problem", SMALL_COLUMNS, **named)
def test_columns(problem: shapes.Columns) -> None:
    x = whole(problem.x_size, F64, problem.name)
    options = (problem.kernel, problem.dilation, problem.padding, problem.stride)
    columns = reference.unfold(x, *options)
    back = reference.fold(columns, x.shape[2:], *options)
    for module, what in ((F, "reference"), (TF, "torchconv")):
        assert_same(module.unfold(x, *options), columns, f"{what} unfold")
        assert_same(module.fold(columns, x.shape[2:], *options), back, f"{what} fold")
