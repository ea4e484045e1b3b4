"""The simulator behind cuda-on-cpu notices what kernels do wrong."""

from __future__ import annotations

import ctypes
import re

import pytest
import torch
from cuda_on_cpu import library

# The bugs of tests/cuda_on_cpu/planted.cu, in its order, and what must be said of them.
BUGS = {
    "none": None,
    "missing_barrier": r"thread \d+: read of .* (nobody has written|no barrier between)",
    "missing_second_barrier": r"thread \d+: (read|write) of .* with no barrier between",
    "tile_edge": r"thread 0: read of element 64 \(4 bytes\) of a shared array of 64",
    "unwritten": r"thread 0: read of .* bytes 252 to 256, which nobody has written",
    "misaligned": r"thread \d+: read of .* is not aligned",
    "missing_wait": r"read of .*, whose cp.async no cp_async_wait has waited for",
    "barrier_before_wait": r"read of .*(wrote with no barrier between|cp_async_wait has waited for)",
    "missing_syncwarp": r"(nobody has written|no barrier between)",
    "lane_stays_away": r"deadlock: thread 0 waits in __shfl_xor_sync .*, thread 5 at",
    "barrier_in_branch": r"thread \d+: read of .* with no barrier between|deadlock|written",
    "fragment_row": None,
    "too_much_shared": r"outside of shared memory, bytes \d+ to \d+ of 256",
}


def run(bug: str, product: bool, x: torch.Tensor, y: torch.Tensor) -> str:
    """Runs a planted kernel; what it is told off for, or nothing."""
    planted = ctypes.CDLL(str(library.build("planted-cuda_on_cpu.so")))
    message = ctypes.create_string_buffer(1000)
    planted.planted_run(
        ctypes.c_bool(product),
        list(BUGS).index(bug),
        ctypes.c_void_p(x.data_ptr()),
        ctypes.c_void_p(y.data_ptr()),
        ctypes.c_int64(x.numel() // 64),
        message,
        1000,
    )
    return message.value.decode()


@pytest.mark.parametrize("bug", [name for name in BUGS if name != "fragment_row"])
def test_planted_bug(bug: str) -> None:
    x = torch.randn(3, 64)
    y = torch.full_like(x, torch.nan)
    said = run(bug, False, x, y)
    if BUGS[bug] is None:
        assert said == ""
        assert torch.equal(y, x.flip(1))
    else:
        assert said.startswith("torchconv: reverse failed: block 0")
        assert re.search(BUGS[bug], said), said
        # After a fault the next launch starts afresh.
        assert run("none", False, x, y) == ""
        assert torch.equal(y, x.flip(1))


@pytest.mark.parametrize("bug", ["none", "fragment_row"])
def test_matrix_fragments(bug: str) -> None:
    """A wrong row of a fragment shows in the numbers."""
    x = torch.randint(-3, 4, (384,)).float()
    y = torch.full((16, 8), torch.nan)
    assert run(bug, True, x, y) == ""
    expected = x[:256].view(16, 16) @ x[256:].view(16, 8)
    assert torch.equal(y, expected) == (bug == "none")
