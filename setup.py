"""Builds torchconv._C, the one binary; everything else is in pyproject.toml.

    pip install --no-build-isolation -e .

The C++ sources are found by pattern, so a new file needs no change here.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CppExtension

ROOT = Path(__file__).resolve().parent

# LibTorch stable ABI of torch 2.11: one build serves every torch from there on.
TORCH_TARGET_VERSION = "0x020b000000000000"

CXX_FLAGS = [
    "-O3",
    "-g0",
    "-std=c++17",
    "-fvisibility=hidden",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wall",
    "-Wno-psabi",
    "-Wno-maybe-uninitialized",  # in the compiler's own intrinsics headers
    f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}",
]


def find_sources() -> list[str]:
    """The C++ files of every layer, relative to the root as setuptools wants them."""
    folders = ("csrc/core", "csrc/cpu", "csrc/bindings")
    return sorted(
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).glob("*.cpp")
    )


class Build(BuildExtension):
    """BuildExtension that keeps its objects in one place, so rebuilds are partial."""

    def finalize_options(self) -> None:
        super().finalize_options()
        # An editable install would otherwise compile in a temporary folder.
        self.build_temp = str(
            ROOT / "build" / f"objects-{sys.implementation.cache_tag}"
        )


def put_ninja_on_path() -> None:
    """A virtual environment that was not activated has its ninja off the PATH."""
    if shutil.which("ninja") is None:
        here = str(Path(sys.executable).parent)
        os.environ["PATH"] = here + os.pathsep + os.environ.get("PATH", "")


put_ninja_on_path()
setup(
    ext_modules=[
        CppExtension(
            "torchconv._C",
            find_sources(),
            include_dirs=[str(ROOT / "csrc")],
            extra_compile_args={"cxx": CXX_FLAGS},
            extra_link_args=["-Wl,--as-needed"],
        )
    ],
    cmdclass={"build_ext": Build},
)
