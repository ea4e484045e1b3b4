"""convert and revert: what a model is stays, what computes it changes."""

from __future__ import annotations

import copy
import logging
import pickle
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune
from torch.testing._internal.two_tensor import TwoTensor

import torchconv
from torchconv.convert import LayerState


class Block(nn.Module):
    """A residual block."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        wide = channels * stride
        self.conv1 = nn.Conv2d(channels, wide, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide)
        self.conv2 = nn.Conv2d(wide, wide, 3, padding=1, groups=2, bias=False)
        self.bn2 = nn.BatchNorm2d(wide)
        self.down = (
            nn.Sequential(nn.Conv2d(channels, wide, 1, stride), nn.BatchNorm2d(wide))
            if stride > 1
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.down(x) + self.bn2(self.conv2(y)))


def small_resnet() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        OrderedDict(
            stem=nn.Conv2d(3, 8, 7, 2, 3, padding_mode="reflect"),
            pool=nn.MaxPool2d(3, 2, 1),
            layer1=Block(8, 1),
            layer2=Block(8, 2),
            up=nn.ConvTranspose2d(16, 8, 2, 2),
            head=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            linear=nn.Linear(8, 5),
        )
    )


LAYERS = 9


def images(dtype: torch.dtype = torch.float32) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 3, 32, 32, dtype=dtype)


def types(model: nn.Module) -> list[type]:
    return [type(module) for module in model.modules()]


class Subclass(nn.Conv2d):
    """Computes something of its own."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + 1


def test_numbers_of_a_residual_network_stay() -> None:
    model = small_resnet().double()
    x = images(torch.float64)

    def step() -> tuple[Tensor, list[Tensor]]:
        y = model(x)
        return y, list(torch.autograd.grad(y.square().sum(), list(model.parameters())))

    y, gradients = step()
    assert torchconv.convert(model) is model
    assert len(torchconv.conversion_report(model).converted) == LAYERS
    our_y, our_gradients = step()
    torch.testing.assert_close(our_y, y)
    torch.testing.assert_close(our_gradients, gradients)
    torchconv.revert(model)
    assert torch.equal(step()[0], y)


def test_everything_is_shared() -> None:
    model = small_resnet().eval()
    before = dict(model.named_modules())
    parameters = dict(model.named_parameters())
    buffers = dict(model.named_buffers())
    shown = repr(model)
    torchconv.convert(model)
    assert repr(model) == shown
    for one, other in (
        (before, dict(model.named_modules())),
        (parameters, dict(model.named_parameters())),
        (buffers, dict(model.named_buffers())),
    ):
        assert one.keys() == other.keys()
        assert all(value is other[key] for key, value in one.items())
    assert not any(module.training for module in model.modules())


def test_revert_restores_the_classes() -> None:
    model = small_resnet()
    own = torchconv.nn.Conv2d(8, 8, 1)
    model.add_module("own", own)
    before = types(model)
    dicts = [vars(module).copy() for module in model.modules()]
    torchconv.convert(model)
    model.stem.algorithm = "direct"
    assert types(model) != before
    assert torchconv.revert(model) is model
    assert types(model) == before
    for module, one in zip(model.modules(), dicts, strict=True):
        assert vars(module).keys() == one.keys()
    assert type(own) is torchconv.nn.Conv2d
    torchconv.revert(model)
    assert types(model) == before


def test_converting_twice_changes_nothing() -> None:
    model = torchconv.convert(small_resnet())
    once = types(model)
    assert types(torchconv.convert(model)) == once
    torchconv.revert(model)
    assert types(model) == types(small_resnet())


def test_a_model_that_is_a_layer() -> None:
    layer = nn.Conv1d(2, 3, 3)
    assert torchconv.convert(layer) is layer
    assert type(layer) is torchconv.nn.Conv1d
    assert "(the model): Conv1d" in str(torchconv.conversion_report(layer).converted[0])
    assert type(torchconv.revert(layer)) is nn.Conv1d


@pytest.mark.parametrize("name", torchconv.nn.DROP_IN)
def test_every_class_is_converted(name: str) -> None:
    theirs, ours = getattr(nn, name), getattr(torchconv.nn, name)
    layer = theirs.__new__(theirs)
    nn.Module.__init__(layer)
    assert type(torchconv.convert(layer)) is ours
    assert type(torchconv.revert(layer)) is theirs


def test_hooks_fire() -> None:
    layer = nn.Conv2d(3, 4, 3)
    model = nn.Sequential(layer)
    fired: list[str] = []

    def note(name: str) -> Callable[..., None]:
        return lambda *_: fired.append(name)

    handles = [
        layer.register_forward_pre_hook(note("pre")),
        layer.register_forward_hook(note("forward")),
        layer.register_full_backward_hook(note("backward")),
        layer.register_full_backward_pre_hook(note("backward pre")),
        layer.register_state_dict_pre_hook(note("state_dict")),
        layer.register_load_state_dict_post_hook(note("load")),
        layer.weight.register_hook(note("weight")),
    ]
    torchconv.convert(model)
    model(torch.randn(1, 3, 8, 8, requires_grad=True)).sum().backward()
    model.load_state_dict(model.state_dict())
    assert sorted(fired) == sorted(
        ["pre", "forward", "backward pre", "backward", "weight", "state_dict", "load"]
    )
    for handle in handles:
        handle.remove()
    fired.clear()
    model(torch.randn(1, 3, 8, 8)).sum().backward()
    assert fired == []


def test_the_optimizer_goes_on() -> None:
    def train(swap: bool) -> list[float]:
        model = small_resnet().double()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        losses = []
        for step in range(4):
            if swap and step == 2:
                torchconv.convert(model)
            loss = model(images(torch.float64)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    assert train(swap=True) == pytest.approx(train(swap=False), rel=1e-9)


def test_filter() -> None:
    model = small_resnet()
    seen: list[str] = []

    def no_pooling(name: str, module: nn.Module) -> bool:
        seen.append(name)
        assert model.get_submodule(name) is module
        return isinstance(module, nn.Conv2d) and name.startswith("layer")

    torchconv.convert(model, filter=no_pooling)
    assert len(seen) == LAYERS
    assert type(model.stem) is nn.Conv2d
    assert type(model.pool) is nn.MaxPool2d
    assert type(model.layer1.conv1) is torchconv.nn.Conv2d
    report = torchconv.conversion_report(model)
    assert len(report.converted) == 5
    assert {x.name for x in report.of(LayerState.TORCH)} == {
        "stem",
        "pool",
        "up",
        "head",
    }
    assert report.left == ()


def test_a_layer_used_twice() -> None:
    layer = nn.Conv2d(4, 4, 3, padding=1)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    seen: list[str] = []
    torchconv.convert(model, lambda name, _: seen.append(name) is None)
    assert seen == ["0"]
    assert model[0] is model[2]
    assert type(model[2]) is torchconv.nn.Conv2d
    assert len(torchconv.conversion_report(model).layers) == 1


def test_tied_weights_stay_tied() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 4, 3))
    model[1].weight = model[0].weight
    torchconv.convert(model)
    assert model[1].weight is model[0].weight
    assert len(list(model.parameters())) == 3


def test_what_is_left_is_reported() -> None:
    patched = nn.Conv2d(3, 3, 1)
    patched.forward = lambda input: input  # type: ignore[method-assign]
    also_patched = nn.Conv2d(3, 3, 1)
    also_patched._conv_forward = nn.Conv2d(3, 3, 1)._conv_forward  # type: ignore
    quantized = nn.Conv2d(3, 3, 1)
    weight = quantized.weight.detach()
    quantized.weight = nn.Parameter(TwoTensor(weight, weight))
    model = nn.Sequential(
        OrderedDict(
            sub=Subclass(3, 3, 1),
            patched=patched,
            also=also_patched,
            quantized=quantized,
            own=torchconv.nn.MaxPool2d(2),
            plain=nn.AvgPool2d(2),
            linear=nn.Linear(2, 2),
        )
    )
    before = types(model)
    torchconv.convert(model)
    after = types(model)
    assert after[:6] == before[:6]
    assert after[6] is torchconv.nn.AvgPool2d
    report = torchconv.conversion_report(model)
    assert [(x.name, x.kind) for x in report.left] == [
        ("sub", "Subclass"),
        ("patched", "Conv2d"),
        ("also", "Conv2d"),
        ("quantized", "Conv2d"),
    ]
    assert [x.name for x in report.of(LayerState.TORCHCONV)] == ["own"]
    text = str(report)
    assert "1 of 6 layers converted" in text
    assert "converted  1 AvgPool2d" in text
    assert "sub: Subclass (a subclass of torch.nn.Conv2d" in text
    assert "patched: Conv2d (forward was replaced" in text
    assert "quantized: Conv2d (weight is a TwoTensor, not a plain tensor)" in text
    assert "also: Conv2d (_conv_forward was replaced" in text


def test_the_report_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="torchconv"):
        torchconv.convert(small_resnet())
    assert f"{LAYERS} of {LAYERS} layers converted" in caplog.text


def test_deepcopy_and_pickle_of_a_converted_model() -> None:
    model = torchconv.convert(small_resnet()).eval()
    x = images()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert types(twin) == types(model)
        assert torch.equal(twin(x), model(x))
        assert types(torchconv.revert(twin)) == types(small_resnet())
    assert type(model.stem) is torchconv.nn.Conv2d


def test_lazy_layers() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyConvTranspose2d(2, 3))
    torchconv.convert(model)
    assert type(model[0]) is torchconv.nn.LazyConv2d
    model(torch.randn(1, 3, 8, 8))
    assert type(model[0]) is torchconv.nn.Conv2d
    assert type(model[1]) is torchconv.nn.ConvTranspose2d
    torchconv.revert(model)
    assert type(model[0]) is nn.Conv2d
    assert type(model[1]) is nn.ConvTranspose2d
    unused = torchconv.convert(nn.LazyConv1d(4, 3))
    assert type(torchconv.revert(unused)) is nn.LazyConv1d


def test_parametrized_layers() -> None:
    torch.manual_seed(0)
    layer = parametrizations.weight_norm(nn.Conv2d(3, 4, 3))
    parametrizations.spectral_norm(layer)
    layer.eval()
    other = copy.deepcopy(layer)
    x = images()
    y = layer(x)
    torchconv.convert(layer)
    assert isinstance(layer, torchconv.nn.Conv2d)
    assert parametrize.type_before_parametrizations(layer) is torchconv.nn.Conv2d
    assert not isinstance(other, torchconv.nn.Conv2d)
    assert torchconv.conversion_report(layer).converted[0].kind == "Conv2d"
    torch.testing.assert_close(layer(x), y)
    layer(x).sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    twin = copy.deepcopy(layer)
    torchconv.revert(layer)
    assert parametrize.type_before_parametrizations(layer) is nn.Conv2d
    assert torch.equal(layer(x), y)
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Conv2d
    # What the copy does is its own affair.
    torch.testing.assert_close(twin(x), y)
    parametrize.remove_parametrizations(twin, "weight")
    assert type(twin) is torchconv.nn.Conv2d
    assert type(torchconv.revert(twin)) is nn.Conv2d


def test_parametrized_after_conversion() -> None:
    layer = torchconv.convert(nn.Conv2d(3, 4, 3))
    parametrizations.weight_norm(layer)
    torchconv.revert(layer)
    assert parametrize.type_before_parametrizations(layer) is nn.Conv2d


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
def test_weight_norm_and_pruning_by_hooks() -> None:
    model = nn.Sequential(
        nn.utils.weight_norm(nn.Conv2d(3, 4, 3)),
        prune.l1_unstructured(nn.Conv2d(4, 4, 3), "weight", amount=0.5),
    )
    x = images()
    y = model(x)
    torchconv.convert(model)
    assert len(torchconv.conversion_report(model).converted) == 2
    torch.testing.assert_close(model(x), y)
    model(x).sum().backward()
    assert model[0].weight_g.grad is not None
    nn.utils.remove_weight_norm(model[0])
    prune.remove(model[1], "weight")
    torch.testing.assert_close(model(x), y)


def test_a_compiled_model_notices() -> None:
    model = small_resnet().eval()
    x = images()
    y = model(x)
    # aot_eager: the whole of torch.compile but code generation, which has no part here.
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), y)
    torchconv.convert(compiled)
    assert type(model.stem) is torchconv.nn.Conv2d
    torch.testing.assert_close(compiled(x), y)
    torchconv.revert(compiled)
    torch.testing.assert_close(compiled(x), y)


@pytest.mark.parametrize(
    "function", [torchconv.convert, torchconv.revert, torchconv.conversion_report]
)
def test_not_a_module(function: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match=r"torch\.nn\.Module, but got OrderedDict"):
        function(OrderedDict())
