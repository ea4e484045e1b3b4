"""Activations that a convolution applies to its sums before it writes them.

The names are those of torch.nn.functional, and so are the values; the binary has the same
list (csrc/core/epilogue.h).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as TF

ActivationLike: TypeAlias = str | Sequence[Any] | None

_aten = torch.ops.aten


class Activation(NamedTuple):
    """In canonical form: the operators' arguments."""

    name: str
    a: float
    b: float

    @property
    def from_output(self) -> bool:
        """Whether its slope follows from its result."""
        return self.name in ("none", "relu", "hardtanh") or (
            self.name == "leaky_relu" and self.a >= 0
        )


NONE = Activation("none", 0.0, 0.0)

# By name: the canonical name and parameters by default.
_KNOWN: dict[str, tuple[str, tuple[float, ...]]] = {
    "relu": ("relu", ()),
    "relu6": ("hardtanh", (0.0, 6.0)),
    "hardtanh": ("hardtanh", (-1.0, 1.0)),
    "leaky_relu": ("leaky_relu", (0.01,)),
    "hardswish": ("hardswish", ()),
    "hardsigmoid": ("hardsigmoid", ()),
}
_PARAMETERS = {"hardtanh": ("min_val", "max_val"), "leaky_relu": ("negative_slope",)}

ACTIVATIONS = tuple(_KNOWN)


def canonical_activation(function: str, value: ActivationLike) -> Activation:
    """An activation as users name it: a name, or a tuple of a name and the parameters
    that torch.nn.functional's function of that name has, ("leaky_relu", 0.2) or
    ("hardtanh", -2, 2).

    Raises:
        ValueError: an unknown name or parameters that do not belong to it.
        TypeError: anything else.
    """
    if value is None:
        return NONE
    if isinstance(value, str):
        name: str = value
        given: tuple[Any, ...] = ()
    elif isinstance(value, (tuple, list)) and value and isinstance(value[0], str):
        name, given = value[0], tuple(value[1:])
    else:
        raise TypeError(
            f"{function}(): activation must be a name, a tuple of a name and its "
            f"parameters, or None, but got activation={value!r}"
        )
    if name not in _KNOWN:
        known = ", ".join(map(repr, ACTIVATIONS))
        raise ValueError(
            f"{function}(): activation must be one of {known} or None, "
            f"but got activation={value!r}"
        )
    canonical, default = _KNOWN[name]
    names = _PARAMETERS.get(name, ())
    if given and (
        len(given) != len(names)
        or not all(
            isinstance(v, (int, float)) and not isinstance(v, bool) for v in given
        )
    ):
        expected = f"({', '.join(names)})" if names else "no parameters"
        raise ValueError(
            f"{function}(): activation {name!r} takes {expected}, "
            f"but got activation={value!r}"
        )
    numbers = tuple(float(v) for v in given) or default
    if any(math.isnan(v) for v in numbers):
        raise ValueError(
            f"{function}(): activation {name!r} got a NaN: activation={value!r}"
        )
    if canonical == "hardtanh" and numbers[0] > numbers[1]:
        raise ValueError(
            f"{function}(): hardtanh's min_val is above its max_val: "
            f"activation={value!r}"
        )
    a, b = (*numbers, 0.0, 0.0)[:2]
    return Activation(canonical, a, b)


def activate(y: Tensor, activation: Activation) -> Tensor:
    """The activation by torch."""
    name, a, b = activation
    if name == "none":
        return y
    if name == "relu":
        return TF.relu(y)
    if name == "hardtanh":
        return TF.hardtanh(y, a, b)
    if name == "leaky_relu":
        return TF.leaky_relu(y, a)
    if name == "hardswish":
        return TF.hardswish(y)
    assert name == "hardsigmoid"
    # torch's own has no second derivative.
    return TF.relu6(y + 3) / 6


def through_activation(grad: Tensor, at: Any, activation: Activation) -> Tensor:
    """The gradient of the activation's argument; its tangent, from that of the argument.

    Args:
        grad: of the result.
        at: the result where ``activation.from_output``, else the argument; of no use to
            "none".
    """
    name, a, b = activation
    if name == "none":
        return grad
    if name == "relu":
        return _aten.threshold_backward(grad, at, 0)
    if name == "hardtanh":
        return _aten.hardtanh_backward(grad, at, a, b)
    if name == "leaky_relu":
        return _aten.leaky_relu_backward(grad, at, a, activation.from_output)
    if name == "hardswish":
        return _aten.hardswish_backward(grad, at)
    assert name == "hardsigmoid"
    # torch's own has no derivatives.
    return torch.where((at > -3) & (at < 3), grad / 6, 0)
