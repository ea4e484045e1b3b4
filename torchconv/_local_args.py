"""Arguments of tiled and locally connected convolutions: canonical form and checks.

As in _conv_args.py. The weight has the tile's dimensions in front: (*tile, K, C / groups,
*kernel); behind them it is checked as any convolution's weight.
"""

from __future__ import annotations

import math
from typing import Any

from ._args import shape_text
from ._config import AUTO
from ._conv_args import (
    COMPLEX_PARTS,
    DIRECT,
    EMPTY_CHANNELS,
    WIDENED,
    ConvPlan,
    Spec,
    conv_output_sizes,
    conv_plan,
)

# Besides _conv_args's: one kernel for all positions, an ordinary convolution.
UNTILED = -1


def tiled_conv_plan(
    name: str,
    nd: int,
    x: Spec,
    w: Spec,
    b: Spec | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    padding_mode: str,
    local: bool,
) -> ConvPlan:
    """Checks a tiled convolution's arguments; ``args`` are ``local_conv_forward``'s.

    With ``local`` the tile must be the output's size.

    Raises:
        TypeError: an argument that is not made of integers.
        ValueError: an unknown padding mode.
        RuntimeError: everything else.
    """
    if len(w.size) != 2 * nd + 2:
        raise RuntimeError(
            f"{name}(): expected weight of {2 * nd + 2} dimensions, (*tile, "
            f"out_channels, in_channels / groups, *kernel_size), but got weight of "
            f"size {shape_text(w.size)}"
        )
    tile = w.size[:nd]
    if any(t <= 0 for t in tile):
        raise RuntimeError(
            f"{name}(): the weight's leading dimensions, the tile, should be greater "
            f"than zero, but got weight of size {shape_text(w.size)}"
        )
    if b is not None and tuple(b.size) != tuple(w.size[: nd + 1]):
        raise RuntimeError(
            f"{name}(): given weight of size {shape_text(w.size)}, expected bias of "
            f"size {shape_text(w.size[: nd + 1])}, but got bias of size "
            f"{shape_text(b.size)} instead"
        )
    kernel = Spec(w.size[nd:], w.stride[nd:], w.dtype, w.device)
    # The bias of one kernel: dtype and device are checked with it.
    one = None if b is None else Spec(w.size[nd : nd + 1], (1,), b.dtype, b.device)
    plan = conv_plan(
        name,
        nd,
        x,
        kernel,
        one,
        stride,
        padding,
        dilation,
        groups,
        padding_mode,
        AUTO,
    )
    if local:
        out = conv_output_sizes(x.size[-nd:], kernel.size[2:], *plan.args[:3])
        if tuple(tile) != out:
            raise RuntimeError(
                f"{name}(): given input of size {shape_text(x.size)}, expected one "
                f"kernel for each of the {shape_text(out)} output positions, but got "
                f"weight of size {shape_text(w.size)}"
            )
    if math.prod(tile) == 1:
        return plan._replace(route=UNTILED)
    route = plan.route
    if route not in (COMPLEX_PARTS, WIDENED, EMPTY_CHANNELS):
        route = DIRECT
    return plan._replace(route=route, args=plan.args[:-1])
