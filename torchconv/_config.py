"""The algorithm asked for by the code around a call: ``with torchconv.algorithm(...)``.

The choice travels as an argument of the operator, so that a compiled graph holds it and
no hidden state changes results. Each thread has its own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from . import _extension

AUTO = "auto"


def _known_algorithms() -> tuple[str, ...]:
    """The rows of the binary's table; without a binary, those that always exist.

    Whether an algorithm takes a given problem is the planner's answer, with its reason.
    """
    if not _extension.available():
        return AUTO, "direct", "im2col"
    return AUTO, *_extension.binary().conv_algorithms()


ALGORITHMS = _known_algorithms()


class _Choice(threading.local):
    """What the current thread asked for.

    A thread-local object, not a ContextVar, because torch.compile reads and guards the
    attributes of the one and cannot trace the other.
    """

    def __init__(self) -> None:
        self.algorithm = AUTO


_choice = _Choice()


def check_algorithm(name: object) -> str:
    """The name itself, if it is one the planner knows.

    Raises:
        ValueError: an unknown name; the message has the known ones.
    """
    if not isinstance(name, str) or name not in ALGORITHMS:
        known = ", ".join(repr(a) for a in ALGORITHMS)
        raise ValueError(f"unknown algorithm {name!r}; known algorithms: {known}")
    return name


def current_algorithm() -> str:
    """The algorithm of the innermost ``with torchconv.algorithm(...)``, else "auto"."""
    return _choice.algorithm


@contextmanager
def algorithm(name: str) -> Iterator[None]:
    """Run the convolutions inside the block with one algorithm, forward passes and the
    backward passes of graphs recorded there.

    Args:
        name: "auto" (the planner's choice, the default) or the name of an algorithm. A
            convolution that the named algorithm cannot do raises RuntimeError with the
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
