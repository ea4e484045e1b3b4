"""The algorithm asked for by the code around a call: ``with torchconv.algorithm(...)``
and ``torchconv.allow_winograd(...)``.

The choice travels as an argument of the operator, so that a compiled graph holds it and
no hidden state changes results.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from . import _extension

AUTO = "auto"
# The planner's choice among the algorithms that multiply and add the tensors' own
# elements: what "auto" becomes where winograd is not allowed.
AUTO_EXACT = "auto-exact"


def _known_algorithms() -> tuple[str, ...]:
    """The rows of the binary's table; without a binary, those that always exist.

    Whether an algorithm takes a given problem is the planner's answer, with its reason.
    """
    if not _extension.available():
        return AUTO, AUTO_EXACT, "direct", "im2col"
    return AUTO, AUTO_EXACT, *_extension.binary().conv_algorithms()


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
    """The name itself, if it is one the planner knows.

    Raises:
        ValueError: an unknown name; the message has the known ones.
    """
    if not isinstance(name, str) or name not in ALGORITHMS:
        known = ", ".join(repr(a) for a in ALGORITHMS)
        raise ValueError(f"unknown algorithm {name!r}; known algorithms: {known}")
    return name


def current_algorithm(asked: str | None = None) -> str:
    """The algorithm of a call: the one asked for by its argument, else by the innermost
    ``with torchconv.algorithm(...)``, else "auto", in the form that is allowed."""
    name = _choice.algorithm if asked is None else asked
    return AUTO_EXACT if name == AUTO and not _flags.winograd else name


@contextmanager
def algorithm(name: str) -> Iterator[None]:
    """Run the convolutions inside the block with one algorithm, forward passes and the
    backward passes of graphs recorded there.

    Each thread has its own choice.

    Args:
        name: "auto" (the planner's choice, the default), "auto-exact" (its choice
            without winograd) or the name of an algorithm. A convolution that the named algorithm cannot do raises RuntimeError with the
            reason; an ``algorithm=`` argument of a call goes before the context.

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
