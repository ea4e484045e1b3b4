"""Arguments of convolutions with an epilogue: activation(convolution + residual).

The plans are those of _conv_args.py, with what the epilogue adds.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ._activation import NONE, Activation, canonical_activation
from ._args import FLOATING, shape_text
from ._conv_args import (
    DIRECT,
    EMPTY_CHANNELS,
    ConvPlan,
    Spec,
    conv_output_sizes,
    conv_plan,
    conv_transpose_plan,
)


class FusedPlan(NamedTuple):
    """conv: the plan without the epilogue. activation: in canonical form. expand: the
    size that the residual is expanded to (without N, if the input has none), or None.
    fused: whether the fused operator takes it. args: that operator's. sum_args: the same
    without the activation."""

    conv: ConvPlan
    activation: Activation
    expand: tuple[int, ...] | None
    fused: bool
    args: tuple[Any, ...]
    sum_args: tuple[Any, ...]


def fused_plan(
    name: str,
    nd: int,
    x: Spec,
    w: Spec,
    b: Spec | None,
    residual: Spec | None,
    activation: Any,
    *rest: Any,
) -> FusedPlan:
    """A convolution with its epilogue; ``rest`` as ``conv_plan`` has them.

    Raises:
        TypeError, ValueError, RuntimeError: as ``conv_plan`` and
            ``canonical_activation``; a residual that does not fit.
    """
    chosen = canonical_activation(name, activation)
    plan = conv_plan(name, nd, x, w, b, *rest)
    stride, padding, dilation = plan.args[:3]
    spatial = x.size[1 if plan.unbatched else 2 :]
    out = conv_output_sizes(spatial, w.size[2:], stride, padding, dilation)
    batch = () if plan.unbatched else x.size[:1]
    channels = 0 if plan.route == EMPTY_CHANNELS else w.size[0]
    return _with_epilogue(name, plan, x, residual, (*batch, channels, *out), chosen)


def fused_transpose_plan(
    name: str,
    nd: int,
    x: Spec,
    w: Spec,
    b: Spec | None,
    residual: Spec | None,
    activation: Any,
    *rest: Any,
) -> FusedPlan:
    """A transposed convolution with its epilogue; ``rest`` as ``conv_transpose_plan``
    has them, which also says what is raised."""
    chosen = canonical_activation(name, activation)
    plan = conv_transpose_plan(name, nd, x, w, b, *rest)
    size = plan.args[0][1:] if plan.unbatched else plan.args[0]
    return _with_epilogue(name, plan, x, residual, size, chosen)


def _with_epilogue(
    name: str,
    plan: ConvPlan,
    x: Spec,
    residual: Spec | None,
    size: tuple[int, ...],
    activation: Activation,
) -> FusedPlan:
    expand = None
    if residual is not None:
        _check_residual(name, x, residual, size)
        if tuple(residual.size) != tuple(size):
            expand = size
    fused = plan.route == DIRECT and x.dtype in FLOATING
    return FusedPlan(
        plan,
        activation,
        expand,
        fused,
        (*plan.args, *activation),
        (*plan.args, *NONE),
    )


def _check_residual(name: str, x: Spec, residual: Spec, size: tuple[int, ...]) -> None:
    if residual.dtype != x.dtype:
        raise RuntimeError(
            f"Input type ({x.dtype}) and residual type ({residual.dtype}) "
            "should be the same"
        )
    if residual.device != x.device:
        raise RuntimeError(
            f"Input device ({x.device}) and residual device ({residual.device}) "
            "should be the same"
        )
    missing = len(size) - len(residual.size)
    if missing < 0 or any(
        r not in (1, s) for r, s in zip(residual.size, size[missing:])
    ):
        raise RuntimeError(
            f"{name}(): expected residual of the result's size {shape_text(size)}, or "
            f"one that expands to it, but got residual of size "
            f"{shape_text(residual.size)}"
        )
