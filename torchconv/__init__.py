"""torchconv: PyTorch's convolution and pooling with kernels of its own.

``torchconv.functional`` and ``torchconv.nn`` have the names, signatures and state of
torch.nn.functional and torch.nn; ``torchconv.convert(model)`` swaps a model's layers.
"""

from . import functional, nn
from ._config import algorithm, allow_winograd
from ._extension import available
from ._version import __version__
from .analysis import Analysis, analyze
from .autotune import autotune
from .convert import ConversionReport, conversion_report, convert, revert
from .equivariance import equivariance_error, invariance_curve
from .explain import Explanation, explain
from .freezing import freeze, unfreeze
from .functional import convolve, correlate
from .matrix import conv_matrix, matrix_picture

__all__ = [
    "Analysis",
    "ConversionReport",
    "Explanation",
    "__version__",
    "algorithm",
    "allow_winograd",
    "analyze",
    "autotune",
    "available",
    "conv_matrix",
    "conversion_report",
    "convert",
    "convolve",
    "correlate",
    "equivariance_error",
    "explain",
    "freeze",
    "functional",
    "invariance_curve",
    "matrix_picture",
    "nn",
    "revert",
    "unfreeze",
]
