"""One command on a machine with an NVIDIA GPU: build, test, look for bad accesses and
races, and measure against cuDNN.

    python3 tools/gpu_check.py [--out FOLDER] [--minutes 9]

It uses the python3 it runs in (with torch, pytest, ninja and an nvcc) and no network.
Every part has a share of the time and a log; a part that fails or runs out of time does
not stop the others, and one that ends early leaves its time to those after it. A short
table comes last; gpu_check.json and gpu_check.md in the folder have it in full, beside the
files of the benchmark, and are written anew after every part.

``--device cuda-on-cpu`` rehearses it without a GPU: the tests run over the simulator and
the benchmark measures the CPU's kernels.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import math
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[1]

# Test modules whose tests run on every device, and one that only a GPU can run.
TESTS = (
    "test_cuda.py",
    "test_pool_parity.py",
    "test_fold_parity.py",
    "test_maxout.py",
    "test_tiled.py",
    "test_autograd.py",
    "test_memory_format.py",
    "test_large_index.py",
    "test_cuda_conv.py",
)
# What compute-sanitizer watches, which slows kernels down many times.
WATCHED = (
    "tests/test_cuda.py",
    "tests/test_cuda_conv.py",
    "-k",
    "every_operator or (every_pass and (two_tiles or sums_in_parts or dw_small))",
    "--device",
    "cuda",
)

# Seconds of the parts that are no benchmark, out of the 525 there are. On 16 cores the
# build has some 8 minutes of work for all of them.
SECONDS = {"build": 130, "tests": 120, "memcheck": 35, "racecheck": 35}
PATIENCE = 8  # seconds between Ctrl-C and the end of a part out of time

CONV_PASSES = "fwd,input_grad,weight_grad"
LARGE = ("--batch", "0", "--max-gflop", "2000", "--max-gib", "6")


@dataclass(frozen=True)
class Benchmark:
    """A run of the benchmark: its name, the seconds it may take, its options; bias: of
    the convolutions with a bias, which the suites leave out."""

    name: str
    seconds: int
    options: tuple[str, ...]
    bias: bool = False


BENCHMARKS = (
    Benchmark(
        "conv_bf16",
        50,
        ("--suite", "conv", "--dtype", "bfloat16", "--layout", "both"),
    ),
    Benchmark(
        "pool_bf16",
        25,
        ("--suite", "pool", "--dtype", "bfloat16", "--layout", "both"),
    ),
    Benchmark(
        "conv_fp32",
        30,
        ("--suite", "conv", "--dtype", "float32", "--layout", "both"),
    ),
    Benchmark(
        "conv_tf32",
        20,
        ("--suite", "conv", "--dtype", "float32", "--tf32", "--layout", "both"),
    ),
    Benchmark(
        "pool_fp32",
        15,
        ("--suite", "pool", "--dtype", "float32", "--layout", "both"),
    ),
    Benchmark(
        "conv_bf16_cudnn_benchmark",
        25,
        (
            *("--suite", "conv", "--dtype", "bfloat16", "--layout", "both"),
            "--cudnn-benchmark",
        ),
    ),
    Benchmark(
        "conv_fp16", 20, ("--suite", "conv", "--dtype", "float16", "--layout", "both")
    ),
    Benchmark(
        "conv_bf16_bias", 20, ("--dtype", "bfloat16", "--layout", "both"), bias=True
    ),
)


@dataclass
class Part:
    """What became of a part: "ok", "failed", "out of time" or "skipped"."""

    name: str
    status: str
    seconds: float
    summary: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass
class Check:
    """The run as a whole; ahead: the seconds that the parts to come would take, by name."""

    device: str
    out: Path
    end: float  # time.monotonic() by which everything is over
    jobs: int
    ahead: dict[str, float] = field(default_factory=dict)

    def seconds(self, name: str) -> float:
        """What a part may take: of the time that is left its share among the parts that
        are. So nobody's delay is another's end, and time that was saved is used."""
        left = self.end - time.monotonic()
        share = self.ahead.get(name, 1.0)
        return max(1.0, left * share / max(sum(self.ahead.values()), share) - PATIENCE)

    def run(
        self, name: str, command: list[str], folder: Path = ROOT, **environment: str
    ) -> tuple[str, str]:
        """Runs a command in a folder with its output in a log, for seconds(name).

        Out of time it gets Ctrl-C first, on which the benchmark writes what it has.

        Returns:
            The status and the log's last lines.
        """
        log = self.out / "logs" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        status = "ok"
        with log.open("w") as stream:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **environment},
            )
            try:
                if process.wait(self.seconds(name)) != 0:
                    status = "failed"
            except subprocess.TimeoutExpired:
                status = "out of time"
                _end(process)
        return status, "\n".join(log.read_text(errors="replace").splitlines()[-5:])


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and its children: by Ctrl-C, or at once if it does not listen."""
    for how, patience in ((signal.SIGINT, PATIENCE), (signal.SIGKILL, 5)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        try:
            process.wait(patience)
            return
        except subprocess.TimeoutExpired:
            continue


def available(module: str) -> bool:
    """Whether python3 has it."""
    return importlib.util.find_spec(module) is not None


def compute_capability() -> str:
    """The GPU's, as torch's builds name it: "9.0a" for Hopper; "" if nobody knows."""
    import torch

    if not torch.cuda.is_available():
        return ""
    major, minor = torch.cuda.get_device_capability()
    return f"{major}.{minor}{'a' if major >= 9 else ''}"


# -- the parts ----------------------------------------------------------------------


def folder_to_build_in(check: Check) -> Path:
    """The tree, or where setuptools is too old to read its pyproject.toml, which an
    extension in the tree does not need, a folder of links to all else."""
    from setuptools import __version__ as version

    if int(version.partition(".")[0]) >= 77:
        return ROOT
    folder = check.out / "logs" / "tree"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in ROOT.iterdir():
        if path.name not in ("pyproject.toml", "build"):
            (folder / path.name).symlink_to(path)
    return folder


def build(check: Check) -> Part:
    """Builds in the tree; for this GPU only, which is quicker."""
    start = time.monotonic()
    if check.device == "cuda":
        command = [sys.executable, "setup.py", "build_ext", "--inplace"]
        folder = folder_to_build_in(check)
        environment = {"TORCHCONV_CUDA": "1", "MAX_JOBS": str(check.jobs)}
        if not os.environ.get("TORCH_CUDA_ARCH_LIST") and compute_capability():
            environment["TORCH_CUDA_ARCH_LIST"] = compute_capability()
    else:
        script = "from cuda_on_cpu import library; print(library.build())"
        command = [sys.executable, "-c", script]
        environment = {"PYTHONPATH": str(ROOT / "tests")}
        folder = ROOT
    status, tail = check.run("build", command, folder, **environment)
    log = (check.out / "logs" / "build.log").read_text(errors="replace")
    said = [line for line in log.splitlines() if line.startswith("torchconv: ")]
    summary = said[-1].removeprefix("torchconv: ") if said else tail
    return Part("build", status, time.monotonic() - start, summary)


def tests(check: Check) -> Part:
    """The tests that run on every device, on this one."""
    start = time.monotonic()
    modules = [f"tests/{name}" for name in TESTS]
    if not available("hypothesis"):
        modules.remove("tests/test_memory_format.py")
    report = check.out / "logs" / "tests.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"]
    command += ["--device", check.device, "-k", "cuda", f"--junitxml={report}"]
    command += ["--tb=short"]
    if available("xdist"):
        command += ["-n", str(min(check.jobs, 8))]
    if check.device != "cuda":  # a rehearsal
        modules = [*modules[:1], "tests/test_fold_parity.py"]
    status, tail = check.run(
        "tests", [*command, *modules], OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT)
    )
    # Workers that were killed leave no report.
    log = (check.out / "logs" / "tests.log").read_text(errors="replace")
    counts = junit_counts(report) or log_counts(log)
    summary = (
        f"{counts['passed']} passed, {counts['failed']} failed, "
        f"{counts['skipped']} skipped"
        if counts
        else tail
    )
    return Part("tests", status, time.monotonic() - start, summary, counts)


def junit_counts(report: Path) -> dict[str, Any]:
    """Numbers of tests and the names of those that failed; empty without a report."""
    if not report.is_file():
        return {}
    root = ElementTree.parse(report).getroot()
    cases = list(root.iter("testcase"))
    failed = [
        f"{case.get('classname')}::{case.get('name')}"
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    ]
    skipped = sum(case.find("skipped") is not None for case in cases)
    return {
        "passed": len(cases) - len(failed) - skipped,
        "failed": len(failed),
        "skipped": skipped,
        "names": failed,
    }


def log_counts(log: str) -> dict[str, Any]:
    """The same from what pytest -v prints as it goes; empty if it says of no test."""
    ended: dict[str, str] = {}
    for line in log.splitlines():
        words = re.search(r"\b(PASSED|FAILED|ERROR|SKIPPED)\b", line)
        name = re.search(r"\S+\.py::\S+", line)
        if words and name:
            ended.setdefault(name[0], words[1])
    if not ended:
        return {}
    of = [*ended.values()]
    failed = [name for name, how in ended.items() if how in ("FAILED", "ERROR")]
    return {
        "passed": of.count("PASSED"),
        "failed": len(failed),
        "skipped": of.count("SKIPPED"),
        "names": failed,
    }


def sanitizer(check: Check, tool: str) -> Part:
    """A short selection under compute-sanitizer."""
    start = time.monotonic()
    program = shutil.which("compute-sanitizer")
    if program is None:
        home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
        program = shutil.which("compute-sanitizer", path=f"{home}/bin")
    if program is None or check.device != "cuda":
        reason = "no GPU" if program else "compute-sanitizer is missing"
        return Part(tool, "skipped", 0.0, reason)
    command = [program, "--tool", tool, "--error-exitcode", "9"]
    command += ["--target-processes", "all", sys.executable, "-m", "pytest", "-q"]
    command += ["-p", "no:cacheprovider", *WATCHED]
    # Without torch's cache every tensor has bounds of its own.
    status, tail = check.run(
        tool, command, PYTORCH_NO_CUDA_MEMORY_CACHING="1", PYTHONPATH=str(ROOT)
    )
    log = (check.out / "logs" / f"{tool}.log").read_text(errors="replace")
    found = [line for line in log.splitlines() if "ERROR SUMMARY" in line]
    summary = found[-1].strip("= ") if found else tail
    return Part(tool, status, time.monotonic() - start, summary)


def layers_with_bias() -> list[str]:
    """The suite's convolutions with a bias, in the benchmark's short syntax."""
    sys.path.insert(0, str(ROOT))
    from dataclasses import replace

    from benchmarks.suites import read

    return [replace(layer, bias=True).spec for layer in read("conv")]


def benchmark(check: Check, which: Benchmark) -> Part:
    """One run of the benchmark; means by family."""
    start = time.monotonic()
    json_file = check.out / f"{which.name}.json"
    json_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks", "run"]
    if which.bias:
        command += layers_with_bias()
    options = [*which.options, "--families"]
    options += ["--budget", "0.02", "--json", str(json_file)]
    options += ["--md", str(json_file.with_suffix(".md"))]
    passes = "fwd,train" if which.name.startswith("pool") else CONV_PASSES
    options += ["--pass", passes]
    if check.device == "cuda":
        options += ["--device", "cuda", *LARGE]
    else:
        options += ["--batch", "1", "--max-gflop", "0.05", "--max-gib", "0.1"]
    # Layers in random order, so that every family has some when time is up; the rest of
    # the time is for loading and for the tables.
    minutes = max(0.0, check.seconds(which.name) - 10) / 60
    options += ["--minutes", f"{minutes:.2f}"]
    status, tail = check.run(which.name, command + options)
    data = benchmark_means(json_file)
    if data and status == "out of time":
        status = "ok"  # it wrote what it had
    means = ", ".join(f"{name} {value:.2f}" for name, value in data.items())
    return Part(which.name, status, time.monotonic() - start, means or tail, data)


def benchmark_means(json_file: Path) -> dict[str, float]:
    """Torch's time over torchconv's, the geometric mean of all families, by layout and
    pass; empty without a file."""
    if not json_file.is_file():
        return {}
    logs: dict[str, list[float]] = {}
    for row in json.loads(json_file.read_text())["families"]:
        for name, found in row["passes"].items():
            logs.setdefault(f"{row['layout']} {name}", []).append(
                math.log(found["speedup"])
            )
    return {name: math.exp(sum(values) / len(values)) for name, values in logs.items()}


def parts(check: Check) -> list[tuple[str, Callable[[], Part]]]:
    """All parts by name, in the order they run in."""
    found: list[tuple[str, Callable[[], Part]]] = [
        ("build", lambda: build(check)),
        ("tests", lambda: tests(check)),
    ]
    for tool in ("memcheck", "racecheck"):
        found.append((tool, lambda tool=tool: sanitizer(check, tool)))
    for which in BENCHMARKS:
        found.append((which.name, lambda which=which: benchmark(check, which)))
    return found


# -- the report ----------------------------------------------------------------------


def environment() -> dict[str, str]:
    """What the numbers belong to."""
    import torch

    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": str(torch.version.cuda),
    }
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
        found["cudnn"] = str(torch.backends.cudnn.version())
    return found


def text_table(results: list[Part]) -> str:
    """For the terminal."""
    lines = [f"{'part':<27} {'status':<12} {'s':>5}  summary"]
    for part in results:
        summary = " ".join(part.summary.split())[:110]
        lines.append(
            f"{part.name:<27} {part.status:<12} {part.seconds:>5.0f}  {summary}"
        )
    return "\n".join(lines)


def markdown(found: dict[str, str], results: list[Part]) -> str:
    """For people."""
    lines = ["# GPU check", ""]
    lines += [f"* {name}: {value}" for name, value in found.items()]
    lines += ["", "Benchmarks: torch's time over torchconv's, geometric means of all"]
    lines += ["families of the suite; above 1, torchconv is faster.", ""]
    lines += ["| part | status | seconds | summary |", "|---|---|---|---|"]
    for part in results:
        summary = " ".join(part.summary.split()).replace("|", "/")
        lines.append(
            f"| {part.name} | {part.status} | {part.seconds:.0f} | {summary} |"
        )
    failed = [name for part in results for name in part.data.get("names", [])]
    if failed:
        lines += ["", "Failed tests:", "", *(f"* `{name}`" for name in failed)]
    return "\n".join(lines) + "\n"


def write(out: Path, about: dict[str, str], results: list[Part]) -> None:
    """Both files, as far as things are."""
    document = {"environment": about, "parts": [asdict(part) for part in results]}
    (out / "gpu_check.json").write_text(json.dumps(document, indent=1) + "\n")
    (out / "gpu_check.md").write_text(markdown(about, results))


def shares() -> dict[str, float]:
    """Seconds by part; together what there is by default."""
    return SECONDS | {which.name: float(which.seconds) for which in BENCHMARKS}


def main(arguments: list[str] | None = None) -> int:
    """Runs the parts; 0 if none failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cuda-on-cpu"))
    parser.add_argument("--only", nargs="+", metavar="PART", help="these parts")
    options = parser.parse_args(arguments)
    end = time.monotonic() + 60 * options.minutes - 15  # for the report
    check = Check(options.device, options.out.resolve(), end, os.cpu_count() or 1)
    check.out.mkdir(parents=True, exist_ok=True)
    wanted = [
        (name, run)
        for name, run in parts(check)
        if not options.only or name in options.only
    ]
    check.ahead = {name: shares().get(name, 1.0) for name, _ in wanted}
    results: list[Part] = []
    about: dict[str, str] = {}
    with contextlib.suppress(Exception):
        about = environment()
    for name, run in wanted:
        print(f"{name} ...", flush=True)
        try:
            results.append(
                run()
                if time.monotonic() < end
                else Part(name, "skipped", 0.0, "no time was left")
            )
        except Exception as error:  # noqa: BLE001 a part must not take the others with it
            results.append(
                Part(name, "failed", 0.0, f"{type(error).__name__}: {error}")
            )
        check.ahead.pop(name)
        write(check.out, about, results)
    print(text_table(results))
    return int(any(part.status in ("failed", "out of time") for part in results))


if __name__ == "__main__":
    sys.exit(main())
