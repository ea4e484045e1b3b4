"""Convolution against torch in float64: every problem, dtype, pass, algorithm and CPU
variant.

Most comparisons are on small whole numbers, where every order of addition gives the same
float, so that the results must agree bit by bit; rounding is tested on real layers with
normal numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import pytest
import shapes
import torch
from common import (
    ALGORITHMS,
    COMPLETE,
    COMPLEX,
    FLOATS,
    REAL_CONV_DTYPES,
    assert_same,
    beyond,
    conv_options,
    conv_passes,
    difference,
    each_isa,
    memory_format_of,
    normal,
    ops,
    per_rank,
    rounding_bound,
    terms_of,
    torch_conv,
    torch_conv_transpose,
    transpose_options,
    whole,
    wide,
)
from torch import Tensor

from torchconv import functional as TF

# Those that may refuse, with a reason, float32 (dot is for bfloat16: test_dot.py).
SPECIAL = [name for name in ALGORITHMS if name not in (*COMPLETE, "dot")]

# Layers that an algorithm exists for.
MADE_FOR = {
    "depthwise": ("mobilenet_dw3x3", "convnext_dw7x7", "tcn_dw_k31", "x3d_dw3x3x3"),
    "grouped": ("resnext_3x3g",),
}

named = {"ids": lambda value: getattr(value, "name", str(value))}
Tensors = tuple[Tensor, Tensor, Tensor, Tensor]


def sizes_of(problem: shapes.Conv) -> tuple[Sequence[int], ...]:
    """Of x, weight, bias and the gradient of the output."""
    weight = problem.weight_size
    return (problem.x_size, weight, weight[:1], problem.out_size)


def torch_passes(problem: shapes.Conv, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    """Every pass by torch in float64."""
    x, w, b, grad = (wide(t) for t in tensors)
    x, w, b = (t.requires_grad_() for t in (x, w, b))
    y = torch_conv(problem, x, w, b)
    gx, gw, gb = torch.autograd.grad(y, (x, w, b), grad)
    return {
        "forward": y.detach(),
        "input_grad": gx,
        "weight_grad": gw,
        "bias_grad": gb,
    }


@functools.lru_cache(maxsize=8)
def whole_case(problem: shapes.Conv) -> tuple[Tensors, dict[str, Tensor]]:
    """Tensors of whole numbers, and torch's answers."""
    tensors = tuple(
        whole(size, torch.float64, problem.name, i)
        for i, size in enumerate(sizes_of(problem))
    )
    return tensors, torch_passes(problem, tensors)


def check_refusal(algorithm: str, error: Exception) -> str | None:
    """None if an algorithm may refuse, and says why, naming itself."""
    text = str(error).splitlines()[0]
    if algorithm in COMPLETE:
        return f"refused: {text}"
    if algorithm not in text or len(text) < len(algorithm) + 20:
        return f"refused without a reason: {text}"
    return None


@pytest.mark.parametrize("dtype", REAL_CONV_DTYPES, **named)
@pytest.mark.parametrize("problem", shapes.CONVS, **named)
def test_every_pass_exactly(problem: shapes.Conv, dtype: torch.dtype) -> None:
    check_every_pass(problem, dtype, False)


@pytest.mark.parametrize("dtype", FLOATS, **named)
@pytest.mark.parametrize("problem", [p for p in shapes.CONVS if p.nd > 1], **named)
def test_every_pass_exactly_channels_last(
    problem: shapes.Conv, dtype: torch.dtype
) -> None:
    check_every_pass(problem, dtype, True)


def check_every_pass(
    problem: shapes.Conv, dtype: torch.dtype, channels_last: bool
) -> None:
    tensors, expected = whole_case(problem)
    x, w, b, grad = (t.to(dtype) for t in tensors)
    if channels_last:
        format = memory_format_of(problem.nd)
        x, w, grad = (t.to(memory_format=format) for t in (x, w, grad))
    failures = []
    for isa in each_isa():
        for algorithm in ALGORITHMS:
            found = conv_passes(problem, x, w, b, grad, algorithm, channels_last)
            for name, result in found.items():
                if isinstance(result, Exception):
                    wrong = check_refusal(algorithm, result)
                else:
                    wrong = difference(result, expected[name].to(dtype))
                if wrong:
                    failures.append(f"{algorithm} {name} on {isa}: {wrong}")
        wrong = difference(ops.channel_sum(grad), expected["bias_grad"].to(dtype))
        if wrong:
            failures.append(f"channel_sum on {isa}: {wrong}")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("dtype", FLOATS, **named)
@pytest.mark.parametrize(
    "problem", [*shapes.REAL, shapes.one("deep_reduction")], **named
)
def test_rounding(problem: shapes.Conv, dtype: torch.dtype) -> None:
    x, w, b, grad = (
        normal(size, dtype, problem.name, i) for i, size in enumerate(sizes_of(problem))
    )
    expected = torch_passes(problem, (x, w, b, grad))
    magnitude = torch_passes(problem, [t.abs() for t in (x, w, b, grad)])
    terms = terms_of(problem)
    failures = []
    for isa in each_isa():
        for algorithm in ALGORITHMS:
            found = conv_passes(problem, x, w, b, grad, algorithm)
            for name, result in found.items():
                if isinstance(result, Exception):
                    wrong = check_refusal(algorithm, result)
                else:
                    bound = rounding_bound(
                        expected[name], magnitude[name], terms[name], dtype
                    )
                    wrong = beyond(result, expected[name], bound)
                if wrong:
                    failures.append(f"{algorithm} {name} on {isa}: {wrong}")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("algorithm", SPECIAL)
def test_special_algorithms_take_their_layers(algorithm: str) -> None:
    """That an algorithm may refuse must not hide that it refuses everything."""
    for name in MADE_FOR[algorithm]:
        problem = shapes.one(name)
        tensors, _ = whole_case(problem)
        x, w, b, grad = (t.float() for t in tensors)
        found = conv_passes(problem, x, w, b, grad, algorithm)
        assert isinstance(found["forward"], Tensor), f"{name} {found['forward']}"


@pytest.mark.parametrize("algorithm", SPECIAL)
def test_special_algorithms_refuse_with_their_reason(algorithm: str) -> None:
    problem = shapes.one("resnet_3x3")  # nobody's specialty
    tensors, _ = whole_case(problem)
    found = conv_passes(problem, *(t.float() for t in tensors), algorithm)
    for result in found.values():
        assert isinstance(result, RuntimeError)
        assert not check_refusal(algorithm, result)


@pytest.mark.parametrize("dtype", (*FLOATS, *COMPLEX), **named)
@pytest.mark.parametrize(
    "problem", shapes.REAL + shapes.OPTIONS + shapes.PADDED, **named
)
def test_functional(problem: shapes.Conv, dtype: torch.dtype) -> None:
    """The public function and its gradients, with the planner's choice."""
    if dtype.is_complex:
        tensors = tuple(
            whole(size, torch.complex128, problem.name, i)
            for i, size in enumerate(sizes_of(problem))
        )
        expected = torch_passes(problem, tensors)
    else:
        tensors, expected = whole_case(problem)
    x, w, b, grad = (t.to(dtype) for t in tensors)
    for t in (x, w, b):
        t.requires_grad_()
    y = per_rank("conv", problem.nd, TF)(x, w, b, **conv_options(problem))
    assert_same(y.detach(), expected["forward"].to(dtype), "forward")
    found = torch.autograd.grad(y, (x, w, b), grad)
    for name, g in zip(("input", "weight", "bias"), found, strict=True):
        assert_same(g, expected[f"{name}_grad"].to(dtype), f"{name}_grad")


@pytest.mark.parametrize("dtype", (*REAL_CONV_DTYPES, *COMPLEX), **named)
@pytest.mark.parametrize("problem", shapes.CONV_TRANSPOSES, **named)
def test_transposed(problem: shapes.ConvTranspose, dtype: torch.dtype) -> None:
    exact = torch.complex128 if dtype.is_complex else torch.float64
    x = whole(problem.x_size, exact, problem.name)
    w = whole(problem.weight_size, exact, problem.name, "w")
    b = whole((problem.filters,), exact, problem.name, "b")
    x, w, b = (t.requires_grad_() for t in (x, w, b))
    expected = torch_conv_transpose(problem, x, w, b)
    grad = whole(expected.shape, exact, problem.name, "grad")
    grads = torch.autograd.grad(expected, (x, w, b), grad)
    conv = per_rank("conv_transpose", problem.nd, TF)
    differentiable = dtype != torch.int64
    x, w, b, grad = (t.detach().to(dtype) for t in (x, w, b, grad))
    for t in (x, w, b):
        t.requires_grad_(differentiable)
    failures = []
    for isa in each_isa():
        for algorithm in ("auto-exact", "direct", "im2col"):
            y = conv(x, w, b, **transpose_options(problem), algorithm=algorithm)
            pairs = [("forward", y.detach(), expected.detach())]
            if differentiable:
                found = torch.autograd.grad(y, (x, w, b), grad)
                names = ("input_grad", "weight_grad", "bias_grad")
                pairs += zip(names, found, grads, strict=True)
            for name, ours, theirs in pairs:
                wrong = difference(ours, theirs.to(dtype))
                if wrong:
                    failures.append(f"{algorithm} {name} on {isa}: {wrong}")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("nd", [1, 2, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_unbatched(nd: int, transposed: bool) -> None:
    x = whole((4, *(6, 7, 5)[:nd]), torch.float32)
    w = whole((4, 4, *(3,) * nd), torch.float32, "w")
    conv = per_rank("conv_transpose" if transposed else "conv", nd, TF)
    y = conv(x, w, stride=2, padding=1)
    assert_same(y, conv(x[None], w, stride=2, padding=1)[0])
    assert y.dim() == nd + 1


@pytest.mark.parametrize("algorithm", ("auto-exact", "direct", "im2col", *SPECIAL))
def test_algorithm_by_argument_and_by_context(algorithm: str) -> None:
    """Both ways of naming an algorithm give what the operator gives."""
    import torchconv

    problem = shapes.one(MADE_FOR.get(algorithm, ("mobilenet_dw3x3",))[0])
    (x, w, b, grad), _ = whole_case(problem)
    x, w, b, grad = (t.float() for t in (x, w, b, grad))
    expected = conv_passes(problem, x, w, b, grad, algorithm)["forward"]
    options = conv_options(problem)
    assert_same(TF.conv2d(x, w, b, **options, algorithm=algorithm), expected)
    with torchconv.algorithm(algorithm):
        assert_same(TF.conv2d(x, w, b, **options), expected)


def test_unknown_algorithm() -> None:
    x, w = torch.zeros(1, 4, 5, 5), torch.zeros(4, 4, 3, 3)
    with pytest.raises(ValueError, match=r"fastest.*direct"):
        TF.conv2d(x, w, algorithm="fastest")
