"""Finds and loads the compiled part.

Importing torchconv never fails for want of the binary, so that documentation, type
checkers and the tools that build it can import the package. Whoever needs the binary
calls :func:`binary`, which raises one message: what is missing and how to build it.
"""

from __future__ import annotations

import importlib
from types import ModuleType

# torch first: the binary's symbols come from the libraries that torch has loaded.
import torch

BUILD_COMMAND = "pip install --no-build-isolation -e ."


def _load() -> tuple[ModuleType | None, str | None]:
    try:
        return importlib.import_module("torchconv._C"), None
    except ModuleNotFoundError as error:
        what = f"is missing ({error})"
    except ImportError as error:
        what = f"cannot be loaded beside torch {torch.__version__} ({error})"
    return None, (
        f"torchconv's compiled part {what}; this command in the source folder builds "
        f"it: {BUILD_COMMAND}"
    )


_binary, _load_error = _load()


def available() -> bool:
    """Whether the compiled part was loaded, and with it ``torch.ops.torchconv``."""
    return _binary is not None


def load_error() -> str | None:
    """What is missing and the command that builds it; None if nothing is."""
    return _load_error


def binary() -> ModuleType:
    """The module ``torchconv._C``.

    Raises:
        RuntimeError: it could not be loaded; the message is that of `load_error`.
    """
    if _binary is None:
        raise RuntimeError(_load_error)
    return _binary
