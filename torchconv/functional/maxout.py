"""Max-out: the maximum over groups of channels.

It is max pooling with the channels of a group as the window, so it runs on those
operators, on a view of the input that has the channels as a spatial dimension. Ties, NaN,
derivatives of any order and devices are those of max pooling.
"""

from __future__ import annotations

from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from .. import autograd
from .._pool_args import maxout_plan
from ._common import cached, describe, keep

_maxout_plan = cached(maxout_plan, 1, 1, keep)


def maxout(input: Tensor, k: int) -> Tensor:
    """The largest of every k consecutive channels (Goodfellow et al. 2013, "Maxout
    networks").

    Args:
        input: (N, C, *), floating point or integer, with any number of spatial
            dimensions, also none.
        k: how many channels make one; divides C.

    Returns:
        (N, C / k, *), in the input's memory format. Of equal channels the first one gets
        the gradient; a NaN in any of them is the result.

    Raises:
        TypeError: k is no integer.
        RuntimeError: k is not positive or does not divide C, or the input has fewer than
            two dimensions, an empty dimension other than N, or another dtype or device.
    """
    if has_torch_function_unary(input):
        return handle_torch_function(maxout, (input,), input, k)
    channels_last, args = _maxout_plan("maxout", describe("maxout", "input", input), k)
    if channels_last:
        # Groups follow each other through all pixels: one long row of windows.
        pixels = input.movedim(1, -1)
        y = autograd.max_pool(pixels.flatten(1).unsqueeze(1), args)
        return y.view((*pixels.shape[:-1], pixels.shape[-1] // k)).movedim(-1, 1)
    groups = input.shape[1] // k
    if input.dim() == 2:
        return autograd.max_pool(input.unflatten(1, (groups, k)), args).squeeze(2)
    y = autograd.max_pool(input.unflatten(1, (groups, k)).flatten(3), args)
    return y.view((input.shape[0], groups, *input.shape[2:]))
