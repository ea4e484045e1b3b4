"""The dispatcher's side: schemas, fake kernels, torch.compile and torch.export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import grad, hessian, jacfwd, jacrev, vmap
from torch.nn.functional import pad

import torchconv
import torchconv.functional as tc
import torchconv.nn

OPS = torch.ops.torchconv


@pytest.fixture(autouse=True)
def _fresh_compiler() -> None:
    torch._dynamo.reset()


def _image(*size: int, channels_last: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(sum(size))
    x = torch.rand(*size, generator=generator) + 0.5
    if not channels_last:
        return x
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return x.to(memory_format=formats[len(size)])


class Sample(NamedTuple):
    op: str
    tensors: tuple[Tensor | None, ...]
    args: tuple[Any, ...]


def _conv_samples() -> list[Sample]:
    found = []
    for channels_last in (False, True):
        x = _image(2, 4, 6, 5, channels_last=channels_last)
        w = _image(6, 2, 3, 2, channels_last=channels_last)
        b = _image(6)
        conv = ([2, 1], [1, 0, 0, 1], [1, 2], 2, "zeros", channels_last, "auto")
        y = OPS.conv_forward(x, w, None, *conv)
        size, w_size = list(x.shape), list(w.shape)
        found += [
            Sample("conv_forward", (x, w, b), conv),
            Sample("conv_forward", (x, w, None), conv),
            Sample("conv_input_grad", (y, w, _image(4)), (size, *conv)),
            Sample("conv_input_grad", (y, w, None), (size, *conv)),
            Sample("conv_weight_grad", (y, x), (w_size, *conv)),
            Sample("channel_sum", (y,), ()),
            Sample("conv_forward_fused", (x, w, b, y), (*conv, "relu", 0.0, 0.0)),
            Sample(
                "conv_input_grad_fused",
                (y, w, None, x),
                (size, *conv, "hardtanh", 0.0, 6.0),
            ),
        ]
    x1, w1 = _image(2, 3, 9), _image(3, 1, 3)
    conv1 = ([1], [2, 0], [1], 3, "circular", False, "auto")
    found.append(Sample("conv_forward", (x1, w1, None), conv1))
    x3, w3 = _image(1, 2, 4, 5, 4, channels_last=True), _image(2, 2, 2, 3, 2)
    conv3 = ([1, 1, 1], [1] * 6, [1, 1, 1], 1, "replicate", True, "auto")
    found.append(Sample("conv_forward", (x3, w3, None), conv3))
    return found


def _max_pool_samples() -> list[Sample]:
    found = []
    for channels_last in (False, True):
        x = _image(2, 3, 7, 6, channels_last=channels_last)
        size = list(x.shape)
        window = ([3, 2], [2, 2], [1, 0], [1, 1])
        args = (*window, True, channels_last)
        y, codes = OPS.max_pool_with_codes(x, *args)
        indices = OPS.max_pool_with_indices(x, *args)[1]
        wide = ([17, 17], [1, 1], [8, 8], [1, 1], False, channels_last)
        adaptive = ([2, 3], channels_last)
        samples = torch.rand(2, 3, 2)
        found += [
            Sample("max_pool", (x,), args),
            Sample("max_pool_with_codes", (x,), args),
            Sample("max_pool_with_codes", (x,), wide),
            Sample("max_pool_with_indices", (x,), args),
            Sample("pool_scatter", (y, codes), (size, *window, channels_last)),
            Sample("pool_scatter", (y, indices), (size, *window, channels_last)),
            Sample("pool_gather", (x, codes), (*window, channels_last)),
            Sample("pool_gather", (x, indices), (*window, channels_last)),
            Sample("max_unpool", (y, indices), ([7, 6], channels_last)),
            Sample("adaptive_max_pool", (x,), adaptive),
            Sample("adaptive_max_pool_with_codes", (x,), adaptive),
            Sample("adaptive_max_pool_with_indices", (x,), adaptive),
            Sample("fractional_max_pool", (x, samples), ([2, 2], [3, 3], False)),
        ]
    return found


def _other_samples() -> list[Sample]:
    found = []
    for channels_last in (False, True):
        x = _image(2, 3, 7, 6, channels_last=channels_last)
        size = list(x.shape)
        window = ([3, 2], [2, 2], [1, 0], True, False, None, channels_last)
        divided = ([3, 2], [2, 2], [1, 0], False, True, 5, channels_last)
        adaptive = ([2, 3], channels_last)
        lp = (2.0, [3, 2], [2, 2], True, channels_last)
        y = OPS.lp_pool(x, *lp)
        found += [
            Sample("avg_pool", (x,), window),
            Sample("avg_pool", (x,), divided),
            Sample("avg_pool_input_grad", (_image(2, 3, 4, 3),), (size, *window)),
            Sample("adaptive_avg_pool", (x,), adaptive),
            Sample(
                "adaptive_avg_pool_input_grad", (_image(2, 3, 2, 3),), (size, False)
            ),
            Sample("lp_pool", (x,), lp),
            Sample("lp_pool_input_grad", (y, x, y), lp),
            Sample("unfold", (x,), ([3, 2], [1, 2], [1, 0], [2, 1])),
        ]
    blocks = ([2, 2], [1, 1], [0, 0], [2, 2])
    found.append(Sample("fold", (_image(2, 12, 9),), ([6, 6], *blocks)))
    return found


def _local_samples() -> list[Sample]:
    found = []
    for channels_last in (False, True):
        x = _image(2, 4, 7, 8, channels_last=channels_last)
        w, b = torch.randn(2, 2, 6, 2, 3, 3), torch.randn(2, 2, 6)
        window = ([2, 2], [1, 0, 1, 0], [1, 1], 2, "zeros")
        y = OPS.local_conv_forward(x, w, b, *window, channels_last)
        sizes = list(x.shape), list(w.shape)
        found += [
            Sample("local_conv_forward", (x, w, b), (*window, channels_last)),
            Sample("local_conv_input_grad", (y, w), (sizes[0], *window, channels_last)),
            Sample("local_conv_weight_grad", (y, x), (sizes[1], *window)),
        ]
    return found


SAMPLES = {
    "conv": _conv_samples,
    "local": _local_samples,
    "max_pool": _max_pool_samples,
    "other": _other_samples,
}


@pytest.mark.parametrize("family", SAMPLES)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_opcheck(family: str, requires_grad: bool) -> None:
    """PyTorch's own check of custom operators: schema, autograd registration, fake
    kernel (with strides), and tracing with dynamic shapes."""
    for sample in SAMPLES[family]():
        tensors = tuple(
            t
            if t is None or not t.is_floating_point()
            else t.detach().clone().requires_grad_(requires_grad)
            for t in sample.tensors
        )
        op = getattr(OPS, sample.op).default
        result = torch.library.opcheck(op, (*tensors, *sample.args))
        assert set(result.values()) == {"SUCCESS"}, (sample.op, result)


def test_every_operator_is_checked() -> None:
    """The samples above leave no operator out."""
    sampled = {s.op for family in SAMPLES.values() for s in family()}
    assert sampled == set(torchconv._ops.FAKES)


@pytest.mark.parametrize("family", SAMPLES)
def test_fake_kernels_know_sizes_strides_and_dtypes(family: str) -> None:
    for sample in SAMPLES[family]():
        op = getattr(OPS, sample.op)
        real = op(*sample.tensors, *sample.args)
        with FakeTensorMode() as mode:
            fakes = [None if t is None else mode.from_tensor(t) for t in sample.tensors]
            fake = op(*fakes, *sample.args)
        if isinstance(real, Tensor):
            real, fake = (real,), (fake,)
        for a, b in zip(real, fake, strict=True):
            found = (b.shape, b.stride(), b.dtype, b.device)
            assert found == (a.shape, a.stride(), a.dtype, a.device), sample.op


def _network(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
    """Every family of functions once."""
    y = tc.conv2d(x, w, b, padding="same")
    y = tc.max_pool2d(y, 3, 2, 1).relu()
    y = tc.conv2d(y, w, padding=1, padding_mode="reflect", groups=1)
    y = tc.conv_transpose2d(y, w, stride=2, output_padding=1)
    y = tc.avg_pool2d(y, 2, ceil_mode=True) + tc.max_pool2d(y, 2, ceil_mode=True)
    y = tc.lp_pool2d(y.abs() + 1, 2, 2)
    z, indices = tc.max_pool2d(y, 2, return_indices=True)
    y = y + tc.max_unpool2d(z, indices, 2, output_size=y.shape)
    y = tc.fold(tc.unfold(y, 2), y.shape[-2:], 2)
    return tc.adaptive_avg_pool2d(y, 2) + tc.adaptive_max_pool2d(y, 2)


def _network_inputs(side: int = 32, channels_last: bool = False) -> list[Tensor]:
    x = _image(2, 4, side, side, channels_last=channels_last)
    return [x, _image(4, 4, 3, 3) - 1, _image(4)]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_training_is_eager_training(
    channels_last: bool, dynamic: bool
) -> None:
    """One graph, same results, same strides, same gradients."""
    compiled = torch.compile(
        _network, fullgraph=True, dynamic=dynamic, backend="aot_eager"
    )
    for side in (32, 40):
        inputs = _network_inputs(side, channels_last)
        leaves = [t.clone().requires_grad_() for t in inputs]
        twins = [t.clone().requires_grad_() for t in inputs]
        expected = _network(*leaves)
        found = compiled(*twins)
        torch.testing.assert_close(found, expected, check_stride=True)
        grads = torch.autograd.grad(found.sum(), twins)
        for a, b in zip(
            grads, torch.autograd.grad(expected.sum(), leaves), strict=True
        ):
            torch.testing.assert_close(a, b, check_stride=True)
        with torch.no_grad():
            torch.testing.assert_close(compiled(*inputs), _network(*inputs))


def test_dynamic_sizes_compile_once() -> None:
    counter = CompileCounter()
    compiled = torch.compile(_network, fullgraph=True, dynamic=True, backend=counter)
    for side in (32, 36, 52):
        compiled(*_network_inputs(side))
    assert counter.frame_count == 1


def test_inductor() -> None:
    """The default backend generates code around the operators."""
    inputs = _network_inputs()
    compiled = torch.compile(_network, fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), _network(*inputs))


FUNCTIONS: dict[str, Callable[[Tensor], Any]] = {
    "conv1d": lambda x: tc.conv1d(x[..., 0], x[:2, :, :3, 0], padding="causal"),
    "conv3d": lambda x: tc.conv3d(
        x[None], x[None, :1, :2, :2, :2].expand(2, 2, -1, 2, 2)
    ),
    "complex": lambda x: tc.conv2d(torch.complex(x, x), torch.complex(x, -x)[..., :2]),
    "integers": lambda x: tc.conv2d((8 * x).int(), (4 * x[..., :3, :3]).int()),
    "unbatched": lambda x: tc.conv2d(x[0], x[..., :2, :2]),
    "max_pool1d": lambda x: tc.max_pool1d(x[0], 3),
    "max_pool3d": lambda x: tc.max_pool3d(x, 2, return_indices=True),
    "adaptive_max": lambda x: tc.adaptive_max_pool2d(x, (2, None), return_indices=True),
    "avg_pool1d": lambda x: tc.avg_pool1d(x[0].transpose(1, 2), 2),
    "lp_pool_inf": lambda x: tc.lp_pool2d(x, float("inf"), 2),
    "fractional": lambda x: tc.fractional_max_pool2d(x, 2, output_ratio=0.5).shape,
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_kind_of_call_is_one_graph(name: str) -> None:
    function = FUNCTIONS[name]
    x = _image(2, 4, 8, 8)
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), function(x))


def test_autocast_inside_a_graph() -> None:
    def run(x: Tensor, w: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return tc.max_pool2d(tc.conv2d(x, w), 2)

    x, w = _image(1, 2, 8, 8), _image(3, 2, 3, 3)
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    assert run(x, w).dtype is torch.bfloat16
    torch.testing.assert_close(compiled(x, w), run(x, w))


def test_the_algorithm_is_part_of_the_graph() -> None:
    """An argument and the context both reach the operator; nothing breaks the graph."""
    seen: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        for node in graph.graph.nodes:
            if node.target is OPS.conv_forward.default:
                seen.append(node.args[-1])
        return graph

    x, w = _image(1, 2, 8, 8), _image(3, 2, 3, 3)

    def run(x: Tensor, w: Tensor) -> Tensor:
        return tc.conv2d(x, w) + tc.conv2d(x, w, algorithm="direct")

    compiled = torch.compile(run, fullgraph=True, backend=backend)
    with torchconv.algorithm("im2col"):
        compiled(x, w)
    assert seen == ["im2col", "direct"]


def test_export() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torchconv.nn.Conv2d(4, 8, 3, padding=1, padding_mode="circular")
            self.pool = torchconv.nn.MaxPool2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.pool(self.conv(x))

    model = Model().eval()
    x = _image(2, 4, 8, 8)
    sizes = {0: torch.export.Dim("batch", min=2, max=64)}
    for strict in (False, True):
        program = torch.export.export(
            model, (x,), dynamic_shapes=(sizes,), strict=strict
        )
        targets = {node.target for node in program.graph.nodes}
        assert OPS.conv_forward.default in targets
        assert OPS.max_pool.default in targets
        larger = _image(5, 4, 8, 8)
        torch.testing.assert_close(program.module()(larger), model(larger))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_jit_traces_layers_whose_parameters_want_gradients() -> None:
    # trace runs the module with gradients and once more without, and compares the graphs.
    nn = torchconv.nn
    model = torch.nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.AvgPool2d(2))
    x = torch.randn(2, 3, 12, 12, requires_grad=True)
    traced = torch.jit.trace(model, x)
    names = {n.kind() for n in traced.inlined_graph.nodes()}
    assert {"torchconv::conv_forward", "torchconv::avg_pool"} <= names
    y, expected = traced(x), model(x)
    torch.testing.assert_close(y, expected)
    inputs = [x, *model.parameters()]
    for got, want in zip(
        torch.autograd.grad(y.sum(), inputs),
        torch.autograd.grad(expected.sum(), inputs),
    ):
        torch.testing.assert_close(got, want)


def test_fx_traces_a_model_symbolically() -> None:
    """Functions take part in torch's function overrides."""
    traced = torch.fx.symbolic_trace(lambda x, w: tc.max_pool2d(tc.conv2d(x, w), 2))
    targets = [n.target for n in traced.graph.nodes if n.op == "call_function"]
    assert targets == [tc.conv2d, tc.max_pool2d]
    x, w = _image(1, 2, 8, 8), _image(3, 2, 3, 3)
    torch.testing.assert_close(traced(x, w), tc.max_pool2d(tc.conv2d(x, w), 2))


def test_meta_tensors() -> None:
    """The meta device has shapes and no data."""
    x = torch.empty(2, 3, 2**20, 2**20, device="meta")
    w = torch.empty(8, 3, 7, 7, device="meta")
    y = tc.avg_pool2d(tc.max_pool2d(tc.conv2d(x, w, stride=2, padding=3), 2), 2)
    assert y.shape == (2, 8, 2**17, 2**17)
    assert y.device.type == "meta"


def test_the_fake_route_and_the_eager_route_share_their_rules() -> None:
    """The bare operator (dispatcher's autograd) against the function (eager)."""
    x, w = _image(2, 4, 6, 6), _image(4, 4, 3, 3)
    conv = ((1, 1), (1, 1, 1, 1), (1, 1), 1, "zeros", False, "auto")
    results = []
    for call in (torchconv.autograd.conv_forward, None):
        leaves = [t.clone().requires_grad_() for t in (x, w)]
        if call is None:
            y = OPS.conv_forward(*leaves, None, *conv)
        else:
            y = call(*leaves, None, conv)
        first = torch.autograd.grad(y.square().sum(), leaves, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), leaves)
        results.append((y, *first, *second))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_bare_max_pool_recomputes_its_codes() -> None:
    x = _image(1, 2, 6, 6).requires_grad_()
    args = ((2, 2), (2, 2), (0, 0), (1, 1), False, False)
    bare = torch.autograd.grad(OPS.max_pool(x, *args).sum(), x)
    kept = torch.autograd.grad(tc.max_pool2d(x, 2).sum(), x)
    torch.testing.assert_close(bare, kept)
    out = OPS.adaptive_max_pool(x, (4, 4), False)
    bare = torch.autograd.grad(out.sum(), x)
    kept = torch.autograd.grad(tc.adaptive_max_pool2d(x, 4).sum(), x)
    torch.testing.assert_close(bare, kept)


def test_padded_copy_is_not_needed() -> None:
    """Padding modes are the operator's business: no pad in the graph."""
    x, w = _image(1, 2, 8, 8), _image(3, 2, 3, 3)
    ops: list[str] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        ops.extend(str(n.target) for n in graph.graph.nodes if n.op == "call_function")
        return graph

    run = torch.compile(
        lambda x, w: tc.conv2d(x, w, padding=((2, 1), (0, 2)), padding_mode="reflect"),
        fullgraph=True,
        backend=backend,
    )
    padded = torch.nn.functional.conv2d(pad(x, (0, 2, 2, 1), mode="reflect"), w)
    torch.testing.assert_close(run(x, w), padded)
    assert ops == ["torchconv.conv_forward.default"]


def _cubes(w: Tensor, x: Tensor) -> Tensor:
    y = tc.conv2d(x, w, padding=1).pow(3)
    return tc.avg_pool2d(tc.max_pool2d(y, 2), 2).sum()


@pytest.mark.parametrize("transform", [grad, jacfwd, hessian], ids=lambda t: t.__name__)
def test_compiled_transforms(transform: Callable[..., Any]) -> None:
    """torch.func inside a graph, nested as deep as a hessian."""
    x, w = _image(1, 2, 4, 4).double(), _image(2, 2, 3, 3).double()
    run = transform(lambda w: _cubes(w, x))
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(w), run(w))


def test_compiled_per_sample_gradients() -> None:
    x, w = _image(3, 2, 4, 4).double(), _image(2, 2, 3, 3).double()
    run = vmap(grad(lambda w, s: _cubes(w, s[None])), in_dims=(None, 0))
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(w, x), run(w, x))


def test_bare_operators_take_part_in_transforms() -> None:
    """The dispatcher's rules, without this package's functions, nested."""
    x, w = _image(2, 2, 4, 4).double(), _image(3, 2, 3, 3).double()
    conv = ((1, 1), (1, 1, 1, 1), (1, 1), 1, "zeros", False, "auto")

    def bare(w: Tensor) -> Tensor:
        return OPS.conv_forward(x, w, None, *conv).pow(3).sum()

    def torchs(w: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(x, w, padding=1).pow(3).sum()

    for transform in (grad, jacfwd, hessian, lambda f: jacrev(jacrev(f))):
        torch.testing.assert_close(transform(bare)(w), transform(torchs)(w))


def test_functionalize() -> None:
    x, w = _image(1, 2, 6, 6), _image(3, 2, 3, 3)

    def run(x: Tensor) -> Tensor:
        return tc.max_pool2d(tc.conv2d(x, w), 2)

    torch.testing.assert_close(torch.func.functionalize(run)(x), run(x))
