"""Pooling against torch in float64: every problem, dtype and kernel variant."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import shapes
import torch
from common import (
    FLOATS,
    assert_same,
    beyond,
    difference,
    each_isa,
    layouts,
    memory_format_of,
    normal,
    on_cuda,
    ops,
    per_rank,
    pool_options,
    rounding_bound,
    whole,
    wide,
)
from common import oracle as F
from torch import Tensor

from torchconv import functional as TF
from torchconv import reference

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
UNDILATED = [p for p in shapes.POOLS if p.dilation == 1]
UNPADDED = [p for p in UNDILATED if p.padding == 0]

pytestmark = pytest.mark.usefixtures("kernel_device")

named = {"ids": lambda value: getattr(value, "name", str(value))}


def hard(size: tuple[int, ...], kind: str) -> Tensor:
    """float64 inputs that show how a maximum is chosen."""
    if kind == "normal":
        return normal(size, torch.float64, kind)
    x = whole(size, torch.float64, kind)
    if kind == "ties":
        return x
    if kind == "nan":
        where = whole(size, torch.float64, "where", top=4)
        x[where == 0] = math.nan
        x[where == 1] = -math.inf
        x[where == 2] = math.inf
        return x
    assert kind == "lowest"
    return torch.full(size, -math.inf, dtype=torch.float64)


def max_by_torch(
    problem: shapes.Pool, x: Tensor, grad_key: str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values, indices, a gradient of the output and that of the input."""
    x = x.detach().requires_grad_(x.is_floating_point())
    pool = per_rank("max_pool", problem.nd, F)
    y, index = pool(x, **pool_options(problem, "max"), return_indices=True)
    grad = whole(y.shape, torch.float64, grad_key)
    gx = grad.new_zeros(x.shape)
    gx.flatten(2).scatter_add_(2, index.flatten(2), grad.flatten(2))
    return y.detach(), index, grad, gx


@pytest.mark.parametrize("dtype", (*FLOATS, *INTEGERS), **named)
@pytest.mark.parametrize("problem", shapes.POOLS, **named)
def test_max_pool_operators(problem: shapes.Pool, dtype: torch.dtype) -> None:
    nd = problem.nd
    kernel = reference.each(problem.kernel, nd)
    stride = kernel if problem.stride is None else reference.each(problem.stride, nd)
    window = (
        kernel,
        stride,
        reference.each(problem.padding, nd),
        reference.each(problem.dilation, nd),
    )
    args = (*window, problem.ceil_mode, False)
    kinds = ("normal", "ties", "nan", "lowest")
    failures = []
    for kind in kinds if dtype.is_floating_point else kinds[:2]:
        x = (hard(problem.x_size, kind) * (1 if dtype.is_floating_point else 9)).to(
            dtype
        )
        if dtype == torch.uint8:
            x = hard(problem.x_size, kind).abs().mul(9).to(dtype)
        y, index, grad, gx = max_by_torch(problem, x.to(torch.float64), kind)
        y = y.to(dtype)
        for isa in each_isa():
            values, codes = ops.max_pool_with_codes(x, *args)
            with_index = ops.max_pool_with_indices(x, *args)
            pairs: dict[str, tuple[Tensor, Tensor]] = {
                "max_pool": (ops.max_pool(x, *args), y),
                "with_codes": (values, y),
                "with_indices": (with_index[0], y),
                "indices": (with_index[1], index),
                "gather": (ops.pool_gather(x, codes, *window, False), y),
                "gather by index": (ops.pool_gather(x, index, *window, False), y),
            }
            if dtype.is_floating_point:
                g = grad.to(dtype)
                anywhere = ((1,) * nd, (1,) * nd, (0,) * nd, (1,) * nd)
                for what, c, of in (
                    ("codes", codes, window),
                    ("indices", index, window),
                    ("indices that may point anywhere", index, anywhere),
                ):
                    for how, gv in layouts(g).items():
                        cv, last = layouts(c)[how], how == "channels_last"
                        scattered = ops.pool_scatter(gv, cv, x.shape, *of, last)
                        pairs[f"scatter of {how} by {what}"] = (scattered, gx.to(dtype))
            for what, (found, expected) in pairs.items():
                wrong = difference(found, expected)
                if wrong:
                    failures.append(f"{what} of {kind} on {isa}: {wrong}")
            small = math.prod(kernel) <= 256
            assert codes.dtype == (torch.uint8 if small else torch.int32)
    assert not failures, "\n".join(failures)


# Windows that overlap, touch, leave gaps, are dilated, padded; 16 channels, so that in
# channels_last every dtype has whole vectors of them, and 5, so that none has.
WINDOWED = [
    shapes.Pool("overlapping", (2, 16, 7, 8), 3, 2, 1),
    shapes.Pool("dilated", (1, 16, 9, 8), 3, 1, 1, 2),
    shapes.Pool("gaps", (1, 16, 9, 10), (2, 3), (3, 5)),
    shapes.Pool("1d", (2, 16, 13), 4, 2, 2),
    shapes.Pool("3d", (1, 16, 4, 5, 6), (2, 3, 2), (1, 2, 2), (1, 1, 0)),
    shapes.Pool("odd_channels", (2, 5, 7, 8), 3, 2, 1),
]


@pytest.mark.parametrize("codes", [torch.int32, torch.int64], **named)
@pytest.mark.parametrize("dtype", FLOATS, **named)
@pytest.mark.parametrize("problem", WINDOWED, **named)
def test_window_gradient_by_flat_codes(
    problem: shapes.Pool, dtype: torch.dtype, codes: torch.dtype
) -> None:
    """Windows that are known, and codes that are positions and not taps."""
    nd = problem.nd
    kernel = reference.each(problem.kernel, nd)
    stride = kernel if problem.stride is None else reference.each(problem.stride, nd)
    window = (
        kernel,
        stride,
        reference.each(problem.padding, nd),
        reference.each(problem.dilation, nd),
    )
    x = hard(problem.x_size, "ties").to(dtype)
    y, index, grad, gx = max_by_torch(problem, x.double(), "flat")
    for how, g in layouts(grad.to(dtype)).items():
        last = how == "channels_last"
        code = layouts(index.to(codes))[how]
        found = ops.pool_scatter(g, code, x.shape, *window, last)
        assert_same(found, gx.to(dtype), f"scatter of {how}")
        gathered = ops.pool_gather(layouts(x)[how], code, *window, last)
        assert_same(gathered, y.to(dtype), f"gather of {how}")
    # What names no position of the plane is skipped.
    none = index.to(codes, copy=True).flatten(2)
    none[..., ::2] = -1
    kept = grad.clone().flatten(2)
    kept[..., ::2] = 0
    expected = torch.zeros_like(gx).flatten(2)
    expected.scatter_add_(2, index.flatten(2), kept)
    found = ops.pool_scatter(
        grad.to(dtype), none.view(index.shape), x.shape, *window, False
    )
    assert_same(found, expected.view(gx.shape).to(dtype), "codes of nothing")


@pytest.mark.parametrize("return_indices", [False, True])
@pytest.mark.parametrize("problem", shapes.POOLS, **named)
def test_max_pool(problem: shapes.Pool, return_indices: bool) -> None:
    """The public function and its gradient."""
    options = pool_options(problem, "max")
    for dtype in FLOATS:
        x = hard(problem.x_size, "ties").to(dtype).requires_grad_()
        y, index, grad, gx = max_by_torch(problem, x, "grad")
        found: Any = per_rank("max_pool", problem.nd, TF)(
            x, **options, return_indices=return_indices
        )
        if return_indices:
            found, found_index = found
            assert_same(found_index, index, "indices")
        assert_same(found.detach(), y, "values")
        found_gx = torch.autograd.grad(found, x, grad.to(dtype))[0]
        assert_same(found_gx, gx.to(dtype), "gradient")


@pytest.mark.parametrize("nd", [1, 2, 3])
def test_max_pool_window_without_input(nd: int) -> None:
    """A dilated window may step over a small input: torch answers -inf and an index
    outside of the plane, which its backward writes to. Here nothing is written."""
    x = torch.ones(2, 3, *(1,) * nd, requires_grad=True)
    y = per_rank("max_pool", nd, TF)(x, 2, stride=1, padding=1, dilation=2)
    assert_same(y.detach(), torch.full_like(y, -math.inf))
    assert_same(torch.autograd.grad(y.sum(), x)[0], torch.zeros_like(x))


def compare(
    function: Any,
    wanted: Any,
    x64: Tensor,
    dtype: torch.dtype,
    terms: int,
    scale: float = 1.0,
    by_output: float = 0.0,
    what: str = "",
) -> None:
    """function of x in dtype against wanted of the same numbers in float64, and their
    gradients, under every CPU variant. Terms and scale are of `rounding_bound`; a
    gradient that is computed from the rounded output is by_output times as sensitive to
    it, relatively."""
    x = x64.to(dtype)
    exact = wide(x).requires_grad_()
    y = wanted(exact)
    grad = normal(y.shape, dtype, "grad")
    gx = torch.autograd.grad(y, exact, wide(grad), retain_graph=True)[0]
    steep = torch.autograd.grad(y, exact, wide(grad).abs())[0].abs()
    y = y.detach()
    # The largest sum of magnitudes is a bound for that of every window.
    top = exact.detach().abs().amax() if x.numel() else 0.0
    bound = rounding_bound(y, torch.full_like(y, float(scale * top)), terms, dtype)
    unit = torch.finfo(dtype).eps / 2
    gbound = rounding_bound(gx, steep, terms, dtype) + 2 * by_output * unit * steep
    failures = []
    for isa in each_isa():
        ours = x.clone().requires_grad_()
        found = function(ours)
        assert found.dtype == dtype
        wrong = beyond(found.detach(), y, bound)
        if wrong:
            failures.append(f"{what} forward on {isa}: {wrong}")
        wrong = beyond(torch.autograd.grad(found, ours, grad)[0], gx, gbound)
        if wrong:
            failures.append(f"{what} backward on {isa}: {wrong}")
    assert not failures, "\n".join(failures)


@pytest.mark.parametrize("dtype", FLOATS, **named)
@pytest.mark.parametrize("problem", UNDILATED, **named)
def test_avg_pool(problem: shapes.Pool, dtype: torch.dtype) -> None:
    name = "avg_pool"
    x = normal(problem.x_size, torch.float64, problem.name)
    taps = math.prod(reference.each(problem.kernel, problem.nd))
    cases: list[dict[str, Any]] = [
        {"count_include_pad": True},
        {"count_include_pad": False},
    ]
    if problem.nd > 1:
        cases += [{"divisor_override": 3}, {"divisor_override": -2}]
    for case in cases:
        options = pool_options(problem, "avg") | case
        divisor = abs(case.get("divisor_override", taps))
        compare(
            lambda x, o=options: per_rank(name, problem.nd, TF)(x, **o),
            lambda x, o=options: per_rank(name, problem.nd, F)(x, **o),
            x,
            dtype,
            taps,
            scale=max(1.0, taps / divisor),
            what=str(case),
        )


@pytest.mark.parametrize("problem", UNDILATED, **named)
def test_avg_pool_of_integers(problem: shapes.Pool) -> None:
    x = whole(problem.x_size, torch.int64, problem.name, top=99)
    for include in (True, False):
        options = pool_options(problem, "avg") | {"count_include_pad": include}
        expected = per_rank("avg_pool", problem.nd, F)(x, **options)
        for isa in each_isa():
            found = per_rank("avg_pool", problem.nd, TF)(x, **options)
            assert_same(found, expected, f"count_include_pad={include} on {isa}")


@pytest.mark.parametrize("dtype", FLOATS, **named)
@pytest.mark.parametrize("problem", UNPADDED, **named)
@pytest.mark.parametrize("norm", [1.0, 2.0, 3.0, 2.5])
def test_lp_pool(problem: shapes.Pool, dtype: torch.dtype, norm: float) -> None:
    """On positive numbers, away from the root's vertical tangent."""
    x = normal(problem.x_size, torch.float64, problem.name).abs() + 0.25
    taps = math.prod(reference.each(problem.kernel, problem.nd))
    options = pool_options(problem, "lp")
    compare(
        lambda x: per_rank("lp_pool", problem.nd, TF)(x, norm, **options),
        lambda x: per_rank("lp_pool", problem.nd, F)(x, norm, **options),
        x,
        dtype,
        taps,
        scale=4.0 * taps,
        by_output=norm,
    )


@pytest.mark.parametrize("nd", [1, 2, 3])
@pytest.mark.parametrize("norm", [1.0, 2.0, 3.0, math.inf, -math.inf])
def test_lp_pool_of_zeros_and_negatives(nd: int, norm: float) -> None:
    """A zero window has gradient zero; a root of a negative sum is NaN."""
    x = torch.zeros(2, 3, *(6, 4, 4)[:nd], dtype=torch.float64)
    x[0] = normal(x.shape[1:], x.dtype)
    for size in (x, x.abs()):
        results = []
        for module in (F, TF):
            own = size.clone().requires_grad_()
            y = per_rank("lp_pool", nd, module)(own, norm, 2)
            results.append((y.detach(), torch.autograd.grad(y.sum(), own)[0]))
        torch.testing.assert_close(results[1], results[0], equal_nan=True)


@pytest.mark.parametrize("dtype", FLOATS, **named)
@pytest.mark.parametrize("sizes", shapes.ADAPTIVE, ids=str)
def test_adaptive_avg_pool(sizes: Any, dtype: torch.dtype) -> None:
    x_size, out = sizes
    nd, asked = len(out), out[0] if len(out) == 1 else out
    compare(
        lambda x: per_rank("adaptive_avg_pool", nd, TF)(x, asked),
        lambda x: per_rank("adaptive_avg_pool", nd, F)(x, asked),
        normal(x_size, torch.float64, out),
        dtype,
        math.prod(x_size[2:]),
        scale=2.0**nd,
    )


@pytest.mark.parametrize("dtype", FLOATS, **named)
@pytest.mark.parametrize("kind", ["normal", "ties", "nan", "lowest"])
@pytest.mark.parametrize("sizes", shapes.ADAPTIVE, ids=str)
def test_adaptive_max_pool(sizes: Any, kind: str, dtype: torch.dtype) -> None:
    x_size, out = sizes
    nd, asked = len(out), out[0] if len(out) == 1 else out
    x = hard(x_size, kind).to(dtype)
    pools = [per_rank("adaptive_max_pool", nd, module) for module in (F, TF)]
    exact = wide(x).requires_grad_()
    y, index = pools[0](exact, asked, return_indices=True)
    grad = whole(y.shape, torch.float64, "grad")
    gx = torch.autograd.grad(y, exact, grad)[0].to(dtype)
    y = y.detach().to(dtype)
    for isa in each_isa():
        for return_indices, (how, view) in itertools.product(
            (False, True), layouts(x).items()
        ):
            where = f"of {how} on {isa}"
            ours = view.detach().requires_grad_()
            found = pools[1](ours, asked, return_indices=return_indices)
            if return_indices:
                found, found_index = found
                assert_same(found_index, index, f"indices {where}")
            assert_same(found.detach(), y, f"values {where}")
            found_gx = torch.autograd.grad(found, ours, grad.to(dtype))[0]
            assert_same(found_gx, gx, f"gradient {where}")


@pytest.mark.parametrize("dtype", FLOATS, **named)
@pytest.mark.parametrize("kind", ["normal", "nan"])
@pytest.mark.parametrize("sizes", shapes.FRACTIONAL, ids=str)
def test_fractional_max_pool(sizes: Any, kind: str, dtype: torch.dtype) -> None:
    x_size, kernel, out = sizes
    nd = len(out)
    x = hard(x_size, kind).to(dtype)
    samples = torch.rand(*x_size[:2], nd, dtype=dtype)
    results = []
    for module in (F, TF):
        for isa in each_isa():
            # Both draw their samples from torch's generator (the CPU's).
            torch.default_generator.manual_seed(5)
            own = x.clone().requires_grad_()
            options = {"_random_samples": samples} if on_cuda() else {}
            y, index = per_rank("fractional_max_pool", nd, module)(
                own, kernel, out, return_indices=True, **options
            )
            grad = whole(y.shape, dtype, "grad")
            gx = torch.autograd.grad(y, own, grad)[0]
            results.append((isa, y.detach(), index, gx))
    _, *expected = results[0]
    for isa, *found in results:
        for a, b in zip(found, expected, strict=True):
            assert_same(a, b, isa)
    if on_cuda():
        return  # the generators of the two devices differ
    ratio = tuple(max(0.01, o / n) for o, n in zip(out, x_size[2:], strict=True))
    torch.default_generator.manual_seed(5)
    a = per_rank("fractional_max_pool", nd, F)(x, kernel, output_ratio=ratio)
    torch.default_generator.manual_seed(5)
    b = per_rank("fractional_max_pool", nd, TF)(x, kernel, output_ratio=ratio)
    assert_same(b, a, "by ratio")


@pytest.mark.parametrize("dtype", FLOATS, **named)
@pytest.mark.parametrize("nd", [1, 2, 3])
def test_max_unpool(nd: int, dtype: torch.dtype) -> None:
    x = normal((2, 5, *(9, 7, 5)[:nd]), dtype)
    pooled, index = per_rank("max_pool", nd, F)(x, 3, 2, 1, return_indices=True)
    for size in (None, x.shape[2:], x.shape):
        results = []
        for module in (F, TF):
            for isa in each_isa():
                own = pooled.clone().requires_grad_()
                y = per_rank("max_unpool", nd, module)(own, index, 3, 2, 1, size)
                gx = torch.autograd.grad(y, own, whole(y.shape, dtype, "grad"))[0]
                results.append((isa, y.detach(), gx))
        for isa, y, gx in results:
            assert_same(y, results[0][1], f"{size} on {isa}")
            assert_same(gx, results[0][2], f"gradient, {size} on {isa}")


@pytest.mark.parametrize("channels", [1, 3, 260])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("part", [1, 10])
def test_planes_that_are_zeroed_piece_by_piece(
    channels: int, last: bool, part: int
) -> None:
    """Indices that leap to and fro in a part of planes of more than 256 kB."""
    n = 90000 if channels < 9 else 900
    memory = torch.channels_last if last else torch.contiguous_format
    index = torch.stack([torch.randperm(n // part)[:64] for _ in range(channels)])
    index[:, :8] = index[:, :8].sort().values
    index = index.reshape(1, channels, 8, 8).contiguous(memory_format=memory)
    x = whole(index.shape, torch.float32).contiguous(memory_format=memory)
    expected = torch.zeros(1, channels, n).scatter_(2, index.flatten(2), x.flatten(2))
    size = (30, n // 30)
    for _ in range(3):  # memory that was used before
        torch.full((channels, n), torch.nan)
    for y in (
        torch.ops.torchconv.max_unpool(x, index, size, last),
        torch.ops.torchconv.pool_scatter(
            x, index, (1, channels, *size), (1, 1), (1, 1), (0, 0), (1, 1), last
        ),
    ):
        assert_same(y.flatten(2), expected)
    for bad in (n, -1):
        for at in (0, -1):
            wrong = index.clone(memory_format=torch.preserve_format)
            wrong[0, -1, at, at] = bad
            with pytest.raises(RuntimeError, match=f"invalid max index: {bad}"):
                torch.ops.torchconv.max_unpool(x, wrong, size, last)


def test_max_unpool_where_inputs_meet() -> None:
    """The last one in plane order stays."""
    x = torch.arange(1.0, 9.0).reshape(1, 2, 4)
    index = torch.tensor([0, 2, 0, 2]).expand(1, 2, 4)
    expected = reference.max_unpool(x, index, (8,)).float()
    assert_same(TF.max_unpool1d(x, index, 2), expected)


@pytest.mark.parametrize(
    "name",
    ["max_pool", "avg_pool", "lp_pool", "adaptive_max_pool", "adaptive_avg_pool"],
)
@pytest.mark.parametrize("nd", [1, 2, 3])
def test_unbatched(name: str, nd: int) -> None:
    x = normal((3, *(6, 7, 5)[:nd]), torch.float32).abs()
    args = (2.0, 2) if name == "lp_pool" else (2,)
    expected = per_rank(name, nd, F)(x, *args)
    torch.testing.assert_close(per_rank(name, nd, TF)(x, *args), expected)


# Channels in whole vectors of 16 bytes, side by side: (x size, kernel, stride, padding);
# no kernel stands for adaptive pooling to the size in the place of the stride.
VECTORS: list[tuple[tuple[int, ...], Any, Any, Any]] = [
    ((2, 16, 9, 10), 3, 2, 1),
    ((1, 8, 7, 7), 7, 7, 0),
    ((2, 40, 6, 7), (6, 7), 1, 0),
    ((1, 264, 6, 6), 6, 6, 3),
    ((2, 24, 4, 5, 6), 3, 2, 1),
    ((2, 16, 9, 7), None, (1, 1), None),
    ((1, 40, 13, 14), None, (2, 3), None),
    ((1, 264, 4, 3, 5), None, (1, 1, 1), None),
]


@pytest.mark.parametrize("dtype", FLOATS, **named)
@pytest.mark.parametrize("case", VECTORS, ids=str)
def test_channels_side_by_side(case: Any, dtype: torch.dtype) -> None:
    size, kernel, stride, padding = case
    nd = len(size) - 2
    last = memory_format_of(nd)
    x = normal(size, torch.float64, "vectors").contiguous(memory_format=last)
    window = (stride,) if kernel is None else (kernel, stride, padding)
    kind = "adaptive_" if kernel is None else ""
    taps = math.prod(size[2:])
    compare(
        lambda x: per_rank(f"{kind}avg_pool", nd, TF)(x, *window),
        lambda x: per_rank(f"{kind}avg_pool", nd, F)(x, *window),
        x,
        dtype,
        taps,
        scale=2.0**nd,
        what="avg",
    )
    if padding == 0:
        compare(
            lambda x: per_rank("lp_pool", nd, TF)(x, 3.0, *window[:2]),
            lambda x: per_rank("lp_pool", nd, F)(x, 3.0, *window[:2]),
            x.abs() + 0.25,
            dtype,
            taps,
            scale=4.0 * taps,
            by_output=3.0,
            what="lp",
        )
    for values in ("ties", "nan"):
        ours = hard(size, values).to(dtype).contiguous(memory_format=last)
        exact = wide(ours).requires_grad_()
        pool = per_rank(f"{kind}max_pool", nd, F)
        y, index = pool(exact, *window, return_indices=True)
        grad = whole(y.shape, torch.float64, "grad")
        gx = torch.autograd.grad(y, exact, grad)[0].to(dtype)
        for isa in each_isa():
            leaf = ours.detach().requires_grad_()
            pool = per_rank(f"{kind}max_pool", nd, TF)
            found = pool(leaf, *window)
            assert_same(found.detach(), y.detach().to(dtype), f"{values} on {isa}")
            found_gx = torch.autograd.grad(found, leaf, grad.to(dtype))[0]
            assert_same(found_gx, gx, f"gradient of {values} on {isa}")
            found, found_index = pool(leaf, *window, return_indices=True)
            assert_same(found_index, index, f"indices of {values} on {isa}")
            found_gx = torch.autograd.grad(found, leaf, grad.to(dtype))[0]
            assert_same(found_gx, gx, f"gradient by indices of {values} on {isa}")


@pytest.mark.parametrize("nd", [1, 2, 3])
def test_channel_sum(nd: int) -> None:
    for channels in (1, 3, 8, 40, 272):
        for dtype in (*FLOATS, torch.int64):
            x = whole((3, channels, *(33, 7, 5)[:nd]), dtype)
            for how, view in layouts(x).items():
                found = ops.channel_sum(view)
                assert_same(found, x.flatten(2).sum((0, 2)).to(dtype), how)


@pytest.mark.parametrize("indices", [False, True])
def test_columns_that_no_window_sees(indices: bool) -> None:
    """Dilation puts every tap of a row beside the input."""
    x = torch.randn(1, 8, 6, 2).to(memory_format=torch.channels_last).requires_grad_()
    y = TF.max_pool2d(x, (1, 2), 1, (0, 1), (1, 3), return_indices=indices)
    y = y[0] if indices else y
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert not grad.any()
