"""Tiled and locally connected convolution: against the definition, in every dtype, with
gradients of every order, for any number of threads; and the layers."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import torch
from common import COMPLEX, FLOATS, normal, per_rank, whole
from torch import Tensor

import torchconv
from torchconv import functional as TF
from torchconv import nn, reference

F64 = torch.float64


class Problem(NamedTuple):
    """x (N, C, *spatial), weight (*tile, K, C / groups, *kernel) and options."""

    name: str
    x: tuple[int, ...]
    tile: tuple[int, ...]
    filters: int
    kernel: tuple[int, ...]
    options: Mapping[str, Any] = MappingProxyType({})

    @property
    def nd(self) -> int:
        return len(self.tile)

    @property
    def weight(self) -> tuple[int, ...]:
        per_group = self.x[1] // self.options.get("groups", 1)
        return (*self.tile, self.filters, per_group, *self.kernel)

    def tensors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        sizes = (self.x, self.weight, self.weight[: self.nd + 1])
        return tuple(whole(s, dtype, self.name, i) for i, s in enumerate(sizes))

    def ours(self, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
        return per_rank("tiled_conv", self.nd, TF)(x, w, b, **self.options)


PROBLEMS = [
    Problem("plain", (2, 3, 7, 6), (2, 3), 5, (3, 2)),
    Problem("one-kernel", (2, 3, 6, 5), (1, 1), 4, (3, 3), {"padding": 1}),
    Problem("local", (3, 2, 5, 4), (5, 4), 3, (3, 3), {"padding": 1}),
    Problem("local-wide-row", (2, 9, 4, 3), (2, 1), 7, (3, 3)),
    Problem("more-tile-than-output", (2, 2, 4, 4), (5, 3), 2, (3, 3)),
    Problem("tile-one-way", (2, 2, 9, 9), (1, 4), 3, (3, 3), {"padding": (0, 2)}),
    Problem(
        "strided", (2, 4, 9, 8), (2, 2), 6, (3, 2), {"stride": (2, 3), "groups": 2}
    ),
    Problem(
        "dilated", (1, 2, 9, 8), (3, 2), 4, (2, 3), {"dilation": (3, 2), "padding": 2}
    ),
    Problem(
        "depthwise", (2, 4, 6, 6), (2, 2), 8, (3, 3), {"groups": 4, "padding": "same"}
    ),
    Problem(
        "asymmetric", (2, 2, 6, 5), (2, 3), 3, (3, 2), {"padding": [(2, 0), (0, 1)]}
    ),
    Problem("full", (1, 2, 4, 3), (3, 2), 2, (3, 3), {"padding": "full"}),
    Problem("pointwise", (2, 5, 4, 6), (2, 2), 3, (1, 1)),
    Problem("one-pixel", (2, 3, 1, 1), (1, 2), 3, (3, 3), {"padding": 1}),
    Problem("causal-1d", (2, 3, 19), (4,), 5, (3,), {"padding": "causal"}),
    Problem("long-1d", (1, 1, 90), (2,), 3, (5,), {"padding": 2}),
    Problem("local-1d", (2, 3, 9), (7,), 5, (3,)),
    Problem("3d", (2, 2, 4, 5, 3), (2, 1, 2), 3, (2, 3, 2), {"padding": 1}),
    Problem("many-columns", (3, 2, 12, 14), (2, 2), 9, (3, 3), {"padding": 1}),
    *(
        Problem(
            mode,
            (2, 2, 6, 5),
            (2, 2),
            3,
            (3, 3),
            {"padding": [(2, 1), (1, 2)], "padding_mode": mode, "stride": stride},
        )
        for mode in ("reflect", "replicate", "circular")
        for stride in (1, 2)
    ),
]
# What fills and overflows the tiles of the kernels: rows, parts of rows, columns, groups.
TILES = [
    Problem("long-rows", (2, 60, 3, 4), (1, 2), 35, (3, 3)),
    Problem("few-long-rows", (9, 5, 3, 2), (2, 2), 8, (3, 3), {"padding": 1}),
    Problem("two-rows-wide", (2, 2, 9, 17), (1, 2), 2, (3, 3), {"padding": 1}),
    Problem("sums-in-parts", (3, 3, 12, 13), (1, 2), 3, (3, 2), {"padding": 1}),
    Problem("tiny-groups", (1, 140, 2, 3), (2, 2), 420, (1, 1), {"groups": 140}),
    Problem("across-groups", (2, 18, 4, 4), (2, 2), 18, (3, 3), {"groups": 6}),
    Problem("many-filters", (9, 4, 5, 4), (2, 1), 33, (3, 3), {"stride": 2}),
]
PROBLEMS += TILES

named = {"ids": lambda problem: problem.name}
on_every_device = pytest.mark.usefixtures("kernel_device")


def gradients(problem: Problem, tensors: tuple[Tensor, ...], grad: Tensor) -> Any:
    leaves = [t.detach().requires_grad_() for t in tensors]
    return torch.autograd.grad(problem.ours(*leaves), leaves, grad)


@on_every_device
@pytest.mark.parametrize("problem", PROBLEMS, **named)
def test_definition(problem: Problem) -> None:
    x, w, b = problem.tensors(F64)
    y = reference.tiled_conv(x, w, b, **problem.options)
    assert torch.equal(problem.ours(x, w, b), y)
    plain = reference.tiled_conv(x, w, None, **problem.options)
    assert torch.equal(problem.ours(x, w, None), plain)
    unbatched = problem.ours(x[0], w, b)
    assert torch.equal(unbatched, y[0])
    # The definition is linear in each argument: its gradients are its adjoints.
    grad = whole(y.shape, F64, problem.name, "grad")
    gx, gw, gb = gradients(problem, (x, w, b), grad)
    dx, dw, db = (whole(t.shape, F64, problem.name, "d") for t in (x, w, b))
    zero = torch.zeros_like(b)
    for g, d, args in (
        (gx, dx, (dx, w, zero)),
        (gw, dw, (x, dw, zero)),
        (gb, db, (torch.zeros_like(x), w, db)),
    ):
        change = reference.tiled_conv(*args, **problem.options)
        assert (g * d).sum() == (grad * change).sum()


@on_every_device
@pytest.mark.parametrize("problem", PROBLEMS, **named)
@pytest.mark.parametrize(
    "dtype", [*FLOATS[:1], *FLOATS[2:], *COMPLEX, torch.int64, torch.uint8], ids=str
)
def test_dtypes(problem: Problem, dtype: torch.dtype) -> None:
    x, w, b = problem.tensors(dtype)
    wide = dtype if dtype.is_complex else F64
    exact = problem.ours(*(t.to(wide) for t in (x, w, b)))
    assert torch.equal(problem.ours(x, w, b), exact.to(dtype))
    if not (dtype.is_floating_point or dtype.is_complex):
        return
    grad = whole(exact.shape, dtype, problem.name, "grad")
    found = gradients(problem, (x, w, b), grad)
    expected = gradients(problem, tuple(t.to(wide) for t in (x, w, b)), grad.to(wide))
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other.to(dtype))


@on_every_device
@pytest.mark.parametrize("problem", PROBLEMS, **named)
def test_strides_of_arguments(problem: Problem) -> None:
    x, w, b = problem.tensors(torch.float32)
    y = problem.ours(x, w, b)
    turned = x.transpose(0, -1).contiguous().transpose(0, -1)
    assert torch.equal(problem.ours(turned, w, b), y)
    spread = torch.stack((x, -x), -1).flatten(-2)[..., ::2]
    assert torch.equal(problem.ours(spread, w.mT.contiguous().mT, b), y)
    last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim())
    if last is not None:
        z = problem.ours(x.contiguous(memory_format=last), w, b)
        assert torch.equal(z, y)
    grad = whole(y.shape, torch.float32, "grad")
    plain = gradients(problem, (x, w, b), grad)
    ones = torch.ones(()).expand(y.shape)
    for one, other in zip(
        gradients(
            problem, (turned, w, b), grad.transpose(0, 1).clone().transpose(0, 1)
        ),
        plain,
        strict=True,
    ):
        assert torch.equal(one, other)
    for one, other in zip(
        gradients(problem, (x, w, b), ones),
        gradients(problem, (x, w, b), ones.contiguous()),
        strict=True,
    ):
        assert torch.equal(one, other)


@on_every_device
def test_results_do_not_depend_on_threads_or_batch() -> None:
    for problem in PROBLEMS:
        sizes = (problem.x, problem.weight, problem.weight[: problem.nd + 1])
        for dtype in (torch.float32, torch.bfloat16):
            tensors = tuple(normal(s, dtype, i) for i, s in enumerate(sizes))
            y = problem.ours(*tensors)
            grad = normal(y.shape, dtype, "grad")
            before = torch.get_num_threads()
            try:
                runs = []
                for threads in (1, 2, 5):
                    torch.set_num_threads(threads)
                    runs.append(
                        (problem.ours(*tensors), *gradients(problem, tensors, grad))
                    )
            finally:
                torch.set_num_threads(before)
            for run in runs[1:]:
                for one, other in zip(run, runs[0], strict=True):
                    assert torch.equal(one, other), problem.name
            x, w, b = tensors
            assert torch.equal(problem.ours(x[:1], w, b), y[:1]), problem.name


@on_every_device
@pytest.mark.parametrize(
    ("batch", "channels", "length"), [(2, 2, 10_000), (1, 3, 6250)]
)
def test_input_grad_in_parts(batch: int, channels: int, length: int) -> None:
    """Patches of so many positions that CUDA makes them for a part of the samples or
    channels at a time."""
    x = whole((batch, channels, length + 119), F64, "x")
    w = whole((2, 1, channels, 120), F64, "w")
    grad = whole((batch, 1, length), F64, "grad")
    leaf = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(TF.tiled_conv1d(leaf, w), leaf, grad)
    expected = torch.zeros_like(x)
    for kernel in range(2):
        own = torch.zeros_like(grad)
        own[..., kernel::2] = grad[..., kernel::2]
        expected += torch.nn.grad.conv1d_input(x.shape, w[kernel], own)
    assert torch.equal(found, expected)


@on_every_device
def test_empty_batch() -> None:
    x = torch.zeros(0, 2, 5, 5, requires_grad=True)
    w = torch.randn(2, 2, 3, 2, 3, 3, requires_grad=True)
    b = torch.randn(2, 2, 3, requires_grad=True)
    y = TF.tiled_conv2d(x, w, b)
    assert y.shape == (0, 3, 3, 3)
    gx, gw, gb = torch.autograd.grad(y.sum(), (x, w, b))
    assert gx.shape == x.shape
    assert not gw.any()
    assert not gb.any()


@on_every_device
@pytest.mark.parametrize(
    "problem",
    [
        Problem("2d", (2, 2, 4, 3), (2, 3), 2, (2, 2), {"padding": 1}),
        Problem("groups", (1, 4, 5), (2,), 4, (3,), {"groups": 2, "stride": 2}),
        Problem("3d", (1, 1, 2, 3, 2), (2, 1, 1), 1, (2, 2, 1)),
    ],
    **named,
)
def test_gradients_of_every_order(problem: Problem) -> None:
    tensors = [t.requires_grad_() for t in problem.tensors(F64)]
    assert torch.autograd.gradcheck(problem.ours, tensors, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(problem.ours, tensors, check_fwd_over_rev=True)


@on_every_device
@pytest.mark.parametrize("mapped", range(1, 8))
def test_vmap(mapped: int) -> None:
    problem = Problem("vmap", (2, 4, 5, 4), (2, 3), 6, (3, 2), {"groups": 2})
    tensors = problem.tensors(F64)
    many = [
        torch.stack((t, t + 1, 2 * t), 1) if mapped >> i & 1 else t
        for i, t in enumerate(tensors)
    ]
    dims = tuple(1 if mapped >> i & 1 else None for i in range(3))

    def pick(i: int) -> list[Tensor]:
        return [t if d is None else t.select(1, i) for t, d in zip(many, dims)]

    y = torch.func.vmap(problem.ours, in_dims=dims)(*many)
    loss = lambda *t: problem.ours(*t).sin().sum()
    grads = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1, 2)), in_dims=dims)(
        *many
    )
    for i in range(3):
        torch.testing.assert_close(y[i], problem.ours(*pick(i)))
        one = torch.func.grad(loss, argnums=(0, 1, 2))(*pick(i))
        for a, b in zip(grads, one, strict=True):
            torch.testing.assert_close(a[i], b)


def test_autocast_and_compile() -> None:
    layer = nn.TiledConv2d(2, 3, 3, tile=2, padding=1)
    x = torch.randn(2, 2, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype is torch.bfloat16
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))
    compiled(x).sum().backward()
    assert layer.weight.grad is not None


@on_every_device
@pytest.mark.parametrize("nd", [1, 2, 3])
def test_flip(nd: int) -> None:
    x = whole((2, 2, *(6, 5, 4)[:nd]), F64)
    w = whole((*(2, 3, 1)[:nd], 3, 2, *(3, 2, 2)[:nd]), F64)
    f = per_rank("tiled_conv", nd, TF)
    flipped = f(x, w.flip(tuple(range(-nd, 0))))
    assert torch.equal(f(x, w, flip=True), flipped)


# -- layers


LAYERS = [
    (nn.TiledConv1d, (4, 6, 3, 2), {"padding": "causal"}, (2, 4, 9)),
    (nn.TiledConv2d, (4, 6, 3, (2, 3)), {"groups": 2, "bias": False}, (2, 4, 9, 8)),
    (
        nn.TiledConv2d,
        (4, 6, 3, 2),
        {"padding_mode": "reflect", "padding": 1},
        (2, 4, 9, 8),
    ),
    (nn.TiledConv3d, (2, 3, 2, 2), {"stride": 2, "flip": True}, (2, 2, 5, 6, 4)),
    (nn.LocallyConnected1d, (2, 3, 9, 3), {"padding": "same"}, (2, 2, 9)),
    (
        nn.LocallyConnected2d,
        (4, 6, (7, 8), 3),
        {"stride": 2, "groups": 2},
        (2, 4, 7, 8),
    ),
    (
        nn.LocallyConnected3d,
        (2, 3, 4, 2),
        {"dilation": 2, "padding": 1},
        (2, 2, 4, 4, 4),
    ),
]


@pytest.mark.parametrize(("kind", "args", "kwargs", "shape"), LAYERS)
def test_layers(kind: type, args: Any, kwargs: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = kind(*args, **kwargs)
    x = torch.randn(shape)
    y = layer(x)
    assert y.shape[1] == layer.out_channels
    torch.testing.assert_close(layer(x[0]), y[0])
    bound = (args[0] // layer.groups * torch.Size(layer.kernel_size).numel()) ** -0.5
    assert layer.weight.abs().max() <= bound
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(twin) == repr(layer)
        assert torch.equal(twin(x), y)
    fresh = kind(*args, **kwargs)
    fresh.load_state_dict(layer.state_dict())
    assert torch.equal(fresh(x), y)
    assert kind(*args, **kwargs, device="meta").weight.is_meta
    assert torchconv.conversion_report(layer).layers == ()


def test_repr() -> None:
    assert repr(nn.TiledConv2d(3, 8, 3, 2, padding=1, bias=False)) == (
        "TiledConv2d(3, 8, tile=(2, 2), kernel_size=(3, 3), stride=(1, 1), padding=1, "
        "bias=False)"
    )
    assert repr(nn.LocallyConnected1d(3, 8, 9, 3, flip=True)) == (
        "LocallyConnected1d(3, 8, input_size=(9,), kernel_size=(3,), stride=(1,), "
        "flip=True)"
    )


def test_errors() -> None:
    x = torch.randn(2, 4, 6, 6)
    w = torch.randn(2, 2, 3, 4, 3, 3)
    cases: list[tuple[Any, type[Exception], str]] = [
        (lambda: TF.tiled_conv2d(x, w[0]), RuntimeError, "weight of 6 dimensions"),
        (
            lambda: TF.tiled_conv2d(x, w, torch.randn(3)),
            RuntimeError,
            r"expected bias of size \[2, 2, 3\], but got bias of size \[3\]",
        ),
        (
            lambda: TF.locally_connected2d(x, w),
            RuntimeError,
            r"each of the \[4, 4\] output positions",
        ),
        (lambda: TF.tiled_conv2d(x[:, :3], w), RuntimeError, "have 4 channels"),
        (lambda: TF.tiled_conv2d(x.double(), w), RuntimeError, "should be the same"),
        (
            lambda: TF.tiled_conv2d(x, w[:0]),
            RuntimeError,
            "the tile, should be greater",
        ),
        (lambda: TF.tiled_conv2d(x, w, padding=-1), RuntimeError, "negative padding"),
        (
            lambda: TF.tiled_conv2d(x, w, padding_mode="some"),
            ValueError,
            "padding_mode='some'",
        ),
        (lambda: nn.TiledConv2d(4, 3, 3, (2, 0)), ValueError, r"tile=\(2, 0\)"),
        (
            lambda: nn.LocallyConnected2d(4, 3, 2, 3),
            ValueError,
            "larger than the padded",
        ),
        (
            lambda: nn.TiledConv2d(4, 3, 3, 2, groups=2),
            ValueError,
            "out_channels must be",
        ),
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()


def test_no_input_channels() -> None:
    """As conv2d: no channels in, none out, of the size that the kernel gives."""
    x, w = torch.empty(1, 0, 8, 8), torch.empty(2, 2, 4, 0, 3, 3)
    assert TF.tiled_conv2d(x, w).shape == TF.conv2d(x, w[0, 0]).shape
