"""True convolution: signals against numpy and scipy, flipped kernels, connection tables,
and the convolution as a sparse matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.signal
import shapes
import torch
from common import conv_options, per_rank, whole
from torch import Tensor
from torch.nn import functional as F

import torchconv
from torchconv import functional as TF
from torchconv import nn, reference

F64 = torch.float64
SIZES = [(7, 3), (7, 4), (8, 3), (8, 4), (3, 7), (4, 7), (5, 5), (1, 1), (6, 1), (1, 4)]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
def test_convolve_is_numpys(sizes: tuple[int, int], mode: str) -> None:
    u, w = (whole((n,), F64, i) for i, n in enumerate(sizes))
    expected = np.convolve(u.numpy(), w.numpy(), mode)
    assert torch.equal(torchconv.convolve(u, w, mode), torch.from_numpy(expected))


@pytest.mark.parametrize(
    "sizes",
    [((7,), (3,)), ((8,), (4,)), ((6, 7), (3, 2)), ((5, 4, 6), (2, 3, 1))],
    ids=str,
)
@pytest.mark.parametrize("mode", ["full", "same", "valid"])
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.complex128, torch.int64], ids=str
)
def test_signals_are_scipys(sizes: Any, mode: str, dtype: torch.dtype) -> None:
    u, w = (whole(n, dtype, i) for i, n in enumerate(sizes))
    for name in ("convolve", "correlate"):
        expected = getattr(scipy.signal, name)(
            u.numpy(), w.numpy(), mode, method="direct"
        )
        found = getattr(torchconv, name)(u, w, mode, dims=u.dim())
        torch.testing.assert_close(
            found, torch.from_numpy(expected), rtol=0, atol=1e-12
        )


@pytest.mark.parametrize("mode", ["full", "valid"])
def test_correlate_with_the_longer_second(mode: str) -> None:
    u, w = whole((3,), F64, 0), whole((7,), F64, 1)
    expected = scipy.signal.correlate(u.numpy(), w.numpy(), mode)
    assert torch.equal(torchconv.correlate(u, w, mode), torch.from_numpy(expected))


@pytest.mark.parametrize("u_batch", [(), (4,), (2, 1, 4), (0,)], ids=str)
@pytest.mark.parametrize("w_batch", [(), (1,), (4,), (2, 3, 1)], ids=str)
def test_batches_are_broadcast(u_batch: Any, w_batch: Any) -> None:
    if 0 in u_batch and (4 in w_batch or 3 in w_batch):
        return
    u, w = whole((*u_batch, 6), F64, 0), whole((*w_batch, 3), F64, 1)
    batch = torch.broadcast_shapes(u_batch, w_batch)
    found = torchconv.convolve(u, w)
    assert found.shape == (*batch, 8)
    many = zip(
        u.expand(*batch, 6).reshape(-1, 6),
        w.expand(*batch, 3).reshape(-1, 3),
        strict=True,
    )
    for y, (one, kernel) in zip(found.reshape(-1, 8), many, strict=True):
        expected = np.convolve(one.numpy(), kernel.numpy())
        assert torch.equal(y, torch.from_numpy(expected))


@pytest.mark.parametrize("mode", ["full", "same", "valid"])
def test_gradients_of_signals(mode: str) -> None:
    u = torch.randn(2, 5, dtype=F64, requires_grad=True)
    for size in ((3,), (2, 3), (7,)):
        w = torch.randn(size, dtype=F64, requires_grad=True)
        for f in (torchconv.convolve, torchconv.correlate):

            def call(u: Tensor, w: Tensor, f: Any = f) -> Tensor:
                return f(u, w, mode)

            assert torch.autograd.gradcheck(call, (u, w))
            assert torch.autograd.gradgradcheck(call, (u, w))


def test_errors_of_signals() -> None:
    u = torch.randn(5)
    with pytest.raises(ValueError, match="mode='some'"):
        torchconv.convolve(u, u, "some")
    with pytest.raises(ValueError, match="dims=4"):
        torchconv.convolve(u, u, dims=4)
    with pytest.raises(ValueError, match=r"u needs 1 dimensions.*size \[0\]"):
        torchconv.convolve(u[:0], u)
    with pytest.raises(ValueError, match="along every dimension"):
        torchconv.correlate(torch.ones(2, 5), torch.ones(3, 2), "valid", dims=2)
    with pytest.raises(RuntimeError, match="should be the same"):
        torchconv.convolve(u, u.double())


# -- flip and channel_map


@pytest.mark.parametrize("nd", [1, 2, 3])
def test_flip(nd: int) -> None:
    x, spatial = whole((2, 4, *(8, 7, 6)[:nd]), F64), tuple(range(-nd, 0))
    w = whole((6, 2, *(3, 2, 4)[:nd]), F64).requires_grad_()
    options: dict[str, Any] = {"stride": 2, "padding": 1, "groups": 2}
    y = per_rank("conv", nd, TF)(x, w, flip=True, **options)
    expected = per_rank("conv", nd, F)(x, w.flip(spatial), **options)
    assert torch.equal(y, expected)
    grad = whole(y.shape, F64)
    for one, other in zip(
        torch.autograd.grad(y, w, grad),
        torch.autograd.grad(expected, w, grad),
        strict=True,
    ):
        assert torch.equal(one, other)
    t = per_rank("conv_transpose", nd, TF)(y, w, flip=True, **options)
    wanted = per_rank("conv_transpose", nd, F)(y, w.flip(spatial), **options)
    assert torch.equal(t, wanted)
    single = whole((1, 1, *(9, 8, 7)[:nd]), F64)
    kernel = whole((1, 1, *(3, 2, 4)[:nd]), F64)
    true = scipy.signal.convolve(single[0, 0].numpy(), kernel[0, 0].numpy(), "valid")
    found = per_rank("conv", nd, TF)(single, kernel, flip=True)
    assert torch.equal(found[0, 0], torch.from_numpy(true))


@pytest.mark.parametrize("nd", [1, 2, 3])
def test_flip_layers(nd: int) -> None:
    for name in ("Conv", "ConvTranspose"):
        kind = per_rank(name, nd, nn)
        layer, plain = kind(2, 4, 3, flip=True), kind(2, 4, 3)
        plain.load_state_dict(layer.state_dict())
        with torch.no_grad():
            plain.weight.copy_(layer.weight.flip(tuple(range(2, 2 + nd))))
        x = torch.randn(2, 2, *(6, 5, 4)[:nd])
        torch.testing.assert_close(layer(x), plain(x))
        assert repr(layer).endswith("flip=True)")
        lazy = per_rank(f"Lazy{name}", nd, nn)(4, 3, flip=True)
        lazy(x)
        assert lazy.flip


# The connections of LeNet-5's third layer (LeCun et al., 1998, table 1): which of 6
# feature maps each of the 16 sees.
C3 = torch.zeros(16, 6, dtype=torch.bool)
for _map in range(6):
    for _seen in range(3):
        C3[_map, (_map + _seen) % 6] = True
for _map in range(6):
    for _seen in range(4):
        C3[6 + _map, (_map + _seen) % 6] = True
for _map in range(3):
    for _seen in (0, 1, 3, 4):
        C3[12 + _map, (_map + _seen) % 6] = True
C3[15] = True


def test_channel_map() -> None:
    assert C3.sum() == 60
    layer = nn.Conv2d(6, 16, 5, channel_map=C3)
    assert "channel_map of 60 connections" in repr(layer)
    assert set(layer.state_dict()) == {"weight", "bias"}
    x = torch.randn(2, 6, 14, 14, requires_grad=True)
    y = layer(x)
    for k in range(16):
        seen = C3[k]
        one = F.conv2d(x[:, seen], layer.weight[k : k + 1, seen], layer.bias[k : k + 1])
        torch.testing.assert_close(y[:, k : k + 1], one)
    y.sum().backward()
    assert not layer.weight.grad[~C3].any()
    assert layer.weight.grad[C3].all()
    with torch.no_grad():
        layer.weight[~C3] = torch.nan
    torch.testing.assert_close(layer(x), y)
    torch.testing.assert_close(
        TF.conv2d(x, layer.weight, layer.bias, channel_map=C3), y
    )
    nested = nn.Conv1d(2, 2, 3, channel_map=[[1, 0], [1, 1]])
    assert nested.channel_map.tolist() == [[True, False], [True, True]]
    with pytest.raises(RuntimeError, match=r"channel_map of size \[6, 16\]"):
        TF.conv2d(x, layer.weight, channel_map=C3.T)
    with pytest.raises(ValueError, match=r"\(16, 6\), .* but got \(6, 16\)"):
        nn.Conv2d(6, 16, 5, channel_map=C3.T)


@pytest.mark.parametrize("nd", [1, 2, 3])
def test_depthwise_and_separable(nd: int) -> None:
    x = torch.randn(2, 4, *(9, 8, 7)[:nd])
    deep = per_rank("DepthwiseConv", nd, nn)(4, 3, padding=1, multiplier=2)
    assert (deep.groups, deep.out_channels) == (4, 8)
    torch.testing.assert_close(
        deep(x), per_rank("conv", nd, F)(x, deep.weight, deep.bias, 1, 1, 1, 4)
    )
    both = per_rank("SeparableConv", nd, nn)(4, 6, 3, stride=2, multiplier=3)
    assert set(both.state_dict()) == {
        "depthwise.weight",
        "pointwise.weight",
        "pointwise.bias",
    }
    torch.testing.assert_close(both(x), both.pointwise(both.depthwise(x)))
    assert both(x).shape[1] == 6


# -- the matrix


@pytest.mark.parametrize(
    "problem", shapes.OPTIONS + shapes.PADDED, ids=lambda p: p.name
)
@pytest.mark.parametrize("flip", [False, True])
def test_matrix(problem: shapes.Conv, flip: bool) -> None:
    if problem.products > 20_000 or problem.x_size[0] == 0:
        return
    x = whole(problem.x_size, F64, problem.name)
    w = whole(problem.weight_size, F64, problem.name, "w")
    options = conv_options(problem)
    y = per_rank("conv", problem.nd, TF)(x, w, flip=flip, **options)
    grad = whole(y.shape, F64, problem.name, "grad")
    kernel = w.flip(tuple(range(2, w.dim()))) if flip else w
    gx = reference.conv_input_grad(grad, kernel, x.shape, **options)
    for layout in (torch.sparse_csr, torch.sparse_coo):
        m = torchconv.conv_matrix(w, x.shape[1:], flip=flip, layout=layout, **options)
        assert m.layout == layout
        for n in range(x.shape[0]):
            assert torch.equal(m @ x[n].reshape(-1), y[n].reshape(-1))
            back = m.to_dense().T @ grad[n].reshape(-1)
            assert torch.equal(back, gx[n].reshape(-1))


def test_matrix_is_toeplitz() -> None:
    m = torchconv.conv_matrix(torch.tensor([[[1.0, 2.0, 3.0]]]), 6, padding="same")
    dense = m.to_dense()
    assert dense.shape == (6, 6)
    for i in range(-2, 3):
        assert dense.diagonal(i).unique().numel() == 1
    assert dense[0].tolist() == [2, 3, 0, 0, 0, 0]
    circulant = torchconv.conv_matrix(
        torch.tensor([[[1.0, 2.0, 3.0]]]), 6, padding="same", padding_mode="circular"
    ).to_dense()
    for i in range(6):
        assert torch.equal(circulant[i], circulant[0].roll(i))
    blocks = torchconv.conv_matrix(torch.randn(1, 1, 3, 3), 6).to_dense()
    assert blocks.shape == (16, 36)
    assert torch.equal(blocks[:4, :6], blocks[4:8, 6:12])


def test_matrix_is_differentiable() -> None:
    w = torch.randn(2, 1, 2, 2, dtype=F64, requires_grad=True)
    x = torch.randn(1, 3, 4, dtype=F64)

    def product(w: Tensor) -> Tensor:
        m = torchconv.conv_matrix(w, (3, 4), padding=1, layout=torch.sparse_coo)
        return m.to_dense() @ x.reshape(-1)

    assert torch.autograd.gradcheck(product, (w,))


def test_errors_of_matrix() -> None:
    w = torch.randn(2, 1, 3, 3)
    with pytest.raises(ValueError, match="layout"):
        torchconv.conv_matrix(w, 5, layout=torch.strided)
    with pytest.raises(RuntimeError, match="input_size=\\(5,\\)"):
        torchconv.conv_matrix(w, (5,))
    with pytest.raises(RuntimeError, match="Kernel size can't be greater"):
        torchconv.conv_matrix(w, 2)
    with pytest.raises(RuntimeError, match="to have 1 channels"):
        torchconv.conv_matrix(w, (3, 5, 5))


def test_matrix_picture(tmp_path: Any) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    axes = torchconv.matrix_picture(torch.randn(1, 1, 3), 6, padding="same")
    axes.figure.savefig(tmp_path / "matrix.png")
    assert len(axes.texts) == 16
    assert "6 inputs" in axes.get_xlabel()
