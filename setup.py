"""Builds torchconv._C, the one binary; everything else is in pyproject.toml.

    pip install --no-build-isolation -e .

The sources are found by pattern, so a new file needs no change here. The CUDA
kernels are compiled where a CUDA toolkit is found, also beside a CPU-only torch.
The environment decides otherwise:

    TORCHCONV_CUDA=0       no CUDA kernels
    TORCHCONV_CUDA=1       CUDA kernels, or an error that names what is missing
    FORCE_CUDA=1           the same
    TORCH_CUDA_ARCH_LIST   what to compile them for, as in every torch extension
    MAX_JOBS               how many files to compile at once
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from setuptools import Extension, find_packages, setup
from torch.utils import cpp_extension

ROOT = Path(__file__).resolve().parent
OBJECTS = ROOT / "build" / f"objects-{sys.implementation.cache_tag}"
PTXAS_REPORT = ROOT / "tools" / "ptxas_report.py"

# LibTorch stable ABI of torch 2.11: one build serves every torch from there on.
TORCH_TARGET = "2.11"
TARGET_MACRO = "-DTORCH_TARGET_VERSION=0x020b000000000000"

CXX_FLAGS = [
    "-O3",
    "-g0",
    "-std=c++17",
    "-fvisibility=hidden",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    # Copies of kernels for constant arguments are a twentieth of the build.
    "-fno-ipa-cp-clone",
    "-Wall",
    "-Wno-psabi",
    "-Wno-uninitialized",
    "-Wno-maybe-uninitialized",  # in the compiler's own intrinsics headers
    TARGET_MACRO,
]
NVCC_FLAGS = [
    "-O3",
    "-std=c++17",
    "--expt-relaxed-constexpr",  # csrc/core's constexpr arithmetic in kernels
    "-Xcompiler",
    "-fvisibility=hidden",
    "-Xptxas=-v",  # for the table of registers and spills
]

# Machine code for A100 and Hopper; PTX for everything newer than the former.
DEFAULT_ARCHS = "8.0+PTX;9.0a"


class ToolkitError(Exception):
    """Why no CUDA toolkit can be used, in words for whoever builds."""


@dataclass(frozen=True)
class Toolkit:
    """A CUDA toolkit that has what the build needs."""

    root: Path
    libraries: Path
    version: str


def output_of(command: list[str | Path]) -> str:
    """What a command prints, on either stream; ToolkitError if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        reason = lines[0] if lines else f"exit status {done.returncode}"
        raise ToolkitError(f"{command[0]} fails: {reason}")
    return done.stdout


def nvcc_candidates() -> list[Path]:
    """Every nvcc there is, the one that the environment names first."""
    homes = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")]
    found = [Path(home) / "bin" / "nvcc" for home in homes if home]
    on_path = shutil.which("nvcc")
    if on_path:
        found.append(Path(on_path))
    found += [Path("/usr/local/cuda/bin/nvcc"), Path("/opt/cuda/bin/nvcc")]
    found += sorted(Path("/usr/local").glob("cuda-*/bin/nvcc"), reverse=True)
    return [nvcc for nvcc in found if os.access(nvcc, os.X_OK) and nvcc.is_file()]


def inspect_toolkit(nvcc: Path) -> Toolkit:
    """The toolkit an nvcc belongs to, after it has compiled a first kernel."""
    # The nvcc on the PATH may be a script or a link; it knows its own root.
    plan = output_of([nvcc, "--dryrun", "-x", "cu", "-c", os.devnull, "-o", os.devnull])
    top = re.search(r"^#\$ TOP=(.*)$", plan, re.MULTILINE)
    root = Path(top.group(1)).resolve() if top else nvcc.resolve().parent.parent
    if not (root / "bin" / "nvcc").is_file():
        raise ToolkitError(f"{root} has no bin/nvcc")
    if not (root / "include" / "cuda_runtime.h").is_file():
        raise ToolkitError(f"{root} has no include/cuda_runtime.h")
    folders = [root / "lib64", root / "lib", *sorted(root.glob("targets/*/lib"))]
    multiarch = sysconfig.get_config_var("MULTIARCH")
    if multiarch:
        folders.append(Path("/usr/lib") / multiarch)
    libraries = next(
        (here for here in folders if (here / "libcudart_static.a").is_file()), None
    )
    if libraries is None:
        raise ToolkitError(f"{root} has no libcudart_static.a")
    release = re.search(r"release (\d+\.\d+)", output_of([nvcc, "--version"]))
    if release is None:
        raise ToolkitError(f"{nvcc} --version names no release")
    version = release.group(1)
    ours = torch.version.cuda
    if ours is not None and ours.split(".")[0] != version.split(".")[0]:
        raise ToolkitError(f"{nvcc} is of CUDA {version} but torch of CUDA {ours}")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.cu"
        source.write_text("#include <cuda_runtime.h>\n__global__ void probe() {}\n")
        command = [nvcc, *NVCC_FLAGS, "-arch=sm_80", "-c", source]
        output_of([*command, "-o", Path(folder) / "probe.o"])
    return Toolkit(root, libraries, version)


def find_toolkit() -> Toolkit:
    """The first usable toolkit; ToolkitError with every reason if there is none."""
    reasons = []
    for nvcc in dict.fromkeys(nvcc_candidates()):
        try:
            return inspect_toolkit(nvcc)
        except ToolkitError as error:
            reasons.append(str(error))
    raise ToolkitError(
        "; ".join(reasons)
        or "nvcc, the CUDA compiler, is missing: it is neither on the PATH nor in "
        "CUDA_HOME, CUDA_PATH, /usr/local/cuda* or /opt/cuda"
    )


def decide_cuda() -> tuple[Toolkit | None, str]:
    """The toolkit to use, if any, and why."""
    wanted = os.environ.get("TORCHCONV_CUDA", "").strip()
    if wanted not in ("", "0", "1"):
        raise SystemExit(f"torchconv: TORCHCONV_CUDA is 0 or 1, not {wanted!r}")
    if wanted == "0":
        return None, "TORCHCONV_CUDA=0"
    forced = "TORCHCONV_CUDA=1" if wanted else ""
    if not forced and os.environ.get("FORCE_CUDA", "").strip() == "1":
        forced = "FORCE_CUDA=1"
    try:
        toolkit = find_toolkit()
    except ToolkitError as error:
        if forced:
            raise SystemExit(
                f"torchconv: {forced} asks for the CUDA kernels, but {error}"
            ) from None
        return None, str(error)
    return toolkit, forced or "a CUDA toolkit was found"


def find_sources(toolkit: Toolkit | None) -> list[str]:
    """The sources of every layer, relative to the root as setuptools wants them."""
    patterns = ["csrc/core/*.cpp", "csrc/cpu/*.cpp", "csrc/bindings/*.cpp"]
    if toolkit is not None:
        patterns += ["csrc/cuda/*.cpp", "csrc/cuda/*.cu"]
    return sorted(
        path.relative_to(ROOT).as_posix()
        for pattern in patterns
        for path in ROOT.glob(pattern)
        if toolkit is not None or not path.name.startswith("cuda_")
    )


def write_build_info(toolkit: Toolkit | None, archs: str) -> Path:
    """Writes the header that tells the binary how it was built; returns its folder.

    Flags that only a few files look at stay out of the command lines this way, and
    the header is touched only when it changes, so that little is compiled again.
    """
    text = "// Written by setup.py.\n#pragma once\n" + "".join(
        f"#define TORCHCONV_{name} {value}\n"
        for name, value in {
            "WITH_CUDA": int(toolkit is not None),
            "CXX_FLAGS": f'"{" ".join(CXX_FLAGS)}"',
            "NVCC_VERSION": f'"{toolkit.version if toolkit else ""}"',
            "NVCC_FLAGS": f'"{" ".join(NVCC_FLAGS) if toolkit else ""}"',
            "CUDA_ARCHS": f'"{archs if toolkit else ""}"',
            "BUILD_TORCH": f'"{torch.__version__}"',
            "TORCH_TARGET": f'"{TORCH_TARGET}"',
        }.items()
    )
    header = OBJECTS / "include" / "build_info.h"
    if not header.is_file() or header.read_text() != text:
        header.parent.mkdir(parents=True, exist_ok=True)
        header.write_text(text)
    return header.parent


def forget_stale_kernels(sources: list[str]) -> None:
    """Deletes the objects of CUDA files one of whose headers has changed.

    For these, torch tells ninja about headers only in a CUDA build of torch; nvcc's
    -MMD leaves the list of them beside the object.
    """
    for source in sources:
        object_file = (OBJECTS / source).with_suffix(".o")
        if not source.endswith(".cu") or not object_file.is_file():
            continue
        list_file = object_file.with_suffix(".d")
        listed = list_file.read_text() if list_file.is_file() else ""
        names = listed.partition(" : ")[2].replace("\\\n", " ").split()
        headers = [Path(name) for name in names]
        built = object_file.stat().st_mtime
        if not headers or any(
            not header.exists() or header.stat().st_mtime > built for header in headers
        ):
            object_file.unlink()


class Build(cpp_extension.BuildExtension):
    """Decides on CUDA when it builds, and rebuilds only what changed."""

    def finalize_options(self) -> None:
        super().finalize_options()
        # An editable install would otherwise compile in a temporary folder.
        self.build_temp = str(OBJECTS)

    def build_extensions(self) -> None:
        toolkit, reason = decide_cuda()
        archs = ""
        (extension,) = self.extensions
        if toolkit is not None:
            archs = os.environ.get("TORCH_CUDA_ARCH_LIST") or DEFAULT_ARCHS
            os.environ["TORCH_CUDA_ARCH_LIST"] = archs
            # It is None beside a CPU-only torch, wherever nvcc may be.
            cpp_extension.CUDA_HOME = str(toolkit.root)
            if torch.version.cuda is None:
                extension.extra_compile_args["nvcc"].append("-MMD")
            keep_ptxas_messages(toolkit)
            extension.library_dirs.append(str(toolkit.libraries))
            # The static runtime: the binary needs no CUDA library to load.
            extension.libraries += ["cudart_static", "rt", "pthread", "dl"]
        extension.sources = find_sources(toolkit)
        extension.include_dirs.append(str(write_build_info(toolkit, archs)))
        if torch.version.cuda is None:
            forget_stale_kernels(extension.sources)
        self.report(toolkit, reason, archs)
        super().build_extensions()
        if toolkit is not None:
            report_kernels()

    def report(self, toolkit: Toolkit | None, reason: str, archs: str) -> None:
        sources = self.extensions[0].sources
        kernels = sum(name.endswith(".cu") for name in sources)
        print(
            f"torchconv: {len(sources) - kernels} C++ files against torch "
            f"{torch.__version__}, for the stable ABI of torch {TORCH_TARGET}; CPU "
            "kernels for every instruction set, chosen when loaded"
        )
        if toolkit is None:
            print(f"torchconv: no CUDA kernels: {reason}")
        else:
            print(
                f"torchconv: {kernels} CUDA files with nvcc {toolkit.version} "
                f"({toolkit.root}) for {archs}: {reason}"
            )
        sys.stdout.flush()


def keep_ptxas_messages(toolkit: Toolkit) -> None:
    """Has nvcc called through a script that puts what ptxas says beside each object."""
    nvcc = os.environ.get("PYTORCH_NVCC")
    if nvcc is None:
        ccache = shutil.which("ccache")  # which torch would have put before it
        nvcc = f"{ccache or ''} {toolkit.root / 'bin' / 'nvcc'}".strip()
    os.environ["PYTORCH_NVCC"] = f"{sys.executable} {PTXAS_REPORT} run {nvcc}"


def report_kernels() -> None:
    """Writes the table of all kernels and says in a line what is in it."""
    sys.path.insert(0, str(PTXAS_REPORT.parent))
    import ptxas_report

    kernels = ptxas_report.collect(OBJECTS)
    if not kernels:
        return
    table = OBJECTS / "cuda_kernels.txt"
    table.write_text(ptxas_report.table(kernels))
    spilling = sum(kernel.spilled > 0 for kernel in kernels)
    print(
        f"torchconv: {len(kernels)} compiled CUDA kernels, {spilling} spill registers, "
        f"at most {max(kernel.registers for kernel in kernels)} registers "
        f"({table.relative_to(ROOT)})"
    )
    sys.stdout.flush()


def put_ninja_on_path() -> None:
    """A virtual environment that was not activated has its ninja off the PATH."""
    if shutil.which("ninja") is None:
        here = str(Path(sys.executable).parent)
        os.environ["PATH"] = here + os.pathsep + os.environ.get("PATH", "")


put_ninja_on_path()
setup(
    packages=[*find_packages(include=["torchconv*"]), "torchconv_benchmarks"],
    package_dir={"torchconv_benchmarks": "benchmarks"},
    ext_modules=[
        Extension(
            "torchconv._C",
            find_sources(None),
            language="c++",
            include_dirs=[str(ROOT / "csrc"), *cpp_extension.include_paths()],
            library_dirs=cpp_extension.library_paths(),
            libraries=["torch_cpu"],
            extra_compile_args={
                "cxx": [*CXX_FLAGS, f"-ffile-prefix-map={ROOT}/="],
                "nvcc": list(NVCC_FLAGS),
            },
            # libtorch holds no code, but loads libtorch_cuda where torch has it, and
            # with that the one CUDA symbol that the binary looks for.
            extra_link_args=["-Wl,--no-as-needed", "-ltorch"],
        )
    ],
    cmdclass={"build_ext": Build},
)
