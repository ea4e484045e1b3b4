"""Builds the CUDA kernels for the host and switches torchconv's operators over to them.

A folder of stand-in headers comes first on the include path, so that the .cu files and
the bindings of CUDA tensors compile as they are. ninja builds what is out of date; the
result stays in build/cuda_on_cpu.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from torch.utils import cpp_extension

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOLDER = ROOT / "build" / "cuda_on_cpu"

CXX = os.environ.get("CXX", "g++")
FLAGS = (
    "-std=c++17 -O1 -g1 -fPIC -fvisibility=hidden -Wall -Wno-unknown-pragmas "
    "-Wno-psabi -Wno-unused-function -fno-strict-aliasing -ffp-contract=off "
    "-DTORCH_TARGET_VERSION=0x020b000000000000"
)
SANITIZE = "-fsanitize=address,undefined -fno-sanitize-recover=all"

SIMULATOR = [HERE / "simulator.cpp", HERE / "fiber.cpp"]


class BuildError(Exception):
    """The library could not be built; the message is the compiler's."""


def _rules(sanitized: bool) -> str:
    """The ninja file of the library and of the kernels with planted bugs."""
    include = [HERE / "include", HERE, ROOT / "csrc"]
    torch_include = " ".join(f"-isystem {p}" for p in cpp_extension.include_paths())
    own = " ".join(f"-I{p}" for p in include)
    sanitize = SANITIZE if sanitized else ""
    (torch_lib,) = cpp_extension.library_paths()[:1]
    lines = [
        f"cxx = {CXX}",
        f"flags = {FLAGS} {own}",
        "rule kernel",
        f"  command = $cxx $flags {sanitize} -MMD -MF $out.d -x c++ -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule binding",
        f"  command = $cxx $flags {torch_include} -MMD -MF $out.d -c $in -o $out",
        "  depfile = $out.d",
        "  deps = gcc",
        "rule link",
        f"  command = $cxx -shared {sanitize} $in -o $out $libraries",
    ]
    made: dict[Path, str] = {}

    def compiled(rule: str, sources: list[Path]) -> str:
        for source in sources:
            if source not in made:
                kind = "sanitized" if sanitized and rule == "kernel" else "plain"
                made[source] = f"{kind}/{source.relative_to(ROOT)}.o"
                lines.append(f"build {made[source]}: {rule} {source}")
        return " ".join(made[source] for source in sources)

    kernels = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
    bindings = sorted((ROOT / "csrc" / "bindings").glob("cuda_*.cpp"))
    core = [
        path
        for layer in ("core", "cuda")
        for path in sorted((ROOT / "csrc" / layer).glob("*.cpp"))
    ]
    objects = [
        compiled("kernel", [*kernels, *SIMULATOR, *core]),
        compiled("binding", [*bindings, HERE / "registration.cpp"]),
    ]
    name = _name(sanitized)
    lines += [
        f"build {name}: link {' '.join(objects)}",
        f"  libraries = -L{torch_lib} -ltorch_cpu -lc10 -Wl,-rpath,{torch_lib}",
    ]
    planted = compiled("kernel", [*SIMULATOR, HERE / "planted.cu"])
    lines += [f"build planted-{name}: link {planted}", ""]
    return "\n".join(lines)


def _name(sanitized: bool) -> str:
    return "cuda_on_cpu_sanitized.so" if sanitized else "cuda_on_cpu.so"


def build(target: str = "cuda_on_cpu.so") -> Path:
    """The path of a target, up to date.

    Raises:
        BuildError: ninja is missing or the compiler found an error.
    """
    sanitized = "sanitized" in target
    FOLDER.mkdir(parents=True, exist_ok=True)
    folder = str(Path(sys.executable).parent)
    ninja = shutil.which("ninja") or shutil.which("ninja", path=folder)
    if ninja is None:
        raise BuildError("ninja is missing")
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of several test processes one builds
        rules = FOLDER / f"{_name(sanitized)}.ninja"
        text = f"builddir = .ninja-{sanitized:d}\n" + _rules(sanitized)
        if not rules.is_file() or rules.read_text() != text:
            rules.write_text(text)
        done = subprocess.run(
            [ninja, "-C", str(FOLDER), "-f", rules.name, target],
            check=False,
            capture_output=True,
            text=True,
        )
    if done.returncode != 0:
        raise BuildError(done.stdout + done.stderr)
    return FOLDER / target


@cache
def load() -> ctypes.CDLL:
    """The library, built and loaded once; TORCHCONV_CUDA_ON_CPU names another one."""
    path = os.environ.get("TORCHCONV_CUDA_ON_CPU") or str(build())
    library = ctypes.CDLL(path)
    library.cuda_on_cpu_set_reversed.argtypes = [ctypes.c_bool]
    library.cuda_on_cpu_launches.restype = ctypes.c_int64
    return library


@contextmanager
def switched_on(reverse: bool = False) -> Iterator[None]:
    """CPU tensors are computed by the CUDA kernels inside the block.

    Args:
        reverse: threads and blocks run by falling numbers.
    """
    library = load()
    library.cuda_on_cpu_set_reversed(reverse)
    library.cuda_on_cpu_switch_on()
    try:
        yield
    finally:
        library.cuda_on_cpu_switch_off()
