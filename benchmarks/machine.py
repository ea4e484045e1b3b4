"""The machine: what it is, and the two ceilings of its roofline, measured."""

from __future__ import annotations

import functools
import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from torchconv import __version__
from torchconv._extension import binary

# Bytes of both buffers of a copy: a size class is what such a footprint fits in.
COPY_SIZES = (1 << 14, 1 << 17, 1 << 19, 1 << 21, 1 << 23, 1 << 25, 1 << 27, 1 << 29)
SECONDS_PER_POINT = 0.05
CUDA_MATRIX = 4096


@dataclass(frozen=True)
class Roofline:
    """FLOP/s by dtype, and bytes/s (read plus written) of copies by their footprint."""

    flops: dict[str, float]
    copies: tuple[tuple[int, float], ...]

    def bandwidth(self, footprint: float) -> float:
        """Of the smallest class that holds so many bytes."""
        for size, rate in self.copies:
            if footprint <= size:
                return rate
        return self.copies[-1][1]

    def floor(self, dtype: str, flops: float, bytes_moved: float, cold: bool) -> float:
        """Seconds that nothing on this machine beats which computes so many FLOPs and
        moves so many bytes; cold: they come from memory, whatever would hold them."""
        rate = self.copies[-1][1] if cold else self.bandwidth(bytes_moved)
        return max(flops / self.flops[dtype], bytes_moved / rate)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"flops": self.flops, "copies": [list(c) for c in self.copies]}


def measure_roofline(dtypes: list[str], device: str) -> Roofline:
    """The best of several short runs, on as many threads as torch has.

    CPU: chains of multiply-adds in registers and copies, both compiled for the
    instruction set in use. CUDA: torch's matrix product and copies.
    """
    if device == "cuda":
        return _cuda_roofline(dtypes)
    compiled = binary()
    flops = {dtype: compiled.fma_peak(dtype, SECONDS_PER_POINT) for dtype in dtypes}
    sizes = [n for n in COPY_SIZES if n <= 4 * last_level_cache("cpu")] or COPY_SIZES[
        :1
    ]
    copies = tuple((n, compiled.copy_peak(n, SECONDS_PER_POINT)) for n in sizes)
    return Roofline(flops, copies)


def _cuda_roofline(dtypes: list[str]) -> Roofline:
    def best(function: Any) -> float:
        times = []
        for _ in range(10):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            function()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end) / 1e3)
        return min(times)

    flops = {}
    for dtype in dtypes:
        a = torch.randn(CUDA_MATRIX, CUDA_MATRIX, device="cuda")
        a = a.to(getattr(torch, dtype))
        flops[dtype] = 2 * CUDA_MATRIX**3 / best(lambda a=a: a @ a)
    copies = []
    for size in COPY_SIZES:
        source = torch.empty(size // 2, dtype=torch.int8, device="cuda")
        target = torch.empty_like(source)
        rate = size / best(lambda s=source, t=target: t.copy_(s))
        copies.append((size, rate))
    return Roofline(flops, tuple(copies))


@functools.cache
def last_level_cache(device: str) -> int:
    """Bytes; 32 MiB where the system does not say."""
    if device == "cuda":
        return int(torch.cuda.get_device_properties(0).L2_cache_size)
    sizes = []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        match = re.fullmatch(r"(\d+)([KM])", file.read_text().strip())
        if match:
            sizes.append(int(match[1]) << (10 if match[2] == "K" else 20))
    return max(sizes, default=1 << 25)


def environment(command: str, device: str = "cpu") -> dict[str, str]:
    """Where and with what the numbers were measured."""
    found = {
        "command": command,
        "commit": _commit(),
        "torchconv": __version__,
        "torch": torch.__version__,
        "cpu": _cpu_model(),
        "cores": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "last-level cache": f"{last_level_cache('cpu') / 2**20:.0f} MiB",
        "torch isa": torch.backends.cpu.get_cpu_capability(),
        "torchconv isa": binary().active_isa(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    if device == "cuda":
        found |= {
            "gpu": torch.cuda.get_device_name(),
            "cudnn": str(torch.backends.cudnn.version()),
            "cudnn.benchmark": str(torch.backends.cudnn.benchmark),
            "tf32": str(torch.backends.cudnn.allow_tf32),
        }
    return found


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    found = dict(line.split(":", 1) for line in lines if ":" in line)
    named = {name.strip(): value.strip() for name, value in found.items()}
    model = named.get("model name", platform.machine())
    if "cpu family" in named:  # a virtual machine's model name may say little
        model += f" (family {named['cpu family']}, model {named['model']})"
    return model


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty", "--exclude=*"]
    folder = Path(__file__).resolve().parent
    if not (folder.parent / ".git").exists():
        return "installed package"
    try:
        output = subprocess.run(command, cwd=folder, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return output.stdout.decode().strip()
