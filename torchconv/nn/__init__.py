"""Drop-in replacements of torch.nn's convolution, pooling and folding layers.

Same constructors, parameters, initial weights under the same seed, state_dict keys and
repr; each class derives from the class of torch.nn that it replaces.
"""

from . import conv, fold, lazy, pooling
from .conv import *
from .fold import *
from .lazy import *
from .pooling import *

__all__: list[str] = conv.__all__ + fold.__all__ + lazy.__all__ + pooling.__all__
