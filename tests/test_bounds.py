"""No kernel reads beyond a tensor: every input is placed against a page that must not be
touched, first at its end and then at its beginning.

A touch ends the process, so that the cases run in one of their own, which prints the
name of each before it starts.
"""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

PAGE = mmap.PAGESIZE
FORBIDDEN = 0  # PROT_NONE


def guarded(x: Tensor, at_end: bool) -> Tensor:
    """A copy of a dense tensor, with its strides, between two forbidden pages and
    touching one of them."""
    if not x.numel():
        return x
    size = x.numel() * x.element_size()
    room = -(-size // PAGE) * PAGE
    memory = mmap.mmap(-1, room + 2 * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    for page in (address, address + PAGE + room):
        assert libc.mprotect(ctypes.c_void_p(page), PAGE, FORBIDDEN) == 0
    offset = PAGE + (room - size if at_end else 0)
    flat = torch.frombuffer(memory, dtype=x.dtype, count=x.numel(), offset=offset)
    return flat.as_strided(x.shape, x.stride()).copy_(x)


def formats(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """The tensors contiguous, and channels_last where there is such a thing."""
    found = [tensors]
    if tensors[0].dim() > 3:
        last = {4: torch.channels_last, 5: torch.channels_last_3d}[tensors[0].dim()]
        found.append(tuple(t.contiguous(memory_format=last) for t in tensors))
    return found


def conv_cases() -> None:
    import shapes
    from common import EVERY, conv_passes, each_isa, whole

    for problem in shapes.CONVS:
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            sizes = (problem.x_size, problem.weight_size, problem.out_size)
            dense = [whole(size, dtype) for size in sizes]
            for tensors in formats(*dense):
                for at_end in (True, False):
                    x, w, grad = (guarded(t, at_end) for t in tensors)
                    for isa in each_isa():
                        for algorithm in EVERY:
                            print(problem.name, dtype, at_end, isa, algorithm)
                            conv_passes(problem, x, w, None, grad, algorithm)


def pool_cases() -> None:
    import shapes
    from common import each_isa, per_rank, pool_options, whole

    from torchconv import functional as TF

    def run(x: Tensor, at_end: bool, name: str, *args: Any, **options: Any) -> None:
        own = x.detach().requires_grad_()
        y = per_rank(name, x.dim() - 2, TF)(own, *args, **options)
        y = y[0] if isinstance(y, tuple) else y
        grad = guarded(torch.ones_like(y), at_end)
        torch.autograd.grad(y, own, grad)

    for problem in shapes.POOLS:
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            for (tensor,) in formats(whole(problem.x_size, dtype).abs()):
                for at_end in (True, False):
                    x = guarded(tensor, at_end)
                    for isa in each_isa():
                        print(problem.name, dtype, at_end, isa)
                        options = pool_options(problem, "max")
                        run(x, at_end, "max_pool", **options)
                        run(x, at_end, "max_pool", **options, return_indices=True)
                        out = min(4, *x.shape[2:])
                        run(x, at_end, "adaptive_max_pool", out)
                        run(x, at_end, "adaptive_avg_pool", out)
                        if problem.dilation != 1:
                            continue
                        run(x, at_end, "avg_pool", **pool_options(problem, "avg"))
                        if problem.padding == 0:
                            lp = pool_options(problem, "lp")
                            run(x, at_end, "lp_pool", 2.0, **lp)


def column_cases() -> None:
    import shapes
    from common import each_isa, whole

    from torchconv import functional as TF

    for problem in shapes.COLUMNS:
        options = (problem.kernel, problem.dilation, problem.padding, problem.stride)
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.bool):
            for (tensor,) in formats(whole(problem.x_size, dtype)):
                for at_end in (True, False):
                    x = guarded(tensor, at_end)
                    for isa in each_isa():
                        print(problem.name, dtype, at_end, isa)
                        columns = guarded(TF.unfold(x, *options), at_end)
                        TF.fold(columns, x.shape[2:], *options)


CASES = {"conv": conv_cases, "pool": pool_cases, "columns": column_cases}


@pytest.mark.parametrize("kind", CASES)
def test_no_read_beyond_a_tensor(kind: str) -> None:
    command = [sys.executable, "-u", str(Path(__file__)), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    last = done.stdout.splitlines()[-1:] or ["before the first case"]
    assert done.returncode == 0, f"{last[0]}\n{done.stderr[-2000:]}"
    assert last[0] == "done"


@pytest.mark.parametrize("at_end", [True, False])
def test_the_guard_guards(at_end: bool) -> None:
    """One element too far ends the process."""
    beyond = "t.numel()" if at_end else "-1"
    script = (
        "import torch, ctypes; from test_bounds import guarded; "
        f"t = guarded(torch.ones(5, 7), {at_end}); "
        f"ctypes.c_float.from_address(t.data_ptr() + 4 * {beyond}).value"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parent,
        check=False,
        capture_output=True,
    )
    assert done.returncode < 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    torch.set_num_threads(1)
    CASES[sys.argv[1]]()
    print("done")
