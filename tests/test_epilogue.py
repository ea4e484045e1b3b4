"""activation(convolution + residual) in one call, against torch's separate calls, and bit
by bit against a pass over what the same algorithm gives without."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import shapes
import torch
import torch.nn.functional as TF
from common import (
    ALGORITHMS,
    EVERY,
    FLOATS,
    each_isa,
    memory_format_of,
    normal,
    ops,
    threads,
)
from torch import Tensor

import torchconv
from torchconv import functional as F
from torchconv import nn

# As users write them, torch's function, and the operators' arguments.
Epilogue = tuple[Any, Callable[[Tensor], Tensor], tuple[str, float, float]]
ACTIVATIONS: list[Epilogue] = [
    (None, lambda v: v, ("none", 0.0, 0.0)),
    ("relu", TF.relu, ("relu", 0.0, 0.0)),
    ("relu6", TF.relu6, ("hardtanh", 0.0, 6.0)),
    ("hardtanh", TF.hardtanh, ("hardtanh", -1.0, 1.0)),
    (
        ("hardtanh", -0.5, 0.75),
        lambda v: TF.hardtanh(v, -0.5, 0.75),
        ("hardtanh", -0.5, 0.75),
    ),
    ("leaky_relu", TF.leaky_relu, ("leaky_relu", 0.01, 0.0)),
    (
        ("leaky_relu", 0.25),
        lambda v: TF.leaky_relu(v, 0.25),
        ("leaky_relu", 0.25, 0.0),
    ),
    (
        ("leaky_relu", -0.5),
        lambda v: TF.leaky_relu(v, -0.5),
        ("leaky_relu", -0.5, 0.0),
    ),
    ("hardswish", TF.hardswish, ("hardswish", 0.0, 0.0)),
    ("hardsigmoid", TF.hardsigmoid, ("hardsigmoid", 0.0, 0.0)),
]
by_name = pytest.mark.parametrize(
    ("activation", "function", "canonical"),
    ACTIVATIONS,
    ids=[str(a[0]) for a in ACTIVATIONS],
)
named = {"ids": lambda value: getattr(value, "name", str(value))}


def by_hand(y: Tensor, residual: Tensor | None, canonical: Any) -> Tensor:
    """The epilogue in the type that kernels compute in, rounded once at its end."""
    v = y.double() if y.dtype == torch.float64 else y.float()
    v = v if residual is None else v + residual.to(v.dtype)
    name, a, b = canonical
    gate = (v + 3).clamp(0, 6)
    found = {
        "none": lambda: v,
        "relu": lambda: v.clamp(min=0),
        "hardtanh": lambda: v.clamp(a, b),
        "leaky_relu": lambda: torch.where(v > 0, v, v * a),
        "hardswish": lambda: v * gate / 6,
        "hardsigmoid": lambda: gate / 6,
    }[name]()
    return found.to(y.dtype)


def check_passes(
    problem: shapes.Conv, dtype: torch.dtype, algorithms: Any, epilogues: Any
) -> tuple[list[str], int]:
    """forward and input_grad with epilogues; what is wrong, and how many were compared."""
    nd = problem.nd
    sizes = (problem.x_size, problem.weight_size, problem.out_size)
    x, w, gy = (normal(s, dtype, problem.name, i) for i, s in enumerate(sizes))
    bias = normal(sizes[1][:1], dtype, problem.name, 3)
    wrong, compared = [], 0
    for last in (False, True)[: 1 + (nd > 1)]:
        if last:
            form = memory_format_of(nd)
            x, gy = (t.contiguous(memory_format=form) for t in (x, gy))
        pads = [p for pair in problem.pads for p in pair]
        args = (
            list(problem.strides),
            pads,
            list(problem.dilations),
            problem.groups,
            problem.padding_mode,
            last,
        )
        size = list(problem.x_size)
        for algorithm in algorithms:
            runs = {
                "forward": (
                    ops.conv_forward,
                    ops.conv_forward_fused,
                    (x, w, bias),
                    args,
                ),
                "input_grad": (
                    ops.conv_input_grad,
                    ops.conv_input_grad_fused,
                    (gy, w, None),
                    (size, *args),
                ),
            }
            for name, (plain, fused, tensors, options) in runs.items():
                try:
                    y = plain(*tensors, *options, algorithm)
                except RuntimeError:
                    continue  # refused, as other tests check
                for number, (canonical, add) in enumerate(epilogues):
                    residual = torch.randn_like(y) if add else None
                    found = fused(*tensors, residual, *options, algorithm, *canonical)
                    compared += 1
                    expected = by_hand(y, residual, canonical)
                    if found.stride() != y.stride() or not torch.equal(found, expected):
                        wrong.append(
                            f"{algorithm} {name} channels_last={last} "
                            f"{canonical} {add} {number}"
                        )
    return wrong, compared


# Every problem in float32; the other types take turns.
PROBLEMS = [
    pytest.param(problem, dtype, number, id=f"{problem.name}-{dtype}")
    for number, problem in enumerate(shapes.CONVS)
    for dtype in FLOATS
    if dtype == torch.float32 or number % 3 == FLOATS.index(dtype) % 3
]


@pytest.mark.parametrize(("problem", "dtype", "number"), PROBLEMS)
def test_every_algorithm_bit_by_bit(
    problem: shapes.Conv, dtype: torch.dtype, number: int
) -> None:
    """The epilogue of a written block is that of a pass over the whole result."""
    epilogues = [
        (("relu", 0.0, 0.0), True),
        (ACTIVATIONS[number % len(ACTIVATIONS)][2], number % 2 == 0),
    ]
    failures = []
    for isa in each_isa():
        wrong, compared = check_passes(problem, dtype, EVERY, epilogues)
        failures += [f"{isa}: {text}" for text in wrong]
        assert compared > 0
    assert not failures, "\n".join(failures)


@by_name
def test_every_activation_by_every_algorithm(
    activation: Any, function: Any, canonical: Any
) -> None:
    for name in ("resnet_3x3", "mobilenet_dw3x3", "resnext_3x3g"):
        for isa in each_isa():
            epilogues = [(canonical, False), (canonical, True)]
            wrong, compared = check_passes(
                shapes.one(name), torch.float32, EVERY, epilogues
            )
            assert not wrong, f"{isa} {wrong}"
            assert compared > 12


def test_cuda_kernels(kernel_device: str) -> None:
    """Every activation and dtype, by the algorithm that "auto" takes."""
    for _, _, canonical in ACTIVATIONS:
        for dtype in FLOATS:
            x, w = normal((2, 4, 5, 7), dtype, 0), normal((3, 4, 3, 3), dtype, 1)
            args = ([1, 1], [1, 1, 1, 1], [1, 1], 1, "zeros", False, "auto")
            y = ops.conv_forward(x, w, None, *args)
            for residual in (None, normal(y.shape, dtype, 2)):
                found = ops.conv_forward_fused(x, w, None, residual, *args, *canonical)
                expected = by_hand(y, residual, canonical)
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS, **named)
@by_name
def test_against_torch(
    activation: Any, function: Any, canonical: Any, dtype: torch.dtype
) -> None:
    x = torch.randn(2, 6, 9, 11, dtype=torch.float64)
    w = torch.randn(8, 6, 3, 3, dtype=torch.float64) / 7
    b = torch.randn(8, dtype=torch.float64)
    y = TF.conv2d(x, w, b, 1, 1)
    r = torch.randn_like(y)
    residuals = {
        "none": None,
        "dense": r,
        "channels_last": r.contiguous(memory_format=torch.channels_last),
        "view": torch.randn(2, 8, 11, 22, dtype=torch.float64)[:, :, 2:, ::2],
        "expanded": torch.randn(1, 8, 1, 11, dtype=torch.float64).expand(y.shape),
        "broadcast": torch.randn(8, 1, 1, dtype=torch.float64),
        "number": torch.randn((), dtype=torch.float64),
    }
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}.get(dtype, 0.05)
    near = {"rtol": tolerance, "atol": tolerance}
    for name, residual in residuals.items():
        expected = function(y if residual is None else y + residual)
        for form in (torch.contiguous_format, torch.channels_last):
            found = F.conv2d(
                x.to(dtype, memory_format=form),
                w.to(dtype),
                b.to(dtype),
                1,
                1,
                activation=activation,
                residual=None if residual is None else residual.to(dtype),
            )
            assert found.is_contiguous(memory_format=form), name
            torch.testing.assert_close(found.double(), expected, **near, msg=name)


def test_other_ranks_unbatched_and_empty() -> None:
    for nd, conv in ((1, "conv1d"), (2, "conv2d"), (3, "conv3d")):
        x, w = torch.randn(2, 4, *(6, 5, 7)[:nd]), torch.randn(4, 4, *(3,) * nd)
        theirs, ours = getattr(TF, conv), getattr(F, conv)
        y = theirs(x, w, padding=1)
        found = ours(x, w, padding=1, activation="relu", residual=y)
        torch.testing.assert_close(found, (2 * y).relu(), rtol=1e-4, atol=1e-5)
        found = ours(x[0], w, padding=1, activation="relu", residual=y[0])
        torch.testing.assert_close(found, (2 * y[0]).relu(), rtol=1e-4, atol=1e-5)
        found = ours(x[:0], w, padding=1, activation="relu", residual=y[:0])
        assert found.shape == y[:0].shape
        name = conv.replace("conv", "conv_transpose")
        theirs, ours = getattr(TF, name), getattr(F, name)
        y = theirs(x, w, stride=2, output_padding=1)
        options = {"stride": 2, "output_padding": 1, "activation": "leaky_relu"}
        torch.testing.assert_close(
            ours(x, w, residual=y, **options),
            TF.leaky_relu(2 * y),
            rtol=1e-4,
            atol=1e-5,
        )
        torch.testing.assert_close(
            ours(x[1], w, residual=y[1], **options),
            TF.leaky_relu(2 * y[1]),
            rtol=1e-4,
            atol=1e-5,
        )


def test_what_the_operators_do_not_take() -> None:
    """Complex numbers have a residual, integers an activation too, no channels nothing."""
    x, w = torch.zeros(2, 0, 5), torch.zeros(3, 0, 2)
    r = torch.zeros(2, 0, 4)
    assert F.conv1d(x, w, activation="relu", residual=r).shape == r.shape
    x, w = torch.randn(1, 2, 5, dtype=torch.cfloat), torch.randn(3, 2, 3).cfloat()
    r = torch.randn(1, 3, 3, dtype=torch.cfloat)
    torch.testing.assert_close(F.conv1d(x, w, residual=r), TF.conv1d(x, w) + r)
    for dtype in (torch.int64, torch.int32):
        x, w = torch.arange(10).view(1, 2, 5), torch.tensor([[[1, -3], [0, 2]]])
        y = F.conv1d(x.to(dtype), w.to(dtype))
        found = F.conv1d(x.to(dtype), w.to(dtype), activation="relu", residual=-y * 2)
        assert torch.equal(found, (-y).relu())


@by_name
def test_nan_and_infinity(activation: Any, function: Any, canonical: Any) -> None:
    values = [float("nan"), float("inf"), -float("inf"), 0.0, -0.0, 3.0, -3.0, 6.0]
    x = torch.tensor(values * 5).view(1, 1, 40)
    w = torch.ones(1, 1, 1)
    for isa in each_isa():
        for algorithm in ("direct", "im2col", "depthwise"):
            found = F.conv1d(x, w, activation=activation, algorithm=algorithm)
            expected = function(x)
            torch.testing.assert_close(
                found, expected, rtol=1e-6, atol=0, equal_nan=True, msg=isa
            )


@pytest.mark.parametrize("transposed", [False, True])
@by_name
def test_derivatives(
    activation: Any, function: Any, canonical: Any, transposed: bool
) -> None:
    x, w, b = (
        torch.randn(s, dtype=torch.float64, requires_grad=True)
        for s in ((2, 2, 4), (2, 2, 2), (2,))
    )
    conv = F.conv_transpose1d if transposed else F.conv1d
    r = torch.randn_like(conv(x, w)).detach().requires_grad_()

    def run(x: Tensor, w: Tensor, b: Tensor, r: Tensor | None) -> Tensor:
        return conv(x, w, b, activation=activation, residual=r)

    assert torch.autograd.gradcheck(run, (x, w, b, r), check_forward_ad=True)
    assert torch.autograd.gradcheck(lambda *t: run(*t, None), (x, w, b))
    assert torch.autograd.gradgradcheck(run, (x, w, b, r))
    args = ([1], [0, 0], [1], 1, "zeros", False, "auto", *canonical)
    if transposed:
        args = (list(r.shape), *args)
    op = ops.conv_input_grad_fused if transposed else ops.conv_forward_fused
    assert torch.autograd.gradcheck(lambda *t: op(*t, *args), (x, w, b, r))
    assert torch.autograd.gradgradcheck(lambda *t: op(*t, *args), (x, w, b, r))


@by_name
def test_gradients_are_torchs(activation: Any, function: Any, canonical: Any) -> None:
    x = torch.randn(2, 3, 6, 5, requires_grad=True)
    w, b = torch.randn(4, 3, 3, 3, requires_grad=True), None
    r = torch.randn(4, 1, 1, requires_grad=True)
    ours = F.conv2d(x, w, b, padding=1, activation=activation, residual=r)
    theirs = function(TF.conv2d(x, w, b, padding=1) + r)
    grad = torch.randn_like(theirs)
    for found, expected in zip(
        torch.autograd.grad(ours, (x, w, r), grad),
        torch.autograd.grad(theirs, (x, w, r), grad),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("activation", ["relu", "hardswish"])
def test_vmap_and_func(activation: str, transposed: bool) -> None:
    conv = F.conv_transpose2d if transposed else F.conv2d
    options = {"padding": 1, "activation": activation}
    x, w, b = torch.randn(3, 2, 2, 5, 4), torch.randn(3, 2, 2, 3, 3), torch.randn(3, 2)
    r = torch.randn(3, 2, 2, 5, 4)

    def run(x: Tensor, w: Tensor, b: Tensor, r: Tensor | None) -> Tensor:
        return conv(x, w, b, residual=r, **options)

    for dims in (
        (0, 0, 0, 0),
        (0, None, None, 0),
        (None, 0, None, None),
        (None,) * 3 + (0,),
    ):
        given = [t if d == 0 else t[0] for t, d in zip((x, w, b, r), dims)]
        found = torch.vmap(run, dims)(*given)
        for i in range(3):
            member = [t[i] if d == 0 else t for t, d in zip(given, dims)]
            torch.testing.assert_close(found[i], run(*member), rtol=1e-4, atol=1e-5)
    tangent = torch.randn_like(x[0])
    out, found = torch.func.jvp(lambda v: run(v, w[0], b[0], r[0]), (x[0],), (tangent,))
    step = 1e-3
    plain = torch.func.vjp(lambda v: run(v, w[0], b[0], r[0]), x[0])[1](out)[0]
    v = x[0].clone().requires_grad_()
    expected = torch.autograd.grad(run(v, w[0], b[0], r[0]), v, out.detach())[0]
    torch.testing.assert_close(plain, expected)
    assert abs((found * out).sum() - (expected * tangent).sum()) < step * out.numel()


def test_compile_and_autocast() -> None:
    torch._dynamo.reset()

    def run(x: Tensor, w: Tensor, r: Tensor) -> Tensor:
        y = F.conv2d(x, w, padding=1, activation="relu", residual=r)
        return F.conv2d(y, w, padding=1, activation=("hardtanh", -2, 2)) * 2

    x, w = torch.randn(2, 4, 6, 6, requires_grad=True), torch.randn(4, 4, 3, 3)
    compiled = torch.compile(run, backend="aot_eager", fullgraph=True)
    found, expected = compiled(x, w, x), run(x, w, x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(
        torch.autograd.grad(found.sum(), x), torch.autograd.grad(expected.sum(), x)
    )
    with torch.autocast("cpu", torch.bfloat16):
        assert run(x, w, x).dtype == torch.bfloat16


def test_threads_change_nothing() -> None:
    x, w = torch.randn(1, 32, 40, 40), torch.randn(48, 32, 3, 3)
    r = torch.randn(1, 48, 40, 40)
    for algorithm in ALGORITHMS:
        results = []
        for count in (1, 2):
            with threads(count):
                try:
                    results.append(
                        F.conv2d(
                            x,
                            w,
                            activation="relu",
                            residual=r[..., 1:-1, 1:-1],
                            algorithm=algorithm,
                        )
                    )
                except RuntimeError:
                    break
        assert len(results) != 2 or torch.equal(*results)


def test_bands_of_rows_end_with_their_tiles() -> None:
    """Rows of one plane on several threads, two pairs of them in a tile."""
    x, w = torch.randn(1, 1, 57, 1000), torch.randn(1, 1, 3, 3)
    for height in (113, 114):  # bands of 38 rows where tiles do not matter
        options: dict[str, Any] = {
            "stride": 2,
            "padding": 1,
            "output_padding": (height - 113, 1),
            "algorithm": "depthwise",
        }
        expected = F.conv_transpose2d(x, w, **options).relu()
        for count in (1, 2, 3):
            with threads(count):
                found = F.conv_transpose2d(x, w, **options, activation="relu")
            assert torch.equal(found, expected)


def test_errors() -> None:
    x, w = torch.randn(1, 2, 5), torch.randn(3, 2, 3)
    wrong: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (ValueError, "activation must be one of .*'gelu'", {"activation": "gelu"}),
        (ValueError, "negative_slope", {"activation": ("leaky_relu", 1, 2)}),
        (ValueError, "no parameters", {"activation": ("relu", 1)}),
        (ValueError, "min_val is above", {"activation": ("hardtanh", 2, 1)}),
        (TypeError, "activation must be a name", {"activation": torch.relu}),
        (TypeError, "argument 'residual' must be Tensor", {"residual": 1}),
        (RuntimeError, r"residual of size \[1, 2, 3\]", {"residual": x[..., :3]}),
        (RuntimeError, "residual type", {"residual": torch.randn(1, 3, 3).double()}),
    ]
    for error, text, options in wrong:
        with pytest.raises(error, match=text):
            F.conv1d(x, w, **options)
    with pytest.raises(ValueError, match="Conv2d.*activation must be one of"):
        torchconv.nn.Conv2d(1, 1, 1, activation="swish")
    args = ([1], [0, 0], [1], 1, "zeros", False, "auto")
    with pytest.raises(RuntimeError, match="unknown activation 'no'"):
        ops.conv_forward_fused(x, w, None, None, *args, "no", 0.0, 0.0)
    with pytest.raises(RuntimeError, match="residual does not have the size"):
        ops.conv_forward_fused(x, w, None, x, *args, "relu", 0.0, 0.0)
    with pytest.raises(RuntimeError, match="integers have no epilogue"):
        ops.conv_forward_fused(x.long(), w.long(), None, None, *args, "relu", 0.0, 0.0)


def test_layers() -> None:
    layer = torchconv.nn.Conv2d(3, 4, 3, padding=1, activation="relu")
    x, r = torch.randn(2, 3, 6, 6), torch.randn(2, 4, 6, 6)
    y = TF.conv2d(x, layer.weight, layer.bias, padding=1)
    near = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(layer(x), y.relu(), **near)
    torch.testing.assert_close(layer(x, r), (y + r).relu(), **near)
    torch.testing.assert_close(layer(x, residual=r), (y + r).relu(), **near)
    assert "activation='relu'" in repr(layer)
    with torch.no_grad():
        before = layer(x, r)
        frozen = torchconv.freeze(layer)
        assert torch.equal(frozen(x, r), before)
        assert torch.equal(frozen(x, residual=r), before)
    transposed = torchconv.nn.ConvTranspose2d(3, 4, 2, 2, activation="relu6")
    y = TF.conv_transpose2d(x, transposed.weight, transposed.bias, stride=2)
    torch.testing.assert_close(transposed(x, residual=y), TF.relu6(2 * y), **near)
    torchconv.freeze(transposed)
    torch.testing.assert_close(transposed(x, None, y), TF.relu6(2 * y), **near)


def test_revert_does_not_lose_an_activation_or_flip() -> None:
    model = torchconv.convert(torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3)))
    model[0].activation = "relu"
    for _ in range(2):
        with pytest.raises(RuntimeError, match="0 has activation='relu'"):
            torchconv.revert(model)
        torchconv.freeze(model)
    model[0].activation = None
    model[0].flip = True
    with pytest.raises(RuntimeError, match="0 has flip=True"):
        torchconv.revert(model)
    model[0].flip = False
    assert type(torchconv.revert(model)[0]) is torch.nn.Conv2d


@pytest.mark.parametrize("nd", [1, 2, 3])
def test_every_kind_of_layer_takes_an_activation(nd: int) -> None:
    x = torch.randn(2, 4, *[5] * nd)
    names = ("Conv", "ConvTranspose", "LazyConv", "LazyConvTranspose")
    layers = [
        getattr(nn, f"{name}{nd}d")(4, 6, 3, activation="relu") for name in names[:2]
    ]
    layers += [
        getattr(nn, f"{name}{nd}d")(6, 3, activation="relu") for name in names[2:]
    ]
    layers.append(getattr(nn, f"DepthwiseConv{nd}d")(4, 3, activation="relu"))
    layers.append(getattr(nn, f"SeparableConv{nd}d")(4, 6, 3, activation="relu"))
    for layer in layers:
        y = layer(x)  # a lazy layer is an ordinary one from here on
        last = getattr(layer, "pointwise", layer)
        last.activation = None
        assert torch.equal(y, layer(x).relu()), layer
        assert (y == 0).any()
    for name in ("LazyConv", "DepthwiseConv"):
        with pytest.raises(ValueError, match="activation"):
            getattr(nn, f"{name}{nd}d")(4, 3, activation="softplus")
