"""Winograd's algorithm: right within its error bound on everything it takes, and never in
the way of those who want none of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import shapes
import torch
from common import (
    beyond,
    conv_args,
    conv_passes,
    each_isa,
    expanded,
    layouts,
    normal,
    ops,
    threads,
    torch_conv,
    whole,
    wide,
)
from torch import Tensor

import torchconv
from torchconv import functional as TF

# What the documentation promises for float32, as norm of the error over norm of the
# result: "auto" uses the algorithm only because it keeps this.
PROMISED = 3e-6

named = {"ids": lambda value: getattr(value, "name", str(value))}

# The edges of tiles: of 4 outputs, of 16 lanes, of rows of the register tile.
PLANES = [
    shapes.Conv(f"plane_{h}x{w}", (2, 5, h, w), 7, (3, 3), 1, 1)
    for h in range(1, 14)
    for w in range(1, 14)
]
STRIDED_PLANES = [
    shapes.Conv(f"plane_{h}x{w}_s2", (1, 3, h, w), 5, (3, 3), 2, 1)
    for h in range(1, 27, 3)
    for w in range(1, 27)
]
ODD = [
    shapes.Conv(f"channels_{c}_to_{k}", (1, c, 9, 10), k, (3, 3), 1, 1)
    for c, k in ((1, 1), (3, 64), (17, 15), (63, 65), (130, 34), (35, 100), (200, 2))
] + [
    shapes.Conv("many_tiles", (3, 20, 40, 41), 18, (3, 3), 1, 1),
    shapes.Conv("deep", (1, 700, 9, 8), 40, (3, 3), 1, 1),
    shapes.Conv("deep_and_large", (2, 600, 30, 30), 17, (3, 3)),
    shapes.Conv("1d_k3", (2, 18, 333), 20, (3,), 1, 1),
    shapes.Conv("1d_k2_d100", (1, 6, 900), 20, (2,), 1, 100, 100),
    shapes.Conv("1d_k3_d512", (1, 6, 1200), 5, (3,), 1, 0, 512),
    shapes.Conv("1d_k11_d5", (2, 6, 200), 20, (11,), 1, 25, 5),
    shapes.Conv("2d_d2x3", (1, 6, 21, 22), 20, (3, 3), 1, 2, (2, 3)),
    shapes.Conv("2d_d24", (1, 6, 65, 65), 20, (3, 3), 1, 24, 24),
    shapes.Conv("5x5", (2, 12, 14, 15), 20, (5, 5), 1, 2),
    shapes.Conv("7x4", (1, 3, 14, 15), 20, (7, 4), 1, 2),
    shapes.Conv("1x7", (1, 20, 5, 30), 20, (1, 7), 1, (0, 3)),
    shapes.Conv("groups", (2, 36, 12, 13), 40, (3, 3), 1, 1, 1, 2),
    # Small groups share vectors: 2, 4 or 8 channels, where enough groups fill them.
    shapes.Conv("groups_of_2", (2, 32, 6, 7), 32, (3, 3), 1, 1, 1, 16),
    shapes.Conv("groups_of_4", (1, 32, 13, 9), 32, (3, 3), 1, 1, 1, 8),
    shapes.Conv("groups_of_8", (2, 32, 21, 30), 32, (3, 3), 1, 1, 1, 4),
    shapes.Conv("groups_of_8_long", (1, 16, 14, 15), 16, (5, 7), 1, (2, 3), 1, 2),
    shapes.Conv("groups_of_8_left", (1, 24, 9, 9), 24, (3, 3), 1, 1, 1, 3),
    shapes.Conv("groups_of_4_1d", (2, 16, 300), 16, (9,), 1, 8, 2, 4),
    shapes.Conv("groups_of_4_to_8", (1, 16, 9, 9), 32, (3, 3), 1, 1, 1, 4),
    shapes.Conv("3d", (2, 5, 6, 9, 10), 17, (3, 3, 3), 1, 1),
    shapes.Conv("3d_depth_s2", (1, 5, 7, 9, 10), 17, (3, 3, 3), (2, 1, 1), 1),
    shapes.Conv("3d_depth_d2", (1, 5, 7, 9, 10), 17, (3, 3, 3), 1, 2, (2, 1, 1)),
    # Strides, by phases: of as many taps, of different ones, of planes that end in the
    # middle of a phase; pieces of one, two and three taps.
    *(
        shapes.Conv(f"3x3_s2_{h}x{w}", (2, 5, h, w), 7, (3, 3), 2, 1)
        for h, w in ((1, 1), (2, 9), (7, 8), (8, 7), (15, 18), (16, 17), (17, 34))
    ),
    shapes.Conv("3x3_s2_valid", (1, 18, 20, 35), 34, (3, 3), 2),
    shapes.Conv("3x3_s2_wide_border", (1, 5, 6, 5), 17, (3, 3), 2, ((4, 5), (0, 7))),
    shapes.Conv("3x3_s2x1", (1, 6, 13, 14), 20, (3, 3), (2, 1), 1),
    shapes.Conv("3x3_s1x2", (1, 6, 13, 14), 20, (3, 3), (1, 2), 1),
    shapes.Conv("3x3_d1x2_s2x1", (1, 6, 13, 14), 5, (3, 3), (2, 1), 1, (1, 2)),
    shapes.Conv("2x3_s1x2", (1, 6, 9, 14), 20, (2, 3), (1, 2), 1),
    shapes.Conv("3x2_s2x1", (1, 6, 9, 14), 20, (3, 2), (2, 1), 1),
    shapes.Conv("4x5_s3", (2, 9, 17, 31), 20, (4, 5), 3, (1, 2)),
    shapes.Conv("5x10_s2", (1, 17, 13, 40), 16, (5, 10), 2),
    shapes.Conv("7x7_s2", (1, 6, 19, 22), 20, (7, 7), 2, 3),
    shapes.Conv("1x3_s2_rows_s2", (1, 6, 9, 40), 20, (1, 3), 2, (0, 1)),
    shapes.Conv("1d_k3_s2", (2, 70, 131), 20, (3,), 2),
    shapes.Conv("1d_k5_s4", (1, 6, 400), 20, (5,), 4, 2),
    shapes.Conv("3x3_s2_deep", (1, 260, 14, 13), 40, (3, 3), 2, 1),
    shapes.Conv("3x3_s2_many_tiles", (2, 20, 80, 81), 18, (3, 3), 2, 1),
    shapes.Conv("3x3_s2_groups", (2, 36, 13, 12), 40, (3, 3), 2, 1, 1, 2),
    shapes.Conv("3x3_s2_groups_of_8", (2, 32, 13, 30), 32, (3, 3), 2, 1, 1, 4),
    shapes.Conv("3x3_s2_groups_of_2", (1, 16, 9, 10), 16, (3, 3), 2, 1, 1, 8),
    shapes.Conv("3d_k3_s1x2x2", (1, 5, 4, 9, 12), 17, (3, 3, 3), (1, 2, 2), 1),
    shapes.Conv("3d_k3_s2", (1, 5, 5, 9, 12), 6, (3, 3, 3), 2, 1),
    *(
        shapes.Conv(f"{mode}_3x3_s2", (1, 3, 9, 12), 5, (3, 3), 2, 1, 1, 1, mode)
        for mode in shapes.MODES
    ),
    shapes.Conv("4x4_s2", (2, 20, 14, 17), 18, (4, 4), 2, 1),
    shapes.Conv("5x5_s2", (1, 5, 13, 22), 17, (5, 5), 2, 2),
    shapes.Conv("3x7_s2x3", (1, 6, 11, 29), 5, (3, 7), (2, 3), (1, 3)),
    shapes.Conv("1x4_s1x2", (1, 6, 5, 31), 20, (1, 4), (1, 2), (0, 1)),
    shapes.Conv("4x4_s2_groups_of_8", (1, 16, 12, 12), 16, (4, 4), 2, 1, 1, 2),
    shapes.Conv("1d_k16_s8", (2, 18, 203), 20, (16,), 8, 4),
    shapes.Conv("3d_k4_s2", (1, 5, 8, 9, 10), 6, (4, 4, 4), 2, 1),
    shapes.Conv("reflect_4x4_s2", (1, 3, 10, 12), 5, (4, 4), 2, 1, 1, 1, "reflect"),
    *(
        shapes.Conv(f"{mode}_3d", (1, 3, 5, 8, 9), 5, (3, 3, 3), 1, 1, 1, 1, mode)
        for mode in shapes.MODES
    ),
]


def sizes_of(problem: shapes.Conv) -> tuple[Sequence[int], ...]:
    weight = problem.weight_size
    return (problem.x_size, weight, weight[:1], problem.out_size)


def expected_passes(
    problem: shapes.Conv, x: Tensor, w: Tensor, b: Tensor | None, grad: Tensor
) -> dict[str, Tensor]:
    """By torch in float64."""
    x, w = (wide(t).requires_grad_() for t in (x, w))
    y = torch_conv(problem, x, w, wide(b))
    gx, gw = torch.autograd.grad(y, (x, w), wide(grad))
    return {"forward": y.detach(), "input_grad": gx, "weight_grad": gw}


def bound(expected: Tensor, dtype: torch.dtype) -> Tensor:
    """A tile's error is spread over its outputs, so that small ones among large ones are
    no better than those: the bound is relative to the largest. The result is then rounded
    to its dtype."""
    scale = expected.abs().max() if expected.numel() else torch.tensor(0.0)
    unit = 0.0 if dtype == torch.float32 else torch.finfo(dtype).eps / 2
    tiny = torch.finfo(dtype).smallest_normal
    return PROMISED * scale + unit * expected.abs() + tiny


def compare(
    problem: shapes.Conv,
    found: dict[str, Tensor | Exception],
    expected: dict[str, Tensor],
    dtype: torch.dtype,
) -> Iterator[str]:
    for name, result in found.items():
        if isinstance(result, Exception):
            assert "winograd takes" in str(result)
            continue
        wrong = beyond(result, expected[name], bound(expected[name], dtype))
        if wrong:
            yield f"{problem.name} {name} {dtype}: {wrong}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("problem", [*shapes.CONVS, *ODD], **named)
def test_every_pass(problem: shapes.Conv, dtype: torch.dtype) -> None:
    x, w, b, grad = (
        normal(size, dtype, problem.name, i) for i, size in enumerate(sizes_of(problem))
    )
    expected = expected_passes(problem, x, w, b, grad)
    failures = []
    for isa in each_isa():
        for last in (False, True):
            found = conv_passes(problem, x, w, b, grad, "winograd", last)
            failures += [f"{isa} {f}" for f in compare(problem, found, expected, dtype)]
    assert not failures, "\n".join(failures)


def test_every_small_plane() -> None:
    failures = []
    for problem in [*PLANES, *STRIDED_PLANES]:
        sizes = sizes_of(problem)
        x, w, b, grad = (normal(size, torch.float32) for size in sizes)
        expected = expected_passes(problem, x, w, b, grad)
        for last in (False, True):
            form = torch.channels_last if last else torch.contiguous_format
            xf, wf, gf = (t.contiguous(memory_format=form) for t in (x, w, grad))
            for isa in each_isa():
                found = conv_passes(problem, xf, wf, b, gf, "winograd", last)
                assert all(isinstance(result, Tensor) for result in found.values())
                failures += [
                    f"{isa} {last} {f}"
                    for f in compare(problem, found, expected, torch.float32)
                ]
    assert not failures, "\n".join(failures)


STRIDES = (
    "channels_17_to_15",
    "1d_k3",
    "5x5",
    "groups",
    "3d",
    "3x3_s2_15x18",
    "5x5_s2",
)


@pytest.mark.parametrize(
    "problem",
    [p for p in ODD if p.name in STRIDES],
    **named,
)
def test_any_strides(problem: shapes.Conv) -> None:
    tensors = [
        normal(size, torch.float32, i) for i, size in enumerate(sizes_of(problem))
    ]
    x, w, b, grad = tensors
    expected = expected_passes(problem, *tensors)
    views = [layouts(t) for t in (x, w, grad)]
    failures = []
    for name in views[0]:
        for last in (False, True):
            xv, wv, gv = (v[name] for v in views)
            found = conv_passes(problem, xv, wv, b, gv, "winograd", last)
            failures += compare(problem, found, expected, torch.float32)
    for view in expanded(x).values():
        expected = expected_passes(problem, view, w, b, grad)
        found = conv_passes(problem, view, w, b, grad, "winograd")
        failures += compare(problem, found, expected, torch.float32)
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("channels", [1, 16, 256, 1500])
@pytest.mark.parametrize(
    ("nd", "kernel", "stride"), [(1, 3, 1), (2, 3, 1), (2, 3, 2), (2, 5, 2)]
)
def test_the_promised_error(nd: int, kernel: int, stride: int, channels: int) -> None:
    """On normal numbers, whatever the length of the sums."""
    plane = (24,) * nd if channels < 1000 else (8,) * nd
    kernels = (kernel,) * nd
    problem = shapes.Conv("layer", (2, channels, *plane), 24, kernels, stride, 1)
    tensors = [
        normal(size, torch.float32, i) for i, size in enumerate(sizes_of(problem))
    ]
    expected = expected_passes(problem, *tensors)
    for isa in each_isa():
        for name, result in conv_passes(problem, *tensors, "winograd").items():
            assert isinstance(result, Tensor)
            error = (result.double() - expected[name]).norm() / expected[name].norm()
            # Well below the promise: what the documentation's table shows.
            assert error < PROMISED / 2, f"{name} on {isa}: {error:.2g}"


def test_sums_over_many_tiles_keep_the_promise() -> None:
    problem = shapes.Conv("wide", (4, 3, 200, 201), 5, (3, 3), 1, 1)
    tensors = [
        normal(size, torch.float32, i) for i, size in enumerate(sizes_of(problem))
    ]
    expected = expected_passes(problem, *tensors)["weight_grad"]
    found = conv_passes(problem, *tensors, "winograd")["weight_grad"]
    assert isinstance(found, Tensor)
    assert (found.double() - expected).norm() / expected.norm() < PROMISED / 2


def test_infinities_and_nans_stay_in_their_tile() -> None:
    """They spread over a tile, where a sum would keep them to its window, and no
    further: other tiles are the same bit for bit."""
    problem = shapes.Conv("layer", (1, 4, 16, 16), 4, (3, 3), 1, 1)
    x, w, _, _ = (normal(size, torch.float32) for size in sizes_of(problem))
    args = (*conv_args(problem), False, "winograd")
    clean = ops.conv_forward(x, w, None, *args)
    for value in (math.inf, math.nan):
        x[0, 0, 1, 1] = value
        y = ops.conv_forward(x, w, None, *args)
        assert not y[..., :2, :2].isfinite().any()
        assert torch.equal(y[..., 4:, :], clean[..., 4:, :])
        assert torch.equal(y[..., :, 4:], clean[..., :, 4:])


@pytest.mark.parametrize(
    "problem",
    [
        shapes.Conv("many_tiles", (3, 40, 45, 62), 70, (3, 3), 2, 1),
        shapes.Conv("few_tiles", (3, 200, 9, 9), 70, (3, 3), 2, 1),
        shapes.Conv("5x5_s2", (3, 20, 30, 31), 33, (5, 5), 2, 2),
        shapes.Conv("groups", (3, 64, 18, 18), 64, (3, 3), 2, 1, 1, 4),
    ],
    **named,
)
def test_strided_bits_depend_on_neither_threads_nor_batch(problem: shapes.Conv) -> None:
    tensors = [
        normal(size, torch.float32, i) for i, size in enumerate(sizes_of(problem))
    ]
    x, w, b, grad = tensors
    for isa in each_isa():
        found = []
        for count in (1, 2, 3):
            with threads(count):
                found.append(conv_passes(problem, *tensors, "winograd"))
        for name, result in found[0].items():
            assert isinstance(result, Tensor)
            for other in found[1:]:
                assert torch.equal(result, other[name]), f"{name} on {isa}"
        one = conv_passes(problem, x[1:2], w, b, grad[1:2], "winograd")
        for name in ("forward", "input_grad"):
            assert torch.equal(one[name], found[0][name][1:2]), f"{name} on {isa}"


# -- who decides


def chosen(*args: Any, **options: Any) -> set[str]:
    plan = torchconv.explain("conv2d", *args, **options)
    names = {p.chosen.name for p in plan.passes if p.chosen is not None}
    assert len(names) > 0
    return names


def meta(*size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.empty(size, dtype=dtype, device="meta")


def test_auto_uses_it_where_it_is_allowed() -> None:
    x, w = meta(1, 64, 56, 56), meta(64, 64, 3, 3)
    with torchconv.allow_winograd(True):
        assert chosen(x, w, padding=1) == {"winograd"}
        assert "winograd" not in chosen(x, w, padding=1, algorithm="auto-exact")
        with torchconv.algorithm("direct"):
            assert chosen(x, w, padding=1) == {"direct"}
        assert "winograd" not in chosen(x.double(), w.double(), padding=1)
        with torchconv.allow_winograd(False):
            assert "winograd" not in chosen(x, w, padding=1)
            assert "winograd" not in chosen(x, w, padding=1, algorithm="auto")
            assert chosen(x, w, padding=1, algorithm="winograd") == {"winograd"}
        assert chosen(x, w, padding=1) == {"winograd"}


def test_auto_uses_it_for_strides_with_channels_enough() -> None:
    with torchconv.allow_winograd(True):
        x, w = meta(1, 64, 56, 56), meta(128, 64, 3, 3)
        assert chosen(x, w, padding=1, stride=2) == {"winograd"}
        assert "winograd" not in chosen(meta(1, 3, 112, 112), w[:, :3], stride=2)
        assert "winograd" not in chosen(
            meta(1, 512, 9, 9), meta(512, 512, 3, 3), stride=2
        )
        with torchconv.allow_winograd(False):
            assert "winograd" not in chosen(x, w, padding=1, stride=2)


def test_the_setting_lasts_until_it_is_changed() -> None:
    x, w = meta(1, 64, 56, 56), meta(64, 64, 3, 3)
    try:
        torchconv.allow_winograd()
        assert chosen(x, w, padding=1) == {"winograd"}
        torchconv.allow_winograd(False)
        assert "winograd" not in chosen(x, w, padding=1)
        with torchconv.allow_winograd(True):
            assert chosen(x, w, padding=1) == {"winograd"}
        assert "winograd" not in chosen(x, w, padding=1)
    finally:
        torchconv.allow_winograd(False)  # as the fixture has it


def test_backward_follows_the_setting_of_forward() -> None:
    x = whole((1, 64, 32, 32), torch.float32).requires_grad_()
    w = whole((64, 64, 3, 3), torch.float32, "w").requires_grad_()
    grad = whole((1, 64, 32, 32), torch.float32, "grad")
    exact = torch.autograd.grad(
        torch.nn.functional.conv2d(x, w, padding=1), (x, w), grad
    )
    with torchconv.allow_winograd(False):
        y = TF.conv2d(x, w, padding=1)
    with torchconv.allow_winograd(True):
        found = torch.autograd.grad(y, (x, w), grad)
    assert all(torch.equal(a, b) for a, b in zip(found, exact, strict=True))


def test_the_setting_is_part_of_the_graph() -> None:
    seen: list[Any] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        for node in graph.graph.nodes:
            if node.target is ops.conv_forward.default:
                seen.append(node.args[-1])
        return graph

    def run(x: Tensor, w: Tensor) -> Tensor:
        return TF.conv2d(x, w)

    x, w = normal((1, 2, 8, 8), torch.float32), normal((3, 2, 3, 3), torch.float32)
    compiled = torch.compile(run, fullgraph=True, backend=backend)
    for allowed in (True, False, True):
        with torchconv.allow_winograd(allowed):
            compiled(x, w)
    # Compiled once for each; the third call finds the first graph again.
    assert seen == ["auto", "auto-exact"]


def test_refusals_name_the_reason() -> None:
    x, w = normal((1, 4, 9, 9), torch.float32), normal((4, 4, 3, 3), torch.float32)
    cases: list[tuple[str, Tensor, Tensor, dict[str, Any]]] = [
        ("longer than the stride", x, w, {"stride": 3}),
        ("not dilated", x, w, {"stride": 2, "dilation": 2}),
        ("float32, float16 and bfloat16", x.double(), w.double(), {}),
        ("at least 2", x, w[..., :1], {}),
        ("dilations", x, w, {"dilation": 100, "padding": 100}),
        ("have elements", x[:0], w, {}),
    ]
    for message, a, b, options in cases:
        with pytest.raises(RuntimeError, match=f"winograd takes.*{message}"):
            TF.conv2d(a, b, algorithm="winograd", **options)
