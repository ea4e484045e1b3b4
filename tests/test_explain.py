"""torchconv.explain: the planner's walk for a call."""

from __future__ import annotations

import pytest
import torch

import torchconv

X, W = torch.ones(2, 8, 10, 10), torch.ones(4, 8, 3, 3)


def test_convolution() -> None:
    found = torchconv.explain("conv2d", X, W, padding=1)
    assert [p.kernel for p in found.passes] == ["forward", "input_grad", "weight_grad"]
    for plan in found.passes:
        assert plan.flops == 2 * 2 * 4 * 100 * 8 * 9
        assert plan.bytes >= 4 * (X.numel() + W.numel() + 2 * 4 * 100)
        assert {"direct", "im2col"} <= {c.name for c in plan.candidates}
        assert [c.chosen for c in plan.candidates].count(True) == 1
        assert all(c.supported or c.reason for c in plan.candidates)
    text = str(found)
    for word in ("conv2d", "float32[2, 8, 10, 10]", "direct", "FLOP", "workspace", ">"):
        assert word in text


def test_a_named_algorithm_is_the_chosen_one() -> None:
    for found in (
        torchconv.explain("conv2d", X, W, algorithm="im2col"),
        torchconv.explain(torchconv.functional.conv2d, X, W, None, algorithm="im2col"),
    ):
        assert all(p.chosen and p.chosen.name == "im2col" for p in found.passes)
    with torchconv.algorithm("direct"):
        found = torchconv.explain(torch.nn.functional.conv2d, X, W)
    assert all(p.chosen and p.chosen.name == "direct" for p in found.passes)


def test_transposed_convolution() -> None:
    found = torchconv.explain("conv_transpose2d", X, torch.ones(8, 4, 3, 3), stride=2)
    assert [p.kernel for p in found.passes] == ["input_grad", "forward", "weight_grad"]
    assert found.passes[0].result == "output"


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int32, torch.bfloat16])
def test_other_dtypes(dtype: torch.dtype) -> None:
    found = torchconv.explain("conv2d", X.to(dtype), W.to(dtype))
    assert all(p.chosen for p in found.passes)
    assert len(found.passes) == (1 if dtype is torch.int32 else 3)


def test_one_dimension_unbatched_and_strided() -> None:
    x = torch.ones(10, 8).t()
    assert torchconv.explain("conv1d", x, torch.ones(4, 8, 3)).passes[0].chosen
    weight = torch.ones(4, 3, 8).transpose(1, 2)
    assert torchconv.explain("conv1d", x, weight, groups=1).passes[0].chosen


def test_pooling_says_what_moves() -> None:
    output, gradient = torchconv.explain("max_pool2d", X, 2).passes
    values = X.numel() + X.numel() // 4
    assert output.bytes == 4 * values
    assert gradient.bytes == 4 * values + X.numel() // 4
    assert "max_pool2d" in str(torchconv.explain("max_pool2d", X, 2))
    with_indices = torchconv.explain("max_pool2d", X, 2, return_indices=True)
    assert with_indices.passes[0].bytes == 4 * values + 8 * X.numel() // 4
    for name, args in (
        ("avg_pool2d", (X, 2)),
        ("lp_pool2d", (X, 2, 2)),
        ("adaptive_avg_pool2d", (X, 3)),
        ("adaptive_max_pool2d", (X, 3)),
        ("unfold", (X, 2)),
    ):
        assert len(torchconv.explain(name, *args).passes) == 2


def test_nothing_is_computed() -> None:
    """Sizes no machine could hold."""
    x = torch.empty(2**20, 64, 2**12, 2**12, device="meta")
    found = torchconv.explain("conv2d", x, torch.empty(64, 64, 3, 3, device="meta"))
    assert found.passes[0].flops > 1e18


def test_errors() -> None:
    with pytest.raises(ValueError, match="no function 'linear' to explain"):
        torchconv.explain("linear", X, W)
    with pytest.raises(RuntimeError, match="to have 8 channels, but got 7"):
        torchconv.explain("conv2d", X[:, :7], W)
    with pytest.raises(ValueError, match="unknown algorithm"):
        torchconv.explain("conv2d", X, W, algorithm="none")
    with pytest.raises(ValueError, match="activation must be one of"):
        torchconv.explain("conv2d", X, W, activation="none")
    with pytest.raises(RuntimeError, match="expected residual of the result's size"):
        torchconv.explain("conv2d", X, W, residual=X)
    for name in ("conv_layer2d", "convolve"):
        with pytest.raises(ValueError, match=rf"{name}\(\) calls other functions"):
            torchconv.explain(name, X, W)


def test_an_epilogue_does_not_change_the_plan() -> None:
    skip = torch.ones(2, 4, 8, 8)
    plain = torchconv.explain("conv2d", X, W)
    assert plain.passes == (
        torchconv.explain("conv2d", X, W, activation="relu", residual=skip).passes
    )
