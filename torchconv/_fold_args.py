"""Arguments of unfold and fold: canonical form, checks, block counts.

Plans as in _pool_args.py; messages follow ATen's ``im2col_shape_check`` and
``col2im_shape_check``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ._args import COMPLEX, FLOATING, integers, shape_text
from ._conv_args import Spec
from ._pool_args import (
    PoolPlan,
    check_dims,
    check_input,
    check_positive,
    pool_output_size,
    raise_index_error,
)

FOLD_DTYPES = FLOATING | COMPLEX | {torch.bool}


def _pair(argument: str, name: str, value: Any) -> tuple[int, ...]:
    """An int or exactly two."""
    values = integers(name, argument, value)
    if not isinstance(value, (list, tuple)):
        return values * 2
    if len(values) != 2:
        raise RuntimeError(
            f"It is expected {argument} equals to 2, but got size {len(values)}: "
            f"{argument}={list(values)}"
        )
    return values


def _blocks(
    name: str,
    kernel_size: Any,
    dilation: Any,
    padding: Any,
    stride: Any,
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """kernel, dilation, padding, stride of unfold and fold."""
    kernel = _pair("kernel_size", name, kernel_size)
    dilations = _pair("dilation", name, dilation)
    pads = _pair("padding", name, padding)
    steps = _pair("stride", name, stride)
    check_positive(name, 2, "kernel_size", kernel)
    check_positive(name, 2, "dilation", dilations)
    check_positive(name, 2, "stride", steps)
    if any(p < 0 for p in pads):
        raise RuntimeError(
            f"padding should be non-negative, but got padding={list(pads)}"
        )
    return kernel, dilations, pads, steps


def block_counts(
    size: Sequence[int],
    kernel: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    stride: Sequence[int],
) -> tuple[int, ...]:
    """Positions of unfold's window along each dimension."""
    return tuple(
        pool_output_size(s, k, st, p, d, False)
        for s, k, st, p, d in zip(size, kernel, stride, padding, dilation)
    )


def unfold_plan(
    name: str,
    x: Spec,
    kernel_size: Any,
    dilation: Any,
    padding: Any,
    stride: Any,
) -> PoolPlan:
    """Checks unfold's arguments; ``args`` are the operator's.

    Raises:
        TypeError: an argument that is not made of integers.
        IndexError: an input of fewer than three dimensions, as torch.
        RuntimeError: everything else, where torch raises it too.
    """
    kernel, dilations, pads, steps = _blocks(
        name, kernel_size, dilation, padding, stride
    )
    if len(x.size) < 3:
        raise_index_error(name, x)
    unbatched = check_dims(name, 2, x)
    spatial = x.size[-2:]
    blocks = block_counts(spatial, kernel, dilations, pads, steps)
    if any(b < 1 for b in blocks):
        raise RuntimeError(
            f"Given input with spatial size {tuple(spatial)}, kernel_size={kernel}, "
            f"dilation={dilations}, padding={pads}, calculated shape of the array of "
            f"sliding blocks as {blocks}, but its components must be at least one."
        )
    check_input(name, x, FOLD_DTYPES)
    return PoolPlan(unbatched, False, (kernel, dilations, pads, steps))


def fold_plan(
    name: str,
    x: Spec,
    output_size: Any,
    kernel_size: Any,
    dilation: Any,
    padding: Any,
    stride: Any,
) -> PoolPlan:
    """Checks fold's arguments; ``args`` are the operator's.

    Raises:
        TypeError: an argument that is not made of integers.
        RuntimeError: everything else, where torch raises it too.
    """
    out = _pair("output_size", name, output_size)
    kernel, dilations, pads, steps = _blocks(
        name, kernel_size, dilation, padding, stride
    )
    if len(x.size) not in (2, 3) or 0 in x.size[-2:]:
        raise RuntimeError(
            "Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch size "
            f"and non-zero dimensions for input, but got: {shape_text(x.size)}"
        )
    taps = kernel[0] * kernel[1]
    if x.size[-2] % taps != 0:
        raise RuntimeError(
            "Expected size of input's dimension 1 to be divisible by the product of "
            f"kernel_size, but got input.size(1)={x.size[-2]} and kernel_size={kernel}."
        )
    if any(o < 1 for o in out):
        raise RuntimeError(
            f"Expected output spatial size to be positive, but got: output_size={out}."
        )
    blocks = block_counts(out, kernel, dilations, pads, steps)
    given = (
        f"Given output_size={out}, kernel_size={kernel}, dilation={dilations}, "
        f"padding={pads}, stride={steps}, "
    )
    if any(b < 1 for b in blocks):
        raise RuntimeError(
            f"{given}calculated shape of the array of sliding blocks as {blocks}, "
            "which is too small (non-positive)"
        )
    if x.size[-1] != blocks[0] * blocks[1]:
        raise RuntimeError(
            f"{given}expected size of input's dimension 2 to match the calculated "
            f"number of sliding blocks {blocks[0]} * {blocks[1]} = "
            f"{blocks[0] * blocks[1]}, but got input.size(2)={x.size[-1]}."
        )
    check_input(name, x, FOLD_DTYPES)
    return PoolPlan(len(x.size) == 2, False, (out, kernel, dilations, pads, steps))
