"""analyze: what is counted, and receptive fields against gradients; equivariance."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

import torchconv
from torchconv import functional as TF
from torchconv import nn

PLANES: list[tuple[str, torch.nn.Module]] = [
    ("conv", nn.Conv2d(1, 1, 3, padding=1)),
    ("deep", torch.nn.Sequential(*[nn.Conv2d(1, 1, 3) for _ in range(3)])),
    (
        "pooled",
        torch.nn.Sequential(
            nn.Conv2d(1, 1, (5, 3), 2, padding=(2, 0)),
            nn.AvgPool2d(2),
            nn.Conv2d(1, 1, 2),
        ),
    ),
    ("dilated", nn.Conv2d(1, 1, 3, dilation=(2, 3), padding="same")),
    ("causal", nn.Conv2d(1, 1, 3, padding="causal")),
    ("tiled", nn.TiledConv2d(1, 1, 3, 2, stride=2, padding=1)),
    ("local", nn.LocallyConnected2d(1, 1, 24, 3, padding=[(2, 0), (0, 1)])),
    ("layer", nn.ConvLayer2d(1, 1, 3, padding=1, detector=None, pool="avg")),
    ("blur", torch.nn.Sequential(nn.BlurPool2d(4), nn.MixedPool2d(2, alpha=0.5))),
    ("up", nn.ConvTranspose2d(1, 1, 4, stride=2, padding=1)),
    (
        "up-down",
        torch.nn.Sequential(
            nn.Conv2d(1, 1, 3, stride=2, padding=1),
            nn.ConvTranspose2d(1, 1, 2, stride=2),
            nn.Conv2d(1, 1, 3),
        ),
    ),
]


@pytest.mark.parametrize(("name", "model"), PLANES, ids=[n for n, _ in PLANES])
def test_receptive_fields_are_where_gradients_are(
    name: str, model: torch.nn.Module
) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
    x = torch.randn(1, 1, 24, 24).abs().requires_grad_()
    field = torchconv.analyze(model, x, show=False).layers[-1].field
    assert field is not None
    y = model(x)
    for i, j in ((0, 0), (y.shape[2] // 2, y.shape[3] // 2), (3, 2)):
        (gradient,) = torch.autograd.grad(y[0, 0, i, j], x, retain_graph=True)
        for d, position in ((0, i), (1, j)):
            seen = gradient[0, 0].abs().sum(1 - d).nonzero().flatten().tolist()
            first, behind = field.interval(d, position)
            if name == "up":
                first, behind = math.ceil(first), math.ceil(behind)
            if name == "up-down":  # right within a step of the strided layer
                assert abs(max(first, 0) - seen[0]) <= 2
                assert abs(behind - seen[-1] - 1) <= 2
            elif name == "dilated":  # with gaps, so that a border may hide more
                assert max(first, 0) <= seen[0]
                assert seen[-1] + 1 <= behind
            else:
                assert seen[0] == max(first, 0)
                assert seen[-1] + 1 == min(behind, 24)


def test_counts() -> None:
    model = torch.nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        torch.nn.ReLU(),
        nn.MaxPool2d(2),
        nn.LocallyConnected2d(8, 4, 4, 3, bias=False),
        torch.nn.Flatten(),
        torch.nn.Linear(16, 10),
    )
    model.train()
    analysis = torchconv.analyze(model, torch.randn(2, 3, 8, 8), show=False)
    assert model.training
    conv, relu, pool, local, flatten, linear = analysis.layers
    assert conv.parameters == 8 * 27 + 8
    assert (conv.dense, conv.sparse) == (512 * 192, 512 * 27)
    assert conv.shared == 8 * 27
    assert conv.flops == 2 * 2 * 512 * 27
    assert conv.bytes == 4 * (2 * 192 + 2 * 512 + 224)
    assert conv.intensity == conv.flops / conv.bytes
    assert (relu.flops, pool.flops) == (1024, 2 * 8 * 16 * 4)
    assert (local.sparse, local.shared) == (16 * 72, 4 * 4 * 72)
    assert (flatten.flops, flatten.field) == (0, None)
    assert (linear.dense, linear.sparse, linear.shared) == (160, 160, 160)
    assert local.field is not None
    assert local.field.size == (8, 8)
    assert local.field.stride == (Fraction(2),) * 2
    assert str(local.field) == "8 every 2 from -1"
    text = str(analysis)
    assert text.splitlines()[0].startswith("layer")
    assert "total" in text.splitlines()[-1]
    assert f"{conv.parameters + local.parameters + linear.parameters:,}" in text


def test_table_and_errors(capsys: pytest.CaptureFixture[str]) -> None:
    layer = nn.Conv1d(2, 3, 5)
    analysis = torchconv.analyze(layer, torch.randn(1, 2, 9))
    assert "receptive field" in capsys.readouterr().out
    assert analysis.layers[0].name == "(the model)"
    assert analysis.table().row_count == 2
    with pytest.raises(ValueError, match=r"draws inputs of size \(N, C, H, W\)"):
        analysis.picture()
    with pytest.raises(TypeError, match="takes a torch.nn.Module and a Tensor"):
        torchconv.analyze(layer, 3)  # type: ignore[arg-type]


def test_picture(tmp_path: Any) -> None:
    pytest.importorskip("matplotlib").use("Agg")
    model = torch.nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Conv2d(2, 2, 3))
    analysis = torchconv.analyze(model, torch.randn(1, 1, 20, 30), show=False)
    figure = analysis.picture(tmp_path / "field.png", torch.rand(1, 20, 30))
    assert (tmp_path / "field.png").stat().st_size > 1000
    assert len(figure.axes[0].patches) == 3


# -- equivariance


def image() -> Tensor:
    return torch.randn(2, 3, 16, 16, dtype=torch.float64)


def test_circular_convolution_is_equivariant() -> None:
    layer = nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular").double()
    shifts = [0, 1, (3, -2), (8, 5)]
    errors = torchconv.equivariance_error(layer, image(), shifts)
    assert list(errors) == shifts
    assert max(errors.values()) < 1e-12
    zeros = nn.Conv2d(3, 4, 3, padding=1).double()
    assert torchconv.equivariance_error(zeros, image(), [(3, 0)])[3, 0] > 1e-3
    inside = torchconv.equivariance_error(zeros, image(), [(3, 0)], interior=4)
    assert inside[3, 0] < 1e-12
    valid = nn.Conv2d(3, 4, 3).double()
    assert (
        torchconv.equivariance_error(valid, image(), [(0, 2)], interior=4)[0, 2] < 1e-12
    )


def test_strides_break_equivariance_and_blur_mends_it() -> None:
    x = image()
    strided = nn.MaxPool2d(2)
    errors = torchconv.equivariance_error(strided, x, [(2, 0), (1, 0)])
    assert errors[2, 0] < 1e-12
    assert errors[1, 0] > 0.1

    def blurred(x: Tensor) -> Tensor:
        tops = TF.max_pool2d(torch.cat((x, x[..., :1]), -1), (1, 2), 1)
        tops = TF.max_pool2d(torch.cat((tops, tops[..., :1, :]), -2), (2, 1), 1)
        return TF.blur_pool2d(tops, 5, padding_mode="circular")

    assert torchconv.equivariance_error(blurred, x, [(1, 0)])[1, 0] < errors[1, 0]


def test_invariance() -> None:
    x = image()
    curve = torchconv.invariance_curve(lambda x: TF.global_pool(x, "max"), x, [0, 1, 5])
    assert max(curve.values()) == 0
    curve = torchconv.invariance_curve(lambda x: x, x, [0, 1])
    assert curve[0] == 0
    assert curve[1] > 1


def test_errors_of_shifts() -> None:
    x = image()
    with pytest.raises(ValueError, match=r"tuples of 2 ints.*\(1, 2, 3\)"):
        torchconv.equivariance_error(lambda x: x, x, [(1, 2, 3)])
    with pytest.raises(ValueError, match="as many dimensions"):
        torchconv.equivariance_error(lambda x: x.flatten(1), x, [1])
    with pytest.raises(ValueError, match="interior=8 leaves nothing"):
        torchconv.equivariance_error(lambda x: x, x, [1], interior=8)
    with pytest.raises(ValueError, match=r"\(N, C, \*spatial\)"):
        torchconv.invariance_curve(lambda x: x, torch.randn(2, 3), [1])


def test_layers_that_move_positions_have_no_field() -> None:
    model = torch.nn.Sequential(torch.nn.ZeroPad2d(1), torch.nn.Conv2d(1, 1, 3))
    found = torchconv.analyze(model, torch.randn(1, 1, 6, 6), show=False)
    assert [layer.field for layer in found.layers] == [None, None]


def test_error_relative_to_nothing_is_infinite() -> None:
    x = torch.zeros(1, 1, 4)
    x[..., 0] = 1

    def at_one(t: Tensor) -> Tensor:
        return t * torch.tensor([0.0, 1.0, 0.0, 0.0])

    assert torchconv.equivariance_error(at_one, x, [1])[1] == float("inf")
