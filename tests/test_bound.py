"""Operators bound to their arguments: what eager poolings use must never show."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import torchconv
import torchconv.functional as F
from torchconv import _bound, _extension, _ops, autograd

WINDOW = ((3, 3), (2, 2), (1, 1), (1, 1), False, False)
AVERAGE = ((3, 3), (2, 2), (1, 1), True, False, None, False)

# Every operator that can be bound: its tensors and the arguments after them.
x = torch.randn(2, 3, 7, 8)
y, codes = _ops.max_pool_with_codes(x, *WINDOW)
_, indices = _ops.max_pool_with_indices(x, *WINDOW)
mean = _ops.avg_pool(x, *AVERAGE)
norm = _ops.lp_pool(x.abs(), 3.0, (2, 2), (2, 2), False, False)
CALLS: dict[str, tuple[tuple[Any, ...], tuple[Any, ...]]] = {
    "max_pool": ((x,), WINDOW),
    "max_pool_with_codes": ((x,), WINDOW),
    "max_pool_with_indices": ((x,), WINDOW),
    "adaptive_max_pool": ((x,), ((2, 3), False)),
    "adaptive_max_pool_with_codes": ((x,), ((2, 3), False)),
    "adaptive_max_pool_with_indices": ((x,), ((2, 3), False)),
    "fractional_max_pool": (
        (x, torch.rand(2, 3, 2)),
        ((2, 2), (3, 4), False),
    ),
    "avg_pool": ((x,), AVERAGE),
    "avg_pool_input_grad": ((mean,), (tuple(x.shape), *AVERAGE)),
    "adaptive_avg_pool": ((x,), ((2, 3), False)),
    "adaptive_avg_pool_input_grad": (
        (torch.randn(2, 3, 2, 3),),
        (tuple(x.shape), False),
    ),
    "lp_pool": ((x.abs(),), (3.0, (2, 2), (2, 2), False, False)),
    "lp_pool_input_grad": (
        (norm, x.abs(), norm),
        (3.0, (2, 2), (2, 2), False, False),
    ),
    "pool_scatter": ((y, codes), (tuple(x.shape), *WINDOW[:4], False)),
    "pool_gather": ((x, codes), (*WINDOW[:4], False)),
    "max_unpool": ((y, indices), ((7, 8), False)),
    "unfold": ((x,), ((2, 2), (1, 1), (0, 0), (2, 2))),
    "fold": (
        (torch.randn(2, 12, 12),),
        ((7, 8), (2, 2), (1, 1), (0, 0), (2, 2)),
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_bound_operator_is_that_operator(name: str) -> None:
    tensors, args = CALLS[name]
    op = getattr(_ops, name)
    bound = _bound.Bound(args)
    eager = _bound.eager(op)
    results = op(*tensors, *args), eager(*tensors, bound), eager(*tensors, args)
    assert list(bound.ids) == [name]
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=0)


def test_other_sizes_strides_and_dtypes_than_before() -> None:
    args = _bound.Bound(WINDOW)
    for t in (
        torch.randn(1, 2, 5, 5),
        torch.randn(3, 4, 6, 9).to(memory_format=torch.channels_last),
        torch.randn(2, 2, 8, 8, dtype=torch.float64),
        torch.complex(x, x).conj().imag,  # with the negative bit
        x[:, :, ::2, ::2],
    ):
        y = autograd.max_pool(t, args)
        expected = torch.nn.functional.max_pool2d(t, 3, 2, 1)
        torch.testing.assert_close(y, expected, rtol=0, atol=0)


def test_gradients_of_other_sizes_with_the_same_arguments() -> None:
    args = _bound.Bound(WINDOW)
    for n in (6, 9, 6):
        t = torch.randn(1, 2, n, n, requires_grad=True)
        u = t.detach().clone().requires_grad_()
        (gt,) = torch.autograd.grad(autograd.max_pool(t, args).exp().sum(), t)
        expected = torch.nn.functional.max_pool2d(u, 3, 2, 1).exp().sum()
        torch.testing.assert_close(gt, torch.autograd.grad(expected, u)[0])


def test_wrong_arguments_are_refused() -> None:
    binary = _extension.binary()
    with pytest.raises(RuntimeError, match="no operator to bind is called nothing"):
        binary.bind_op("nothing", ())
    with pytest.raises(RuntimeError, match="max_pool takes 6 arguments"):
        binary.bind_op("max_pool", WINDOW[:3])
    pair = binary.bind_op("max_pool_with_codes", WINDOW)
    one = binary.bind_op("max_pool", WINDOW)
    with pytest.raises(RuntimeError, match="has a pair"):
        _ops.bound(x, None, None, pair.id)
    with pytest.raises(RuntimeError, match="has one result"):
        _ops.bound_pair(x, None, one.id)
    with pytest.raises(RuntimeError, match="takes 1 tensors, got 2"):
        _ops.bound(x, x, None, one.id)
    with pytest.raises(RuntimeError, match="smaller than one window"):
        _ops.bound(torch.randn(1, 1, 0, 3), None, None, one.id)


def test_a_number_lives_as_long_as_what_it_stands_for() -> None:
    bound = _bound.Bound(WINDOW)
    _bound.eager(_ops.max_pool)(x, bound)
    number = bound.ids["max_pool"]
    _ops.bound(x, None, None, number)
    del bound
    with pytest.raises(RuntimeError, match="nothing is kept"):
        _ops.bound(x, None, None, number)


def test_copies_take_the_arguments_alone() -> None:
    bound = _bound.Bound(WINDOW)
    _bound.eager(_ops.max_pool)(x, bound)
    for other in (pickle.loads(pickle.dumps(bound)), copy.deepcopy(bound)):
        assert other == WINDOW
        assert type(other) is tuple


class Names(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.seen.append(str(func))
        return func(*args, **(kwargs or {}))


POOLS = {
    "max": lambda t: F.max_pool2d(t, 2),
    "avg": lambda t: F.avg_pool2d(t, 2),
    "lp": lambda t: F.lp_pool2d(t, 2, 2),
    "adaptive_max": lambda t: F.adaptive_max_pool2d(t, 2),
    "adaptive_avg": lambda t: F.adaptive_avg_pool2d(t, 2),
    "indices": lambda t: F.max_pool2d(t, 2, return_indices=True)[0],
}


@pytest.mark.parametrize("kind", POOLS)
@pytest.mark.parametrize("recording", [False, True])
def test_graphs_and_modes_see_the_operator_itself(kind: str, recording: bool) -> None:
    pool = POOLS[kind]
    t = torch.randn(1, 2, 6, 6).requires_grad_(recording)
    pool(t)  # binds
    with Names() as mode:
        out = pool(t)
        if recording:
            out.sum().backward()
    graph = make_fx(pool)(t)
    targets = [str(node.target) for node in graph.graph.nodes]
    for names in (mode.seen, targets):
        assert any("torchconv" in name for name in names)
        assert not any("bound" in name for name in names)


@pytest.mark.parametrize("kind", POOLS)
def test_everything_differentiates_after_eager_calls(kind: str) -> None:
    pool = POOLS[kind]
    t = torch.randn(2, 2, 6, 6, dtype=torch.float64).abs_().add_(0.1).requires_grad_()
    pool(t).sum().backward()  # binds
    assert torch.autograd.gradcheck(pool, (t,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(pool, (t,))
    expected = torch.autograd.functional.jacobian(lambda v: pool(v).sum(0), t)
    got = torch.func.jacrev(lambda v: pool(v).sum(0))(t.detach())
    torch.testing.assert_close(got, expected)
    # Batched gradients go through a graph that an eager call recorded.
    out = pool(t)
    batch = torch.randn(3, *out.shape, dtype=torch.float64)
    (together,) = torch.autograd.grad(
        out, t, batch, is_grads_batched=True, retain_graph=True
    )
    one_by_one = [torch.autograd.grad(out, t, g, retain_graph=True)[0] for g in batch]
    torch.testing.assert_close(together, torch.stack(one_by_one))


@pytest.mark.parametrize("kind", POOLS)
def test_saved_tensors_pass_hooks(kind: str) -> None:
    pool = POOLS[kind]
    t = torch.randn(1, 2, 6, 6).requires_grad_()
    (expected,) = torch.autograd.grad(pool(t).exp().sum(), t)
    out = checkpoint(pool, t, use_reentrant=False)
    (got,) = torch.autograd.grad(out.exp().sum(), t)
    torch.testing.assert_close(got, expected)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda s: saved.append(s) or s, lambda s: s
    ):
        pool(t)
    # One byte a maximum is kept, and nothing of an average.
    if kind == "max":
        assert [s.dtype for s in saved] == [torch.uint8]
    if "avg" in kind:
        assert not saved


def test_a_layer_on_another_thread() -> None:
    layer = torchconv.nn.MaxPool2d(2)
    t = torch.randn(1, 2, 6, 6)
    expected = layer(t)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(2) as threads:
        for got in threads.map(layer, [t] * 50):
            assert torch.equal(got, expected)
