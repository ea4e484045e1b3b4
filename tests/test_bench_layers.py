"""The layers of the benchmarks: suites, the short syntax, layers of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import torchconv
from benchmarks import record, suites, zoo
from benchmarks.layers import Layer, parse_layer

# Layers and suites.


@pytest.mark.parametrize("suite", suites.SUITES)
def test_suites_are_layers_of_torch(suite: str) -> None:
    layers = suites.read(suite, batch=2)
    assert len({layer.id for layer in layers}) == len(layers)
    for layer in layers:
        assert layer.x[0] == 2
        assert layer.output_shape()[0] == 2
        assert layer.flops() > 0 or layer.weight is None
        assert layer.source
    assert {layer.spec for layer in suites.read("all", 2)} >= {x.spec for x in layers}


def test_families_of_the_suites() -> None:
    families = {layer.family for layer in suites.read("all", 1)}
    assert families >= {
        *("conv1d", "conv2d 3x3", "conv2d other", "conv3d", "grouped", "transposed"),
        *("depthwise 1d", "depthwise 2d", "depthwise 3d"),
        *("max", "avg", "lp", "adaptive max", "adaptive avg", "fractional", "unpool"),
        *("unfold", "fold"),
    }


def test_flops() -> None:
    by_id = {layer.id: layer for layer in suites.read("conv", 1)}
    assert by_id["r50_3x3_64@56"].flops() == 2 * 64 * 64 * 9 * 56 * 56
    assert by_id["dw3x3_512@14"].flops() == 2 * 512 * 9 * 14 * 14
    # As many as the convolution that it is the gradient of, 32x32 to 64x64.
    up = by_id["unet_convT_1024_512@32"]
    assert up.flops() == 2 * 1024 * 512 * 4 * 32 * 32


@pytest.mark.parametrize(
    ("spec", "operations"),
    [
        ("max_pool2d:c2h6r3s1", 2 * 4 * 4 * 9),
        ("adaptive_avg_pool2d:c2h6out2", 2 * 36),
        ("max_unpool2d:c2h3r2", 2 * 9),
        ("conv2d:c2h3k4r1", 2 * 9 * 2 * 4),
    ],
)
def test_operations(spec: str, operations: int) -> None:
    assert parse_layer(spec).operations() == operations


@pytest.mark.parametrize("layer", suites.read("all"), ids=lambda layer: layer.id)
def test_every_layer_has_a_short_form(layer: Layer) -> None:
    again = parse_layer(layer.spec)
    assert again.spec == layer.spec
    assert (again.x, again.weight, again.bias) == (layer.x, layer.weight, layer.bias)
    assert again.options == layer.options
    assert again.family == layer.family


def test_short_syntax() -> None:
    layer = parse_layer("conv2d:n1c64h56w56k64r3p1")
    assert (layer.x, layer.weight) == ((1, 64, 56, 56), (64, 64, 3, 3))
    assert layer.options == {"padding": 1}
    layer = parse_layer("convT3d:c8h4w5d6k4r3x1x2s2x1x1g2op1x0x0bias1")
    assert (layer.function, layer.x) == ("conv_transpose3d", (1, 8, 6, 4, 5))
    assert layer.weight == (8, 2, 3, 1, 2)
    assert layer.bias
    assert parse_layer("avgpool2d:c4h9r3s2cip0").options == {
        "kernel_size": 3,
        "stride": 2,
        "count_include_pad": False,
    }
    assert parse_layer("max_pool1d:c4w9r3idx1").family == "max indices"
    assert parse_layer("conv2d:c4h9k4r3psame").options == {"padding": "same"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conv2d", "function and a colon"),
        ("conv9d:c1h1k1r1", "function and a colon"),
        ("conv2d:c4h9k4", "lacks 'r'"),
        ("conv2d:c4k4r3", "lacks 'h'"),
        ("conv3d:c4d4h4k4r3", "lacks 'w'"),
        ("conv2d:c4h9k4r3q2", "'q' is no letter"),
        ("conv2d:c4c4h9k4r3", "'c' twice"),
        ("conv2d:c4h9k4r3g3", "3 groups"),
        ("conv2d:c4h9k4r", "not a letter with a number"),
        ("conv2d:c4h2k4r3", "not possible"),
        ("max_pool2d:c4h9r3k4", "has not: k"),
        ("adaptive_avg_pool2d:c4h9", "lacks 'out'"),
    ],
)
def test_short_syntax_says_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_layer(text)


def test_suite_files_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    path.write_text("id,layer,source\na,conv2d:c1h5k1r3,x\nb,conv2d:c1h5k1,x\n")
    with pytest.raises(ValueError, match="layer b: .* lacks 'r'"):
        suites.read(str(path))
    path.write_text("name\na\n")
    with pytest.raises(ValueError, match="no rows with a column 'id'"):
        suites.read(str(path))


# Models.


def small_network() -> torch.nn.Module:
    """A factory, as the command line takes one."""
    return torch.nn.Sequential(
        torch.nn.Conv2d(2, 4, 3, padding="same"),
        torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
        torch.nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False),
        torch.nn.AdaptiveAvgPool2d((None, 1)),
    )


@pytest.mark.parametrize("convert", [False, True])
def test_models_are_recorded(convert: bool) -> None:
    model = small_network()
    if convert:
        torchconv.convert(model)
    found = record.record(model, [torch.randn(3, 2, 8, 8)])
    assert not found.left_out
    assert [(layer.spec, layer.count, layer.source) for layer in found.layers] == [
        ("conv2d:n3c2h8w8k4r3psamebias1", 1, "0"),
        ("max_pool2d:n3c4h8w8r2", 1, "1"),
        ("conv2d:n3c4h4w4k4r3p1g4", 2, "2"),
        ("adaptive_avg_pool2d:n3c4h4w4out4x1", 1, "4"),
    ]


def test_functional_calls_are_recorded() -> None:
    def model(x: torch.Tensor) -> Any:
        y, indices = F.max_pool2d(x, 2, return_indices=True)
        y = F.max_unpool2d(y, indices, 2)
        y = F.lp_pool2d(torch.conv2d(y, torch.ones(2, 2, 1, 1)), 2.0, 3, stride=1)
        F.fractional_max_pool2d(y, 2, output_ratio=(0.5, 0.5))
        return F.fold(F.unfold(y, 2), y.shape[2:], 2), F.conv1d(x[0, :, 0], x[:, :, 0])

    found = record.record(model, [torch.randn(1, 2, 8, 8)])
    assert not found.left_out
    assert [layer.spec for layer in found.layers] == [
        "max_pool2d:n1c2h8w8r2idx1",
        "max_unpool2d:n1c2h4w4r2",
        "conv2d:n1c2h8w8k2r1",
        "lp_pool2d:n1c2h8w8r3s1norm2",
        "fractional_max_pool2d:n1c2h6w6r2out3",
        "unfold:n1c2h6w6r2",
        "fold:n1c8w25r2out6",
        "conv1d:n1c2w8k1r8",
    ]
    for layer in found.layers:
        if layer.function != "fold":
            assert parse_layer(layer.spec).options == layer.options


def test_layers_of_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    where = f"{__name__}:small_network"
    layers, left_out = record.layers_of(where, ["1x2x8x8"])
    assert [layer.id for layer in layers] == ["0", "1", "2", "4"]
    assert not left_out
    with pytest.raises(ValueError, match="fails on 1x3x8x8"):
        record.layers_of(where, ["1x3x8x8"])
    with pytest.raises(ValueError, match="not a shape"):
        record.layers_of(where, ["1,3"])
    with pytest.raises(ValueError, match="cannot be loaded"):
        record.load_model("no.such.module:factory")


def test_zoo() -> None:
    for name, make in zoo.MODELS.items():
        with torch.device("meta"):
            model, x = make(), torch.empty(zoo.INPUTS[name])
        assert len(record.record(model, [x]).layers) > 5
