"""Poolings that torch lacks: against their definitions, with gradients; the layers."""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from common import normal, per_rank, seeded
from torch import Tensor

import torchconv
from torchconv import functional as TF
from torchconv import nn, reference

F64 = torch.float64
SIZES = {1: (2, 3, 11), 2: (2, 3, 7, 8), 3: (1, 2, 5, 4, 6)}
WINDOWS: list[dict[str, Any]] = [
    {"kernel_size": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": 3, "stride": 2, "ceil_mode": True},
    {"kernel_size": 3, "stride": 3, "padding": 1, "ceil_mode": True},
    {"kernel_size": 2, "stride": 3},
    {"kernel_size": 3, "stride": 1, "padding": 1},
]
each_window = pytest.mark.parametrize("window", WINDOWS, ids=str)
each_rank = pytest.mark.parametrize("nd", SIZES)


def data(nd: int) -> Tensor:
    return normal(SIZES[nd], F64, "x")


def check_gradients(f: Any, *tensors: Tensor) -> None:
    """First order against differences of every element in one dimension, of a random
    direction in more; second order in one dimension."""
    tensors = tuple(t.detach().requires_grad_() for t in tensors)
    one = tensors[0].dim() == 3
    assert torch.autograd.gradcheck(f, tensors, fast_mode=not one)
    if one:
        assert torch.autograd.gradgradcheck(f, tensors)


@each_rank
@each_window
def test_lse_pool(nd: int, window: dict[str, Any]) -> None:
    x, pool = data(nd), per_rank("lse_pool", nd, TF)
    for r in (0.5, 3.0):
        expected = reference.windowed(x, lambda v, r=r: reference.lse(v, r), **window)
        torch.testing.assert_close(pool(x, **window, sharpness=r), expected)
    torch.testing.assert_close(pool(x[0], **window), pool(x, **window)[0])
    small, r = x[:1, :2], torch.tensor([0.5, 2.0], dtype=F64)
    check_gradients(lambda x, r: pool(x, **window, sharpness=r), small, r)


def test_lse_pool_is_stable() -> None:
    x = torch.tensor(
        [[[1e4, -1e4, -1e4, -2e4, -torch.inf, -torch.inf, torch.inf, 0.0]]]
    )
    y = TF.lse_pool1d(x, 2)
    expected = [1e4 - math.log(2), -1e4 - math.log(2), -math.inf, math.inf]
    torch.testing.assert_close(y[0, 0], torch.tensor(expected))
    with pytest.raises(ValueError, match=r"lse_pool1d\(\): sharpness must be positive"):
        TF.lse_pool1d(x, 2, sharpness=0)


@each_rank
@each_window
def test_mixed_pool(nd: int, window: dict[str, Any]) -> None:
    x, pool = data(nd), per_rank("mixed_pool", nd, TF)
    expected = reference.windowed(x, lambda v: reference.mixed(v, 0.3), **window)
    y = pool(x, alpha=0.3, count_include_pad=False, **window)
    torch.testing.assert_close(y, expected)
    alpha = torch.tensor([0.2, 0.7], dtype=F64)
    check_gradients(lambda x, a: pool(x, alpha=a, **window), x[:1, :2], alpha)


@each_rank
@pytest.mark.parametrize("window", [w for w in WINDOWS if "padding" not in w], ids=str)
def test_learned_lp_pool(nd: int, window: dict[str, Any]) -> None:
    x, pool = data(nd), per_rank("learned_lp_pool", nd, TF)
    if not window.get("ceil_mode"):  # which scales windows that are cut off
        for p in (1.0, 2.5, 0.5):
            expected = reference.windowed(
                x, lambda v, p=p: reference.norm(v, p), **window
            )
            torch.testing.assert_close(pool(x, p, **window), expected)
    p = torch.tensor([1.5, 3.0], dtype=F64)
    check_gradients(lambda x, p: pool(x, p, **window), x[:1, :2], p)


def test_learned_lp_pool_of_zeros() -> None:
    x = torch.zeros(1, 1, 4, dtype=F64, requires_grad=True)
    p = torch.tensor(0.7, dtype=F64, requires_grad=True)
    y = TF.learned_lp_pool1d(x, p, 2)
    assert not y.any()
    assert not any(g.any() for g in torch.autograd.grad(y.sum(), (x, p)))


@each_rank
@each_window
def test_masked_avg_pool(nd: int, window: dict[str, Any]) -> None:
    x, pool = data(nd), per_rank("masked_avg_pool", nd, TF)
    there = torch.rand(x.shape, generator=seeded(nd)) < 0.5
    holes = torch.where(there, x, torch.nan)
    expected = reference.windowed(holes, reference.mean_of_numbers, **window)
    for y in (pool(holes, **window), pool(x, **window, mask=there)):
        torch.testing.assert_close(y, expected, equal_nan=True)
    row = there[:1, :1]
    torch.testing.assert_close(
        pool(x, **window, mask=row),
        pool(torch.where(row, x, torch.nan), **window),
        equal_nan=True,
    )
    leaf = holes.clone().requires_grad_()
    y = pool(leaf, **window)
    y[~y.isnan()].sum().backward()
    assert not leaf.grad.isnan().any()
    assert not leaf.grad[~there].any()
    ones = torch.ones_like(x[:1, :1], dtype=torch.bool)
    check_gradients(lambda x: pool(x, **window, mask=ones), x[:1, :1])
    assert pool(x.bfloat16(), **window).dtype is torch.bfloat16


@each_rank
@each_window
def test_stochastic_pool(nd: int, window: dict[str, Any]) -> None:
    x, pool = data(nd), per_rank("stochastic_pool", nd, TF)
    expected = reference.windowed(x, reference.expected_activation, **window)
    torch.testing.assert_close(pool(x, **window, training=False), expected)
    check_gradients(lambda x: pool(x, **window, training=False), x[:1, :2])
    g = torch.Generator().manual_seed(5)
    y = pool(x, **window, generator=g)
    u = torch.rand(y.shape, dtype=F64, generator=torch.Generator().manual_seed(5))
    draws = iter(u.flatten().tolist())
    expected = reference.windowed(
        x, lambda v: reference.drawn_activation(v, next(draws)), **window
    )
    assert torch.equal(y, expected)
    torch.manual_seed(7)
    first = pool(x, **window)
    torch.manual_seed(7)
    assert torch.equal(pool(x, **window), first)

    def seeded_pool(x: Tensor) -> Tensor:
        return pool(x, **window, generator=torch.Generator().manual_seed(3))

    check_gradients(seeded_pool, x[:1, :2])


def test_stochastic_pool_draws_in_proportion() -> None:
    x = torch.tensor([1.0, 0.0, 3.0, -2.0]).repeat(20_000)[None, None]
    y = TF.stochastic_pool1d(x, 4, generator=torch.Generator().manual_seed(0))
    assert set(y.unique().tolist()) == {1.0, 3.0}
    assert abs((y == 3).double().mean() - 0.75) < 0.01
    assert not TF.stochastic_pool1d(-x.abs(), 2).any()


@each_rank
@each_window
def test_median_pool(nd: int, window: dict[str, Any]) -> None:
    x, pool = data(nd), per_rank("median_pool", nd, TF)
    assert torch.equal(
        pool(x, **window), reference.windowed(x, reference.median, **window)
    )
    assert torch.equal(pool(x[0], **window), pool(x, **window)[0])
    check_gradients(lambda x: pool(x, **window), x[:1, :2])
    holes = torch.where(torch.rand(x.shape, generator=seeded(nd)) < 0.1, torch.nan, x)
    torch.testing.assert_close(
        pool(holes, **window),
        reference.windowed(holes, reference.median, **window),
        equal_nan=True,
    )


@each_rank
@pytest.mark.parametrize("filter_size", [1, 2, 3, 4, 5])
def test_blur_pool(nd: int, filter_size: int) -> None:
    x, pool = data(nd), per_rank("blur_pool", nd, TF)
    coefficients = reference.binomial_filter(filter_size, nd)
    weight = torch.tensor(list(coefficients.values()), dtype=F64)
    weight = weight.reshape(1, 1, *[filter_size] * nd).repeat(
        x.shape[1], *[1] * (nd + 1)
    )
    low = (filter_size - 1) // 2
    for mode in ("reflect", "circular", "zeros"):
        expected = reference.conv(
            x,
            weight,
            stride=2,
            padding=[(low, filter_size - 1 - low)] * nd,
            groups=x.shape[1],
            padding_mode=mode,
        )
        torch.testing.assert_close(pool(x, filter_size, 2, mode), expected)
    check_gradients(lambda x: pool(x, filter_size), x[:1, :1])


GLOBALS: list[tuple[str, dict[str, Any], Any]] = [
    ("max", {}, max),
    ("avg", {}, lambda v: sum(v) / len(v)),
    ("lp", {"norm_type": 2.0}, lambda v: reference.norm(v, 2.0)),
    ("learned_lp", {"norm_type": 3.0}, lambda v: reference.norm(v, 3.0)),
    ("lse", {"sharpness": 2.0}, lambda v: reference.lse(v, 2.0)),
    ("mixed", {"alpha": 0.25}, lambda v: reference.mixed(v, 0.25)),
    ("masked_avg", {}, reference.mean_of_numbers),
    ("median", {}, reference.median),
    ("stochastic", {"training": False}, reference.expected_activation),
]


@each_rank
@pytest.mark.parametrize(
    ("kind", "options", "formula"), GLOBALS, ids=lambda v: str(v)[:9]
)
def test_global_pool(nd: int, kind: str, options: dict[str, Any], formula: Any) -> None:
    x = data(nd)
    expected = reference.windowed(x, formula, kernel_size=x.shape[2:])
    y = TF.global_pool(x, kind, **options)
    assert y.shape == (*x.shape[:2], *[1] * nd)
    torch.testing.assert_close(y, expected)
    layer = nn.GlobalPool(kind, **options).eval()
    assert torch.equal(layer(x), y)
    check_gradients(lambda x: TF.global_pool(x, kind, **options), x[:1, :1])


def test_global_pool_errors() -> None:
    x = torch.randn(1, 2, 3)
    with pytest.raises(ValueError, match="kind='some'"):
        TF.global_pool(x, "some")
    with pytest.raises(ValueError, match="kind='some'"):
        nn.GlobalPool("some")
    with pytest.raises(TypeError, match=r"median pooling does not take \['alpha'\]"):
        TF.global_pool(x, "median", alpha=1)
    with pytest.raises(RuntimeError, match="one to three spatial dimensions"):
        TF.global_pool(torch.randn(2, 3))


NAMES = ["lse", "mixed", "learned_lp", "masked_avg", "stochastic", "median"]


@pytest.mark.parametrize("name", NAMES)
def test_bad_arguments(name: str) -> None:
    pool = getattr(TF, f"{name}_pool2d")
    more = {"mixed": (0.5,)}.get(name, ())

    def call(x: Any, kernel: Any, stride: Any = None) -> Tensor:
        if name == "learned_lp":
            return pool(x, 2.0, kernel, stride)
        return pool(x, kernel, *more, stride)

    x = torch.randn(1, 2, 6, 6)
    cases: list[tuple[Any, type[Exception], str]] = [
        (lambda: call(x, 0), RuntimeError, "kernel size should be greater than zero"),
        (lambda: call(x, 2, 0), RuntimeError, "stride should be greater than zero"),
        (lambda: call(x, 7), RuntimeError, "Output size is too small"),
        (lambda: call(x[0, 0], 2), RuntimeError, "Expected 3D or 4D"),
        (lambda: call(x, "2"), TypeError, "kernel_size"),
        (lambda: call(x.long(), 2), RuntimeError, "not implemented for torch.int64"),
        (lambda: call(3, 2), TypeError, "must be Tensor"),
    ]
    for run, error, message in cases:
        with pytest.raises(error, match=message):
            run()


LAYERS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("LSEPool", (3, 2, 1), {"sharpness": 2.0, "learned": True}),
    ("MixedPool", (2,), {"learned": True, "channels": 2}),
    ("LearnedLPPool", (2.0, 2), {}),
    ("MaskedAvgPool", (2,), {"ceil_mode": True}),
    ("StochasticPool", (2,), {}),
    ("MedianPool", (3, 1, 1), {}),
    ("BlurPool", (), {}),
    ("MaxBlurPool", (2,), {"filter_size": 4}),
]


@each_rank
@pytest.mark.parametrize(("name", "args", "kwargs"), LAYERS, ids=lambda v: str(v)[:13])
def test_layers(nd: int, name: str, args: Any, kwargs: Any) -> None:
    layer = per_rank(name, nd, nn)(*args, **kwargs).double().eval()
    x = data(nd)[:, :2]
    y = layer(x)
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(twin) == repr(layer)
        assert torch.equal(twin(x), y)
    fresh = per_rank(name, nd, nn)(*args, **kwargs).double().eval()
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(x), y)
    for parameter in layer.parameters():
        (gradient,) = torch.autograd.grad(layer(x).sum(), parameter)
        assert gradient.abs().sum() > 0
    assert torchconv.conversion_report(layer).layers == ()
    assert type(layer).__doc__


def test_stochastic_layer_draws_while_training() -> None:
    layer, x = nn.StochasticPool2d(2), torch.rand(1, 1, 8, 8)
    torch.manual_seed(0)
    first = layer(x)
    assert not torch.equal(layer(x), first)
    layer.eval()
    assert torch.equal(layer(x), layer(x))


@each_rank
def test_maxout_layers(nd: int) -> None:
    x = torch.randn(2, 3, *(7, 6, 5)[:nd])
    layer = per_rank("MaxoutConv", nd, nn)(3, 4, 3, k=5, padding=1)
    assert layer.weight.shape[0] == 20
    assert repr(layer).endswith("k=5)")
    linear = per_rank("conv", nd, TF)(x, layer.weight, layer.bias, padding=1)
    expected = linear.unflatten(1, (4, 5)).amax(2)
    assert torch.equal(layer(x), expected)
    assert torch.equal(nn.Maxout(5)(linear), expected)
    torch.testing.assert_close(layer(x[0]), expected[0])
    twin = pickle.loads(pickle.dumps(layer))
    assert torch.equal(twin(x), expected)
    with pytest.raises(ValueError, match="k=0"):
        per_rank("MaxoutConv", nd, nn)(3, 4, 3, k=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_do_not_count_in_half(dtype: torch.dtype) -> None:
    """Sums of ones stop growing at 256 or 2048, and squares of 300 leave float16."""
    x = torch.full((1, 1, 64, 64), 1.5, dtype=dtype)
    y = TF.lse_pool2d(x, 64)
    assert y.dtype == dtype
    assert y.item() == 1.5
    z = TF.learned_lp_pool2d(torch.full((1, 1, 2, 2), 300.0, dtype=dtype), 2.0, 2)
    assert z.dtype == dtype
    torch.testing.assert_close(z.item(), 600.0, rtol=1e-2, atol=0)


def test_nan_and_types() -> None:
    x = torch.tensor([[[[math.nan, 1.0], [1.0, 1.0]]]])
    assert TF.learned_lp_pool2d(x, 2.0, 2).isnan().all()
    with pytest.raises(RuntimeError, match="int64"):
        TF.blur_pool2d(torch.ones(1, 1, 4, 4, dtype=torch.int64))
