"""The benchmarks measure what they say, on the suites that come with them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F

from benchmarks import __main__ as command
from benchmarks import measure, report, suites

HEADER = "id,kind,N,C,spatial,k,stride,pad,source\n"
TINY = (
    HEADER + "pool,maxpool2d,8,2,6x6,2,2,0,none\nlarge,maxpool1d,1,9999999,999,2,2,0,\n"
)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.csv"
    path.write_text(TINY)
    return path


@pytest.mark.parametrize("suite", suites.SUITES)
def test_suites_are_layers_of_torch(suite: str) -> None:
    layers = suites.read(suite, batch=2)
    assert len({layer.id for layer in layers}) == len(layers)
    for layer in layers:
        assert layer.x[0] == 2
        assert layer.output_shape()[0] == 2
        assert layer.flops() > 0 or layer.weight is None
    assert suites.read(suite, batch=None)[0].x[0] > 2


def test_families_of_the_suites() -> None:
    families = {x.family for suite in suites.SUITES for x in suites.read(suite, 1)}
    assert families == {
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


def test_wrong_results_are_seen() -> None:
    layer = suites.Layer("a", "max", "max_pool2d", (1, 2, 6, 6))
    layer.options["kernel_size"] = 2
    right = measure.measure(layer, F, torch.float32, True, 0.0)
    assert right.correct
    assert right.layout == "channels_last"
    assert right.forward.samples >= measure.FEWEST_PAIRS
    off = SimpleNamespace(max_pool2d=lambda *a, **k: F.max_pool2d(*a, **k) * 1.01)
    assert not measure.measure(layer, off, torch.float32, False, 0.0).correct
    cut = SimpleNamespace(max_pool2d=lambda *a, **k: F.max_pool2d(*a, **k)[:, :, :2])
    with pytest.raises(RuntimeError, match="shape"):
        measure.measure(layer, cut, torch.float32, False, 0.0)


def test_command_writes_and_says_what_it_left_out(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    json_file, md_file = tmp_path / "out.json", tmp_path / "out.md"
    arguments = ["--suite", str(tiny), "--budget", "0", "--layout", "both"]
    arguments += ["--threads", str(threads), "--max-gib", "1"]
    arguments += ["--json", str(json_file), "--md", str(md_file)]
    assert command.main(arguments) == 0
    shown = capsys.readouterr().out
    assert "not measured: large: 111.6 GiB of tensors, more than --max-gib 1" in shown
    document = json.loads(json_file.read_text())
    assert [row["layout"] for row in document["layers"]] == ["nchw", "channels_last"]
    assert document["skipped"][0]["id"] == "large"
    assert document["environment"]["threads"] == str(threads)
    assert "## Worst layers" in md_file.read_text()
    assert command.main([*arguments, "--fail-below", "1e9"]) == 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(1.5, "1500"), (0.0123456, "12.3"), (1.234e-6, "0.00123")]
)
def test_milliseconds(seconds: float, text: str) -> None:
    assert report.milliseconds(seconds) == text


def test_geometric_mean() -> None:
    assert report.geometric_mean([0.5, 2.0]) == pytest.approx(1.0)
