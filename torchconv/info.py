"""What this installation is and what it can do, for bug reports and for the curious.

    python -m torchconv.info [--json]

Versions, how the binary was built, the CPU features found and the instruction set chosen,
threads, and the algorithms of every operator. Works without the binary too: then it says
what is missing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from . import _extension
from ._version import __version__

# The operators that choose among the algorithms.
_PASSES = frozenset({"conv_forward", "conv_input_grad", "conv_weight_grad"})


def cpu_model() -> str:
    """The processor's name, as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def operators() -> list[str]:
    """Names of the operators that have a CPU kernel, sorted."""
    return sorted(
        name.removeprefix("torchconv::")
        for name in torch._C._dispatch_get_all_op_names()
        if name.startswith("torchconv::")
        and torch._C._dispatch_has_kernel_for_dispatch_key(name, "CPU")
    )


def collect() -> dict[str, Any]:
    """All of it as a dictionary of plain values, ready for JSON.

    Returns:
        "versions", "binary" (a sentence: what is missing and how to build it, or None),
        "build", "cpu", "cuda", "threads", "operators" and "algorithms". What only the
        binary knows is left out where it is missing.
    """
    found: dict[str, Any] = {
        "versions": {
            "torchconv": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
        },
        "binary": _extension.load_error(),
        "cpu": {"model": cpu_model(), "cores": os.cpu_count()},
        "cuda": {
            "torch": torch.version.cuda,
            "devices": [
                torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())
            ],
        },
        "threads": torch.get_num_threads(),
    }
    if not _extension.available():
        return found
    binary = _extension.binary()
    found["build"] = {"file": binary.__file__, **binary.build_info()}
    found["cpu"] |= {
        "features": binary.cpu_features(),
        "instruction_sets": binary.supported_isas(),
        "chosen": binary.active_isa(),
    }
    found["operators"] = operators()
    # Every pass of a convolution may take any row; the others have one kernel each.
    convs = [name for name in operators() if name in _PASSES]
    found["algorithms"] = {name: binary.conv_algorithms("cpu") for name in convs}
    if binary.build_info()["cuda"]:
        found["cuda"]["algorithms"] = {
            name: binary.conv_algorithms("cuda") for name in convs
        }
    return found


def report(found: dict[str, Any]) -> str:
    """The dictionary of `collect` as lines to read."""
    lines = []

    def add(title: str, value: object) -> None:
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        lines.append(f"{title:<18}{text or 'none'}")

    for name, version in found["versions"].items():
        add(name, version)
    if found["binary"] is not None:
        add("binary", found["binary"])
    build = found.get("build")
    if build:
        add("binary", build["file"])
        add("built for", f"torch {build['stable_abi']} and newer")
        add("built with", f"torch {build['torch']}, {build['compiler']}")
        add("flags", build["flags"])
        if build["cuda"]:
            add("CUDA kernels", f"nvcc {build['nvcc']} for {build['cuda_archs']}")
            add("nvcc flags", build["nvcc_flags"])
        else:
            add("CUDA kernels", "not built")
    cpu = found["cpu"]
    add("CPU", f"{cpu['model']} ({cpu['cores']} cores)")
    if "features" in cpu:
        add("CPU features", cpu["features"])
        add("instruction sets", cpu["instruction_sets"])
        add("in use", f"{cpu['chosen']} (TORCHCONV_CPU_ISA in the environment sets it)")
    add("CUDA in torch", found["cuda"]["torch"] or "none")
    add("GPUs", found["cuda"]["devices"])
    add("threads", found["threads"])
    if "operators" in found:
        add("operators", found["operators"])
        for name, algorithms in found["algorithms"].items():
            add(name, algorithms)
        for name, algorithms in found["cuda"].get("algorithms", {}).items():
            add(f"{name}, CUDA", algorithms)
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints it; the command line of ``python -m torchconv.info``."""
    parser = argparse.ArgumentParser(
        prog="python -m torchconv.info", description="Describe this installation."
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead")
    options = parser.parse_args(arguments)
    found = collect()
    print(json.dumps(found, indent=2) if options.json else report(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
