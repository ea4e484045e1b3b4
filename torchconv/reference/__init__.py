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

from ._tables import (
    across,
    conv_output_size,
    each,
    flat_index,
    padding_pairs,
    pool_output_size,
    positions,
    source,
    table,
    taps,
    tensor,
    zeros,
)
from .convolution import (
    channel_sum,
    conv,
    conv_input_grad,
    conv_terms,
    conv_transpose,
    conv_weight_grad,
    tiled_conv,
)
from .folding import (
    fold,
    unfold,
)
from .pooling import (
    adaptive_avg_pool,
    adaptive_max_pool,
    adaptive_windows,
    avg_pool,
    box_windows,
    fractional_max_pool,
    fractional_starts,
    lp_pool,
    max_over,
    max_pool,
    max_unpool,
    maxout,
    outer_size,
    pool_windows,
)
from .variants import (
    binomial_filter,
    drawn_activation,
    expected_activation,
    lse,
    mean_of_numbers,
    median,
    mixed,
    norm,
    windowed,
)

__all__ = [
    "across",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "adaptive_windows",
    "avg_pool",
    "binomial_filter",
    "box_windows",
    "channel_sum",
    "conv",
    "conv_input_grad",
    "conv_output_size",
    "conv_terms",
    "conv_transpose",
    "conv_weight_grad",
    "drawn_activation",
    "each",
    "expected_activation",
    "flat_index",
    "fold",
    "fractional_max_pool",
    "fractional_starts",
    "lp_pool",
    "lse",
    "max_over",
    "max_pool",
    "max_unpool",
    "maxout",
    "mean_of_numbers",
    "median",
    "mixed",
    "norm",
    "outer_size",
    "padding_pairs",
    "pool_output_size",
    "pool_windows",
    "positions",
    "source",
    "table",
    "taps",
    "tensor",
    "tiled_conv",
    "unfold",
    "windowed",
    "zeros",
]
