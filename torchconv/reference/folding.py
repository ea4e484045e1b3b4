"""Windows as columns."""

from __future__ import annotations

import math

from torch import Tensor

from ._tables import (
    Ints,
    conv_output_size,
    each,
    flat_index,
    padding_pairs,
    positions,
    source,
    table,
    taps,
    tensor,
    zeros,
)


def unfold(
    x: Tensor,
    kernel_size: Ints,
    dilation: Ints = 1,
    padding: Ints = 0,
    stride: Ints = 1,
) -> Tensor:
    """(N, C, *spatial) -> (N, C*prod(kernel), L): column l holds window l, its rows
    channel by channel, tap by tap."""
    nd = x.dim() - 2
    kernel, spread, steps = each(kernel_size, nd), each(dilation, nd), each(stride, nd)
    pad = each(padding, nd)
    pads = padding_pairs(pad, kernel, spread)
    out = conv_output_size(x.shape[2:], kernel, steps, pads, spread)
    count = math.prod(kernel)
    shape = (x.shape[0], x.shape[1] * count, math.prod(out))
    xs, y = table(x), zeros(*shape)
    for o, t, p in taps(out, kernel, steps, spread, pad):
        if source(p, x.shape[2:]) is None:
            continue
        for n, c in positions(*x.shape[:2]):
            row = c * count + flat_index(t, kernel)
            y[n, row, flat_index(o, out)] = xs[(n, c, *p)]
    return tensor(y, shape, x)


def fold(
    columns: Tensor,
    output_size: Ints,
    kernel_size: Ints,
    dilation: Ints = 1,
    padding: Ints = 0,
    stride: Ints = 1,
    nd: int = 2,
) -> Tensor:
    """The adjoint of `unfold`: every entry of (N, C*prod(kernel), L) is added to the
    position of (N, C, *output_size) that unfold reads it from."""
    size, kernel = each(output_size, nd), each(kernel_size, nd)
    spread, steps, pad = each(dilation, nd), each(stride, nd), each(padding, nd)
    pads = padding_pairs(pad, kernel, spread)
    out = conv_output_size(size, kernel, steps, pads, spread)
    count = math.prod(kernel)
    shape = (columns.shape[0], columns.shape[1] // count, *size)
    cs, y = table(columns), zeros(*shape)
    for o, t, p in taps(out, kernel, steps, spread, pad):
        if source(p, size) is None:
            continue
        for n, c in positions(*shape[:2]):
            row = c * count + flat_index(t, kernel)
            y[(n, c, *p)] += cs[n, row, flat_index(o, out)]
    return tensor(y, shape, columns)
