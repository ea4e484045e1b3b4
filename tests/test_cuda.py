"""What only a GPU can show: streams, graphs, devices, large tensors, repeated bits.

The values are compared elsewhere: ``pytest --device cuda`` runs the parity, gradient and
memory format tests on it.
"""

from __future__ import annotations

import functools
from functools import partial
from typing import Any

import pytest
import torch
from common import normal, ops, per_rank
from test_cuda_on_cpu import calls, tensors
from torch import Tensor

import torchconv.functional as TF

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="torch finds no CUDA device"
)


@functools.cache
def weight_of(
    size: tuple[int, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    """Made once: copying from the host cannot be captured in a graph."""
    return normal(size, dtype).to(device)


def convolution(algorithm: str, x: Tensor) -> Tensor:
    """By weights that need no gradient of their own; of x they give one."""
    depthwise = algorithm == "depthwise"
    channels = x.shape[1]
    size = (channels, 1 if depthwise else channels, 3, 3)
    return TF.conv2d(
        x,
        weight_of(size, x.dtype, x.device),
        padding=1,
        groups=channels if depthwise else 1,
        algorithm=algorithm,
    )


def functions() -> dict[str, Any]:
    """Functions of one tensor, (N, C, H, W), forward and backward."""
    algorithms = ("auto", "direct", "implicit_gemm", "im2col", "depthwise")
    convolutions = {f"conv2d {a}": partial(convolution, a) for a in algorithms}
    pools: dict[str, tuple[Any, ...]] = {
        "max_pool2d": (3, 2, 1),
        "avg_pool2d": (3, 2, 1),
        "lp_pool2d": (2.0, 2),
        "adaptive_max_pool2d": (3,),
        "adaptive_avg_pool2d": (1,),
        "unfold": (3,),
    }
    return convolutions | {
        name: partial(_first_argument, getattr(TF, name), args)
        for name, args in pools.items()
    }


def _first_argument(function: Any, args: tuple[Any, ...], x: Tensor) -> Tensor:
    return function(x, *args)


def backward(function: Any, x: Tensor) -> list[Tensor]:
    leaf = x.detach().requires_grad_()
    y = function(leaf)
    return [y.detach(), *torch.autograd.grad(y.sum(), leaf)]


@pytest.mark.parametrize("name", calls())
def test_every_operator(name: str) -> None:
    """Against the CPU's kernels; small, so that compute-sanitizer can watch."""
    expected = tensors(calls()[name]())
    with torch.device("cuda"):
        call = calls()[name]
    found = tensors(call())
    for a, b in zip(found, expected, strict=True):
        assert a.is_cuda
        assert a.stride() == b.stride()
        torch.testing.assert_close(a.cpu(), b)


@pytest.mark.parametrize("name", functions())
def test_runs_on_the_current_stream(name: str) -> None:
    """Work on another stream is ordered after what that stream did before."""
    x = normal((4, 16, 64, 64), torch.float32).cuda()
    expected = backward(functions()[name], x + 1)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(20_000_000)
        found = backward(functions()[name], x + 1)
    stream.synchronize()
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", functions())
def test_can_be_captured_in_a_graph(name: str) -> None:
    """No synchronisation and no allocation outside of torch's allocator."""
    function = functions()[name]
    x = normal((2, 8, 32, 32), torch.float32).cuda()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        backward(function, x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = backward(function, x)
    for shift in (0.0, 1.5):
        x.copy_(normal(x.shape, torch.float32, shift))
        graph.replay()
        torch.cuda.synchronize()
        for a, b in zip(found, backward(function, x), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("name", functions())
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_same_bits_again_and_for_one_sample(name: str, dtype: torch.dtype) -> None:
    function = functions()[name]
    for format in (torch.contiguous_format, torch.channels_last):
        x = normal((5, 32, 33, 34), dtype).cuda().contiguous(memory_format=format)
        first = backward(function, x)
        for a, b in zip(backward(function, x), first, strict=True):
            assert torch.equal(a, b)
        assert torch.equal(function(x[2:3]), first[0][2:3])


@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_offsets_beyond_32_bits(dim: int) -> None:
    """Views whose elements are further apart than 2**31."""
    x = normal((2, 4, 6, 7), torch.float16).cuda()
    storage = torch.empty(2**31 + 2**20, dtype=torch.float16, device="cuda")
    rest = [d for d in range(4) if d != dim]
    strides, step = [0] * 4, 1
    for d in reversed(rest):
        strides[d] = step
        step *= x.shape[d]
    strides[dim] = (storage.numel() - step) // (x.shape[dim] - 1)
    view = storage.as_strided(x.shape, strides).copy_(x)
    for name, function in functions().items():
        if name.startswith("conv2d"):  # strides may lead to another algorithm
            torch.testing.assert_close(function(view), function(x), msg=name)
        elif name != "unfold":
            assert torch.equal(function(view), function(x)), name
    assert torch.equal(ops.channel_sum(view), ops.channel_sum(x))


def test_more_than_2_31_elements() -> None:
    if torch.cuda.mem_get_info()[0] < 20 * 2**30:
        pytest.skip("needs 20 GiB of GPU memory")
    x = torch.zeros(2, 1, 2**15, 2**15 + 4, dtype=torch.float16, device="cuda")
    x[-1, -1, -1, -1] = 3
    y = TF.max_pool2d(x, 2)
    assert y[-1, -1, -1, -1] == 3
    assert y.sum() == 3
    del y
    assert TF.avg_pool2d(x, 4)[-1, -1, -1, -1] == 3 / 16


@pytest.mark.parametrize("algorithm", ["direct", "implicit_gemm", "im2col"])
def test_weight_gradients_repeat_their_bits_in_a_graph(algorithm: str) -> None:
    """Partial sums of several blocks, added in order; and their workspace."""
    x = normal((3, 8, 30, 31), torch.float32).cuda()
    w = normal((8, 8, 3, 3), torch.float32).cuda().requires_grad_()

    def run() -> Tensor:
        y = TF.conv2d(x, w, padding=1, algorithm=algorithm)
        return torch.autograd.grad(y.sum(), w)[0]

    expected = run()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        assert torch.equal(run(), expected)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = run()
    for _ in range(2):
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(found, expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("name", functions())
def test_runs_where_its_tensors_are(name: str) -> None:
    """Not on the current device, and it stays the current one."""
    x = normal((2, 8, 12, 12), torch.float32)
    found = backward(functions()[name], x.to("cuda:1"))
    assert torch.cuda.current_device() == 0
    for a, b in zip(found, backward(functions()[name], x.cuda()), strict=True):
        assert a.device == torch.device("cuda:1")
        assert torch.equal(a.cpu(), b.cpu())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_convolves_as_torch_does(dtype: torch.dtype) -> None:
    x, w = normal((2, 8, 9, 9), torch.float32), normal((4, 8, 3, 3), torch.float32)
    leaf = w.cuda().requires_grad_()
    with torch.autocast("cuda", dtype):
        y = TF.conv2d(x.cuda(), leaf)
        assert y.dtype == torch.nn.functional.conv2d(x.cuda(), leaf).dtype == dtype
    (grad,) = torch.autograd.grad(y.float().sum(), leaf)
    assert grad.dtype == torch.float32


def test_tensors_of_two_devices_are_refused() -> None:
    x, codes = torch.zeros(1, 1, 4), torch.zeros(1, 1, 2, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="device"):
        ops.pool_gather(x.cuda(), codes, [1], [1], [0], [1], False)


def test_autocast_pools_as_torch_does() -> None:
    x = normal((1, 2, 8, 8), torch.float16).cuda()
    for name, args in (("avg_pool", (2,)), ("lp_pool", (2.0, 2)), ("max_pool", (2,))):
        with torch.autocast("cuda"):
            found = per_rank(name, 2, TF)(x, *args)
            wanted = per_rank(name, 2, torch.nn.functional)(x, *args)
        assert found.dtype == wanted.dtype, name
