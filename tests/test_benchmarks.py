"""The benchmarks measure what they say, on the suites that come with them."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import torchconv
from benchmarks import __main__ as module
from benchmarks import (
    compare,
    document,
    measure,
    plot,
    refresh,
    regret,
    report,
    run,
    scaling,
)
from benchmarks.cli import COMMANDS, main
from benchmarks.layers import parse_layer
from benchmarks.measure import Failure, Result, Setting

HEADER = "id,kind,N,C,spatial,k,stride,pad,source\n"
TINY = (
    HEADER + "pool,maxpool2d,8,2,6x6,2,2,0,none\nlarge,maxpool1d,1,9999999,999,2,2,0,\n"
)
POOL = parse_layer("max_pool2d:c2h6r2")
CONV = parse_layer("conv2d:c4h6k4r3p1")
SMALL_NETWORK = "test_bench_layers:small_network"
QUICK = Setting(budget=0.0, observe=False)


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.csv"
    path.write_text(TINY)
    return path


def same_module(**functions: Any) -> Any:
    """torch.nn.functional with other functions in the place of its own."""
    return SimpleNamespace(**functions)


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


def test_a_nan_anywhere_is_wrong() -> None:
    class Spoilt(torch.autograd.Function):
        """The identity, with a gradient that is not a number."""

        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
            return grad * float("nan")

    def conv2d(weight: Any = None, **options: Any) -> Any:
        return F.conv2d(options.pop("input"), Spoilt.apply(weight), **options)

    (wrong,) = measure.measure(CONV, same_module(conv2d=conv2d), QUICK)
    assert isinstance(wrong, Result)
    assert not wrong.correct


def test_odd_norms_get_data_that_has_them() -> None:
    layer = parse_layer("lp_pool2d:c4h6r3norm3")
    (result,) = measure.measure(layer, torchconv.functional, QUICK)
    assert isinstance(result, Result)
    assert result.correct


def test_no_time_left(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    arguments = ["run", CONV.spec, "--minutes", "0", "--json", str(path)]
    assert main([*arguments, "--md", str(tmp_path / "out.md")]) == 0
    written = document.load(path)
    assert not written["layers"]
    assert written["skipped"][0]["reason"].startswith("no time left")


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
    assert main(module.with_command(arguments, list(COMMANDS))) == 0
    shown = capsys.readouterr().out
    assert "not measured: large: 111.6 GiB of tensors, more than --max-gib 1" in shown
    written = document.load(json_file)
    assert [row["layout"] for row in written["layers"]] == ["nchw", "channels_last"]
    assert written["skipped"][0]["id"] == "large"
    assert written["environment"]["threads"] == str(threads)
    assert "## Worst layers" in md_file.read_text()
    assert main(["run", *arguments, "--fail-below", "1e9"]) == 1


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
        *(
            "schema",
            "kind",
            "environment",
            "settings",
            "roofline",
            "layers",
            "families",
        ),
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
            work = 1 if pair is row["passes"]["fwd"] else 3
            assert pair[side]["gflops"] == pytest.approx(
                work * CONV.flops() / pair[side]["median"] / 1e9
            )
            assert set(pair[side]) == {
                *("median", "fastest", "spread", "samples"),
                *("kernel", "roof", "gflops", "gbs", "peak", "workspace"),
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


# The other subcommands.


def planted(algorithm: str) -> Any:
    """A module whose conv2d is slow with one algorithm."""

    def conv2d(*args: Any, algorithm: str = "auto", **options: Any) -> Any:
        if algorithm == "slow":
            time.sleep(0.003)
        return F.conv2d(*args, **options)

    return same_module(conv2d=conv2d)


@pytest.mark.parametrize("choice", ["slow", "fast"])
def test_regret_finds_a_slow_choice(choice: str) -> None:
    setting = Setting(algorithms=("slow", "fast"), passes=("fwd",), budget=0.05)
    (row,) = regret.measure_regret(
        CONV, planted("slow"), setting, choose=lambda *_: choice
    )
    assert row["chosen"] == choice
    assert row["best"] == "fast"
    assert row["seconds"]["slow"] > 0.003
    total = regret.summary([row])
    if choice == "slow":
        assert row["regret"] > 1
        assert (total["close"], total["regret"]) == (0, row["regret"])
    else:
        assert (row["regret"], total["close"], total["regret"]) == (0, 1, 0)


def test_regret_asks_the_planner() -> None:
    case = measure.Case(CONV, QUICK)
    expected = torchconv.explain("conv2d", **case.sets[0], padding=1).passes
    for which, plan in zip(("fwd", "input_grad", "weight_grad"), expected):
        assert plan.chosen is not None
        assert regret.planner(case, which) == plan.chosen.name


def run_file(path: Path, ratio: float, ours: float = 1.0, correct: bool = True) -> Path:
    """A document with one layer, measured in one pass."""
    sides = {"torch": {"median": ours * ratio}, "torchconv": {"median": ours}}
    row = {"id": "a", "family": "max", "spec": "s", "dtype": "float32"}
    row |= {"layout": "nchw", "cache": "cold", "threads": 1, "algorithm": "auto"}
    row |= {"correct": correct, "passes": {"fwd": {"speedup": ratio, **sides}}}
    environment = {"commit": path.stem, "torch": "2"}
    document.write(
        {
            "schema": document.SCHEMA,
            "kind": "run",
            "environment": environment,
            "layers": [row],
        },
        path,
    )
    return path


def test_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = str(run_file(tmp_path / "a.json", 2.0))
    same = str(run_file(tmp_path / "b.json", 2.0, ours=3.0))
    slower = str(run_file(tmp_path / "c.json", 1.8))
    wrong = str(run_file(tmp_path / "d.json", 2.0, correct=False))
    assert main(["compare", before, slower]) == 0
    assert main(["compare", before, slower, "--fail-below", "0.95"]) == 1
    assert "below 0.95: a fwd" in capsys.readouterr().out
    assert main(["compare", before, slower, "--fail-below", "0.85"]) == 0
    # A slower machine is no slower kernel.
    assert main(["compare", before, same, "--fail-below", "0.95"]) == 0
    assert main(["compare", before, same, "--fail-below", "0.95", "--by", "time"]) == 1
    assert main(["compare", before, wrong]) == 1
    assert main(["compare", before, str(tmp_path / "none.json")]) == 2
    assert main(["compare", before, before, "--only", "nothing"]) == 2
    (row,) = compare.changes(
        document.load(Path(before)), document.load(Path(slower)), "ratio", []
    )
    assert row["change"] == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("sweep", "size", "spec"),
    [
        ("batch", 4, "conv2d:n4c4h6w6k4r3p1"),
        ("channels", 16, "conv2d:n1c16h6w6k16r3p1"),
        ("size", 24, "conv2d:n1c4h24w24k4r3p1"),
        ("kernel", 7, "conv2d:n1c4h6w6k4r7p3"),
    ],
)
def test_scaling_grows_one_size(sweep: str, size: int, spec: str) -> None:
    found = scaling.grown(CONV, sweep, 2)
    assert found is not None
    assert (found[0], found[1].spec) == (size, spec)
    depthwise = parse_layer("conv2d:c4h6k4r3p1g4")
    grown = scaling.grown(depthwise, "channels", 1)
    assert grown is not None
    assert grown[1].spec == "conv2d:n1c8h6w6k8r3p1g8"


def test_fitted_exponent() -> None:
    assert plot.fitted_exponent([1, 2, 4], [3, 12, 48]) == pytest.approx(2)


def test_ctrl_c_keeps_what_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = []

    def measured(*args: Any) -> Any:
        if done:
            raise KeyboardInterrupt
        done.append(args)
        return measure.measure(*args)

    monkeypatch.setattr(run, "measure", measured)
    path = tmp_path / "out.json"
    arguments = ["run", POOL.spec, CONV.spec, "--budget", "0", "--json", str(path)]
    assert main(arguments) == run.INTERRUPTED
    written = document.load(path)
    assert [row["id"] for row in written["layers"]] == [POOL.spec]
    assert written["settings"]["finished"] is False
    assert "interrupted" in capsys.readouterr().out


def test_refresh_writes_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh, "RESULTS", tmp_path)
    monkeypatch.setattr(refresh, "ROOT", tmp_path)
    readme = tmp_path / "README.md"
    readme.write_text(
        "before <!-- benchmarks -->\nstale text\n<!-- /benchmarks --> after"
    )
    assert refresh.main(["--readme"]) == 2  # no results yet
    layers = f"{CONV.spec} conv2d:c8h5k8r1 --layout both --cache warm"
    selections = {
        "cpu_float32": f"run {layers}",
        "cpu_float32_cold": f"run {layers} --pass fwd --cache cold",
        "cpu_float32_2threads": f"run {layers} --threads 2",
        "cpu_float64": f"run {layers} --dtype float64",
        "cpu_bfloat16": f"run {layers} --dtype bfloat16",
        "regret": f"regret {layers}",
    }
    monkeypatch.setattr(
        refresh, "SELECTIONS", {name: (text, 1.0) for name, text in selections.items()}
    )
    monkeypatch.setattr(refresh, "BUDGET", 0.0)
    monkeypatch.setattr(refresh, "PICTURE", str(tmp_path / "picture.png"))
    assert refresh.main([]) == 0
    text = readme.read_text()
    assert text.startswith("before <!-- benchmarks -->\nTorch's time")
    assert text.endswith("<!-- /benchmarks --> after")
    assert "stale text" not in text
    written = document.load(tmp_path / "cpu_float32.json")
    (family,) = (
        row
        for row in written["families"]
        if (row["family"], row["layout"]) == ("all", "nchw")
    )
    assert f"| all | {family['passes']['fwd']['speedup']:.2f} |" in text
    readme.write_text("no marks")
    assert refresh.main(["--readme"]) == 2


SMOKE = [
    ["run", CONV.spec, POOL.spec, "--layout", "both", "--algorithm", "all"],
    ["run", CONV.spec, "--pass", "fwd,input_grad,weight_grad,train", "--cache", "both"],
    ["run", CONV.spec, POOL.spec, "--dtype", "bfloat16", "float64", "--kernels"],
    ["regret", CONV.spec, "--layout", "both"],
    ["memory", CONV.spec, POOL.spec],
    ["overhead"],
    ["freeze"],
    ["scaling", CONV.spec, "--steps", "2"],
    ["models", "--model", SMALL_NETWORK, "--input", "1x2x8x8"],
]


@pytest.mark.parametrize("arguments", SMOKE, ids=" ".join)
def test_every_subcommand_runs_and_writes(arguments: list[str], tmp_path: Path) -> None:
    kinds = {
        "run": ("json", "csv", "md", "plot", "html"),
        "scaling": ("json", "md", "plot"),
    }
    files = {}
    for kind in kinds.get(arguments[0], ("json", "md")):
        files[kind] = tmp_path / f"out.{kind}"
        arguments = [*arguments, f"--{kind}", str(files[kind])]
    threads = str(torch.get_num_threads())
    assert main([*arguments, "--budget", "0", "--threads", threads]) == 0
    written = document.load(files["json"], arguments[0])
    assert written.get("layers") or written.get("rows")
    assert files["md"].read_text().startswith("# ")
    if "plot" in files:
        assert files["plot"].read_bytes().startswith(b"\x89PNG")
    if "html" in files:
        page = files["html"].read_text()
        assert "data:image/png;base64," in page
        assert "http" not in page.replace("https://", "http://").split("base64,")[0]
    if "csv" in files:
        assert len(files["csv"].read_text().splitlines()) > 1
