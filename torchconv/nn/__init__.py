"""Layers of convolution, pooling and folding.

Those of torch.nn (`DROP_IN`) are drop-in replacements: same constructors, parameters,
initial weights under the same seed, state_dict keys and repr; each class derives from the
class of torch.nn that it replaces. The others are layers that torch lacks.
"""

from . import (
    channelwise,
    conv,
    fold,
    layer,
    lazy,
    local,
    maxout,
    pooling,
    pooling_extra,
    tiled,
)
from .channelwise import *
from .conv import *
from .fold import *
from .layer import *
from .lazy import *
from .local import *
from .maxout import *
from .pooling import *
from .pooling_extra import *
from .tiled import *

DROP_IN: list[str] = conv.__all__ + fold.__all__ + lazy.__all__ + pooling.__all__
"""The classes that torch.nn has too."""

__all__: list[str] = (
    conv.__all__
    + fold.__all__
    + lazy.__all__
    + pooling.__all__
    + channelwise.__all__
    + layer.__all__
    + local.__all__
    + maxout.__all__
    + pooling_extra.__all__
    + tiled.__all__
)
