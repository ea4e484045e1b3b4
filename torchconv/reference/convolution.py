"""Convolution, its two adjoints, and its transpose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from ._tables import (
    Index,
    Ints,
    across,
    conv_output_size,
    each,
    padding_pairs,
    positions,
    source,
    table,
    taps,
    tensor,
    zeros,
)


def conv_terms(
    size: Sequence[int],
    out: Sequence[int],
    weight_size: Sequence[int],
    stride: Ints = 1,
    padding: str | Ints | Sequence[tuple[int, int]] = 0,
    dilation: Ints = 1,
    groups: int = 1,
    padding_mode: str = "zeros",
) -> Iterator[tuple[Index, Index, Index]]:
    """The (y index, x index, weight index), without batch, of every product
    x * weight that a convolution adds up. All three passes are loops over these, and
    take the options of this function."""
    filters, per_group, *kernel = weight_size
    nd = len(kernel)
    steps, spread = each(stride, nd), each(dilation, nd)
    pads = padding_pairs(padding, tuple(kernel), spread)
    low = [lo for lo, _ in pads]
    for o, t, p in taps(out, kernel, steps, spread, low):
        i = source(p, size, padding_mode)
        if i is None:
            continue
        for k in range(filters):
            first = k // (filters // groups) * per_group
            for c in range(per_group):
                yield (k, *o), (first + c, *i), (k, c, *t)


def conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, **options: Any
) -> Tensor:
    """y[n,k,o] = bias[k] + sum_{c,t} x[n, c, o*stride + t*dilation - low] w[k,c,t].

    x is (N, C, *spatial), weight (K, C/groups, *kernel), bias (K,).
    """
    nd, kernel = x.dim() - 2, tuple(weight.shape[2:])
    stride, spread = (each(options.get(key, 1), nd) for key in ("stride", "dilation"))
    pads = padding_pairs(options.get("padding", 0), kernel, spread)
    out = conv_output_size(x.shape[2:], kernel, stride, pads, spread)
    xs, ws, y = table(x), table(weight), zeros(x.shape[0], weight.shape[0], *out)
    for o, i, t in conv_terms(x.shape[2:], out, weight.shape, **options):
        for n in range(x.shape[0]):
            y[(n, *o)] += xs[(n, *i)] * ws[t]
    if bias is not None:
        bs = table(bias)
        for index in y:
            y[index] += bs[index[1:2]]
    return tensor(y, (x.shape[0], weight.shape[0], *out), x)


def conv_input_grad(
    grad: Tensor,
    weight: Tensor,
    input_size: Sequence[int],
    bias: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """The adjoint of `conv` in x: gx[n,c,i] = sum of grad[n,k,o] * weight[k,c,t] over
    the terms of y[n,k,o] that read x[n,c,i], plus bias[c]. input_size is (N, C, ...).
    """
    gs, ws, gx = table(grad), table(weight), zeros(*input_size)
    for o, i, t in conv_terms(input_size[2:], grad.shape[2:], weight.shape, **options):
        for n in range(grad.shape[0]):
            gx[(n, *i)] += gs[(n, *o)] * ws[t]
    if bias is not None:
        bs = table(bias)
        for index in gx:
            gx[index] += bs[index[1:2]]
    return tensor(gx, input_size, grad)


def conv_weight_grad(
    grad: Tensor, x: Tensor, weight_size: Sequence[int], **options: Any
) -> Tensor:
    """The adjoint of `conv` in weight: gw[k,c,t] = sum of grad[n,k,o] * x[n,c,i] over
    the terms that weight[k,c,t] takes part in."""
    gs, xs, gw = table(grad), table(x), zeros(*weight_size)
    for o, i, t in conv_terms(x.shape[2:], grad.shape[2:], weight_size, **options):
        for n in range(x.shape[0]):
            gw[t] += gs[(n, *o)] * xs[(n, *i)]
    return tensor(gw, weight_size, grad)


def channel_sum(x: Tensor) -> Tensor:
    """(N, C, *) -> (C,): the gradient of the bias."""
    total = zeros(x.shape[1])
    for index, value in table(x).items():
        total[index[1:2]] += value
    return tensor(total, x.shape[1:2], x)


def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
) -> Tensor:
    """The adjoint of the convolution with this weight, (C, K/groups, *kernel); its
    output is (n - 1)*stride - 2*padding + dilation*(kernel - 1) + output_padding + 1
    long."""
    nd = x.dim() - 2
    out = across(
        lambda n, k, s, p, d, extra: (n - 1) * s - 2 * p + d * (k - 1) + extra + 1,
        *(x.shape[2:], weight.shape[2:]),
        *(each(v, nd) for v in (stride, padding, dilation, output_padding)),
    )
    size = (x.shape[0], weight.shape[1] * groups, *out)
    return conv_input_grad(
        x,
        weight,
        size,
        bias,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )


def tiled_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, **options: Any
) -> Tensor:
    """y[n,k,o] = bias[o mod tile, k] + sum_{c,t} x[n, c, o*stride + t*dilation - low]
    w[o mod tile, k,c,t]: each position takes the convolution with its own kernel.

    weight is (*tile, K, C/groups, *kernel), bias (*tile, K); options as `conv`.
    """
    nd = x.dim() - 2
    tile = tuple(weight.shape[:nd])
    every = {
        r: conv(x, weight[r], None if bias is None else bias[r], **options)
        for r in positions(*tile)
    }
    size = every[(0,) * nd].shape
    ys = {r: table(y) for r, y in every.items()}
    y = {}
    for index in positions(*size):
        residue = tuple(o % t for o, t in zip(index[2:], tile, strict=True))
        y[index] = ys[residue][index]
    return tensor(y, size, x)
