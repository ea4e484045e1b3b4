"""Convolution by the CUDA kernels: the CPU side's parity, rounding, layout and
determinism tests with the algorithms of CUDA in turn. They run on the host
(tests/cuda_on_cpu), on shapes that take little time there, and on a GPU with
``--device cuda``."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import common
import pytest
import shapes
import torch
from common import (
    COMPLEX,
    FLOATS,
    assert_same,
    beyond,
    conv_args,
    conv_options,
    conv_passes,
    difference,
    expanded,
    layouts,
    memory_format_of,
    normal,
    ops,
    per_rank,
    rounding_bound,
    terms_of,
    torch_conv_transpose,
    transpose_options,
    whole,
)
from cuda_on_cpu import library
from test_conv_parity import Tensors, sizes_of, torch_passes
from test_epilogue import ACTIVATIONS, by_hand
from torch import Tensor

import torchconv
from torchconv import functional as TF
from torchconv._extension import binary

if not binary().build_info()["cuda"]:
    pytest.skip("built without the CUDA kernels", allow_module_level=True)

ALGORITHMS = tuple(binary().conv_algorithms("cuda"))
COMPLETE = ("auto", "direct")  # take every problem
TF32 = "implicit_gemm+tf32"

named = {"ids": lambda value: getattr(value, "name", str(value))}
Conv = shapes.Conv

# What fills tiles, needs several of them, or sums in parts.
LARGE = [
    Conv("two_tiles_each_way", (1, 40, 9, 9), 70, (3, 3), 1, 1),
    Conv("sums_in_parts", (1, 160, 3, 4), 10, (3, 3), 1, 1),
    Conv("odd_parts", (1, 161, 1, 5), 7, (1, 7), 1, (0, 3)),
    Conv("many_pixels", (2, 3, 40, 41), 9, (3, 3), 2, 1),
    Conv("large_tile_phases", (1, 72, 13, 13), 24, (2, 3), (13, 12), 1),
    Conv("large_tile_weight_grad", (1, 24, 9, 9), 66, (3, 3), 1, 1),
    Conv("dw_two_tiles", (2, 70, 20, 70), 70, (3, 3), 1, 1, 1, 70),
    Conv("dw_small_planes", (9, 5, 7, 7), 5, (7, 7), 1, 3, 1, 5),
    Conv("dw_k11_s2", (1, 4, 20, 21), 4, (11, 9), 2, 4, 1, 4),
    Conv("dw_k31", (1, 2, 20, 33), 2, (31, 31), 1, 15, 1, 2),
    Conv("dw_3d_k5", (1, 3, 6, 9, 9), 6, (5, 5, 5), 1, 2, 1, 3),
    Conv("dw_dilation_s3", (1, 4, 15, 30), 4, (3, 4), (1, 3), 3, (3, 2), 4),
    Conv("dw_1d_circular", (2, 6, 75), 6, (9,), 1, 4, 1, 6, "circular"),
    Conv("dw_multiplier_3", (2, 3, 9, 20), 9, (3, 5), 1, 2, 1, 3, "reflect"),
]
EVERY = [*shapes.CONVS, *LARGE]
DTYPES = [torch.float64, torch.float16, torch.bfloat16, torch.int64]
# Problems in a dtype each, those of several tiles in two.
ACROSS_DTYPES = [
    *((problem, DTYPES[i % len(DTYPES)]) for i, problem in enumerate(shapes.CONVS)),
    *((problem, d) for i, problem in enumerate(LARGE) for d in DTYPES[i % 2 :: 2]),
]
MOST_SIMULATED = 150_000  # products of a pass; LARGE has more, on purpose


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    asked = metafunc.config.getoption("--device").split(",")
    devices = [device for device in asked if device != "cpu"]
    metafunc.parametrize("cuda_device", devices, indirect=True)


@pytest.fixture(autouse=True)
def cuda_device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The operators run the CUDA kernels."""
    with common.computing_on(request.param):
        yield request.param


@functools.lru_cache(maxsize=8)
def _case(problem: Conv, device: str) -> tuple[Tensors, dict[str, Tensor]]:
    tensors = tuple(
        whole(size, torch.float64, problem.name, i)
        for i, size in enumerate(sizes_of(problem))
    )
    return tensors, torch_passes(problem, tensors)


def here(problem: Conv) -> Conv:
    """The problem, in a size that the simulator computes in a second."""
    if common.on_cuda() or problem in LARGE:
        return problem
    return problem.scaled(MOST_SIMULATED)


def whole_case(problem: Conv) -> tuple[Tensors, dict[str, Tensor]]:
    """Tensors of whole numbers, and torch's answers."""
    return _case(problem, common._device)


def wrong(algorithm: str, found: Tensor | Exception, expected: Tensor) -> str | None:
    """None if the result is the expected one, or the algorithm may and does refuse."""
    if isinstance(found, Tensor):
        return difference(found, expected)
    text = str(found).splitlines()[0]
    refused = f"algorithm '{algorithm.removesuffix('+tf32')}' cannot compute this"
    if algorithm not in COMPLETE and refused in text:
        return None
    return text


def check(
    problem: Conv, dtype: torch.dtype, last: bool, algorithms: Sequence[str]
) -> None:
    problem = here(problem)
    tensors, expected = whole_case(problem)
    x, w, b, grad = (t.to(dtype) for t in tensors)
    if last:
        form = memory_format_of(problem.nd)
        x, w, grad = (t.contiguous(memory_format=form) for t in (x, w, grad))
    failures = []
    for algorithm in algorithms:
        found = conv_passes(problem, x, w, b, grad, algorithm, last)
        for name, result in found.items():
            said = wrong(algorithm, result, expected[name].to(dtype))
            if said:
                failures.append(f"{algorithm} {name}: {said}")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("problem", EVERY, **named)
def test_every_pass_exactly(problem: Conv) -> None:
    check(problem, torch.float32, False, (*ALGORITHMS, TF32))


@pytest.mark.parametrize("problem", [p for p in EVERY if p.nd > 1][::2], **named)
def test_channels_last(problem: Conv) -> None:
    check(problem, torch.float32, True, (*ALGORITHMS, TF32))


@pytest.mark.parametrize(("problem", "dtype"), ACROSS_DTYPES, **named)
def test_dtypes(problem: Conv, dtype: torch.dtype) -> None:
    last = problem.nd > 1 and len(problem.name) % 2 == 0
    check(problem, dtype, last, ALGORITHMS)


def test_scaled_problems_keep_their_options() -> None:
    for problem in shapes.CONVS:
        small = problem.scaled(MOST_SIMULATED)
        assert small == problem or small.work < problem.work
        assert small.work <= MOST_SIMULATED, problem.name
        assert (small.work == 0) == (problem.work == 0), problem.name
        assert (small.groups > 1) == (problem.groups > 1), problem.name


@pytest.mark.parametrize("dtype", FLOATS, **named)
@pytest.mark.parametrize(
    "problem",
    [
        shapes.one("resnet_stem_7x7s2"),
        shapes.one("convnext_dw7x7"),
        shapes.one("r3d_3x3x3"),
        shapes.one("deep_reduction"),
    ],
    **named,
)
def test_rounding(problem: Conv, dtype: torch.dtype) -> None:
    x, w, b, grad = (
        normal(size, dtype, problem.name, i) for i, size in enumerate(sizes_of(problem))
    )
    expected = torch_passes(problem, (x, w, b, grad))
    magnitude = torch_passes(problem, [t.abs() for t in (x, w, b, grad)])
    terms = terms_of(problem)
    failures = []
    for algorithm in ALGORITHMS:
        found = conv_passes(problem, x, w, b, grad, algorithm)
        for name, result in found.items():
            if isinstance(result, Tensor):
                bound = rounding_bound(
                    expected[name], magnitude[name], terms[name], dtype
                )
                said = beyond(result, expected[name], bound)
                if said:
                    failures.append(f"{algorithm} {name}: {said}")
    assert not failures, "\n".join(failures)


def test_tf32_rounds_the_factors() -> None:
    """2^-10 relative per factor, and not float32's 2^-24."""
    problem = shapes.one("resnet_3x3")
    x, w, b, grad = (
        normal(size, torch.float32, i) for i, size in enumerate(sizes_of(problem))
    )
    expected = torch_passes(problem, (x, w, b, grad))
    magnitude = torch_passes(problem, [t.abs() for t in (x, w, b, grad)])
    for name, result in conv_passes(problem, x, w, b, grad, TF32).items():
        assert isinstance(result, Tensor)
        error = (result.double() - expected[name]).abs()
        assert bool((error <= 2**-9 * magnitude[name]).all()), name
        assert float(error.max()) > 2**-11, f"{name}: float32 after all"
    strict = conv_passes(problem, x, w, b, grad, "implicit_gemm")["forward"]
    assert isinstance(strict, Tensor)
    assert float((strict.double() - expected["forward"]).abs().max()) < 2**-13


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_strides_of_every_kind(algorithm: str) -> None:
    name = "asymmetric_dw" if algorithm == "depthwise" else "mixed_2d"
    problem = shapes.one(name)
    (x, w, b, grad), expected = whole_case(problem)
    x, w, b, grad = (t.float() for t in (x, w, b, grad))
    for kind in layouts(x):
        given = [layouts(t)[kind] for t in (x, w, grad)]
        found = conv_passes(problem, *given[:2], b, given[2], algorithm)
        for part, result in found.items():
            said = wrong(algorithm, result, expected[part].float())
            assert said is None, f"{kind} {part}: {said}"
    for kind, view in expanded(x).items():
        dense = conv_passes(problem, view.contiguous(), w, b, grad, algorithm)
        for part, result in conv_passes(problem, view, w, b, grad, algorithm).items():
            if isinstance(result, Tensor):
                said = wrong(algorithm, result, dense[part])  # type: ignore[arg-type]
                assert said is None, f"expanded {kind} {part}: {said}"


def test_chunks_that_are_not_aligned() -> None:
    """Vector loads are chosen by addresses too, not by sizes alone."""
    problem = Conv("aligned", (1, 16, 6, 6), 16, (3, 3), 1, 1)
    for dtype in (torch.float32, torch.bfloat16):
        tensors, expected = whole_case(problem)
        shifted = []
        for t in tensors:
            room = torch.zeros(t.numel() + 1, dtype=dtype)
            view = room[1:].view(t.shape)
            if t.dim() == 4:
                n, c, h, width = t.shape
                view = room[1:].view(n, h, width, c).permute(0, 3, 1, 2)
            shifted.append(view.copy_(t))
        x, w, b, grad = shifted
        found = conv_passes(problem, x, w, b, grad, "implicit_gemm", True)
        for name, result in found.items():
            assert wrong("implicit_gemm", result, expected[name].to(dtype)) is None


DETERMINISM = [
    Conv("3x3", (3, 20, 7, 8), 18, (3, 3), 1, 1),
    Conv("sums_in_parts", (3, 160, 3, 4), 10, (3, 3), 1, 1),
    Conv("stem", (3, 3, 21, 21), 8, (5, 5), 2, 2),
    Conv("depthwise", (3, 9, 11, 12), 9, (3, 3), 1, 1, 1, 9),
    Conv("reflect", (3, 6, 9, 9), 8, (3, 3), 2, 2, 1, 1, "reflect"),
]


@pytest.mark.parametrize("algorithm", ["auto", *ALGORITHMS])
@pytest.mark.parametrize("problem", DETERMINISM, **named)
def test_order_of_threads_and_blocks_does_not_show(
    cuda_device: str, problem: Conv, algorithm: str
) -> None:
    tensors = [
        normal(size, torch.float32, i) for i, size in enumerate(sizes_of(problem))
    ]
    first = conv_passes(problem, *tensors, algorithm)
    if cuda_device == "cuda-on-cpu":
        library.load().cuda_on_cpu_set_reversed(True)
    again = conv_passes(problem, *tensors, algorithm)
    if cuda_device == "cuda-on-cpu":
        library.load().cuda_on_cpu_set_reversed(False)
    for name, result in first.items():
        if isinstance(result, Tensor):
            assert_same(again[name], result, name)  # type: ignore[arg-type]


@pytest.mark.parametrize("algorithm", ["auto", *ALGORITHMS])
@pytest.mark.parametrize("problem", DETERMINISM, **named)
def test_one_sample(problem: Conv, algorithm: str) -> None:
    """A sample's output and input gradient do not depend on the rest of the batch."""
    x = normal(problem.x_size, torch.float32)
    w = normal(problem.weight_size, torch.float32, "w")
    grad = normal(problem.out_size, torch.float32, "grad")
    args = (*conv_args(problem), False, algorithm)
    try:
        y = ops.conv_forward(x, w, None, *args)
        gx = ops.conv_input_grad(grad, w, None, x.shape, *args)
    except RuntimeError:
        assert algorithm not in COMPLETE
        return
    for batch in (slice(0, 1), slice(1, 3)):
        assert_same(ops.conv_forward(x[batch], w, None, *args), y[batch], "forward")
        size = x[batch].shape
        found = ops.conv_input_grad(grad[batch], w, None, size, *args)
        assert_same(found, gx[batch], "input_grad")


# The planner's choice and, where they take it, every algorithm.
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], **named)
@pytest.mark.parametrize("problem", shapes.CONV_TRANSPOSES, **named)
def test_transposed(problem: shapes.ConvTranspose, dtype: torch.dtype) -> None:
    sizes = (problem.x_size, problem.weight_size, (problem.filters,))
    leaves = [whole(s, torch.float64, problem.name, i) for i, s in enumerate(sizes)]
    for t in leaves:
        t.requires_grad_()
    expected = torch_conv_transpose(problem, *leaves)
    grad = whole(expected.shape, torch.float64, problem.name, "grad")
    answers = [expected.detach(), *torch.autograd.grad(expected, leaves, grad)]
    names = ("forward", "input_grad", "weight_grad", "bias_grad")
    conv = per_rank("conv_transpose", problem.nd, TF)
    failures = []
    for algorithm in ("auto", *ALGORITHMS):
        ours = [t.detach().to(dtype).requires_grad_() for t in leaves]
        try:
            y = conv(*ours, **transpose_options(problem), algorithm=algorithm)
            found = [y.detach(), *torch.autograd.grad(y, ours, grad.to(dtype))]
        except RuntimeError as error:
            said = wrong(algorithm, error, expected)
            failures += [f"{algorithm}: {said}"] if said else []
            continue
        for name, one, other in zip(names, found, answers, strict=True):
            said = wrong(algorithm, one, other.to(dtype))
            failures += [f"{algorithm} {name}: {said}"] if said else []
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("problem", shapes.CONV_TRANSPOSES[::2], **named)
def test_transposed_complex(problem: shapes.ConvTranspose) -> None:
    sizes = (problem.x_size, problem.weight_size, (problem.filters,))
    x, w, b = (whole(s, torch.complex128, problem.name, i) for i, s in enumerate(sizes))
    expected = torch_conv_transpose(problem, x, w, b)
    conv = per_rank("conv_transpose", problem.nd, TF)
    y = conv(*(t.to(torch.complex64) for t in (x, w, b)), **transpose_options(problem))
    assert_same(y, expected.to(torch.complex64))


FUNCTIONAL = [
    *((problem, torch.float32) for problem in shapes.CONVS),
    *((problem, torch.float16) for problem in shapes.OPTIONS),
    *((problem, torch.complex64) for problem in (shapes.REAL + shapes.PADDED)[::4]),
]


@pytest.mark.parametrize(("problem", "dtype"), FUNCTIONAL, **named)
def test_functional(problem: Conv, dtype: torch.dtype) -> None:
    """The public function and its gradients, with the planner's choice."""
    problem = here(problem)
    exact = torch.complex128 if dtype in COMPLEX else torch.float64
    tensors = tuple(
        whole(size, exact, problem.name, i) for i, size in enumerate(sizes_of(problem))
    )
    expected = torch_passes(problem, tensors)
    x, w, b, grad = (t.to(dtype) for t in tensors)
    for t in (x, w, b):
        t.requires_grad_()
    y = per_rank("conv", problem.nd, TF)(x, w, b, **conv_options(problem))
    assert_same(y.detach(), expected["forward"].to(dtype), "forward")
    found = torch.autograd.grad(y, (x, w, b), grad)
    for name, g in zip(("input", "weight", "bias"), found, strict=True):
        assert_same(g, expected[f"{name}_grad"].to(dtype), f"{name}_grad")


@pytest.mark.parametrize(
    ("problem", "number"), [*zip(EVERY, itertools.count())], **named
)
def test_epilogue(problem: Conv, number: int) -> None:
    """activation(sum + bias + residual), bit for bit the pass over the same algorithm's
    sums, wherever these are written: tiles, parts of split sums, strips, borders."""
    problem = here(problem)
    dtype = FLOATS[number % 4]
    canonical = ACTIVATIONS[number % len(ACTIVATIONS)][2]
    x, w, b, grad = (
        normal(size, dtype, problem.name, i) for i, size in enumerate(sizes_of(problem))
    )
    failures = []
    for last in (False, True)[: 2 if problem.nd > 1 and number % 2 else 1]:
        if last:
            form = memory_format_of(problem.nd)
            x, w, grad = (t.contiguous(memory_format=form) for t in (x, w, grad))
        for algorithm in (*ALGORITHMS, *([TF32] if dtype == torch.float32 else [])):
            args = (*conv_args(problem), last, algorithm)
            over_x = normal((problem.x_size[1],), dtype, "bias")
            for name, plain, fused, given in (
                ("forward", ops.conv_forward, ops.conv_forward_fused, (x, w, b)),
                (
                    "input_grad",
                    ops.conv_input_grad,
                    ops.conv_input_grad_fused,
                    (grad, w, over_x),
                ),
            ):
                size = () if name == "forward" else (x.shape,)
                try:
                    y = plain(*given, *size, *args)
                except RuntimeError as error:
                    said = wrong(algorithm, error, x)
                    failures += [f"{algorithm} {name}: {said}"] if said else []
                    continue
                residual = torch.empty_like(y).copy_(normal(y.shape, dtype, "r"))
                for r, how in ((residual, canonical), (None, ("relu", 0.0, 0.0))):
                    found = fused(*given, r, *size, *args, *how)
                    said = wrong(algorithm, found, by_hand(y, r, how))
                    failures += [f"{algorithm} {name} {how}: {said}"] if said else []
    assert not failures, "\n".join(failures)


# Layers that an algorithm exists for, so that its refusals cannot hide everything.
MADE_FOR = {
    "direct": "resnet_stem_7x7s2",
    "implicit_gemm": "resnet_3x3",
    "im2col": "resnet_3x3",
    "depthwise": "mobilenet_dw3x3",
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_algorithms_take_their_layers(algorithm: str) -> None:
    problem = shapes.one(MADE_FOR[algorithm])
    (x, w, b, grad), _ = whole_case(problem)
    found = conv_passes(
        problem, x.float(), w.float(), b.float(), grad.float(), algorithm
    )
    assert all(isinstance(result, Tensor) for result in found.values()), found


# explain, for CUDA without a GPU.


def test_explain() -> None:
    x, w = torch.empty(8, 64, 56, 56), torch.empty(64, 64, 3, 3)
    found = torchconv.explain("conv2d", x, w, padding=1, device="cuda")
    assert [p.kernel for p in found.passes] == ["forward", "input_grad", "weight_grad"]
    for plan in found.passes:
        assert {c.name for c in plan.candidates} == set(ALGORITHMS)
        assert plan.chosen
        assert all(c.cost > 0 for c in plan.candidates if c.supported)
    assert "on cuda" in str(found)
    half = torchconv.explain("conv2d", x.half(), w.half(), padding=1, device="cuda")
    assert half.passes[0].chosen
    assert half.passes[0].chosen.name == "implicit_gemm"
    depthwise = torchconv.explain(
        "conv2d", x, torch.empty(64, 1, 3, 3), padding=1, groups=64, device="cuda"
    )
    assert all(p.chosen and p.chosen.name == "depthwise" for p in depthwise.passes)


@pytest.fixture
def conv_precision() -> Iterator[Any]:
    """torch's setting for convolutions, as it was after the test."""
    setting = torch.backends.cudnn.conv
    before = setting.fp32_precision
    yield setting
    setting.fp32_precision = before


def test_explain_follows_the_tf32_setting(conv_precision: Any) -> None:
    x, w = torch.empty(8, 64, 56, 56), torch.empty(64, 64, 3, 3)
    costs = {}
    for precision in ("tf32", "ieee"):
        conv_precision.fp32_precision = precision
        found = torchconv.explain("conv2d", x, w, padding=1, device="cuda")
        assert ("TF32 allowed" in str(found)) == (precision == "tf32")
        costs[precision] = {c.name: c.cost for c in found.passes[0].candidates}
    assert costs["tf32"]["implicit_gemm"] < costs["ieee"]["implicit_gemm"]
    assert costs["tf32"]["direct"] == costs["ieee"]["direct"]


def test_explain_of_a_device_without_algorithms() -> None:
    with pytest.raises(ValueError, match=r"no algorithms for device mps"):
        torchconv.explain(
            "conv2d", torch.ones(1, 1, 3, 3), torch.ones(1, 1, 1, 1), device="mps"
        )
