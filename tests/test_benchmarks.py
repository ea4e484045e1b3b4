"""The benchmarks measure what they say, on the suites that come with them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import torchconv
from benchmarks import __main__ as module
from benchmarks import document, measure, report, suites
from benchmarks.cli import main
from benchmarks.layers import Layer, parse_layer
from benchmarks.measure import Failure, Result, Setting

HEADER = "id,kind,N,C,spatial,k,stride,pad,source\n"
TINY = (
    HEADER + "pool,maxpool2d,8,2,6x6,2,2,0,none\nlarge,maxpool1d,1,9999999,999,2,2,0,\n"
)
POOL = parse_layer("max_pool2d:c2h6r2")
CONV = parse_layer("conv2d:c4h6k4r3p1")
QUICK = Setting(budget=0.0, observe=False)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.csv"
    path.write_text(TINY)
    return path


def same_module(**functions: Any) -> Any:
    """torch.nn.functional with other functions in the place of its own."""
    return SimpleNamespace(**functions)


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


# Measuring.


def test_right_results_are_timed() -> None:
    (right,) = measure.measure(POOL, F, Setting(channels_last=True, budget=0.0))
    assert isinstance(right, Result)
    assert right.correct
    assert set(right.passes) == {"fwd", "train"}
    pair = right.passes["fwd"]
    assert pair.torchconv.timing.samples >= 3
    assert "max_pool2d" in pair.torch.kernel
    assert pair.torch.memory is not None
    assert pair.torch.memory.peak >= 2 * 3 * 3 * 4


def test_wrong_results_are_marked_and_not_timed() -> None:
    off = same_module(max_pool2d=lambda *a, **k: F.max_pool2d(*a, **k) * 1.01)
    (wrong,) = measure.measure(POOL, off, QUICK)
    assert isinstance(wrong, Result)
    assert not wrong.correct
    assert not wrong.passes


def test_a_wrong_algorithm_is_marked_beside_right_ones() -> None:
    def conv2d(*args: Any, algorithm: str = "auto", **options: Any) -> Any:
        if algorithm == "refuses":
            raise RuntimeError("algorithm 'refuses' cannot compute this forward: no")
        y = F.conv2d(*args, **options)
        return y * 1.01 if algorithm == "planted" else y

    setting = Setting(algorithms=("auto", "planted", "refuses"), budget=0.0)
    right, wrong, refused = measure.measure(CONV, same_module(conv2d=conv2d), setting)
    assert isinstance(right, Result)
    assert isinstance(wrong, Result)
    assert isinstance(refused, Failure)
    assert (right.correct, wrong.correct, refused.refused) == (True, False, True)
    assert right.passes
    assert not wrong.passes


def test_failures_are_reported() -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no such thing\nmore")

    (failed,) = measure.measure(POOL, same_module(max_pool2d=fail), QUICK)
    assert isinstance(failed, Failure)
    assert failed.error == "RuntimeError: no such thing"
    assert not failed.refused


@pytest.mark.parametrize("cold", [False, True])
def test_passes(cold: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "sets_past_cache", lambda *_: 3)
    setting = Setting(passes=measure.PASSES, cold=cold, budget=0.0, observe=False)
    (result,) = measure.measure(CONV, torchconv.functional, setting)
    assert isinstance(result, Result)
    assert tuple(result.passes) == measure.PASSES
    assert result.passes["weight_grad"].torchconv.kernel == "direct"
    (result,) = measure.measure(POOL, torchconv.functional, setting)
    assert isinstance(result, Result)
    assert tuple(result.passes) == ("fwd", "input_grad", "train")


# The command.


def test_command_writes_and_says_what_it_left_out(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    json_file, md_file = tmp_path / "out.json", tmp_path / "out.md"
    arguments = ["--suite", str(tiny), "--budget", "0", "--layout", "both"]
    arguments += ["--threads", str(threads), "--max-gib", "1"]
    arguments += ["--json", str(json_file), "--md", str(md_file)]
    assert main(module.with_command(arguments)) == 0
    shown = capsys.readouterr().out
    assert "not measured: large: 111.6 GiB of tensors, more than --max-gib 1" in shown
    written = document.load(json_file)
    assert [row["layout"] for row in written["layers"]] == ["nchw", "channels_last"]
    assert written["skipped"][0]["id"] == "large"
    assert written["environment"]["threads"] == str(threads)
    assert "## Worst layers" in md_file.read_text()
    assert main(module.with_command([*arguments, "--fail-below", "1e9"])) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--suite", "nope"], "suite 'nope' is neither"),
        (["run", "conv2d:c4"], "lacks"),
        (["run", "--pass", "sideways"], "'sideways' is no pass"),
        (["run", "--threads", "-1"], "-1 is negative"),
        (["run", "--model", "torch"], "not of the form|--model needs --input"),
        (["run", "--only", "nothing-has-this"], "no layer has such a word"),
        (["dance"], "invalid choice: 'dance'"),
    ],
)
def test_bad_arguments_get_one_sentence(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(arguments)
    except SystemExit as stop:
        assert isinstance(stop.code, int)
        status = stop.code
    assert status == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert re.search(message, lines[0])


def test_json_schema(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    assert main(["run", CONV.spec, "--budget", "0", "--json", str(path)]) == 0
    written = json.loads(path.read_text())
    assert written["schema"] == document.SCHEMA
    assert set(written) == {
        *("schema", "environment", "settings", "roofline", "layers", "families"),
        *("failed", "refused", "skipped"),
    }
    assert written["roofline"]["flops"]["float32"] > 1e8
    assert all(rate > 1e7 for _, rate in written["roofline"]["copies"])
    (row,) = written["layers"]
    assert parse_layer(row["spec"]) == parse_layer(CONV.spec)
    for pair in row["passes"].values():
        assert pair["speedup"] == pytest.approx(
            pair["torch"]["median"] / pair["torchconv"]["median"]
        )
        for side in ("torch", "torchconv"):
            assert set(pair[side]) == {
                *("median", "fastest", "spread", "samples"),
                *("kernel", "roof", "peak", "workspace"),
            }
    path.write_text("{}")
    with pytest.raises(ValueError, match="not written by this version"):
        document.load(path)


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.5, "1500"), (0.0123456, "12.3"), (1.234e-6, "0.00123")]
)
def test_milliseconds(seconds: float, text: str) -> None:
    assert report.milliseconds(seconds) == text


def test_geometric_mean() -> None:
    assert document.geometric_mean([0.5, 2.0]) == pytest.approx(1.0)
