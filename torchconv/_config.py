"""The algorithm asked for by the code around a call: ``with torchconv.algorithm(...)``
and ``torchconv.allow_winograd(...)``.

The choice travels as an argument of the operator, so that a compiled graph holds it and
no hidden state changes results.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from . import _extension

AUTO = "auto"
# The planner's choice among the algorithms that multiply and add the tensors' own
# elements: what "auto" becomes where winograd is not allowed.
AUTO_EXACT = "auto-exact"

# What an algorithm's name ends with where float32 may be computed in TF32
# (csrc/bindings/conv.h).
TF32 = "+tf32"


def _known_algorithms() -> tuple[str, ...]:
    """The rows of the devices' tables; without a binary, those that always exist.

    Whether an algorithm takes a given problem is the planner's answer, with its reason.
    """
    if not _extension.available():
        return AUTO, AUTO_EXACT, "direct", "im2col"
    binary = _extension.binary()
    names = [AUTO, AUTO_EXACT, *binary.conv_algorithms("cpu")]
    if binary.build_info()["cuda"]:
        names += binary.conv_algorithms("cuda")
    return tuple(dict.fromkeys(names))


ALGORITHMS = _known_algorithms()


class _Choice(threading.local):
    """What the current thread asked for.

    A thread-local object, not a ContextVar, because torch.compile reads and guards the
    attributes of the one and cannot trace the other.
    """

    def __init__(self) -> None:
        self.algorithm = AUTO


_choice = _Choice()


class _Flags:
    """What holds for the whole process."""

    def __init__(self) -> None:
        self.winograd = True


_flags = _Flags()


def check_algorithm(name: object) -> str:
    """The name itself, if it is one the planner knows; it may end with :data:`TF32`.

    Raises:
        ValueError: an unknown name; the message has the known ones.
    """
    if not isinstance(name, str) or name.removesuffix(TF32) not in ALGORITHMS:
        known = ", ".join(repr(a) for a in ALGORITHMS)
        raise ValueError(f"unknown algorithm {name!r}; known algorithms: {known}")
    return name


def current_algorithm(asked: str | None = None) -> str:
    """The algorithm of a call: the one asked for by its argument, else by the innermost
    ``with torchconv.algorithm(...)``, else "auto", in the form that is allowed."""
    name = _choice.algorithm if asked is None else asked
    if name.removesuffix(TF32) == AUTO and not _flags.winograd:
        return AUTO_EXACT + name.removeprefix(AUTO)
    return name


@contextmanager
def algorithm(name: str) -> Iterator[None]:
    """Run the convolutions inside the block with one algorithm, forward passes and the
    backward passes of graphs recorded there.

    Each thread has its own choice.

    Args:
        name: "auto" (the planner's choice, the default), "auto-exact" (its choice
            without winograd) or the name of an algorithm. A convolution that the named
            algorithm cannot do raises RuntimeError with the reason; an ``algorithm=`` argument of a call goes before the context.

    Raises:
        ValueError: a name the planner does not know.

    Example::

        with torchconv.algorithm("im2col"):
            y = model(x)
    """
    before = _choice.algorithm
    _choice.algorithm = check_algorithm(name)
    try:
        yield
    finally:
        _choice.algorithm = before


class allow_winograd:  # noqa: N801 -- used as a function, like torch.set_grad_enabled
    """Whether "auto" may choose Winograd's algorithm: a setting for the process, or for a
    block of a ``with`` statement. It may by default, in float32, float16 and bfloat16.

    Winograd's algorithm needs a quarter of the multiplications of a 3x3 convolution and
    rounds differently: float32 results are about 8e-7 off, relative to the norm, where
    the direct sum is 2e-7 off, and sums of whole numbers are not exact. Backward passes
    follow the setting of their forward pass. ``algorithm="winograd"`` asks for it
    regardless.

    Args:
        allowed: whether it may.

    Example::

        torchconv.allow_winograd(False)  # from here on
        with torchconv.allow_winograd(True):
            y = model(x)
    """

    def __init__(self, allowed: bool = True) -> None:
        self.before = _flags.winograd
        _flags.winograd = bool(allowed)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        _flags.winograd = self.before


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def tf32_allowed() -> bool:
    """Whether torch's settings let convolutions of float32 on CUDA use TF32:
    ``torch.backends.cudnn.allow_tf32``, or ``torch.backends.cudnn.conv.fp32_precision``
    and what it inherits from.

    A compiled graph keeps the answer of when it was traced.
    """
    precision = torch.backends.cudnn.conv.fp32_precision  # type: ignore[attr-defined]
    return bool(precision == "tf32")


def operator_algorithm(name: str | None, on_cuda: bool) -> str:
    """The algorithm as the operators take it: a call's argument, or else what the code
    around the call asked for; with :data:`TF32` where tensors on CUDA may use it."""
    chosen = current_algorithm(name)
    if on_cuda and not chosen.endswith(TF32) and tf32_allowed():
        return chosen + TF32
    return chosen
