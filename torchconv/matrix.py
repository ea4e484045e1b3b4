"""A convolution as the matrix that it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ._args import shape_text
from ._config import AUTO
from ._conv_args import Spec, conv_output_sizes, conv_plan

__all__ = ["conv_matrix", "matrix_picture"]

Ints = int | Sequence[int]
Padding = str | int | Sequence[int] | Sequence[Sequence[int]]


def conv_matrix(
    weight: Tensor,
    input_size: Ints,
    *,
    stride: Ints = 1,
    padding: Padding = 0,
    dilation: Ints = 1,
    groups: int = 1,
    flip: bool = False,
    padding_mode: str = "zeros",
    layout: torch.layout = torch.sparse_csr,
) -> Tensor:
    """The matrix M of a convolution: M @ vec(x) is vec(conv(x)) for every sample x.

    vec stacks the elements of (C, *spatial) in row-major order, ``x.reshape(-1)``. In one
    dimension with one channel M is a Toeplitz matrix: the same few numbers in every row,
    shifted; in two it is a block-Toeplitz matrix of Toeplitz blocks (circulant ones for
    circular padding): Goodfellow, Bengio, Courville, *Deep Learning* (2016), section 9.1.
    It shows sparse interaction (few entries in a row) and parameter sharing (few different
    ones). ``M.t() @ vec(gy)`` is the input gradient, and the transposed convolution.

    Args:
        weight: (K, C / groups, *kernel), with one, two or three spatial dimensions.
        input_size: of one sample, the spatial dimensions with or without C in front; an
            int for all spatial dimensions.
        stride, padding, dilation, groups, flip, padding_mode: as
            torchconv.functional.conv2d.
        layout: torch.sparse_csr or torch.sparse_coo.

    Returns:
        (K * prod(output size), C * prod(spatial)), of the weight's dtype and device. The
        entries are differentiable functions of the weight for the COO layout, and for
        CSR as far as torch differentiates it.

    Raises:
        ValueError: an unknown layout or padding mode.
        RuntimeError, TypeError: arguments that do not fit, as conv2d.
    """
    name = "conv_matrix"
    if layout not in (torch.sparse_csr, torch.sparse_coo):
        raise ValueError(
            f"{name}(): layout must be torch.sparse_csr or torch.sparse_coo, "
            f"but got layout={layout}"
        )
    nd = weight.dim() - 2
    if nd not in (1, 2, 3):
        raise RuntimeError(
            f"{name}(): expected weight of 3, 4 or 5 dimensions, but got weight of size "
            f"{shape_text(weight.shape)}"
        )
    channels = weight.shape[1] * groups
    given = (input_size,) * nd if isinstance(input_size, int) else tuple(input_size)
    size = given if len(given) == nd + 1 else (channels, *given)
    if len(size) != nd + 1:
        raise RuntimeError(
            f"{name}(): expected input_size of {nd} spatial dimensions, with or without "
            f"the channels, but got input_size={input_size!r}"
        )
    dense = [math.prod(size[i + 1 :]) for i in range(nd + 1)]
    x = Spec(size, tuple(dense), weight.dtype, weight.device)
    w = Spec(weight.shape, weight.stride(), weight.dtype, weight.device)
    plan = conv_plan(
        name, nd, x, w, None, stride, padding, dilation, groups, padding_mode, AUTO
    )
    if flip:
        weight = weight.flip(tuple(range(2, 2 + nd)))
    rows, columns, entries, shape = _entries(weight, size, plan.args)
    at = torch.stack((rows, columns))
    coo = torch.sparse_coo_tensor(at, entries, shape, check_invariants=False)
    # Padding modes show an input several times: its entries are added up.
    coo = coo.coalesce()
    return coo if layout == torch.sparse_coo else coo.to_sparse_csr()


def _source(q: Tensor, size: int, mode: str) -> Tensor:
    """The input index that coordinate q of the padded input shows; -1 for a zero."""
    if mode == "zeros":
        return torch.where((q >= 0) & (q < size), q, -1)
    if mode == "replicate":
        return q.clamp(0, size - 1)
    if mode == "circular":
        return q % size
    return torch.where(q >= size, 2 * (size - 1) - q, q.abs())


def _entries(
    weight: Tensor, size: Sequence[int], args: Any
) -> tuple[Tensor, Tensor, Tensor, tuple[int, int]]:
    """Row, column and value of each product weight * x, and the matrix's shape."""
    stride, pads, dilation, groups, mode = args[:5]
    filters, per_group, *kernel = weight.shape
    nd, device = len(kernel), weight.device
    out = conv_output_sizes(size[1:], kernel, stride, pads, dilation)

    def along(n: int, place: int, dims: int) -> Tensor:
        """0 ... n - 1 along one of so many dimensions."""
        shape = [1] * dims
        shape[place] = n
        return torch.arange(n, device=device).reshape(shape)

    # Dimensions: filter, channel of the group, taps, output positions.
    dims = 2 + 2 * nd
    filter_, channel = along(filters, 0, dims), along(per_group, 1, dims)
    row, column = filter_, filter_ // (filters // groups) * per_group + channel
    inside = torch.ones([1] * dims, dtype=torch.bool, device=device)
    for d in range(nd):
        tap, o = along(kernel[d], 2 + d, dims), along(out[d], 2 + nd + d, dims)
        q = o * stride[d] + tap * dilation[d] - pads[2 * d]
        i = _source(q, size[1 + d], mode)
        inside = inside & (i >= 0)
        row, column = row * out[d] + o, column * size[1 + d] + i
    full = (*weight.shape, *out)
    kept = inside.expand(full).reshape(-1)
    values = weight.reshape(*weight.shape, *[1] * nd).expand(full).reshape(-1)
    shape = (filters * math.prod(out), math.prod(size))
    rows, columns = (t.expand(full).reshape(-1)[kept] for t in (row, column))
    return rows, columns, values[kept], shape


def matrix_picture(
    weight: Tensor, input_size: Ints, *, axes: Any = None, **options: Any
) -> Any:
    """Draws the matrix of a convolution: one colour for each weight, white for zeros.

    Equal colours are one shared parameter. Small matrices have their numbers written in.

    Args:
        weight, input_size, options: as :func:`conv_matrix`.
        axes: matplotlib axes to draw on; None makes a figure.

    Returns:
        The axes.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    import matplotlib.pyplot as plt

    matrix = conv_matrix(weight.detach(), input_size, **options).to_dense()
    # The number of each weight, from 1 on, in the places where it stands.
    numbers = torch.arange(1, weight.numel() + 1, dtype=torch.float64)
    which = conv_matrix(numbers.reshape(weight.shape), input_size, **options)
    shown = which.to_dense()
    if axes is None:
        _, axes = plt.subplots(figsize=(5, 5 * matrix.shape[0] / matrix.shape[1]))
    masked = torch.where(shown == 0, torch.nan, shown).numpy()
    palette = plt.get_cmap("tab10" if weight.numel() <= 10 else "turbo")
    axes.imshow(masked, cmap=palette, vmin=1, vmax=max(weight.numel(), 2), alpha=0.75)
    rows, columns = matrix.shape
    axes.set_xticks([i - 0.5 for i in range(columns + 1)], minor=True)
    axes.set_yticks([i - 0.5 for i in range(rows + 1)], minor=True)
    axes.grid(which="minor", color="0.8", linewidth=0.5)
    axes.tick_params(which="both", length=0, labelbottom=False, labelleft=False)
    if rows * columns <= 150:
        for i, j in (shown != 0).nonzero().tolist():
            value = f"{matrix[i, j].item():.2g}"
            axes.text(j, i, value, ha="center", va="center", fontsize=9)
    axes.set_xlabel(f"{columns} inputs")
    axes.set_ylabel(f"{rows} outputs")
    return axes
