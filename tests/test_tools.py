"""The tools around the CUDA kernels, as far as they need no GPU."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import gpu_check
import ptxas_report

MESSAGES = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z3addIfEvv' for 'sm_80'
ptxas info    : Function properties for _Z3addIfEvv
    8 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 128 bytes smem, 352 bytes cmem[0]
ptxas info    : Compiling entry function '_Z3addIfEvv' for 'sm_90a'
ptxas info    : Function properties for _Z3addIfEvv
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 38 registers, used 0 barriers, 352 bytes cmem[0]
"""


def test_ptxas_messages_become_a_table(tmp_path: Path) -> None:
    (tmp_path / "add.o.ptxas").write_text(MESSAGES)
    kernels = ptxas_report.collect(tmp_path)
    assert [(k.arch, k.registers, k.shared, k.spilled) for k in kernels] == [
        ("sm_80", 40, 128, 12),
        ("sm_90a", 38, 0, 0),
    ]
    table = ptxas_report.table(kernels).splitlines()
    assert len(table) == 3
    assert "40 / 128 / 12" in table[2]
    assert "38 / 0 / 0" in table[2]


def test_ptxas_messages_are_kept_and_others_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = MESSAGES + "warning: x\n"
    script = f"import sys; sys.stderr.write({said!r}); sys.exit(3)"
    output = tmp_path / "add.o"
    command = [sys.executable, "-c", script, "-o", str(output)]
    assert ptxas_report.run(command) == 3
    assert Path(f"{output}.ptxas").read_text() == MESSAGES
    assert capfd.readouterr().err == "warning: x\n"


def check(out: Path, seconds: float = 60) -> gpu_check.Check:
    end = time.monotonic() + seconds
    return gpu_check.Check("cuda-on-cpu", out, end, 2, {"slow": 10, "rest": 50})


def test_commands_end_in_time(tmp_path: Path) -> None:
    run = check(tmp_path).run
    assert run("rest", [sys.executable, "-c", "print(5)"]) == ("ok", "5")
    assert run("rest", [sys.executable, "-c", "raise SystemExit(2)"])[0] == "failed"
    script = "import time; print('here', flush=True); time.sleep(60)"
    start = time.monotonic()
    status, tail = run("slow", [sys.executable, "-c", script])
    assert status == "out of time"
    assert "here" in tail
    assert time.monotonic() - start < 30


def test_time_that_is_left_is_shared_out(tmp_path: Path) -> None:
    run = check(tmp_path, 100)
    patience = gpu_check.PATIENCE
    assert run.seconds("rest") == pytest.approx(100 * 50 / 60 - patience, abs=1)
    run.ahead.pop("slow")  # done early: the others gain
    assert run.seconds("rest") == pytest.approx(100 - patience, abs=1)
    assert check(tmp_path, 0).seconds("rest") == 1


def test_the_shares_fill_nine_minutes() -> None:
    names = [name for name, _ in gpu_check.parts(check(Path()))]
    assert list(gpu_check.shares()) == names
    assert 60 * 8 < sum(gpu_check.shares().values()) <= 60 * 9 - 15


def test_counts_without_a_report() -> None:
    """Of a run that was killed: from what pytest and xdist print as they go."""
    log = (
        "tests/a.py::one[cuda] PASSED [ 1%]\n"
        "[gw1] [ 50%] FAILED tests/a.py::two[x]\n"
        "[gw0] [ 75%] SKIPPED tests/b.py::three\n"
        "tests/b.py::four \n"
        "FAILED tests/a.py::two[x] - AssertionError\n"
    )
    found = {"passed": 1, "failed": 1, "skipped": 1, "names": ["tests/a.py::two[x]"]}
    assert gpu_check.log_counts(log) == found
    assert gpu_check.log_counts("no tests ran") == {}


def test_junit_counts(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    assert gpu_check.junit_counts(report) == {}
    report.write_text(
        '<testsuites><testsuite><testcase classname="a" name="x"/>'
        '<testcase classname="a" name="y"><failure/></testcase>'
        '<testcase classname="a" name="z"><skipped/></testcase>'
        "</testsuite></testsuites>"
    )
    counts = gpu_check.junit_counts(report)
    assert counts == {"passed": 1, "failed": 1, "skipped": 1, "names": ["a::y"]}


def test_benchmark_means(tmp_path: Path) -> None:
    file = tmp_path / "b.json"
    assert gpu_check.benchmark_means(file) == {}
    rows = [
        {"layout": "nchw", "passes": {"fwd": {"speedup": 2.0}}},
        {"layout": "nchw", "passes": {"fwd": {"speedup": 0.5}}},
    ]
    file.write_text(json.dumps({"families": rows}))
    assert gpu_check.benchmark_means(file) == {"nchw fwd": pytest.approx(1.0)}


def test_a_failing_part_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> gpu_check.Part:
        raise OSError("no such thing")

    parts: list[Any] = [
        ("first", broken),
        ("second", lambda: gpu_check.Part("second", "ok", 1.0, "fine")),
    ]
    monkeypatch.setattr(gpu_check, "parts", lambda _: parts)
    assert gpu_check.main(["--out", str(tmp_path), "--device", "cuda-on-cpu"]) == 1
    shown = capsys.readouterr().out.splitlines()
    assert shown[-2].startswith("first")
    assert "no such thing" in shown[-2]
    assert shown[-1].split()[:2] == ["second", "ok"]
    written = json.loads((tmp_path / "gpu_check.json").read_text())
    assert [part["status"] for part in written["parts"]] == ["failed", "ok"]
    assert "| second | ok |" in (tmp_path / "gpu_check.md").read_text()
    assert gpu_check.main(["--out", str(tmp_path), "--minutes", "0"]) == 0
    assert "no time was left" in (tmp_path / "gpu_check.md").read_text()


def test_every_benchmark_has_layers() -> None:
    assert all(":" in spec and "bias1" in spec for spec in gpu_check.layers_with_bias())
    names = [which.name for which in gpu_check.BENCHMARKS]
    assert len(set(names)) == len(names)
