"""Tensors of more than 2**31 elements, without the memory: views that repeat one element
(stride 0), and storages of which only a few pages are ever touched.

Expanded inputs are so large (2**40 elements and more) that any copy of one fails.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from common import (
    assert_same,
    each_isa,
    on_cuda,
    ops,
    per_rank,
    whole,
)
from torch import Tensor
from torch.nn import functional as F

from torchconv import functional as TF

BEYOND = 2**31
ALGORITHMS = ("direct", "im2col")


def far_apart(x: Tensor, dim: int, storage: Tensor) -> Tensor:
    """The values of x with its dimension `dim` spread over the whole storage, so that
    offsets pass 2**31 elements; only the pages under them are touched."""
    rest = [d for d in range(x.dim()) if d != dim]
    strides = [0] * x.dim()
    step = 1
    for d in reversed(rest):
        strides[d] = step
        step *= x.shape[d]
    strides[dim] = (storage.numel() - step) // max(1, x.shape[dim] - 1)
    view = storage.as_strided(x.shape, strides)
    assert (x.shape[dim] - 1) * strides[dim] > BEYOND
    return view.copy_(x)


@pytest.fixture
def storage() -> Tensor:
    """2**31 + 2**20 half-precision numbers: 4 GiB of address space, not of memory (of a
    GPU's memory, if that computes)."""
    device = "cuda" if on_cuda() else "cpu"
    return torch.empty(BEYOND + 2**20, dtype=torch.float16, device=device)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("argument", ["x", "weight", "grad"])
@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_conv_offsets(storage: Tensor, argument: str, dim: int, algorithm: str) -> None:
    x = whole((2, 4, 6, 7), torch.float16)
    w = whole((4, 4, 3, 3), torch.float16, "w")
    grad = whole((2, 4, 6, 7), torch.float16, "grad")
    tensors = {"x": x, "weight": w, "grad": grad}
    args = ([1, 1], [1, 1, 1, 1], [1, 1], 1, "zeros", False, algorithm)

    def passes(x: Tensor, weight: Tensor, grad: Tensor) -> list[Tensor]:
        return [
            ops.conv_forward(x, weight, None, *args),
            ops.conv_input_grad(grad, weight, None, x.shape, *args),
            ops.conv_weight_grad(grad, x, weight.shape, *args),
        ]

    expected = passes(**tensors)
    tensors[argument] = far_apart(tensors[argument], dim, storage)
    for cpu in each_isa():
        for found, wanted in zip(passes(**tensors), expected, strict=True):
            assert_same(found, wanted, cpu)


@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_depthwise_offsets(storage: Tensor, dim: int) -> None:
    x = whole((2, 4, 6, 7), torch.float16)
    w = whole((4, 1, 3, 3), torch.float16, "w")
    expected = TF.conv2d(x, w, padding=1, groups=4)
    view = far_apart(x, dim, storage)
    for cpu in each_isa():
        assert_same(TF.conv2d(view, w, padding=1, groups=4), expected, cpu)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("mode", ["zeros", "circular", "replicate", "reflect"])
def test_conv_of_a_huge_plane(mode: str, algorithm: str) -> None:
    """2**42 positions, of which four windows are read."""
    n = 2**21
    x = torch.full((1, 1, 1, 1), 3.0).expand(1, 2, n, n)
    w = whole((3, 2, 3, 3), torch.float32)
    y = TF.conv2d(x, w, stride=n - 3, padding=1, padding_mode=mode, algorithm=algorithm)
    small = torch.full((1, 2, 8, 8), 3.0)
    expected = F.conv2d(
        F.pad(small, (1,) * 4, mode="constant" if mode == "zeros" else mode),
        w,
        stride=5,
    )
    assert_same(y, expected)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_conv_1d_and_3d_of_huge_inputs(algorithm: str) -> None:
    options: dict[str, Any] = {"padding": 1, "algorithm": algorithm}
    w = whole((3, 1, 3), torch.float32)
    x = torch.ones(1, 1, 1).expand(1, 1, 2**42)
    y = TF.conv1d(x, w, stride=2**42 - 3, **options)
    assert_same(y, F.conv1d(torch.ones(1, 1, 8), w, padding=1, stride=5))
    w = whole((3, 1, 3, 3, 3), torch.float32)
    n = 2**14
    x = torch.ones(1, 1, 1, 1, 1).expand(1, 1, n, n, n)
    y = TF.conv3d(x, w, stride=n - 3, **options)
    assert_same(y, F.conv3d(torch.ones(1, 1, 8, 8, 8), w, padding=1, stride=5))


@pytest.mark.usefixtures("kernel_device")
@pytest.mark.parametrize("kernel", [2, 17])
def test_max_pool_of_a_huge_plane(kernel: int) -> None:
    """Indices beyond 2**31, computed and, for large windows, stored as codes."""
    n = 2**21
    x = torch.ones(1, 1, 1, 1).expand(1, 1, n, n)
    y, index = TF.max_pool2d(x, kernel, stride=n - kernel, return_indices=True)
    assert_same(y, torch.ones(1, 1, 2, 2))
    at = n - kernel
    assert index.flatten().tolist() == [0, at, at * n, at * n + at]
    assert_same(TF.max_pool2d(x, kernel, stride=n - kernel), y)
    window = ([kernel] * 2, [at] * 2, [0, 0], [1, 1])
    values, codes = ops.max_pool_with_codes(x, *window, False, False)
    assert_same(values, y)
    if kernel == 2:
        assert codes.dtype == torch.uint8
    else:
        assert codes.dtype == torch.int64
        assert_same(codes, index)
    assert_same(ops.pool_gather(x, codes, *window, False), y)
    assert_same(ops.pool_gather(x, index, *window, False), y)


@pytest.mark.usefixtures("kernel_device")
@pytest.mark.parametrize("nd", [1, 3])
def test_max_pool_1d_3d_of_huge_inputs(nd: int) -> None:
    n = (2**42, 0, 2**14)[nd - 1]
    x = torch.ones((1,) * (nd + 2)).expand(1, 1, *(n,) * nd)
    pool = per_rank("max_pool", nd, TF)
    y, index = pool(x, 2, stride=n - 2, return_indices=True)
    assert_same(y, torch.ones_like(y))
    last = sum((n - 2) * n**d for d in range(nd))
    assert index.flatten()[-1].item() == last


@pytest.mark.usefixtures("kernel_device")
def test_avg_and_lp_pool_of_a_huge_plane() -> None:
    n = 2**21
    x = torch.full((1, 1, 1, 1), 2.0).expand(1, 1, n, n)
    options = {"stride": n - 2}
    y = TF.avg_pool2d(x, 2, **options)
    assert_same(y, torch.full((1, 1, 2, 2), 2.0))
    y = TF.avg_pool2d(x, 3, padding=1, count_include_pad=False, **options)
    assert_same(y, torch.full_like(y, 2.0))
    y = TF.lp_pool2d(x, 2.0, 2, **options)
    assert_same(y, torch.full((1, 1, 2, 2), 4.0))


@pytest.mark.usefixtures("kernel_device")
def test_unfold_of_a_huge_plane() -> None:
    n = 2**21
    x = torch.full((1, 1, 1, 1), 2.0).expand(1, 1, n, n)
    assert_same(TF.unfold(x, 2, stride=n - 2), torch.full((1, 4, 4), 2.0))


@pytest.mark.usefixtures("kernel_device")
@pytest.mark.parametrize("dim", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("max_pool2d", (3, 2, 1)),
        ("max_pool2d", (2,)),
        ("avg_pool2d", (3, 2, 1)),
        ("avg_pool2d", (2,)),
        ("lp_pool2d", (2.0, 2)),
        ("adaptive_avg_pool2d", ((3, 4),)),
        ("adaptive_max_pool2d", ((3, 4),)),
        ("unfold", (3, 1, 1)),
    ],
)
def test_pool_offsets(storage: Tensor, name: str, args: Any, dim: int) -> None:
    x = whole((2, 4, 8, 9), torch.float16, top=9).abs()
    expected = getattr(TF, name)(x, *args)
    view = far_apart(x, dim, storage)
    for cpu in each_isa():
        assert_same(getattr(TF, name)(view, *args), expected, cpu)


@pytest.mark.usefixtures("kernel_device")
@pytest.mark.parametrize("dim", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("max_pool2d", (3, 2, 1)),
        ("avg_pool2d", (3, 2, 1)),
        ("adaptive_avg_pool2d", ((4, 5),)),
        ("adaptive_max_pool2d", ((4, 5),)),
    ],
)
def test_pool_gradient_offsets(storage: Tensor, name: str, args: Any, dim: int) -> None:
    x = whole((2, 4, 8, 9), torch.float16, top=9)

    def gradient(grad: Tensor) -> Tensor:
        own = x.clone().requires_grad_()
        return torch.autograd.grad(getattr(TF, name)(own, *args), own, grad)[0]

    grad = whole(getattr(TF, name)(x, *args).shape, torch.float16, "grad")
    expected = gradient(grad)
    far = far_apart(grad, dim, storage)
    for cpu in each_isa():
        assert_same(gradient(far), expected, cpu)


@pytest.mark.usefixtures("kernel_device")
def test_max_unpool_and_fold_offsets(storage: Tensor) -> None:
    x = whole((2, 4, 8, 9), torch.float16, top=9)
    y, index = TF.max_pool2d(x, 2, return_indices=True)
    expected = TF.max_unpool2d(y, index, 2, output_size=(8, 9))
    columns = whole((2, 4 * 9, 42), torch.float16)
    folded = TF.fold(columns, (8, 9), 3)
    for dim in range(4):
        far = far_apart(y, dim, storage)
        assert_same(TF.max_unpool2d(far, index, 2, output_size=(8, 9)), expected)
    for dim in range(3):
        assert_same(TF.fold(far_apart(columns, dim, storage), (8, 9), 3), folded)
