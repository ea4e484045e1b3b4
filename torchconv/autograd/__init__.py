"""The derivative rules, each written once.

Convolution is bilinear in its input and weight: the derivatives of each of its three
passes are the other two. Max pooling picks values at coded positions: its derivative
scatters to them, whose derivative gathers from them. Average pooling and unfold are
linear: their derivatives are their adjoints. So every rule is made of functions of this
package, and derivatives exist to any order.

Each function here takes its tensors and then one tuple with the operator's other
arguments in canonical form (see the operators' schemas); _function.py says by which way a
call reaches the operator.
"""

from ._function import transforms_active
from .conv import channel_sum, conv_forward, conv_input_grad, conv_weight_grad
from .fused import conv_forward_fused, conv_input_grad_fused
from .local import local_conv_forward, local_conv_input_grad, local_conv_weight_grad
from .pooling import (
    adaptive_avg_pool,
    adaptive_avg_pool_input_grad,
    adaptive_max_pool,
    adaptive_max_pool_with_codes,
    adaptive_max_pool_with_indices,
    avg_pool,
    avg_pool_input_grad,
    fold,
    fractional_max_pool,
    lp_pool,
    lp_pool_input_grad,
    max_pool,
    max_pool_with_codes,
    max_pool_with_indices,
    max_unpool,
    pool_gather,
    pool_scatter,
    unfold,
    wants_codes,
)

__all__ = [
    "adaptive_avg_pool",
    "adaptive_avg_pool_input_grad",
    "adaptive_max_pool",
    "adaptive_max_pool_with_codes",
    "adaptive_max_pool_with_indices",
    "avg_pool",
    "avg_pool_input_grad",
    "channel_sum",
    "conv_forward",
    "conv_forward_fused",
    "conv_input_grad",
    "conv_input_grad_fused",
    "conv_weight_grad",
    "fold",
    "fractional_max_pool",
    "local_conv_forward",
    "local_conv_input_grad",
    "local_conv_weight_grad",
    "lp_pool",
    "lp_pool_input_grad",
    "max_pool",
    "max_pool_with_codes",
    "max_pool_with_indices",
    "max_unpool",
    "pool_gather",
    "pool_scatter",
    "transforms_active",
    "unfold",
    "wants_codes",
]
