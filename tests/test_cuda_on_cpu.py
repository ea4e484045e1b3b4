"""The CUDA kernels on the host: that they are what runs, in any order of threads, and
without a finding of the address and undefined-behaviour sanitizers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import shapes
import torch
from common import assert_same, normal, ops, per_rank, whole
from cuda_on_cpu import library
from test_tiled import TILES
from torch import Tensor

from torchconv import functional as TF

ROOT = Path(__file__).resolve().parents[1]

window = ([3, 3], [2, 2], [1, 1], [1, 1])


def calls() -> dict[str, Any]:
    """A call of every operator that has a CUDA kernel."""
    x = whole((2, 3, 7, 8), torch.float32)
    y, codes = ops.max_pool_with_codes(x, *window, False, False)
    samples = torch.rand(2, 3, 2)
    index = ops.max_pool_with_indices(x, *window, False, False)[1]
    average = (*window[:3], False, True, None, False)
    columns = whole((2, 27, 30), torch.float32)
    square = x.square()
    root = ops.lp_pool(square, 2.0, [3, 3], [2, 2], False, False)
    local = whole((2, 1, 5, 3, 3, 3), torch.float32)
    local_bias = whole((2, 1, 5), torch.float32)
    local_grad = whole((2, 5, 5, 6), torch.float32)
    local_args = ([1, 1], [0, 0, 0, 0], [1, 1], 1, "zeros")
    return {
        "local_conv_forward": lambda: ops.local_conv_forward(
            x, local, local_bias, *local_args, False
        ),
        "local_conv_input_grad": lambda: ops.local_conv_input_grad(
            local_grad, local, x.shape, *local_args, False
        ),
        "local_conv_weight_grad": lambda: ops.local_conv_weight_grad(
            local_grad, x, local.shape, *local_args
        ),
        "channel_sum": lambda: ops.channel_sum(x),
        "max_pool": lambda: ops.max_pool(x, *window, False, False),
        "max_pool_with_codes": lambda: ops.max_pool_with_codes(
            x, *window, False, False
        ),
        "max_pool_with_indices": lambda: ops.max_pool_with_indices(
            x, *window, False, False
        ),
        "pool_scatter": lambda: ops.pool_scatter(y, codes, x.shape, *window, False),
        "pool_gather": lambda: ops.pool_gather(x, codes, *window, False),
        "adaptive_max_pool": lambda: ops.adaptive_max_pool(x, [3, 2], False),
        "adaptive_max_pool_with_codes": lambda: ops.adaptive_max_pool_with_codes(
            x, [3, 2], False
        ),
        "adaptive_max_pool_with_indices": lambda: ops.adaptive_max_pool_with_indices(
            x, [3, 2], False
        ),
        "fractional_max_pool": lambda: ops.fractional_max_pool(
            x, samples, [2, 2], [3, 4], False
        ),
        "max_unpool": lambda: ops.max_unpool(y, index, [7, 8], False),
        "avg_pool": lambda: ops.avg_pool(x, *average),
        "avg_pool_input_grad": lambda: ops.avg_pool_input_grad(y, x.shape, *average),
        "adaptive_avg_pool": lambda: ops.adaptive_avg_pool(x, [3, 2], False),
        "adaptive_avg_pool_input_grad": lambda: ops.adaptive_avg_pool_input_grad(
            y, x.shape, False
        ),
        "lp_pool": lambda: ops.lp_pool(square, 2.0, [3, 3], [2, 2], False, False),
        "lp_pool_input_grad": lambda: ops.lp_pool_input_grad(
            root, square, root, 2.0, [3, 3], [2, 2], False, False
        ),
        "unfold": lambda: ops.unfold(x, [3, 3], [1, 1], [0, 0], [1, 1]),
        "fold": lambda: ops.fold(columns, [7, 8], [3, 3], [1, 1], [0, 0], [1, 1]),
    }


def tensors(value: Any) -> tuple[Tensor, ...]:
    return value if isinstance(value, tuple) else (value,)


@pytest.mark.parametrize("name", calls())
def test_operators_run_on_the_simulator(name: str) -> None:
    call = calls()[name]
    expected = tensors(call())
    with library.switched_on():
        before = library.load().cuda_on_cpu_launches()
        found = tensors(call())
        assert library.load().cuda_on_cpu_launches() > before
    for a, b in zip(found, expected, strict=True):
        assert a.stride() == b.stride()
        if name in ("lp_pool", "lp_pool_input_grad", "adaptive_avg_pool"):
            torch.testing.assert_close(a, b)
        else:
            assert_same(a, b)
    after = library.load().cuda_on_cpu_launches()
    call()
    assert library.load().cuda_on_cpu_launches() == after


ORDERED = [p for p in shapes.POOLS if p.work < 20_000 and p.nd > 1]


@pytest.mark.parametrize("problem", ORDERED, ids=lambda p: p.name)
def test_order_of_threads_does_not_matter(problem: shapes.Pool) -> None:
    """Blocks and threads run by rising and by falling numbers: the same bits."""

    def run() -> list[Tensor]:
        results = [ops.channel_sum(normal(problem.x_size, torch.float32))]
        for format in (torch.contiguous_format, shapes_last(problem.nd)):
            x = normal(problem.x_size, torch.float32).contiguous(memory_format=format)
            for name, args in (
                ("max_pool", (problem.kernel, problem.stride, problem.padding)),
                ("avg_pool", (problem.kernel, problem.stride, problem.padding)),
                ("adaptive_max_pool", ((2, 3, 1)[: problem.nd],)),
                ("adaptive_avg_pool", (1,)),
            ):
                leaf = x.clone().requires_grad_()
                y = per_rank(name, problem.nd, TF)(leaf, *args)
                grad = normal(y.shape, torch.float32, "grad")
                results += [y.detach(), torch.autograd.grad(y, leaf, grad)[0]]
        return results

    found = []
    for reverse in (False, True):
        with library.switched_on(reverse):
            found.append(run())
    for a, b in zip(*found, strict=True):
        assert_same(b, a)


@pytest.mark.parametrize("problem", TILES, ids=lambda p: p.name)
def test_order_of_threads_of_local_kernels(problem: Any) -> None:
    sizes = (problem.x, problem.weight, problem.weight[: problem.nd + 1])
    leaves = [
        normal(size, torch.float32, i).requires_grad_() for i, size in enumerate(sizes)
    ]
    found = []
    for reverse in (False, True):
        with library.switched_on(reverse):
            y = problem.ours(*leaves)
            grad = normal(y.shape, torch.float32, "grad")
            found.append([y.detach(), *torch.autograd.grad(y, leaves, grad)])
    for a, b in zip(*found, strict=True):
        assert_same(b, a)


def shapes_last(nd: int) -> torch.memory_format:
    return torch.channels_last_3d if nd == 3 else torch.channels_last


def test_an_error_names_kernel_and_thread() -> None:
    x = torch.ones(1, 1, 4)
    bad = torch.tensor([[[0, 1, 99, 2]]])
    pattern = "max_unpool|pool_list"
    with library.switched_on(), pytest.raises(RuntimeError, match=pattern) as caught:
        ops.max_unpool(x, bad, [8], False)
    assert "Found an invalid max index: 99" in str(caught.value)
    assert "block 0, thread 2" in str(caught.value)


# Every kernel, once more under the sanitizers: modules, and the tests of these names.
SANITIZED = {
    "pool": (
        ("test_pool_parity.py", "test_fold_parity.py"),
        (
            "(resnet_k3s2p1 or spp_k13 or k17_289 or whole_plane or channels_17 or "
            "one_pixel or ceil_beyond or uneven or 1d_k3s2p1 or 3d_k3s2p1 or dilation or "
            "empty_batch or many_channels or sizes0 or unpool or adaptive or fractional or "
            "fold or side_by_side) and not float64"
        ),
    ),
    "local": (("test_tiled.py",), "strides_of or in_parts or empty_batch"),
    "conv": (
        ("test_cuda_conv.py",),
        (
            "(every_pass or channels_last or epilogue) and (two_tiles or sums_in_parts or many_pixels or "
            "dw_small or dw_multiplier or dw_1d or mixed_3d or asymmetric_2d or one_channel)"
        ),
    ),
}


def sanitizer_runtime() -> list[str]:
    """What has to be loaded before everything else: the sanitizer, and the library whose
    throw it wraps, which python alone does not load."""
    names = ("libasan.so", "libstdc++.so")
    return [
        subprocess.run(
            [library.CXX, f"-print-file-name={name}"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for name in names
    ]


@pytest.mark.parametrize("kind", SANITIZED)
def test_sanitizers_find_nothing(kind: str) -> None:
    modules, names = SANITIZED[kind]
    path = library.build("cuda_on_cpu_sanitized.so")
    runtime = sanitizer_runtime()
    if not Path(runtime[0]).is_absolute():
        pytest.skip("the compiler has no address sanitizer")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("--device", "cuda-on-cpu", "-k", names),
            *(f"tests/{module}" for module in modules),
        ],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "LD_PRELOAD": " ".join(runtime),
            "ASAN_OPTIONS": "detect_leaks=0",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "TORCHCONV_CUDA_ON_CPU": str(path),
        },
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
