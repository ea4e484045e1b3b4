"""torchconv.nn against torch.nn, class by class: nothing but the computation differs."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

import torchconv


class Case(NamedTuple):
    """A layer, how it is made, and the shape of a batched input of it."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shape: tuple[int, ...]

    def __str__(self) -> str:
        options = "-".join(f"{k}={v}" for k, v in self.kwargs.items())
        return f"{self.name}-{options}" if options else self.name

    def theirs(self, **more: Any) -> nn.Module:
        return getattr(nn, self.name)(*self.args, **self.kwargs, **more)

    def ours(self, **more: Any) -> nn.Module:
        return getattr(torchconv.nn, self.name)(*self.args, **self.kwargs, **more)


SPATIAL = {1: (13,), 2: (11, 9), 3: (7, 6, 8)}


def conv_cases() -> list[Case]:
    cases = []
    for nd, spatial in SPATIAL.items():
        shape = (2, 4, *spatial)
        options: list[dict[str, Any]] = [
            {},
            {"stride": 2, "padding": 1, "bias": False},
            {"padding": 2, "dilation": 2, "groups": 2},
            {"padding": "same"},
            {"padding": "valid", "groups": 4},
            *(
                {"padding": padding, "padding_mode": mode}
                for mode in ("reflect", "replicate", "circular")
                for padding in (1, "same")
            ),
        ]
        cases += [Case(f"Conv{nd}d", (4, 8, 3), o, shape) for o in options]
        cases.append(Case(f"Conv{nd}d", (4, 8, 2), {"padding": "same"}, shape))
        transposed: list[dict[str, Any]] = [
            {},
            {"stride": 2, "padding": 1, "output_padding": 1},
            {"stride": 3, "dilation": 2, "groups": 2, "bias": False},
        ]
        cases += [Case(f"ConvTranspose{nd}d", (4, 8, 3), o, shape) for o in transposed]
        cases.append(Case(f"LazyConv{nd}d", (8, 3), {"padding": 1}, shape))
        cases.append(Case(f"LazyConvTranspose{nd}d", (8, 3), {"stride": 2}, shape))
    return cases


def pool_cases() -> list[Case]:
    cases = []
    for nd, spatial in SPATIAL.items():
        shape = (2, 4, *spatial)
        cases += [
            Case(f"MaxPool{nd}d", (3,), {}, shape),
            Case(f"MaxPool{nd}d", (3, 2, 1), {"ceil_mode": True}, shape),
            Case(f"MaxPool{nd}d", (2, 1), {"dilation": 2}, shape),
            Case(f"AvgPool{nd}d", (3,), {}, shape),
            Case(f"AvgPool{nd}d", (3, 2, 1), {"count_include_pad": False}, shape),
            Case(f"LPPool{nd}d", (2, 3), {"stride": 2, "ceil_mode": True}, shape),
            Case(f"AdaptiveMaxPool{nd}d", (3,), {}, shape),
            Case(f"AdaptiveAvgPool{nd}d", (4,), {}, shape),
        ]
        if nd > 1:
            cases += [
                Case(f"AvgPool{nd}d", (2,), {"divisor_override": 3}, shape),
                Case(f"AdaptiveAvgPool{nd}d", ((None, *([2] * (nd - 1))),), {}, shape),
                Case(f"FractionalMaxPool{nd}d", (2,), {"output_ratio": 0.5}, shape),
                Case(f"FractionalMaxPool{nd}d", (2, 3), {}, shape),
            ]
    cases.append(Case("Unfold", (3,), {"padding": 1, "stride": 2}, (2, 4, 11, 9)))
    cases.append(Case("Fold", ((8, 7), 3), {}, (2, 4 * 9, 30)))
    return cases


CONVS = conv_cases()
POOLS = pool_cases()
UNPOOLS = [Case(f"MaxUnpool{nd}d", (2,), {}, (2, 4, *SPATIAL[nd])) for nd in SPATIAL]
# One of each class.
CLASSES = list({case.name: case for case in [*CONVS, *POOLS, *UNPOOLS]}.values())
FULL = [*CONVS, *POOLS]
# A lazy layer has no weights before its first input: test_lazy_layers.
EAGER_CONVS = [case for case in CONVS if not case.name.startswith("Lazy")]
EAGER_CLASSES = [case for case in CLASSES if not case.name.startswith("Lazy")]


def names(cases: list[Case]) -> list[str]:
    return [str(case) for case in cases]


def same_seed(case: Case, **more: Any) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(3)
    theirs = case.theirs(**more)
    torch.manual_seed(3)
    return theirs, case.ours(**more)


def assert_same_state(one: nn.Module, other: nn.Module) -> None:
    one_state, other_state = one.state_dict(), other.state_dict()
    assert list(one_state) == list(other_state)
    for key, value in one_state.items():
        assert torch.equal(value, other_state[key]), key


def random(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype)


def test_every_class_of_torch_is_there() -> None:
    wanted = {
        name
        for module in (nn.modules.conv, nn.modules.pooling, nn.modules.fold)
        for name in module.__all__
    }
    assert set(torchconv.nn.DROP_IN) == wanted
    assert wanted < set(torchconv.nn.__all__)
    assert {case.name for case in CLASSES} == wanted


@pytest.mark.parametrize("case", CLASSES, ids=lambda case: case.name)
def test_constructor_is_torchs(case: Case) -> None:
    theirs = inspect.signature(getattr(nn, case.name)).parameters
    ours = dict(inspect.signature(getattr(torchconv.nn, case.name)).parameters)
    algorithm = ours.pop("algorithm", None)
    if "Conv" in case.name:
        assert algorithm is not None
        assert algorithm.kind is inspect.Parameter.KEYWORD_ONLY
        assert algorithm.default is None
        for more in ("flip", "channel_map", "activation"):
            extra = ours.pop(more, None)
            assert extra is None or extra.kind is inspect.Parameter.KEYWORD_ONLY
    assert [(p.name, p.default, p.kind) for p in ours.values()] == [
        (p.name, p.default, p.kind) for p in theirs.values()
    ]


@pytest.mark.parametrize("case", FULL + UNPOOLS, ids=names(FULL + UNPOOLS))
def test_repr_and_type_are_torchs(case: Case) -> None:
    theirs, ours = same_seed(case)
    assert repr(ours) == repr(theirs)
    assert isinstance(ours, type(theirs))
    assert type(ours).__module__.startswith("torchconv.nn")


@pytest.mark.parametrize("case", CLASSES, ids=lambda case: case.name)
def test_attributes_are_torchs(case: Case) -> None:
    theirs, ours = same_seed(case)
    ours_dict = dict(vars(ours))
    if "Conv" in case.name:
        assert ours_dict.pop("algorithm") is None
    assert ours_dict.keys() == vars(theirs).keys()
    for constant in theirs.__constants__ if hasattr(theirs, "__constants__") else ():
        assert getattr(ours, constant) == getattr(theirs, constant)


@pytest.mark.parametrize("case", EAGER_CONVS, ids=names(EAGER_CONVS))
def test_initial_weights_are_torchs(case: Case) -> None:
    assert_same_state(*same_seed(case))
    assert_same_state(*same_seed(case, dtype=torch.float64))


@pytest.mark.parametrize("case", EAGER_CLASSES, ids=lambda case: case.name)
def test_state_dict_goes_both_ways(case: Case) -> None:
    theirs, ours = case.theirs(), case.ours()
    ours.load_state_dict(theirs.state_dict())
    assert_same_state(theirs, ours)
    fresh = case.theirs()
    fresh.load_state_dict(case.ours().state_dict())


@pytest.mark.parametrize("case", CLASSES, ids=lambda case: case.name)
def test_deepcopy_and_pickle(case: Case) -> None:
    ours = case.ours()
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert type(twin) is type(ours)
        assert repr(twin) == repr(ours)
        assert twin.state_dict().keys() == ours.state_dict().keys()


@pytest.mark.parametrize("nd", SPATIAL)
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
def test_moves_to_other_types_and_devices(kind: str, nd: int) -> None:
    layer = getattr(torchconv.nn, f"{kind}{nd}d")(4, 8, 3)
    assert layer.to(torch.bfloat16).weight.dtype is torch.bfloat16
    assert layer.double().bias.dtype is torch.float64
    assert layer.to("meta").weight.is_meta
    on_meta = getattr(torchconv.nn, f"{kind}{nd}d")(4, 8, 3, device="meta")
    assert on_meta.weight.is_meta


@pytest.mark.parametrize("name", ["LazyConv", "LazyConvTranspose"])
@pytest.mark.parametrize("nd", SPATIAL)
def test_lazy_layers(name: str, nd: int) -> None:
    case = Case(f"{name}{nd}d", (8, 3), {"stride": 2}, (2, 4, *SPATIAL[nd]))
    x = random(*case.shape, dtype=torch.float32)
    theirs, ours = case.theirs(), case.ours(algorithm="direct")
    lazy = copy.deepcopy(ours)
    torch.manual_seed(3)
    theirs(x)
    torch.manual_seed(3)
    ours(x)
    assert type(ours) is getattr(torchconv.nn, f"{name[4:]}{nd}d")
    assert ours.in_channels == 4
    assert ours.algorithm == "direct"
    assert_same_state(theirs, ours)
    lazy.load_state_dict(theirs.state_dict())
    assert_same_state(theirs, lazy)


def test_algorithm_is_shown_where_given() -> None:
    shown = repr(torchconv.nn.Conv2d(1, 1, 3, algorithm="im2col"))
    assert shown.endswith(", algorithm='im2col')")
    lazy = torchconv.nn.LazyConvTranspose1d(1, 3, algorithm="direct")
    assert repr(lazy).endswith(", algorithm='direct')")


def test_subclasses_compute_as_those_of_torch() -> None:
    class Doubled(torchconv.nn.Conv2d):
        def _conv_forward(self, input, weight, bias):  # type: ignore
            return super()._conv_forward(input, 2 * weight, bias)

    x, layer = random(2, 3, 5, 5), Doubled(3, 4, 3, bias=False).double()
    torch.testing.assert_close(layer(x), 2 * nn.functional.conv2d(x, layer.weight))


def test_padding_that_torch_has_not() -> None:
    layer = torchconv.nn.Conv2d(1, 1, 3, padding=[[2, 0], [1, 1]])
    assert layer.padding == ((2, 0), (1, 1))
    assert "padding=((2, 0), (1, 1))" in repr(layer)
    assert "padding=causal" in repr(torchconv.nn.LazyConv1d(1, 3, padding="causal"))
    with pytest.raises(ValueError, match="Invalid padding string 'some'"):
        torchconv.nn.Conv1d(1, 1, 3, padding="some")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not supported for strided"):
        torchconv.nn.Conv1d(1, 1, 3, stride=2, padding="same")


def test_transposed_layers_take_no_padding_by_name() -> None:
    for layer in (torchconv.nn.ConvTranspose1d, torchconv.nn.LazyConvTranspose2d):
        with pytest.raises(TypeError, match="padding='same'"):
            layer(3, 3, 3, padding="same")


def run(layer: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The output of layer and the gradients of input and parameters."""
    x = x.clone().requires_grad_()
    y = layer(x)
    gradients = torch.autograd.grad(y, [x, *layer.parameters()], torch.cos(y.detach()))
    return y.detach(), list(gradients)


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel")
@pytest.mark.parametrize("case", FULL, ids=names(FULL))
@pytest.mark.parametrize("batched", [True, False], ids=["batched", "unbatched"])
def test_computes_what_torch_computes(case: Case, batched: bool) -> None:
    theirs, ours = (layer.double() for layer in same_seed(case))
    x = random(*(case.shape if batched else case.shape[1:]))
    if case.name.startswith("Lazy"):
        with torch.no_grad():
            for layer in (theirs, ours):
                torch.manual_seed(3)
                layer(x)
    torch.manual_seed(5)  # fractional pooling draws
    y, gradients = run(theirs, x)
    torch.manual_seed(5)
    our_y, our_gradients = run(ours, x)
    torch.testing.assert_close(our_y, y)
    torch.testing.assert_close(our_gradients, gradients)


@pytest.mark.parametrize("nd", SPATIAL)
def test_indices_and_unpooling(nd: int) -> None:
    x = random(2, 4, *SPATIAL[nd])
    results = []
    for module in (nn, torchconv.nn):
        pool = getattr(module, f"MaxPool{nd}d")(2, return_indices=True)
        unpool = getattr(module, f"MaxUnpool{nd}d")(2)
        y, indices = pool(x)
        results.append((y, indices, unpool(y, indices, output_size=x.shape)))
    for ours, theirs in zip(*reversed(results), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("nd", SPATIAL)
def test_output_size_of_transposed_convolution(nd: int) -> None:
    case = Case(f"ConvTranspose{nd}d", (4, 8, 3), {"stride": 2}, ())
    theirs, ours = same_seed(case)
    x = random(2, 4, *SPATIAL[nd], dtype=torch.float32)
    smallest = [(n - 1) * 2 + 3 for n in SPATIAL[nd]]
    for extra in (0, 1):
        size = [n + extra for n in smallest]
        torch.testing.assert_close(
            ours(x, output_size=size), theirs(x, output_size=size)
        )
    with pytest.raises(ValueError, match="valid sizes range"):
        ours(x, output_size=[n + 2 for n in smallest])


def test_transposed_convolution_with_pairs() -> None:
    ours = torchconv.nn.ConvTranspose2d(4, 8, 3, stride=3, padding=((1, 0), (0, 2)))
    theirs = nn.ConvTranspose2d(4, 8, 3, stride=3)
    theirs.load_state_dict(ours.state_dict())
    x = random(2, 4, 5, 6, dtype=torch.float32)
    whole = theirs(x)
    torch.testing.assert_close(ours(x), whole[..., 1:, :-2])
    assert ours(x, output_size=[15, 17]).shape == (2, 8, 15, 17)
    with pytest.raises(ValueError, match="valid sizes range"):
        ours(x, output_size=[13, 17])


def test_causal_convolution_sees_no_future() -> None:
    layer = torchconv.nn.Conv1d(4, 8, 3, dilation=2, padding="causal")
    x = random(2, 4, 13, dtype=torch.float32)
    padded = nn.functional.conv1d(
        nn.functional.pad(x, (4, 0)), layer.weight, layer.bias, dilation=2
    )
    torch.testing.assert_close(layer(x), padded)


def test_sequential_trains_and_compiles() -> None:
    model = nn.Sequential(
        torchconv.nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        torchconv.nn.MaxPool2d(2),
        torchconv.nn.ConvTranspose2d(4, 2, 2, stride=2),
        torchconv.nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    x = random(3, 1, 8, 8, dtype=torch.float32)
    y = model(x)
    y.square().sum().backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    assert len(gradients) == 4
    model.zero_grad()
    # aot_eager: the whole of torch.compile but code generation, which has no part here.
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    compiled_y = compiled(x)
    torch.testing.assert_close(compiled_y, y)
    compiled_y.square().sum().backward()
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_fx_traces() -> None:
    model = nn.Sequential(
        torchconv.nn.Conv2d(1, 4, 3, padding=1),
        torchconv.nn.AvgPool2d(2),
        torchconv.nn.ConvTranspose2d(4, 2, 2, stride=2),
        torchconv.nn.MaxPool2d(3),
    )
    x = random(3, 1, 8, 8, dtype=torch.float32)
    torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), model(x))
