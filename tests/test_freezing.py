"""Frozen layers: the same results, whatever happens to what the weights were."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.func import vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.utils import parametrize

import torchconv
from torchconv import _ops, _prepared

# name: layer, input size, algorithm. Between them: strips with shared, private and cut
# panels, phases of a stride, rows, winograd of many and few tiles, several groups.
CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "pointwise": (lambda: nn.Conv2d(24, 40, 1), (2, 24, 9, 9), "direct"),
    "strip": (lambda: nn.Conv2d(20, 36, 3, padding=1), (2, 20, 8, 9), "direct"),
    "cut padding": (lambda: nn.Conv2d(64, 64, 5, padding=4), (1, 64, 14, 14), "direct"),
    "few pixels": (lambda: nn.Conv2d(70, 130, 3, padding=1), (1, 70, 3, 3), "direct"),
    "groups": (
        lambda: nn.Conv2d(64, 96, 3, padding=1, groups=2),
        (2, 64, 7, 7),
        "direct",
    ),
    "stem": (lambda: nn.Conv2d(3, 16, 7, stride=2), (1, 3, 33, 33), "direct"),
    "reflect": (
        lambda: nn.Conv2d(20, 33, 3, padding=1, padding_mode="reflect"),
        (1, 20, 9, 9),
        "direct",
    ),
    "rows": (lambda: nn.Conv2d(4, 4, 3), (1, 4, 20, 64), "direct"),
    "1-d": (lambda: nn.Conv1d(32, 48, 5, padding=2), (3, 32, 40), "direct"),
    "3-d": (lambda: nn.Conv3d(16, 32, 3, padding=1), (1, 16, 5, 6, 7), "direct"),
    "transposed": (lambda: nn.ConvTranspose2d(24, 20, 3), (1, 24, 6, 6), "direct"),
    "transposed phases": (
        lambda: nn.ConvTranspose2d(64, 32, 4, stride=2, padding=1),
        (1, 64, 9, 9),
        "direct",
    ),
    "winograd": (
        lambda: nn.Conv2d(32, 48, 3, padding=1),
        (2, 32, 30, 30),
        "winograd",
    ),
    "winograd of few tiles": (
        lambda: nn.Conv2d(150, 80, 3, padding=1),
        (1, 150, 5, 5),
        "winograd",
    ),
    "winograd strided": (
        lambda: nn.Conv2d(40, 48, 3, stride=2, padding=1),
        (2, 40, 31, 30),
        "winograd",
    ),
    "winograd 1-d": (lambda: nn.Conv1d(40, 24, 3), (1, 40, 30), "winograd"),
    "winograd transposed": (
        lambda: nn.ConvTranspose2d(20, 24, 3),
        (1, 20, 9, 9),
        "winograd",
    ),
    "auto": (lambda: nn.Conv2d(64, 64, 3, padding=1), (1, 64, 14, 14), "auto"),
    "depthwise": (lambda: nn.Conv2d(24, 24, 3, groups=24), (1, 24, 9, 9), "auto"),
    "patches": (lambda: nn.Conv2d(16, 24, 4, stride=4), (1, 16, 12, 12), "direct"),
    "covering": (lambda: nn.Conv2d(16, 24, 5), (2, 16, 5, 5), "auto"),
    "columns": (lambda: nn.Conv2d(8, 12, 3), (1, 8, 6, 6), "im2col"),
}
FORMATS = (torch.contiguous_format, torch.channels_last)


def layer_of(name: str, dtype: torch.dtype) -> tuple[nn.Module, torch.Tensor]:
    make, size, algorithm = CASES[name]
    torch.manual_seed(1)
    layer = torchconv.convert(make().to(dtype))
    layer.algorithm = algorithm  # type: ignore[assignment]
    return layer, torch.randn(size, dtype=dtype)


def conv() -> torchconv.nn.Conv2d:
    return torchconv.nn.Conv2d(20, 36, 3, padding=1)


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16]
)
@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_bitwise_the_same(name: str, dtype: torch.dtype) -> None:
    if CASES[name][2] == "winograd" and dtype is torch.float64:
        pytest.skip("winograd does not take float64")
    layer, x = layer_of(name, dtype)
    before = torch.get_num_threads()
    for form in FORMATS if x.dim() == 4 else FORMATS[:1]:
        x = x.contiguous(memory_format=form)
        expected = layer(x)
        torchconv.freeze(layer)
        try:
            for threads in (1, 2, 1):
                torch.set_num_threads(threads)
                assert torch.equal(layer(x), expected)
        finally:
            torch.set_num_threads(before)
        assert layer(x).stride() == expected.stride()
        torchconv.unfreeze(layer)
        assert torch.equal(layer(x), expected)


@torch.no_grad()
def test_dot() -> None:
    layer = torchconv.nn.Conv2d(33, 40, 3, padding=1, dtype=torch.bfloat16)
    x = torch.randn(2, 33, 8, 8, dtype=torch.bfloat16)
    expected = layer(x)
    assert torch.equal(torchconv.freeze(layer)(x), expected)


@pytest.mark.parametrize(
    "name", ["strip", "cut padding", "few pixels", "transposed phases"]
)
@torch.no_grad()
def test_the_packed_weight_is_what_computes(name: str) -> None:
    layer, x = layer_of(name, torch.float32)
    expected = torchconv.freeze(layer)(x)
    (args,) = layer._view.packed.values()  # type: ignore[union-attr, operator]
    assert _ops.conv_pack(layer._frozen, args.id) > 0
    # Nobody does this; it shows that the weight itself is not read any more.
    layer._frozen.zero_()  # type: ignore[operator, union-attr]
    assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("how", ["in place", "data", "numpy", "storage"])
@torch.no_grad()
def test_the_old_parameter_is_without_effect(how: str) -> None:
    layer, x = conv(), torch.randn(1, 20, 8, 8)
    parameter = layer.weight
    expected, weight = layer(x), parameter.clone()
    torchconv.freeze(layer)
    layer(x)
    if how == "in place":
        parameter.add_(1)
    elif how == "data":
        parameter.data.add_(1)
    elif how == "numpy":
        parameter.detach().numpy()[:] = 3
    else:
        parameter.data = torch.zeros_like(parameter)
    layer.weight.add_(1)  # a copy
    for size in (8, 9):
        other = torch.randn(1, 20, size, size)
        assert torch.equal(
            layer(other), torchconv.functional.conv2d(other, weight, layer.bias, 1, 1)
        )
    assert torch.equal(layer(x), expected)
    assert torch.equal(layer.weight, weight)
    torchconv.unfreeze(layer)
    assert layer.weight is parameter  # as it is by now


@torch.no_grad()
def test_the_bias_stays_a_parameter() -> None:
    layer, x = torchconv.freeze(conv()), torch.randn(1, 20, 8, 8)
    y = layer(x)
    assert [name for name, _ in layer.named_parameters()] == ["bias"]
    assert layer.bias is not None
    layer.bias.add_(1)
    torch.testing.assert_close(layer(x), y + 1)


def test_what_would_change_the_weight_is_refused() -> None:
    layer = torchconv.freeze(conv())
    state = layer.state_dict()
    assert list(state) == ["weight", "bias"]
    with pytest.raises(RuntimeError, match="frozen"):
        layer.load_state_dict(state)
    with pytest.raises(RuntimeError, match="frozen"):
        layer.weight = nn.Parameter(torch.zeros(36, 20, 3, 3))
    with pytest.raises(RuntimeError, match="frozen"):
        layer.reset_parameters()
    layer.load_state_dict({"bias": state["bias"]}, strict=False)
    with pytest.raises(RuntimeError, match="Missing"):
        layer.load_state_dict({"bias": state["bias"]})
    torchconv.unfreeze(layer)
    assert list(layer.state_dict()) == ["weight", "bias"]
    layer.load_state_dict(state)


@pytest.mark.parametrize("how", ["deepcopy", "pickle"])
@torch.no_grad()
def test_copies(how: str) -> None:
    layer, x = torchconv.freeze(conv()), torch.randn(1, 20, 8, 8)
    expected = layer(x)
    twin = (
        copy.deepcopy(layer) if how == "deepcopy" else pickle.loads(pickle.dumps(layer))
    )
    assert torch.equal(twin(x), expected)
    assert "frozen" in repr(twin)
    assert isinstance(torchconv.unfreeze(twin).weight, nn.Parameter)
    assert torch.equal(twin(x), expected)
    assert torch.equal(layer(x), expected)


@torch.no_grad()
def test_other_dtype() -> None:
    layer, x = torchconv.freeze(conv()), torch.randn(1, 20, 8, 8)
    layer(x)
    y = layer.double()(x.double())
    assert y.dtype == torch.float64
    torchconv.unfreeze(layer)
    assert layer.weight.dtype == torch.float64
    assert torch.equal(layer(x.double()), y)


@pytest.mark.parametrize("inference", [False, True])
def test_gradient_of_the_input(inference: bool) -> None:
    layer, x = conv(), torch.randn(1, 20, 8, 8, requires_grad=True)
    grad = torch.randn(1, 36, 8, 8)
    (expected,) = torch.autograd.grad(layer(x), x, grad)
    with torch.inference_mode(inference):
        torchconv.freeze(layer)
    y = layer(x)
    assert y.requires_grad
    (found,) = torch.autograd.grad(y, x, grad)
    assert torch.equal(found, expected)


def test_a_graph_from_before() -> None:
    layer, x = conv(), torch.randn(1, 20, 8, 8, requires_grad=True)
    y = layer(x).sum()
    torchconv.unfreeze(torchconv.freeze(layer))
    y.backward()
    assert layer.weight.grad is not None
    torchconv.freeze(layer).to(torch.bfloat16)
    torchconv.unfreeze(layer)
    assert layer.weight.dtype == layer.weight.grad.dtype == torch.bfloat16


def test_traced() -> None:
    layer, x = torchconv.freeze(conv()), torch.randn(1, 20, 8, 8)
    expected = layer(x)
    assert torch.equal(make_fx(layer)(x)(x), expected)
    assert torch.equal(vmap(layer)(x[None])[0], expected)
    with torch.no_grad():
        assert torch.equal(torch.jit.trace(layer, x)(x), expected)


def test_a_parametrization_since() -> None:
    class Double(nn.Module):
        def forward(self, bias: torch.Tensor) -> torch.Tensor:
            return bias * 2

    layer, x = torchconv.freeze(conv()), torch.randn(1, 20, 8, 8)
    layer(x)
    parametrize.register_parametrization(layer, "bias", Double())
    y = layer(x)
    assert torch.equal(copy.deepcopy(layer)(x), y)
    with pytest.raises(RuntimeError, match="parametrization"):
        torchconv.unfreeze(layer)
    assert torch.equal(layer(x), y)
    parametrize.remove_parametrizations(layer, "bias")
    torchconv.unfreeze(layer)
    assert isinstance(layer.weight, nn.Parameter)


@torch.no_grad()
def test_sizes_kept() -> None:
    layer = torchconv.freeze(conv())
    for size in range(3, 20):
        layer(torch.randn(1, 20, size, size))
    assert len(layer._view.packed) == _prepared._PACKED  # type: ignore[union-attr, operator, arg-type]


def test_which_layers() -> None:
    class Own(torchconv.nn.Conv2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return super().forward(input) * 2

    normed = torch.nn.utils.parametrizations.weight_norm(conv())
    model = nn.Sequential(
        conv(), nn.Conv2d(36, 3, 1), Own(3, 3, 1), torchconv.nn.LazyConv2d(3, 1), normed
    )
    asked: list[str] = []

    def agree(name: str, module: nn.Module) -> bool:
        asked.append(name)
        return True

    assert torchconv.freeze(model, agree) is model
    assert asked == ["0"]
    assert torchconv.freeze(model, agree) is model
    assert asked == ["0"]
    parameters = list(torchconv.unfreeze(model).named_parameters())
    assert parameters[0][0] == "0.weight"
    with pytest.raises(TypeError, match="model must be a torch.nn.Module, but got int"):
        torchconv.freeze(3)  # type: ignore[type-var]


def test_revert_unfreezes() -> None:
    model = torchconv.freeze(torchconv.convert(nn.Sequential(nn.Conv2d(3, 4, 3))))
    assert "frozen" in repr(model)
    torchconv.revert(model)
    assert type(model[0]) is nn.Conv2d
    assert isinstance(model[0].weight, nn.Parameter)


@torch.no_grad()
def test_compiled() -> None:
    layer, x = torchconv.freeze(conv()), torch.randn(1, 20, 8, 8)
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    assert torch.equal(compiled(x), layer(x))
