"""The one rule for the memory format of results.

ATen derives an output's memory format from the strides of its inputs, with exceptions
by dtype and device. This module is that rule, for sizes and strides as they come from
``Tensor.shape`` and ``Tensor.stride()`` (symbolic ones included), so that a result of
torchconv has the strides torch's result has.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch


def suggests_channels_last(size: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether ``Tensor.suggest_memory_format`` says channels_last (or its 3-d form).

    Ported from c10's ``is_channels_last_strides_2d/3d``: strides must grow in the order
    C, last spatial dimension ... first spatial dimension, N; where sizes of 1 make the
    format ambiguous the answer is no. Tensors with other than 4 or 5 dimensions have no
    such format.
    """
    dims = len(size)
    if dims not in (4, 5) or stride[1] == 0:
        return False
    least: int = 0
    for d in (1, *range(dims - 1, 1, -1), 0):
        if size[d] == 0 or stride[d] < least:
            return False
        # N111 with equal strides, and slices of it, stay contiguous.
        if d == 0 and least == stride[1]:
            return False
        least = stride[d]
        if size[d] > 1:
            least = least * size[d]
    return True


def gapless_channels_last(size: Sequence[int], stride: Sequence[int]) -> bool:
    """Whether an unbatched (C, ...) tensor is contiguous with its channels innermost,
    and not in the usual order."""
    dims = len(size)

    def gapless(order: Sequence[int]) -> bool:
        step: int = 1
        for d in order:
            if size[d] != 1 and stride[d] != step:
                return False
            step = step * size[d]
        return True

    usual = range(dims - 1, -1, -1)
    return not gapless(usual) and gapless((0, *range(dims - 1, 0, -1)))


def lifted(values: Sequence[int], last_stride: int | None = None) -> tuple[int, ...]:
    """Sizes (or strides) of a 1-d problem after ``unsqueeze(-2)``."""
    new = 1 if last_stride is None else last_stride
    return (*values[:-1], new, values[-1])


def suggests_channels_last_1d(size: Sequence[int], stride: Sequence[int]) -> bool:
    """The same question for (N, C, L) seen as (N, C, 1, L), as torch runs 1-d ops."""
    return suggests_channels_last(
        lifted(size), lifted(stride, last_stride=size[-1] * stride[-1])
    )


def _onednn_takes(
    x_size: Sequence[int], w_size: Sequence[int], dtype: torch.dtype, groups: int
) -> bool:
    """Whether torch's 3-d CPU convolution runs in oneDNN: ATen's ``use_mkldnn``.

    Only there does it keep channels_last_3d; the other backends return contiguous. With a
    single thread ATen leaves kernels that end in 1 x 1 to another backend; here they
    count as with more threads, so that strides do not depend on them.
    """
    if dtype is torch.float32:
        large = x_size[0] * x_size[1] * x_size[2] * x_size[3] > 20480
        wide = w_size[-1] > 3 and w_size[-2] > 3
        return groups > 1 or wide or x_size[0] > 1 or large
    if dtype is torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if dtype is torch.float16:
        return torch.ops.mkldnn._is_mkldnn_fp16_supported()
    return False


def conv_channels_last(
    x_size: Sequence[int],
    x_stride: Sequence[int],
    w_size: Sequence[int],
    w_stride: Sequence[int],
    dtype: torch.dtype,
    device_type: str,
    groups: int,
) -> bool:
    """Whether a convolution's result, and the gradients of both inputs, are
    channels_last.

    ATen's ``_determine_backend_memory_format``: either input asks for it; cuDNN keeps
    float64 contiguous; on CPU the 3-d backends outside oneDNN return contiguous.
    """
    if len(x_size) not in (4, 5) or 0 in x_size:
        return False
    if not (
        suggests_channels_last(x_size, x_stride)
        or suggests_channels_last(w_size, w_stride)
    ):
        return False
    if device_type == "cuda":
        return dtype is not torch.float64
    return len(x_size) == 4 or _onednn_takes(x_size, w_size, dtype, groups)


def memory_format(channels_last: bool, nd: int) -> torch.memory_format:
    """The format that an operator's ``channels_last`` flag means for nd spatial dims."""
    if not channels_last or nd == 1:
        return torch.contiguous_format
    return torch.channels_last if nd == 2 else torch.channels_last_3d
