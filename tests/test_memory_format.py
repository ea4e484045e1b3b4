"""Strides: any go in, torch's come out, and values never depend on them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import shapes
import torch
from common import (
    ALGORITHMS,
    COMPLETE,
    assert_same,
    beyond,
    conv_args,
    conv_options,
    difference,
    each_isa,
    examples,
    expanded,
    layouts,
    memory_format_of,
    normal,
    ops,
    per_rank,
    threads,
    torch_conv,
    whole,
    wide,
)
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from torchconv import functional as TF

CONVS = [
    shapes.one(name)
    for name in (
        "resnet_stem_7x7s2",
        "resnet_3x3s2",
        "resnet_1x1",
        "resnext_3x3g",
        "mobilenet_dw3x3",
        "mobilenet_dw3x3s2",
        "wav2vec_k3s2",
        "tcn_dw_k31",
        "r3d_3x3x3",
        "x3d_dw3x3x3",
        "channels_17_to_16",
        "asymmetric_s2",
        "mixed_3d",
        "dw_multiplier_3_s2",
        "reflect_s2",
        "circular_3d",
        "replicate_dw",
        "one_pixel_3x3",
        "width_1",
    )
]
POOLS = [
    p
    for p in shapes.POOLS
    if p.name
    in (
        "resnet_k3s2p1",
        "vgg_k2s2",
        "inception_k3s1p1",
        "spp_k13s1p6",
        "k17_289_taps",
        "whole_plane",
        "channels_17",
        "ceil_beyond_padding",
        "uneven",
        "one_pixel",
        "1d_k3s2p1_ceil",
        "3d_k3s2p1",
        "3d_uneven_ceil",
        "dilation_uneven",
        "dilation_3d",
        "empty_batch",
    )
]
named = {"ids": lambda value: getattr(value, "name", str(value))}


def conv_case(problem: shapes.Conv) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    sizes = (problem.x_size, problem.weight_size, (problem.filters,), problem.out_size)
    x, w, b, grad = (
        whole(size, torch.float32, problem.name, i) for i, size in enumerate(sizes)
    )
    return x, w, b, grad


def conv_expected(
    problem: shapes.Conv, x: Tensor, w: Tensor, b: Tensor, grad: Tensor
) -> dict[str, Tensor]:
    x, w, b = (wide(t).requires_grad_() for t in (x, w, b))
    y = torch_conv(problem, x, w, b)
    gx, gw = torch.autograd.grad(y, (x, w), wide(grad))
    found = {"forward": y.detach(), "input_grad": gx, "weight_grad": gw}
    return {name: t.float() for name, t in found.items()}


def conv_calls(
    problem: shapes.Conv, x: Tensor, w: Tensor, b: Tensor, grad: Tensor, *last: Any
) -> Iterator[tuple[str, Any]]:
    args = (*conv_args(problem), *last)
    yield "forward", lambda: ops.conv_forward(x, w, b, *args)
    yield "input_grad", lambda: ops.conv_input_grad(grad, w, None, x.shape, *args)
    yield "weight_grad", lambda: ops.conv_weight_grad(grad, x, w.shape, *args)


@pytest.mark.parametrize("problem", CONVS, **named)
def test_conv_of_any_strides(problem: shapes.Conv) -> None:
    """Every algorithm, on views of every kind, into both memory formats."""
    x, w, b, grad = conv_case(problem)
    expected = conv_expected(problem, x, w, b, grad)
    xs, ws, gs = (layouts(t) for t in (x, w, grad))
    # Neighbours in the lists differ, so that mixed layouts are met too.
    mixed = zip(
        xs.items(),
        itertools.islice(itertools.cycle(ws.items()), 1, None),
        itertools.islice(itertools.cycle(gs.items()), 2, None),
        strict=False,
    )
    pure = zip(xs.items(), ws.items(), gs.items(), strict=True)
    failures = []
    for (xl, xv), (wl, wv), (gl, gv) in itertools.chain(pure, mixed):
        for algorithm, channels_last in itertools.product(ALGORITHMS, (False, True)):
            calls = conv_calls(problem, xv, wv, b, gv, channels_last, algorithm)
            for name, call in calls:
                try:
                    found = call()
                except RuntimeError as error:
                    if algorithm in COMPLETE:
                        failures.append(f"{algorithm} {name}: {error}")
                    continue
                wrong = difference(found, expected[name])
                if problem.nd > 1 and not wrong and channels_last:
                    format = memory_format_of(problem.nd)
                    if not found.is_contiguous(memory_format=format):
                        wrong = f"strides {found.stride()} of {tuple(found.shape)}"
                elif not wrong and not found.is_contiguous():
                    wrong = f"strides {found.stride()} of {tuple(found.shape)}"
                if wrong:
                    failures.append(
                        f"{algorithm} {name}, x {xl}, weight {wl}, grad {gl}, "
                        f"channels_last={channels_last}: {wrong}"
                    )
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("problem", CONVS, **named)
def test_conv_of_expanded(problem: shapes.Conv) -> None:
    """Stride 0 in the input, the weight, or the gradient (as out.sum() gives)."""
    tensors = conv_case(problem)
    failures = []
    for at in (0, 1, 3):
        for how, view in expanded(tensors[at]).items():
            changed = [*tensors[:at], view, *tensors[at + 1 :]]
            x, w, b, grad = changed
            expected = conv_expected(problem, x, w, b, grad)
            for algorithm in ALGORITHMS:
                calls = conv_calls(problem, x, w, b, grad, False, algorithm)
                for name, call in calls:
                    try:
                        wrong = difference(call(), expected[name])
                    except RuntimeError as error:
                        wrong = str(error) if algorithm in COMPLETE else None
                    if wrong:
                        failures.append(f"{algorithm} {name}, {at} {how}: {wrong}")
    assert not failures, "\n".join(failures)


def strides_of(function: Any, *args: Any, **options: Any) -> list[tuple[int, ...]]:
    """The strides of a function's results."""
    found = function(*args, **options)
    found = found if isinstance(found, tuple) else (found,)
    return [t.stride() for t in found]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    "problem", [p for p in CONVS if p.padding_mode == "zeros"], **named
)
def test_conv_output_strides(problem: shapes.Conv, dtype: torch.dtype) -> None:
    """Those of torch, for every layout of the input and of the weight."""
    x, w, b, _ = (t.to(dtype) for t in conv_case(problem))
    if not all(low == high for low, high in problem.pads):
        return  # torch cannot pad one side without a copy of another layout
    theirs = {"padding": [low for low, _ in problem.pads]}
    for xl, xv in layouts(x).items():
        for wl, wv in layouts(w).items():
            options = conv_options(problem)
            found = strides_of(per_rank("conv", problem.nd, TF), xv, wv, b, **options)
            del options["padding_mode"]
            options |= theirs
            wanted = strides_of(per_rank("conv", problem.nd, F), xv, wv, b, **options)
            assert found == wanted, f"x {xl}, weight {wl}"


@pytest.mark.parametrize("nd", [2, 3])
@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("spatial", [1, 5])
@pytest.mark.parametrize("transposed", [False, True])
def test_strides_where_the_format_is_ambiguous(
    nd: int, channels: int, spatial: int, transposed: bool
) -> None:
    """One channel or one pixel: contiguous and channels_last are both true."""
    name = "conv_transpose" if transposed else "conv"
    x = whole((2, channels, *(spatial,) * nd), torch.float32)
    for filters in (1, 3):
        shape = (channels, filters) if transposed else (filters, channels)
        w = whole((*shape, *(1,) * nd), torch.float32, "w")
        for (xl, xv), (wl, wv) in itertools.product(
            layouts(x).items(), layouts(w).items()
        ):
            with threads(2):  # one thread changes the strides of torch's result
                found = strides_of(per_rank(name, nd, TF), xv, wv)
                wanted = strides_of(per_rank(name, nd, F), xv, wv)
                assert found == wanted, f"x {xl}, weight {wl}, {filters} filters"


SMALL = st.integers(1, 4)


@examples(300)
@given(
    st.integers(2, 3),
    st.booleans(),
    st.tuples(st.integers(1, 2), SMALL, st.sampled_from([2, 5, 60])),
    st.tuples(SMALL, SMALL, SMALL),
    st.sampled_from([1, 2, 3]),
    st.sampled_from([1, 1, 1, 2]),
    st.sampled_from([1, 1, 2]),
    st.sampled_from([torch.float32, torch.float64]),
    st.data(),
)
def test_conv_output_strides_of_any_call(
    nd: int,
    transposed: bool,
    size: tuple[int, int, int],
    kernel: tuple[int, int, int],
    filters: int,
    groups: int,
    stride: int,
    dtype: torch.dtype,
    data: Any,
) -> None:
    """torch's 3-d backends differ in the strides they return."""
    n, channels, length = size
    length = min(length, 6) if nd == 3 else length
    x = whole((n, channels * groups, *(length,) * nd), dtype)
    outer = (channels * groups, filters) if transposed else (filters * groups, channels)
    w = whole((*outer, *kernel[:nd]), dtype, "w")
    x, w = (
        data.draw(st.sampled_from(list(layouts(t).values())), label="view")
        for t in (x, w)
    )
    options = {"stride": stride, "padding": 2, "groups": groups}
    name = "conv_transpose" if transposed else "conv"
    with threads(2):
        try:
            wanted = per_rank(name, nd, F)(x, w, **options)
        except RuntimeError:  # the transposed output is empty
            assume(False)
        assume(wanted.numel())  # which only some backends of torch refuse
        found = per_rank(name, nd, TF)(x, w, **options)
    assert found.stride() == wanted.stride()


@pytest.mark.parametrize("nd", [2, 3])
def test_conv_gradient_strides(nd: int) -> None:
    """channels_last in, channels_last gradients out, as torch."""
    problem = shapes.one({2: "resnet_3x3", 3: "r3d_3x3x3"}[nd])
    x, w, _, grad = conv_case(problem)
    format = memory_format_of(nd)
    results = []
    for module in (F, TF):
        xv, wv = (t.contiguous(memory_format=format).requires_grad_() for t in (x, w))
        y = per_rank("conv", nd, module)(xv, wv, padding=1)
        gx, gw = torch.autograd.grad(y, (xv, wv), grad)
        results.append((gx.stride(), gw.stride()))
    assert results[1] == results[0]


def pool_calls(problem: shapes.Pool) -> dict[str, tuple[str, tuple, dict[str, Any]]]:
    """{what: (name of the function, positional arguments after x, keywords)}."""
    common = (problem.kernel, problem.stride)
    calls: dict[str, tuple[str, tuple, dict[str, Any]]] = {}
    options = {"ceil_mode": problem.ceil_mode}
    window = (*common, problem.padding, problem.dilation)
    calls["max"] = ("max_pool", window, options)
    calls["max with indices"] = (
        "max_pool",
        window,
        options | {"return_indices": True},
    )
    if problem.dilation == 1:
        calls["avg"] = ("avg_pool", (*common, problem.padding), options)
    if problem.dilation == 1 and problem.padding == 0:
        calls["lp"] = ("lp_pool", (2.0, *common), options)
    out = 3 if problem.nd == 1 else (3, 2, 4)[: problem.nd]
    calls["adaptive avg"] = ("adaptive_avg_pool", (out,), {})
    calls["adaptive max"] = ("adaptive_max_pool", (out,), {})
    calls["adaptive max with indices"] = (
        "adaptive_max_pool",
        (out,),
        {"return_indices": True},
    )
    return calls


def as_tuple(value: Any) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


@pytest.mark.usefixtures("kernel_device")
@pytest.mark.parametrize("problem", POOLS, **named)
def test_pool_of_any_strides(problem: shapes.Pool) -> None:
    """Values and strides of torch, for every layout, under every kernel variant; and the
    gradient for gradients of every layout."""
    x = normal(problem.x_size, torch.float32, problem.name)
    views = layouts(x)
    if x.numel():
        views |= {f"expanded {how}": view for how, view in expanded(x).items()}
    for what, (name, args, options) in pool_calls(problem).items():
        theirs, mine = (per_rank(name, problem.nd, module) for module in (F, TF))
        for how, view in views.items():
            expected = as_tuple(theirs(view, *args, **options))
            exact = wide(view).requires_grad_()
            y = as_tuple(theirs(exact, *args, **options))[0]
            grad = normal(y.shape, torch.float32, "grad")
            gx = torch.autograd.grad(y, exact, wide(grad))[0]
            for isa in each_isa():
                own = view.detach().requires_grad_()
                found = as_tuple(mine(own, *args, **options))
                for f, e in zip(found, expected, strict=True):
                    where = f"{what}, {how}, {isa}"
                    torch.testing.assert_close(
                        f.detach(), e, msg=lambda m, w=where: f"{w}: {m}"
                    )
                    strides = zip(f.stride(), e.stride(), e.shape, strict=True)
                    # torch's Lp pooling ends in pointwise operations, which set the
                    # stride of a dimension of size 1, without meaning, to another one.
                    assert all(
                        a == b or (name == "lp_pool" and n == 1) for a, b, n in strides
                    ), f"strides of {where}: {f.stride()}, expected {e.stride()}"
                for gl, gv in layouts(grad).items():
                    back = torch.autograd.grad(found[0], own, gv, retain_graph=True)[0]
                    bound = 1e-5 * (1 + gx.abs().amax()) if gx.numel() else 0
                    wrong = beyond(back, gx, torch.zeros_like(gx) + bound)
                    assert not wrong, f"gradient of {what}, {how}, {gl}, {isa}: {wrong}"


@pytest.mark.parametrize("nd", [2, 3])
@pytest.mark.parametrize("name", ["max_pool", "avg_pool", "adaptive_max_pool"])
def test_pool_of_an_unbatched_channels_last_input(name: str, nd: int) -> None:
    """torch's 3-d max pooling keeps the format there, no other one does."""
    x = normal((2, 4, *(6, 5, 4)[:nd]), torch.float32)
    one = x.contiguous(memory_format=memory_format_of(nd))[0]
    for view in (one, one.contiguous(), one[:1], one[..., ::2, :]):
        expected = per_rank(name, nd, F)(view, 2)
        found = per_rank(name, nd, TF)(view, 2)
        torch.testing.assert_close(found, expected)
        assert found.stride() == expected.stride()


@pytest.mark.usefixtures("kernel_device")
@pytest.mark.parametrize("nd", [1, 2, 3])
def test_unpool_strides(nd: int) -> None:
    x = normal((2, 3, *(8, 6, 4)[:nd]), torch.float32)
    pooled, index = per_rank("max_pool", nd, F)(x, 2, return_indices=True)
    for (how, view), (ihow, iview) in itertools.product(
        layouts(pooled).items(), layouts(index).items()
    ):
        expected = per_rank("max_unpool", nd, F)(view, iview, 2)
        found = per_rank("max_unpool", nd, TF)(view, iview, 2)
        assert_same(found, expected, f"{how}, indices {ihow}")
        assert found.stride() == expected.stride(), f"{how}, indices {ihow}"


@pytest.mark.usefixtures("kernel_device")
@pytest.mark.parametrize("nd", [2, 3])
def test_fractional_strides(nd: int) -> None:
    x = normal((2, 3, *(8, 6, 7)[:nd]), torch.float32)
    samples = torch.rand(2, 3, nd)
    options = {"_random_samples": samples, "return_indices": True}
    for how, view in layouts(x).items():
        out = (4, 3, 5)[:nd]
        name = "fractional_max_pool"
        expected = per_rank(name, nd, F)(view, 2, out, **options)
        found = per_rank(name, nd, TF)(view, 2, out, **options)
        for f, e in zip(found, expected, strict=True):
            assert_same(f, e, how)
            assert f.stride() == e.stride(), how
