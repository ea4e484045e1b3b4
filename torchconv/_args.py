"""What the arguments of all functions have in common: integers, devices, dtypes."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch

FLOATING = frozenset({torch.float32, torch.float64, torch.float16, torch.bfloat16})
COMPLEX = frozenset({torch.complex64, torch.complex128})
INTEGERS = frozenset(
    {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8},
)

# "meta" holds no data: the fake kernels answer for it.
DEVICES = frozenset({"cpu", "cuda", "meta"})


def integer(function: str, name: str, value: Any) -> int:
    """value as an int (or symbolic int), as torch's argument parser takes it."""
    if isinstance(value, (int, torch.SymInt)):
        return value  # type: ignore[return-value]
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(
            f"{function}(): argument '{name}' must be int or tuple of ints, "
            f"but got {name}={value!r}"
        ) from None


def integers(function: str, name: str, value: Any) -> tuple[int, ...]:
    """An int or a sequence of ints as a tuple, of whatever length."""
    if isinstance(value, (str, bytes)) or value is None:
        raise TypeError(
            f"{function}(): argument '{name}' must be int or tuple of ints, "
            f"but got {name}={value!r}"
        )
    if isinstance(value, Sequence):
        return tuple(integer(function, name, v) for v in value)
    return (integer(function, name, value),)


def check_device(function: str, name: str, device: torch.device) -> None:
    """torchconv has kernels for CPU and CUDA."""
    if device.type not in DEVICES:
        raise RuntimeError(
            f"{function}(): torchconv supports tensors on cpu and cuda, "
            f"but {name} is on {device}"
        )


def check_dtype(
    function: str, dtype: torch.dtype, supported: frozenset[torch.dtype]
) -> None:
    if dtype not in supported:
        names = ", ".join(sorted(str(d).removeprefix("torch.") for d in supported))
        raise RuntimeError(
            f'"{function}" not implemented for {dtype} (implemented for {names})'
        )


def shape_text(size: Sequence[int]) -> str:
    """[2, 3, 8, 8], as torch's messages write sizes."""
    return str(list(size))
