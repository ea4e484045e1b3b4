"""What a call did besides its result: memory it took, kernels it ran.

Neither is assumed: allocations come from torch's profiler, kernels from oneDNN's verbose
log and the profiler.
"""

from __future__ import annotations

import ctypes
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO, Any

import torch
from torch.profiler import ProfilerActivity, profile


@dataclass(frozen=True)
class Memory:
    """Bytes allocated during a call, at the worst moment, and how many of them were
    no part of what it returned (or kept for backward)."""

    peak: int
    workspace: int


# Operators that hold no kernel of interest: views, allocations, wrappers of others.
_WRAPPERS = re.compile(
    r"^(\[memory\]|autograd::.*|\w*Backward\d*|torch::autograd.*|detach|aten::("
    r"empty\w*|zeros\w*|zero_|ones_like|fill_|as_strided_?|resize_\w*|view\w*|reshape|"
    r"_reshape_alias|unsqueeze|squeeze|detach|alias|select|narrow|slice|expand|transpose|"
    r"permute|flatten|conv\dd|_?convolution|conv_transpose\dd|to|_to_copy|copy_|clone|"
    r"contiguous|item|_local_scalar_dense|result_type|_nnpack_available|is_\w+))$"
)


@contextmanager
def _redirected(number: int) -> Iterator[IO[bytes]]:
    """What C and C++ code writes to a file descriptor, in a file instead."""
    libc = ctypes.CDLL(None)
    libc.fflush(None)
    with tempfile.TemporaryFile() as file:
        before = os.dup(number)
        os.dup2(file.fileno(), number)
        try:
            yield file
        finally:
            libc.fflush(None)
            os.dup2(before, number)
            os.close(before)


def _profiled(function: Callable[[], object], cuda: bool = False) -> Any:
    """The profiler's record of a call; what it says about itself is dropped."""
    activities = [ProfilerActivity.CPU]
    if cuda:
        activities.append(ProfilerActivity.CUDA)
    with _redirected(2):
        with profile(activities=activities, profile_memory=True) as record:
            result = function()
            if cuda:
                torch.cuda.synchronize()
        del result
    return record


def memory_of(function: Callable[[], object], device: str = "cpu") -> Memory:
    """Peak and workspace of a call; what it returns counts as its result."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = function()
        torch.cuda.synchronize()
        kept = torch.cuda.memory_allocated() - before
        peak = torch.cuda.max_memory_allocated() - before
        del result
        return Memory(peak, max(0, peak - kept))
    events = _profiled(function).profiler.kineto_results.events()
    moves = [(e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]"]
    now = peak = 0
    for _, size in sorted(moves, key=lambda move: move[0]):
        now += size
        peak = max(peak, now)
    return Memory(peak, max(0, peak - now))


def kernels_of(function: Callable[[], object], device: str = "cpu") -> str:
    """The kernels of torch that a call ran, in words.

    CPU: oneDNN's implementations and reorders as its log names them; where it has none,
    ATen's operators. CUDA: the names of the kernels.
    """
    if device == "cuda":
        events = _profiled(function, cuda=True).events()
        names = [e.name for e in events if str(e.device_type).endswith("CUDA")]
        return _counted(name for name in names if not name.startswith("Mem"))
    onednn = _counted(_onednn_names(function))
    if onednn:
        return f"oneDNN {onednn}"
    names = [event.name for event in _profiled(function).events()]
    kept = [name for name in names if not _WRAPPERS.match(name)]
    return f"ATen {_counted(name.removeprefix('aten::') for name in kept or names[:1])}"


def _counted(names: Any) -> str:
    counts = Counter(names)
    return ", ".join(f"{n} x {name}" if n > 1 else name for name, n in counts.items())


def _onednn_names(function: Callable[[], object]) -> list[str]:
    mkldnn = torch.backends.mkldnn
    if not mkldnn.is_available():
        return []
    with _redirected(1) as file:
        with suppress(RuntimeError), mkldnn.verbose(mkldnn.VERBOSE_ON):
            function()
        ctypes.CDLL(None).fflush(None)
        file.seek(0)
        log = file.read().decode(errors="replace")
    names = []
    for line in log.splitlines():
        # onednn_verbose,v1,primitive,exec,cpu,KIND,IMPLEMENTATION,PROPAGATION,...
        words = line.split(",")
        if words[:1] != ["onednn_verbose"] or "exec" not in words:
            continue
        kind, implementation, direction = words[words.index("exec") + 2 :][:3]
        if kind == "reorder":
            names.append("reorder")
        else:
            way = direction if direction != "undef" else kind
            names.append(f"{implementation} {way}")
    return names
