"""Properties that hold for every choice of options, on options drawn by hypothesis.

Numbers are small and whole, so that every identity holds bit by bit.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import shapes
import torch
from common import (
    assert_same,
    conv_args,
    conv_options,
    examples,
    isa,
    isas,
    layouts,
    ops,
    per_rank,
    pool_options,
    torch_conv,
    whole,
)
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from torchconv import functional as TF
from torchconv import reference

COMPLETE = ("direct", "im2col")


@st.composite
def convs(draw: st.DrawFn, modes: tuple[str, ...] | None = None) -> shapes.Conv:
    """Any convolution of a few thousand products."""
    nd = draw(st.integers(1, 3))
    top = (40, 18, 7)[nd - 1]
    size = [draw(st.integers(1, top)) for _ in range(nd)]
    kernel = [draw(st.integers(1, 5)) for _ in range(nd)]
    stride = [draw(st.integers(1, 4)) for _ in range(nd)]
    dilation = [draw(st.integers(1, 3)) for _ in range(nd)]
    mode = draw(
        st.sampled_from(modes or ("zeros", "zeros", *shapes.MODES)), label="mode"
    )
    widest = {"zeros": 6, "reflect": min(size) - 1, "circular": min(size)}
    sides = st.integers(0, min(6, widest.get(mode, 6)))
    pads = tuple((draw(sides), draw(sides)) for _ in range(nd))
    groups = draw(st.sampled_from([1, 1, 2, 3, 8, 17]))
    per_group = draw(st.sampled_from([1, 1, 2, 3, 5]))
    filters = groups * draw(st.sampled_from([1, 1, 2, 3, 9, 17]))
    problem = shapes.Conv(
        "drawn",
        (draw(st.integers(1, 3)), groups * per_group, *size),
        filters,
        tuple(kernel),
        tuple(stride),
        pads,
        tuple(dilation),
        groups,
        mode,
    )
    assume(min(problem.out_size) > 0)
    assume(problem.products < 300_000)
    return problem


def tensors_of(problem: shapes.Conv, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """x, weight, gradient."""
    sizes = (problem.x_size, problem.weight_size, problem.out_size)
    x, w, grad = (whole(s, dtype, i) for i, s in enumerate(sizes))
    return x, w, grad


dtypes = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64])
variants = st.sampled_from(isas())
algorithms = st.sampled_from(COMPLETE)


@examples(300)
@given(convs(), dtypes, variants, algorithms, st.data())
def test_conv_equals_torch(
    problem: shapes.Conv, dtype: torch.dtype, cpu: str, algorithm: str, data: Any
) -> None:
    x, w, grad = tensors_of(problem, torch.float64)
    xt, wt = x.clone().requires_grad_(), w.clone().requires_grad_()
    y = torch_conv(problem, xt, wt)
    gx, gw = torch.autograd.grad(y, (xt, wt), grad)
    x, w, grad = (
        data.draw(st.sampled_from(list(layouts(t.to(dtype)).values())), label="view")
        for t in (x, w, grad)
    )
    last = data.draw(st.booleans(), label="channels_last")
    args = (*conv_args(problem), last, algorithm)
    with isa(cpu):
        assert_same(ops.conv_forward(x, w, None, *args), y.detach().to(dtype))
        found = ops.conv_input_grad(grad, w, None, x.shape, *args)
        assert_same(found, gx.to(dtype), "input_grad")
        found = ops.conv_weight_grad(grad, x, w.shape, *args)
        assert_same(found, gw.to(dtype), "weight_grad")


@examples(40)
@given(convs())
def test_conv_equals_reference(problem: shapes.Conv) -> None:
    assume(problem.products < 20_000)
    x, w, grad = tensors_of(problem, torch.float64)
    options = conv_options(problem)
    x.requires_grad_()
    w.requires_grad_()
    y = per_rank("conv", problem.nd, TF)(x, w, **options)
    assert_same(y.detach(), reference.conv(x, w, **options))
    gx, gw = torch.autograd.grad(y, (x, w), grad)
    assert_same(gx, reference.conv_input_grad(grad, w, x.shape, **options))
    assert_same(gw, reference.conv_weight_grad(grad, x, w.shape, **options))


@examples(150)
@given(convs(), algorithms, variants)
def test_conv_adjoint(problem: shapes.Conv, algorithm: str, cpu: str) -> None:
    """<forward(x, w), g> = <x, input_grad(g, w)> = <w, weight_grad(g, x)>."""
    x, w, grad = tensors_of(problem, torch.float64)
    args = (*conv_args(problem), False, algorithm)
    with isa(cpu):
        forward = (ops.conv_forward(x, w, None, *args) * grad).sum()
        by_x = (ops.conv_input_grad(grad, w, None, x.shape, *args) * x).sum()
        by_w = (ops.conv_weight_grad(grad, x, w.shape, *args) * w).sum()
    assert forward == by_x == by_w


@examples(100)
@given(convs(), st.integers(-3, 3), st.integers(-3, 3))
def test_conv_linear(problem: shapes.Conv, a: int, b: int) -> None:
    """In the input, and in the weight."""
    conv = per_rank("conv", problem.nd, TF)
    options = conv_options(problem)
    x, w, _ = tensors_of(problem, torch.float64)
    x2, w2 = (whole(t.shape, t.dtype, "second") for t in (x, w))
    y = conv(x, w, **options)
    found = conv(a * x + b * x2, w, **options)
    assert_same(found, a * y + b * conv(x2, w, **options), "in the input")
    found = conv(x, a * w + b * w2, **options)
    assert_same(found, a * y + b * conv(x, w2, **options), "in the weight")


@examples(100)
@given(convs(modes=("circular",)), st.data())
def test_conv_shift_equivariant(problem: shapes.Conv, data: Any) -> None:
    """On a circle, moving the input by a stride moves the output by one."""
    pads = []
    size = []
    for k, d, s in zip(problem.kernel, problem.dilations, problem.strides, strict=True):
        reach = d * (k - 1)
        # The outputs go once around: size is a multiple of the stride.
        least = max(1, -(-reach // s))
        n = s * data.draw(st.integers(least, least + 6), label="outputs")
        low = data.draw(st.integers(0, reach), label="low")
        # floor((n + reach - reach - 1) / s) + 1 = n / s outputs.
        pads.append((low, reach - low))
        size.append(n)
    x = whole((*problem.x_size[:2], *size), torch.float64)
    w = whole(problem.weight_size, torch.float64, "w")
    conv = per_rank("conv", problem.nd, TF)
    options = conv_options(problem) | {"padding": tuple(pads)}
    dims = tuple(range(2, x.dim()))
    steps = [data.draw(st.integers(0, 5), label="steps") for _ in dims]
    by = [t * s for t, s in zip(steps, problem.strides, strict=True)]
    found = conv(x.roll(by, dims), w, **options)
    assert_same(found, conv(x, w, **options).roll(steps, dims))


@examples(60)
@given(convs(), st.data())
def test_conv_by_parts(problem: shapes.Conv, data: Any) -> None:
    """Groups are convolutions side by side, filters and samples do not meet."""
    conv = per_rank("conv", problem.nd, TF)
    options = conv_options(problem)
    x, w, _ = tensors_of(problem, torch.float32)
    y = conv(x, w, **options)
    options["groups"] = 1
    parts = zip(x.chunk(problem.groups, 1), w.chunk(problem.groups), strict=True)
    assert_same(torch.cat([conv(a, b, **options) for a, b in parts], 1), y, "groups")
    n = data.draw(st.integers(0, x.shape[0] - 1), label="sample")
    options["groups"] = problem.groups
    assert_same(conv(x[n : n + 1], w, **options), y[n : n + 1], "sample")


@st.composite
def pools(draw: st.DrawFn) -> shapes.Pool:
    """Any pooling window that torch accepts."""
    nd = draw(st.integers(1, 3))
    top = (60, 20, 8)[nd - 1]
    size = [draw(st.integers(1, top)) for _ in range(nd)]
    kernel = [draw(st.integers(1, 6)) for _ in range(nd)]
    problem = shapes.Pool(
        "drawn",
        (draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 3, 17])), *size),
        tuple(kernel),
        draw(st.none() | st.tuples(*[st.integers(1, 4)] * nd)),
        tuple(draw(st.integers(0, k // 2)) for k in kernel),
        tuple(draw(st.sampled_from([1, 1, 1, 2, 3])) for _ in range(nd)),
        draw(st.booleans()),
    )
    windows = zip(size, problem.kernel, problem.padding, problem.dilation, strict=True)
    # Windows fit, and none misses the input: see test_max_pool_window_without_input.
    assume(all(n + 2 * p >= d * (k - 1) + 1 for n, k, p, d in windows))
    windows = zip(size, problem.kernel, problem.padding, problem.dilation, strict=True)
    assume(all(d == 1 or n >= d for n, k, p, d in windows))
    return problem


@examples(250)
@given(pools(), variants, st.sampled_from([torch.float32, torch.float16]), st.data())
def test_max_pool_equals_torch(
    problem: shapes.Pool, cpu: str, dtype: torch.dtype, data: Any
) -> None:
    x = whole(problem.x_size, dtype, top=4)
    view = data.draw(st.sampled_from(list(layouts(x).values())), label="view")
    options = pool_options(problem, "max")
    results = []
    with isa(cpu):
        for module in (F, TF):
            own = view.detach().requires_grad_()
            pool = per_rank("max_pool", problem.nd, module)
            y, index = pool(own, **options, return_indices=True)
            # The second pooling keeps codes, not indices.
            again = pool(own, **options)
            grad = whole(y.shape, dtype, "grad")
            gx = [torch.autograd.grad(t, own, grad)[0] for t in (y, again)]
            results.append([y.detach(), again.detach(), index, *gx])
    for found, expected in zip(*reversed(results), strict=True):
        assert_same(found, expected)


@examples(250)
@given(pools(), variants, st.booleans(), st.data())
def test_avg_pool_equals_torch(
    problem: shapes.Pool, cpu: str, include: bool, data: Any
) -> None:
    view = data.draw(
        st.sampled_from(
            list(layouts(whole(problem.x_size, torch.float64, top=9)).values())
        ),
        label="view",
    )
    fits = zip(view.shape[2:], problem.kernel, problem.padding, strict=True)
    # torch wants 3-d inputs to fit without their padding.
    usable = 0 if problem.nd == 3 else 2
    assume(all(n + usable * p >= k for n, k, p in fits))
    options = pool_options(problem, "avg") | {"count_include_pad": include}
    results = []
    with isa(cpu):
        for module in (F, TF):
            own = view.detach().requires_grad_()
            y = per_rank("avg_pool", problem.nd, module)(own, **options)
            grad = whole(y.shape, own.dtype, "grad")
            results.append([y, torch.autograd.grad(y, own, grad)[0]])
    for found, expected in zip(*reversed(results), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@examples(100)
@given(st.data())
def test_adaptive_equals_torch(data: Any) -> None:
    nd = data.draw(st.integers(1, 3), label="nd")
    sizes = st.integers(1, (40, 18, 8)[nd - 1])
    size = [data.draw(sizes, label="size") for _ in range(nd)]
    out = tuple(data.draw(sizes, label="out") for _ in range(nd))
    asked = out[0] if nd == 1 else out
    x = whole((2, 3, *size), torch.float64, top=9)
    results = []
    for module in (F, TF):
        own = x.clone().requires_grad_()
        mean = per_rank("adaptive_avg_pool", nd, module)(own, asked)
        top, index = per_rank("adaptive_max_pool", nd, module)(
            own, asked, return_indices=True
        )
        plain = per_rank("adaptive_max_pool", nd, module)(own, asked)
        grad = whole(mean.shape, x.dtype, "grad")
        gx = [torch.autograd.grad(t, own, grad)[0] for t in (mean, top, plain)]
        results.append([mean, top, plain, index, *gx])
    for found, expected in zip(*reversed(results), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@examples(100)
@given(
    st.tuples(*[st.integers(1, 14)] * 2),
    st.tuples(*[st.integers(1, 4)] * 2),
    st.tuples(*[st.integers(1, 3)] * 2),
    st.tuples(*[st.integers(0, 3)] * 2),
    st.tuples(*[st.integers(1, 4)] * 2),
    variants,
)
def test_fold_is_the_adjoint_of_unfold(
    size: tuple[int, int],
    kernel: tuple[int, int],
    dilation: tuple[int, int],
    padding: tuple[int, int],
    stride: tuple[int, int],
    cpu: str,
) -> None:
    fits = zip(size, kernel, dilation, padding, strict=True)
    assume(all(n + 2 * p >= d * (k - 1) + 1 for n, k, d, p in fits))
    options = (kernel, dilation, padding, stride)
    x = whole((2, 3, *size), torch.float64)
    with isa(cpu):
        columns = TF.unfold(x, *options)
        assert_same(columns, F.unfold(x, *options))
        entries = whole(columns.shape, x.dtype, "columns")
        folded = TF.fold(entries, size, *options)
    assert_same(folded, F.fold(entries, size, *options))
    assert (columns * entries).sum() == (x * folded).sum()


@pytest.mark.parametrize("nd", [1, 2, 3])
def test_conv_is_unfold_and_a_product(nd: int) -> None:
    """The name im2col, in two dimensions; in one and three by adding dimensions."""
    x = whole((2, 3, *(7, 6, 5)[:nd]), torch.float32)
    w = whole((4, 3, *(3, 2, 2)[:nd]), torch.float32, "w")
    columns = reference.unfold(x, tuple(w.shape[2:]), 1, 1, 2).float()
    y = w.flatten(1) @ columns
    found = per_rank("conv", nd, TF)(x, w, stride=2, padding=1)
    assert_same(found.flatten(2), y)
    assert math.prod(found.shape[2:]) == y.shape[2]
