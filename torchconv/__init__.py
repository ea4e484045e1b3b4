"""torchconv: PyTorch's convolution and pooling with kernels of its own.

``torchconv.functional`` and ``torchconv.nn`` have the names, signatures and state of
torch.nn.functional and torch.nn; ``torchconv.convert(model)`` swaps a model's layers.
"""

from . import functional, nn
from ._config import algorithm, allow_winograd
from ._extension import available
from ._version import __version__
from .autotune import autotune
from .convert import ConversionReport, conversion_report, convert, revert
from .explain import Explanation, explain

__all__ = [
    "ConversionReport",
    "Explanation",
    "__version__",
    "algorithm",
    "allow_winograd",
    "autotune",
    "available",
    "conversion_report",
    "convert",
    "explain",
    "functional",
    "nn",
    "revert",
]
