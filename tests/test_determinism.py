"""The same bits from run to run, for any number of threads, and for a sample whatever
else is in its batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import shapes
import torch
from common import (
    COMPLETE,
    EVERY,
    assert_same,
    conv_args,
    conv_options,
    each_isa,
    normal,
    ops,
    per_rank,
    pool_options,
    threads,
)
from torch import Tensor

import torchconv
from torchconv import functional as TF

# Large enough to be shared out to several threads in several ways.
CONVS = [
    shapes.Conv("3x3", (3, 40, 30, 31), 50, (3, 3), 1, 1),
    shapes.Conv("7x7s2", (2, 3, 64, 65), 33, (7, 7), 2, 3),
    shapes.Conv("1x1", (5, 96, 15, 15), 72, (1, 1)),
    shapes.Conv("grouped", (4, 36, 20, 21), 24, (3, 3), 1, 1, 2, 4),
    shapes.Conv("depthwise", (3, 70, 30, 31), 70, (3, 3), 1, 1, 1, 70),
    shapes.Conv("depthwise_k7", (1, 33, 40, 41), 33, (7, 7), 1, 3, 1, 33),
    shapes.Conv("deep_weight_grad", (6, 4, 90, 91), 5, (3, 3), 1, 1),
    shapes.Conv("few_outputs", (1, 400, 7, 7), 3, (7, 7)),
    shapes.Conv("patches", (5, 6, 50, 50), 70, (10, 10), 10),
    shapes.Conv("small_groups", (3, 36, 40, 41), 36, (3, 3), 1, 1, 1, 9),
    shapes.Conv("1d", (4, 30, 700), 40, (9,), 2, 4),
    shapes.Conv("3d", (2, 9, 10, 20, 21), 17, (3, 3, 3), 1, 1),
    shapes.Conv("circular", (3, 12, 40, 41), 20, (5, 5), 1, 2, 1, 1, "circular"),
    shapes.Conv("reflect", (3, 12, 40, 41), 20, (5, 5), 2, 2, 1, 1, "reflect"),
]
POOLS = [
    shapes.Pool("k3s2p1", (3, 20, 60, 61), 3, 2, 1),
    shapes.Pool("k2s2", (2, 33, 64, 65), 2, 2),
    shapes.Pool("k13s1p6", (2, 9, 30, 31), 13, 1, 6),
    shapes.Pool("1d", (3, 30, 999), 5, 3, 2),
    shapes.Pool("3d", (2, 8, 12, 20, 21), 3, 2, 1),
]
named = {"ids": lambda value: getattr(value, "name", str(value))}

Results = dict[str, Tensor]


def conv_passes(problem: shapes.Conv, dtype: torch.dtype, algorithm: str) -> Results:
    """The three passes and the bias gradient, as far as the algorithm takes them."""
    x = normal(problem.x_size, dtype)
    w = normal(problem.weight_size, dtype, "w")
    grad = normal(problem.out_size, dtype, "grad")
    args = (*conv_args(problem), False, algorithm)
    results = {"channel_sum": ops.channel_sum(grad)}
    calls: dict[str, Callable[[], Tensor]] = {
        "forward": lambda: ops.conv_forward(x, w, None, *args),
        "input_grad": lambda: ops.conv_input_grad(grad, w, None, x.shape, *args),
        "weight_grad": lambda: ops.conv_weight_grad(grad, x, w.shape, *args),
    }
    for name, call in calls.items():
        try:
            results[name] = call()
        except RuntimeError:
            assert algorithm not in COMPLETE, f"{algorithm} {name}"
    return results


def pool_passes(problem: shapes.Pool, dtype: torch.dtype) -> Results:
    results = {}
    calls: dict[str, dict[str, Any]] = {"max_pool": {}, "avg_pool": {}}
    if problem.padding == 0:
        calls["lp_pool"] = {"norm_type": 3.0}
    for name, more in calls.items():
        x = normal(problem.x_size, dtype).abs().requires_grad_()
        options = pool_options(problem, name.split("_")[0]) | more
        y = per_rank(name, problem.nd, TF)(x, **options)
        grad = normal(y.shape, dtype, "grad")
        results[name] = y.detach()
        results[f"{name} gradient"] = torch.autograd.grad(y, x, grad)[0]
    for name in ("adaptive_max_pool", "adaptive_avg_pool"):
        x = normal(problem.x_size, dtype).requires_grad_()
        y = per_rank(name, problem.nd, TF)(x, 7)
        grad = normal(y.shape, dtype, "grad")
        results[name] = y.detach()
        results[f"{name} gradient"] = torch.autograd.grad(y, x, grad)[0]
    return results


def check(results: Callable[[], Results]) -> None:
    """The same for one, two, three and again one threads."""
    for cpu in each_isa():
        with threads(1):
            first = results()
        for count in (2, 3, 1):
            with threads(count):
                for name, found in results().items():
                    assert_same(found, first[name], f"{name}, {cpu}, {count} threads")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("algorithm", EVERY)
@pytest.mark.parametrize("problem", CONVS, **named)
def test_conv(problem: shapes.Conv, algorithm: str, dtype: torch.dtype) -> None:
    check(lambda: conv_passes(problem, dtype, algorithm))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("problem", POOLS, **named)
def test_pool(problem: shapes.Pool, dtype: torch.dtype) -> None:
    check(lambda: pool_passes(problem, dtype))


def test_fold() -> None:
    columns = normal((3, 8 * 25, 900), torch.float32)
    check(lambda: {"fold": TF.fold(columns, (30, 30), 5, padding=2)})


@pytest.mark.parametrize("algorithm", EVERY)
@pytest.mark.parametrize("problem", CONVS, **named)
def test_conv_of_one_sample(problem: shapes.Conv, algorithm: str) -> None:
    """A sample's output and input gradient do not depend on the rest of the batch."""
    x = normal((7, *problem.x_size[1:]), torch.float32)
    w = normal(problem.weight_size, torch.float32, "w")
    grad = normal((7, *problem.out_size[1:]), torch.float32, "grad")
    args = (*conv_args(problem), False, algorithm)
    for cpu in each_isa():
        try:
            y = ops.conv_forward(x, w, None, *args)
        except RuntimeError:
            assert algorithm not in COMPLETE
            return
        for batch in (slice(0, 1), slice(3, 4), slice(2, 7)):
            found = ops.conv_forward(x[batch], w, None, *args)
            assert_same(found, y[batch], f"forward, {cpu}")
        try:
            gx = ops.conv_input_grad(grad, w, None, x.shape, *args)
        except RuntimeError:
            assert algorithm not in COMPLETE
            continue
        for batch in (slice(0, 1), slice(3, 4), slice(2, 7)):
            own = x[batch]
            found = ops.conv_input_grad(grad[batch], w, None, own.shape, *args)
            assert_same(found, gx[batch], f"input_grad, {cpu}")


@pytest.mark.parametrize("problem", POOLS, **named)
def test_pool_of_one_sample(problem: shapes.Pool) -> None:
    x = normal((5, *problem.x_size[1:]), torch.float32)
    for name in ("max_pool", "avg_pool"):
        pool = per_rank(name, problem.nd, TF)
        options = pool_options(problem, name.split("_")[0])
        y = pool(x, **options)
        assert_same(pool(x[2:3], **options), y[2:3], name)
        assert_same(pool(x[1:4], **options), y[1:4], name)


@pytest.mark.parametrize("problem", shapes.CONVS, **named)
def test_the_choice_does_not_depend_on_the_batch(problem: shapes.Conv) -> None:
    """Of the passes that make activations: algorithms differ in the last bits."""
    w = torch.empty(problem.weight_size)
    for isa in each_isa():
        chosen = set()
        for batch in (1, 2, 7, 64):
            x = torch.empty(1).expand(batch, *problem.x_size[1:])
            with torchconv.allow_winograd(True):
                plans = torchconv.explain(
                    f"conv{problem.nd}d", x, w, **conv_options(problem)
                ).passes
            names = [plan.chosen and plan.chosen.name for plan in plans]
            chosen.add(tuple(names[:2]))
        assert len(chosen) == 1, f"{chosen} on {isa}"


@pytest.mark.parametrize("algorithm", ["auto", "direct", "im2col"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_samples_and_several_threads(algorithm: str, dtype: torch.dtype) -> None:
    w = torch.randn(16, 16, 3, 3, dtype=dtype, requires_grad=True)
    x = torch.randn(0, 16, 8, 8, dtype=dtype, requires_grad=True)
    with threads(2), torchconv.algorithm(algorithm):
        for groups in (1, 16):
            for stride in (1, 2):
                kernel = w[:, : 16 // groups]
                y = TF.conv2d(x, kernel, stride=stride, groups=groups)
                gx, gw = torch.autograd.grad(y.sum(), (x, kernel))
                assert gx.shape == x.shape and not gw.any()
                assert TF.conv_transpose2d(x, kernel, stride=stride).shape[0] == 0


def test_sum_of_an_expanded_gradient() -> None:
    bias = torch.zeros(3, requires_grad=True)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 1, 300, 200).to(memory_format=memory_format)
        y = TF.conv2d(x, torch.randn(3, 1, 1, 1), bias)
        (grad,) = torch.autograd.grad(y.sum() * 0.3, bias)
        torch.testing.assert_close(grad, torch.full((3,), 36000.0), rtol=2e-7, atol=0)
