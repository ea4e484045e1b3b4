"""bfloat16 by the processor's dot products. That it computes right is in the tests of
every algorithm (test_conv_parity.py, test_memory_format.py); here, when it does."""

from __future__ import annotations

from pathlib import Path

import pytest
import shapes
import torch
from common import conv_passes, isa, isas, normal
from torch import Tensor

from torchconv import functional as TF

CPUINFO = Path("/proc/cpuinfo")
HAS_DOT = (
    CPUINFO.exists() and "avx512_bf16" in CPUINFO.read_text() and "avx512" in isas()
)


def passes(name: str, dtype: torch.dtype) -> dict[str, Tensor | Exception]:
    problem = shapes.one(name)
    sizes = (problem.x_size, problem.weight_size, problem.out_size)
    x, w, grad = (normal(size, dtype) for size in sizes)
    return conv_passes(problem, x, w, None, grad, "dot")


@pytest.mark.skipif(not HAS_DOT, reason="the processor lacks AVX512_BF16")
def test_it_takes_its_layers() -> None:
    for name in ("resnet_3x3s2", "resnet_1x1", "r3d_3x3x3", "shufflenet_1x1g"):
        found = passes(name, torch.bfloat16)
        assert isinstance(found["forward"], Tensor)
        assert isinstance(found["input_grad"], Tensor)
        assert isinstance(found["weight_grad"], Tensor)


def test_it_refuses_with_the_reason() -> None:
    for result in passes("resnet_1x1", torch.float32).values():
        assert "dot takes bfloat16" in str(result)
    with isa("baseline"):
        for result in passes("resnet_1x1", torch.bfloat16).values():
            assert "AVX512_BF16" in str(result)


@pytest.mark.skipif(not HAS_DOT, reason="the processor lacks AVX512_BF16")
@pytest.mark.parametrize("channels", (1, 3))
@pytest.mark.parametrize("width", (3, 4, 5))
def test_an_infinite_neighbour_is_no_factor(channels: int, width: int) -> None:
    """Runs of taps have odd lengths: what lies beside them must not be multiplied."""
    x = normal((1, channels, 4, 40), torch.bfloat16)
    x[:, :, :, 13] = float("inf")
    w = normal((8, channels, 1, width), torch.bfloat16)
    expected = torch.nn.functional.conv2d(x.double(), w.double()).isfinite()
    for form in (torch.contiguous_format, torch.channels_last):
        y = TF.conv2d(x.to(memory_format=form), w, algorithm="dot")
        assert torch.equal(y.isfinite(), expected)
