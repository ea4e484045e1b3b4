"""unfold and fold: the column matrix of a convolution, and its adjoint."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from .. import autograd
from .._fold_args import fold_plan, unfold_plan
from ._common import cached, describe

Ints = int | Sequence[int]

_unfold_plan = cached(unfold_plan, 1, 1)
_fold_plan = cached(fold_plan, 1, 1)


def unfold(
    input: Tensor,
    kernel_size: Ints,
    dilation: Ints = 1,
    padding: Ints = 0,
    stride: Ints = 1,
) -> Tensor:
    """Sliding blocks as columns, as ``torch.nn.functional.unfold``.

    Args:
        input: (N, C, H, W) or (C, H, W); floating point, complex or bool.
        kernel_size, dilation, padding, stride: an int or a pair of ints.

    Returns:
        (N, C * kernel_h * kernel_w, blocks), or without N, contiguous.

    Raises:
        RuntimeError, IndexError, TypeError: arguments that do not fit, as torch.
    """
    if has_torch_function_unary(input):
        return handle_torch_function(
            unfold,
            (input,),
            input,
            kernel_size,
            dilation=dilation,
            padding=padding,
            stride=stride,
        )
    unbatched, _, args = _unfold_plan(
        "unfold",
        describe("unfold", "input", input),
        kernel_size,
        dilation,
        padding,
        stride,
    )
    if not unbatched:
        return autograd.unfold(input, args)
    return autograd.unfold(input.unsqueeze(0), args).squeeze(0)


def fold(
    input: Tensor,
    output_size: Ints,
    kernel_size: Ints,
    dilation: Ints = 1,
    padding: Ints = 0,
    stride: Ints = 1,
) -> Tensor:
    """Columns added up into an image, as ``torch.nn.functional.fold``: what
    :func:`unfold` takes from several blocks is summed.

    Args:
        input: (N, C * kernel_h * kernel_w, blocks), or without N; floating point,
            complex or bool.
        output_size: height and width of the image, an int or a pair of ints.
        kernel_size, dilation, padding, stride: as :func:`unfold`.

    Returns:
        (N, C, H, W), or without N, contiguous.

    Raises:
        RuntimeError, TypeError: arguments that do not fit, as torch.
    """
    if has_torch_function_unary(input):
        return handle_torch_function(
            fold,
            (input,),
            input,
            output_size,
            kernel_size,
            dilation=dilation,
            padding=padding,
            stride=stride,
        )
    unbatched, _, args = _fold_plan(
        "fold",
        describe("fold", "input", input),
        output_size,
        kernel_size,
        dilation,
        padding,
        stride,
    )
    if not unbatched:
        return autograd.fold(input, args)
    return autograd.fold(input.unsqueeze(0), args).squeeze(0)
