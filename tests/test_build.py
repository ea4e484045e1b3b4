"""The build and what surrounds the binary: layers, decisions on CUDA, a missing binary."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import setuptools
import torch

import torchconv
from torchconv import _extension, info

ROOT = Path(__file__).resolve().parents[1]
OPERATORS = info.operators()


def run_python(*arguments: str, **environment: str) -> str:
    """Standard output of a fresh interpreter that sees this torchconv."""
    done = subprocess.run(
        [sys.executable, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )
    return done.stdout


# Layers: which file may include what.

SOURCES = sorted(p for p in (ROOT / "csrc").rglob("*.*") if p.is_file())


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_layers(path: Path) -> None:
    text = path.read_text()
    layer = path.parent.name
    includes = re.findall(r'#\s*include\s*[<"]([^>"]+)[>"]', text)
    assert not [i for i in includes if i.startswith(("ATen/", "c10/"))]
    assert "torch/extension.h" not in includes
    if layer != "bindings":
        assert not [i for i in includes if i.startswith(("torch/", "bindings/"))]
    if layer == "core":
        assert not [i for i in includes if i.startswith(("cpu/", "cuda/"))]
    if path.name != "module.cpp":
        assert not [i for i in includes if i.startswith("pybind11/")]
    # cuda/launch.cuh starts kernels, cuda/ptx.cuh has PTX, cuda/shared.cuh has views of
    # shared memory; what is written past them could not be checked on the host.
    assert "<<<" not in text.replace("<<<>>>", "")
    if layer == "cuda" and path.name != "ptx.cuh":
        assert not re.search(r"\basm\b", text)
    if path.name != "shared.cuh":
        assert "__shared__" not in text
    if path.name != "launch.cuh":
        assert "cudaLaunchKernel" not in text


def test_only_stable_symbols() -> None:
    """Nothing of torch's C++ is referred to, only the C functions of its stable ABI."""
    done = subprocess.run(
        ["nm", "-D", "--undefined-only", str(_extension.binary().__file__)],
        check=True,
        capture_output=True,
        text=True,
    )
    names = [line.split()[-1] for line in done.stdout.splitlines()]
    assert any(name.startswith(("aoti_torch_", "torch_")) for name in names)
    assert not [n for n in names if re.match(r"_ZN?K?\w*?(2at|3c10|5torch|5caffe2)", n)]


# Without the binary.

WITHOUT_BINARY = """
import sys
sys.modules["torchconv._C"] = None
import torch, torchconv
from torchconv import _ops
x = torch.zeros(1, 2, 5, 5)
calls = {
    "conv2d": lambda: torchconv.functional.conv2d(x, torch.zeros(2, 2, 3, 3)),
    "max_pool2d": lambda: torchconv.functional.max_pool2d(x, 2),
    "AvgPool2d": lambda: torchconv.nn.AvgPool2d(2)(x),
}
for name in sys.argv[1:]:
    calls[name] = getattr(_ops, name)
messages = set()
for name, call in calls.items():
    try:
        call()
    except RuntimeError as error:
        messages.add(str(error))
    else:
        raise AssertionError(name)
print(torchconv.available(), len(messages))
print(*messages)
torchconv.info = __import__("torchconv.info").info
torchconv.info.main([])
"""


def test_missing_binary() -> None:
    output = run_python("-c", WITHOUT_BINARY, *OPERATORS).splitlines()
    assert output[0] == "False 1"
    assert "torchconv._C" in output[1]
    assert _extension.BUILD_COMMAND in output[1]
    assert any(line.startswith("binary") and "missing" in line for line in output[2:])


# torchconv.info and the binary's answers about itself.


def test_info_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert info.main([]) == 0
    text = capsys.readouterr().out
    assert torchconv.__version__ in text
    assert torch.__version__ in text
    assert _extension.binary().active_isa() in text


def test_info_json_and_environment() -> None:
    found = json.loads(
        run_python("-m", "torchconv.info", "--json", TORCHCONV_CPU_ISA="baseline")
    )
    assert found["binary"] is None
    assert found["cpu"]["chosen"] == "baseline"
    assert "baseline" in found["cpu"]["instruction_sets"]
    assert found["build"]["flags"].startswith("-O3")
    assert "-march=native" not in found["build"]["flags"]
    assert bool(found["build"]["nvcc"]) == found["build"]["cuda"]
    assert found["operators"] == OPERATORS
    passes = {"conv_forward", "conv_input_grad", "conv_weight_grad"}
    assert passes <= set(found["algorithms"])
    for name in passes:
        assert {"direct", "im2col"} <= set(found["algorithms"][name])


def test_instruction_sets() -> None:
    binary = _extension.binary()
    before = binary.active_isa()
    assert before in binary.supported_isas()
    try:
        for name in binary.supported_isas():
            binary.set_isa(name)
            assert binary.active_isa() == name
    finally:
        binary.set_isa(before)
    with pytest.raises(ValueError, match="sse9"):
        binary.set_isa("sse9")


# CUDA tensors, as far as a machine without a GPU can tell: the kernels registered for
# the CUDA key are called with CPU tensors.

CUDA_KEY = torch._C.DispatchKeySet(torch._C.DispatchKey.CUDA)


def placeholder(kind: str, name: str) -> Any:
    if name == "activation":
        return "relu"
    values: dict[str, Any] = {
        "Tensor": torch.zeros(1, 2, 4, 4, 4),
        "Optional[Tensor]": torch.zeros(2),
        "List[int]": [1, 1, 1],
        "Optional[int]": 1,
        "int": 1,
        "bool": False,
        "float": 2.0,
        "str": "auto",
    }
    return values[kind]


@pytest.mark.parametrize("name", OPERATORS)
def test_one_sentence_for_cuda_tensors(name: str) -> None:
    overload = getattr(torch.ops.torchconv, name).default
    arguments = [placeholder(str(a.type), a.name) for a in overload._schema.arguments]
    with pytest.raises(RuntimeError, match=f"torchconv::{name}") as caught:
        overload.redispatch(CUDA_KEY, *arguments)
    message = str(caught.value)
    assert "CUDA" in message
    assert "\n" not in message
    del caught
    for argument in arguments:  # refusing has let go of the tensors
        if isinstance(argument, torch.Tensor):
            assert argument._use_count() == 1


def test_built_without_cuda_says_so() -> None:
    built = _extension.binary().build_info()["cuda"]
    pattern = "take CUDA tensors only" if built else "built without CUDA"
    with pytest.raises(RuntimeError, match=pattern):
        torch.ops.torchconv.channel_sum.default.redispatch(
            CUDA_KEY, torch.zeros(1, 2, 4)
        )


# The decisions of setup.py.


@pytest.fixture
def setup_file(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """setup.py as a module; it builds nothing."""
    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    for name in ("TORCHCONV_CUDA", "FORCE_CUDA", "CUDA_HOME", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", os.environ["PATH"])  # it may add ninja's folder
    spec = importlib.util.spec_from_file_location("torchconv_setup", ROOT / "setup.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "torchconv_setup", module)
    spec.loader.exec_module(module)
    yield module


def fake_nvcc(root: Path, *files: str, version: str = "12.8") -> Path:
    """A toolkit with some files, whose compiler answers questions and compiles nothing."""
    for name in ("bin/nvcc", *files):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    nvcc = root / "bin" / "nvcc"
    nvcc.write_text(
        "#!/bin/sh\n"
        f'case "$1" in --dryrun) echo "#$ TOP={root}";;\n'
        f'--version) echo "Cuda compilation tools, release {version}, V{version}";;\n'
        'esac\ncase "$*" in *probe.cu*) exit "${PROBE_STATUS:-0}";; esac\n'
    )
    nvcc.chmod(0o755)
    return nvcc


def test_cuda_off(setup_file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHCONV_CUDA", "0")
    monkeypatch.setenv("FORCE_CUDA", "1")
    assert setup_file.decide_cuda() == (None, "TORCHCONV_CUDA=0")
    sources = setup_file.find_sources(None)
    assert not [s for s in sources if "/cuda_" in s or s.endswith(".cu")]
    assert "csrc/bindings/module.cpp" in sources


@pytest.mark.parametrize("variable", ["TORCHCONV_CUDA", "FORCE_CUDA"])
def test_cuda_demanded_but_missing(
    setup_file: Any, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setattr(setup_file, "nvcc_candidates", list)
    toolkit, reason = setup_file.decide_cuda()
    assert toolkit is None
    assert "nvcc" in reason
    monkeypatch.setenv(variable, "1")
    with pytest.raises(SystemExit, match=rf"{variable}=1.*nvcc.*missing"):
        setup_file.decide_cuda()


def test_cuda_variable_is_checked(
    setup_file: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHCONV_CUDA", "yes")
    with pytest.raises(SystemExit, match="TORCHCONV_CUDA.*'yes'"):
        setup_file.decide_cuda()


def test_toolkit_is_found_and_inspected(
    setup_file: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path))
    nvcc = fake_nvcc(tmp_path)
    assert setup_file.nvcc_candidates()[0] == nvcc
    header, library = "include/cuda_runtime.h", "lib64/libcudart_static.a"
    for files, missing in (((), header), ((header,), "libcudart_static.a")):
        fake_nvcc(tmp_path, *files)
        with pytest.raises(setup_file.ToolkitError, match=missing):
            setup_file.inspect_toolkit(nvcc)
    fake_nvcc(tmp_path, header, library)
    toolkit, reason = setup_file.decide_cuda()
    assert toolkit.root == tmp_path
    assert toolkit.libraries == tmp_path / "lib64"
    assert toolkit.version == "12.8"
    assert "found" in reason
    assert "csrc/cuda/pool_max.cu" in setup_file.find_sources(toolkit)
    # A compiler that cannot compile here, and one of another CUDA than torch's.
    monkeypatch.setenv("PROBE_STATUS", "1")
    with pytest.raises(setup_file.ToolkitError, match="nvcc fails"):
        setup_file.inspect_toolkit(nvcc)
    monkeypatch.setenv("PROBE_STATUS", "0")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(setup_file.ToolkitError, match=r"12\.8 but torch of CUDA 13\.0"):
        setup_file.inspect_toolkit(nvcc)


def test_kernels_follow_their_headers(
    setup_file: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(setup_file, "OBJECTS", tmp_path)
    header = tmp_path / "a.cuh"
    objects = tmp_path / "k.o"
    header.touch()
    objects.touch()
    (tmp_path / "k.d").write_text(f"k.o : \\\n    {header}\n")
    os.utime(header, (1, 1))
    setup_file.forget_stale_kernels(["k.cu"])
    assert objects.exists()
    os.utime(header, (2**31, 2**31))
    setup_file.forget_stale_kernels(["k.cu"])
    assert not objects.exists()


def test_build_info_is_rewritten_only_when_it_changes(
    setup_file: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(setup_file, "OBJECTS", tmp_path)
    header = setup_file.write_build_info(None, "") / "build_info.h"
    assert "WITH_CUDA 0" in header.read_text()
    os.utime(header, (1, 1))
    setup_file.write_build_info(None, "")
    assert header.stat().st_mtime == 1
    toolkit = setup_file.Toolkit(tmp_path, tmp_path, "12.8")
    setup_file.write_build_info(toolkit, "8.0+PTX")
    assert '"8.0+PTX"' in header.read_text()
