"""The definitions of torchconv's operators, in plain Python loops.

Slow and obviously right: this module is the oracle of the tests. Each function is
the textbook formula of its docstring, one Python number at a time, with no
vectorised step that could hide a mistake. Tensors are batched, (N, C, *spatial),
of any rank. Results are float64 (int64 for integers, complex128 for complex
inputs), whatever the precision of the inputs, because Python's numbers are.

Options are a number for all spatial dimensions or a sequence of one per dimension.
Padding of a convolution is a number, a sequence of numbers or of (low, high)
pairs, or one of "valid", "same", "full", "causal" (see `padding_pairs`).

The formulas are those of the documentation of torch.nn (Conv2d, ConvTranspose2d,
MaxPool2d, AvgPool2d, LPPool2d, AdaptiveAvgPool2d, Unfold, Fold) and, for fractional
pooling, of B. Graham, "Fractional Max-Pooling", arXiv:1412.6071.
"""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

Index = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]
Ints = int | Sequence[int]
# int, float or complex, with one name: Python's typing has no better one.
Number = Any


# -- indices: written once, for every operator and every rank -------------------


def positions(*sizes: int) -> Iterator[Index]:
    """All index tuples of an array with these sizes, in row-major order."""
    return itertools.product(*map(range, sizes))


def across(formula: Callable[..., int], *options: Sequence[Any]) -> Index:
    """The formula for each spatial dimension, from the options of that dimension."""
    return tuple(formula(*one) for one in zip(*options, strict=True))


def taps(
    out: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    low: Sequence[int],
) -> Iterator[tuple[Index, Index, Index]]:
    """Every (output position o, tap t, coordinate p = o*stride + t*dilation - low).

    p is a coordinate of the input, and may lie outside of it, in the padding.
    """
    for o in positions(*out):
        for t in positions(*kernel):
            at = zip(o, stride, t, dilation, low, strict=True)
            yield o, t, tuple(oi * s + ti * d - lo for oi, s, ti, d, lo in at)


def source(p: Index, size: Sequence[int], mode: str = "zeros") -> Index | None:
    """Where the padded input at coordinate p is read from; None where it is a zero."""
    found = []
    for i, n in zip(p, size, strict=True):
        if not 0 <= i < n:
            if mode == "zeros":
                return None
            if mode == "replicate":
                i = 0 if i < 0 else n - 1
            elif mode == "circular":
                i = i % n
            else:
                assert mode == "reflect", f"unknown padding_mode {mode!r}"
                i = -i if i < 0 else 2 * (n - 1) - i
        found.append(i)
    return tuple(found)


def each(value: Ints, nd: int) -> Index:
    """An option as one number per spatial dimension."""
    return (value,) * nd if isinstance(value, int) else tuple(value)


def padding_pairs(
    padding: str | Ints | Sequence[tuple[int, int]], kernel: Index, dilation: Index
) -> Pairs:
    """Padding as one (low, high) per dimension.

    With reach = dilation * (kernel - 1), what a window covers beyond its first tap:
    "valid" pads nothing; "same" pads reach in all, the odd one high, so that stride 1
    keeps the size; "full" pads reach on both sides; "causal" pads reach low, so that
    an output sees no later input.
    """
    reach = across(lambda d, k: d * (k - 1), dilation, kernel)
    if padding == "valid":
        return tuple((0, 0) for _ in reach)
    if padding == "same":
        return tuple((r // 2, r - r // 2) for r in reach)
    if padding == "full":
        return tuple((r, r) for r in reach)
    if padding == "causal":
        return tuple((r, 0) for r in reach)
    assert not isinstance(padding, str), f"unknown padding {padding!r}"
    per_dim = (padding,) * len(kernel) if isinstance(padding, int) else padding
    return tuple((p, p) if isinstance(p, int) else (p[0], p[1]) for p in per_dim)


def conv_output_size(
    size: Sequence[int], kernel: Index, stride: Index, pads: Pairs, dilation: Index
) -> Index:
    """floor((size + low + high - dilation * (kernel - 1) - 1) / stride) + 1."""
    return across(
        lambda n, k, s, pad, d: (n + sum(pad) - d * (k - 1) - 1) // s + 1,
        *(size, kernel, stride, pads, dilation),
    )


def pool_output_size(
    size: Sequence[int],
    kernel: Index,
    stride: Index,
    padding: Index,
    dilation: Index,
    ceil_mode: bool,
) -> Index:
    """As a convolution's; ceil_mode rounds up, but drops a window that would start
    beyond the input and its low padding."""

    def count(n: int, k: int, s: int, p: int, d: int) -> int:
        room = n + 2 * p - d * (k - 1) - 1
        if not ceil_mode:
            return room // s + 1
        last = -(room // -s)
        return last if last * s >= n + p else last + 1

    return across(count, size, kernel, stride, padding, dilation)


# -- tensors as tables of Python numbers -----------------------------------------


def table(x: Tensor) -> dict[Index, Number]:
    """{index: value} of a tensor, values as Python numbers."""
    return dict(zip(positions(*x.shape), x.detach().reshape(-1).tolist(), strict=True))


def zeros(*sizes: int) -> dict[Index, Number]:
    """A table of integer zeros, which take the type of what is added to them."""
    return dict.fromkeys(positions(*sizes), 0)


def tensor(values: dict[Index, Number], sizes: Sequence[int], like: Tensor) -> Tensor:
    """A table as a tensor in the widest dtype of the kind of `like`."""
    dtype = torch.int64
    if like.dtype.is_complex:
        dtype = torch.complex128
    elif like.dtype.is_floating_point:
        dtype = torch.float64
    flat = [values[i] for i in positions(*sizes)]
    return torch.tensor(flat, dtype=dtype).reshape(tuple(sizes))


# -- convolution -----------------------------------------------------------------


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


# -- pooling: a window is a list of input coordinates ------------------------------


def flat_index(i: Index, size: Sequence[int]) -> int:
    """The row-major number of position i in a plane."""
    number = 0
    for at, n in zip(i, size, strict=True):
        number = number * n + at
    return number


def pool_windows(
    size: Sequence[int],
    kernel: Index,
    stride: Index,
    padding: Index,
    dilation: Index,
    ceil_mode: bool,
) -> dict[Index, list[Index]]:
    """{output position: coordinates of its window, padding included}."""
    out = pool_output_size(size, kernel, stride, padding, dilation, ceil_mode)
    windows: dict[Index, list[Index]] = {o: [] for o in positions(*out)}
    for o, _, p in taps(out, kernel, stride, dilation, padding):
        windows[o].append(p)
    return windows


def adaptive_windows(size: Sequence[int], out: Index) -> dict[Index, list[Index]]:
    """Output o of `out` covers floor(o*size/out) up to ceil((o+1)*size/out)."""
    spans = [
        [range(i * n // m, -((i + 1) * n // -m)) for i in range(m)]
        for n, m in zip(size, out, strict=True)
    ]
    return box_windows(spans)


def box_windows(spans: Sequence[Sequence[range]]) -> dict[Index, list[Index]]:
    """Windows that are boxes, from the ranges that outputs 0, 1, ... of each dimension
    cover."""
    return {
        o: list(itertools.product(*(one[i] for one, i in zip(spans, o, strict=True))))
        for o in positions(*map(len, spans))
    }


def outer_size(windows: dict[Index, list[Index]]) -> Index:
    """The output size of a set of windows."""
    return tuple(max(at) + 1 for at in zip(*windows, strict=True))


def max_over(x: Tensor, windows: dict[Index, list[Index]]) -> tuple[Tensor, Tensor]:
    """The largest value of each window and its flat index in the input's plane: the
    first among equals; a NaN wins, the last one among several. (-inf, -1) where a
    window has no position inside the input."""
    size = x.shape[2:]
    shape = (*x.shape[:2], *outer_size(windows))
    xs, y, index = table(x), {}, {}
    for n, c in positions(*x.shape[:2]):
        for o, window in windows.items():
            inside = [i for i in window if source(i, size) is not None]
            if not inside:  # a dilated window may step over a small input
                y[(n, c, *o)], index[(n, c, *o)] = -math.inf, -1
                continue
            best = inside[0]
            for i in inside[1:]:
                v = xs[(n, c, *i)]
                if v > xs[(n, c, *best)] or math.isnan(v):
                    best = i
            y[(n, c, *o)] = xs[(n, c, *best)]
            index[(n, c, *o)] = flat_index(best, size)
    return tensor(y, shape, x), tensor(index, shape, torch.empty(0, dtype=torch.int64))


def max_pool(
    x: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:
    """(max over each window, its flat index in the plane); padding never wins."""
    nd = x.dim() - 2
    kernel = each(kernel_size, nd)
    steps = kernel if stride is None else each(stride, nd)
    pad, spread = each(padding, nd), each(dilation, nd)
    windows = pool_windows(x.shape[2:], kernel, steps, pad, spread, ceil_mode)
    return max_over(x, windows)


def adaptive_max_pool(x: Tensor, output_size: Ints) -> tuple[Tensor, Tensor]:
    """(max over each adaptive window, its flat index in the plane)."""
    return max_over(x, adaptive_windows(x.shape[2:], each(output_size, x.dim() - 2)))


def fractional_starts(sample: Tensor, size: int, out: int, kernel: int) -> list[int]:
    """Where the windows of one dimension begin: floor((o + u) a) - floor(u a) with
    a = (size - kernel) / (out - 1), and the last at the end. u is the random sample;
    the arithmetic is in its dtype, since a rounding may move a window."""
    if out == 1:
        return [size - kernel]
    wide = torch.zeros((), dtype=sample.dtype)
    alpha = (wide + (size - kernel)) / (wide + (out - 1))
    starts = [int((sample + o) * alpha) - int(sample * alpha) for o in range(out - 1)]
    return [*starts, size - kernel]


def fractional_max_pool(
    x: Tensor, random_samples: Tensor, kernel_size: Ints, output_size: Ints
) -> tuple[Tensor, Tensor]:
    """(max, flat index) over windows at pseudo-random steps. random_samples is
    (N, C, nd) in [0, 1), for depth, height, width in 3-d but, as torch has it, for
    width and then height in 2-d."""
    nd = x.dim() - 2
    size, kernel, out = x.shape[2:], each(kernel_size, nd), each(output_size, nd)
    shape = (*x.shape[:2], *out)
    y, index = zeros(*shape), zeros(*shape)
    for n, c in positions(*x.shape[:2]):
        u = random_samples[n, c].flip(0) if nd == 2 else random_samples[n, c]
        starts = [
            fractional_starts(*one) for one in zip(u, size, out, kernel, strict=True)
        ]
        windows = box_windows(
            [
                [range(i, i + k) for i in one]
                for one, k in zip(starts, kernel, strict=True)
            ]
        )
        value, at = max_over(x[n : n + 1, c : c + 1], windows)
        for o in positions(*out):
            y[(n, c, *o)] = value[(0, 0, *o)].item()
            index[(n, c, *o)] = at[(0, 0, *o)].item()
    return tensor(y, shape, x), tensor(index, shape, torch.empty(0, dtype=torch.int64))


def max_unpool(x: Tensor, indices: Tensor, output_size: Sequence[int]) -> Tensor:
    """Zeros of the spatial output_size with x at the flat indices; where several meet,
    the last in row-major order stays."""
    shape = (*x.shape[:2], *output_size)
    plane = list(positions(*output_size))
    xs, y = table(x), zeros(*shape)
    for index, at in table(indices).items():
        y[(*index[:2], *plane[at])] = xs[index]
    return tensor(y, shape, x)


def avg_pool(
    x: Tensor,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The sum of each window over divisor_override, or over the number of its
    positions inside the input (inside the padded input with count_include_pad; what
    ceil_mode adds beyond the padding never counts). Integers round towards zero."""
    nd = x.dim() - 2
    size, kernel, pad = x.shape[2:], each(kernel_size, nd), each(padding, nd)
    steps = kernel if stride is None else each(stride, nd)
    windows = pool_windows(size, kernel, steps, pad, (1,) * nd, ceil_mode)
    padded = across(lambda n, p: n + 2 * p, size, pad)
    shape = (*x.shape[:2], *outer_size(windows))
    xs, y = table(x), {}
    for o, window in windows.items():
        inside = [i for i in window if source(i, size) is not None]
        shifted = [across(operator.add, i, pad) for i in window]
        counted = [i for i in shifted if source(i, padded) is not None]
        divisor = divisor_override or len(counted if count_include_pad else inside)
        for n, c in positions(*x.shape[:2]):
            total = sum(xs[(n, c, *i)] for i in inside)
            if x.dtype.is_floating_point:
                y[(n, c, *o)] = total / divisor
            else:
                y[(n, c, *o)] = abs(total) // divisor * (-1 if total < 0 else 1)
    return tensor(y, shape, x)


def adaptive_avg_pool(x: Tensor, output_size: Ints) -> Tensor:
    """The mean of each adaptive window."""
    windows = adaptive_windows(x.shape[2:], each(output_size, x.dim() - 2))
    shape = (*x.shape[:2], *outer_size(windows))
    xs, y = table(x), {}
    for n, c in positions(*x.shape[:2]):
        for o, window in windows.items():
            y[(n, c, *o)] = sum(xs[(n, c, *i)] for i in window) / len(window)
    return tensor(y, shape, x)


def lp_pool(
    x: Tensor,
    norm_type: float,
    kernel_size: Ints,
    stride: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """(sum of x**p over each window) ** (1/p) with p = norm_type, the root of a negative
    sum being NaN. A window that ceil_mode cuts off is scaled up to the full window's
    number of positions. For p = inf it is the largest |x|, for -inf the smallest."""
    if math.isinf(norm_type):
        sign = math.copysign(1, norm_type)
        size = sign * x.abs()
        return sign * max_pool(size, kernel_size, stride, ceil_mode=ceil_mode)[0]

    def power(v: float, p: float) -> float:
        return v**p if v >= 0 or p == int(p) else math.nan

    powers = tensor({i: power(v, norm_type) for i, v in table(x).items()}, x.shape, x)
    mean = avg_pool(powers, kernel_size, stride, 0, ceil_mode)
    count = math.prod(each(kernel_size, x.dim() - 2))
    y = {i: power(v * count, 1.0 / norm_type) for i, v in table(mean).items()}
    return tensor(y, mean.shape, x)


# -- windows as columns --------------------------------------------------------------


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
