"""torchconv: PyTorch's convolution and pooling with kernels of its own."""

from ._extension import available
from ._version import __version__

__all__ = ["__version__", "available"]
