"""Swaps the layers of an existing model for torchconv's, and back.

    model = torchconv.convert(model)
    print(torchconv.conversion_report(model))
    torchconv.revert(model)

A layer keeps its identity: only its class changes, from torch.nn.Conv2d to
torchconv.nn.Conv2d, which derives from it. So parameters, buffers, hooks, the training
flag, optimizers that hold the parameters and modules used in two places go on as they
were; nothing is copied that could be forgotten.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import torch
from torch.nn import Module
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from . import nn
from .freezing import unfreeze

__all__ = [
    "ConversionReport",
    "LayerReport",
    "LayerState",
    "conversion_report",
    "convert",
    "revert",
]

_log = logging.getLogger(__name__)

AnyModule = TypeVar("AnyModule", bound=Module)
Classes = Mapping[type[Module], type[Module]]

_TO_TORCHCONV: Classes = {
    getattr(torch.nn, name): getattr(nn, name) for name in nn.DROP_IN
}
_TO_TORCH: Classes = {ours: theirs for theirs, ours in _TO_TORCHCONV.items()}
_TORCH_LAYERS = tuple(_TO_TORCHCONV)
_TORCHCONV_LAYERS = tuple(_TO_TORCH)

# Set on a layer that convert() took over, so that revert() leaves alone the layers that
# were torchconv's from the start. In the instance's dict: deepcopy and pickle keep it.
_MARK = "_torchconv_converted"

# A layer with one of these in its own dict computes something of its own.
_METHODS = ("forward", "_conv_forward")


class LayerState(Enum):
    """What computes a layer, and why."""

    CONVERTED = "converted"
    """torchconv, since convert()."""
    TORCHCONV = "torchconv"
    """torchconv, from the start."""
    TORCH = "torch"
    """torch; convert() would take it over, or its filter refused it."""
    LEFT = "left"
    """torch, or code of its own; convert() leaves it, for the reason given."""


@dataclass(frozen=True)
class LayerReport:
    """One layer of a model: its name in it, its class, its state, and the reason."""

    name: str
    kind: str
    state: LayerState
    reason: str = ""

    def __str__(self) -> str:
        text = f"{self.state.value:9}  {self.name or '(the model)'}: {self.kind}"
        return f"{text} ({self.reason})" if self.reason else text


@dataclass(frozen=True)
class ConversionReport:
    """The convolution, pooling and folding layers of a model, in its own order.

    str() gives a count by class and the layers that were left with the reason of each;
    `layers` has all of them.
    """

    layers: tuple[LayerReport, ...]

    def of(self, state: LayerState) -> tuple[LayerReport, ...]:
        """The layers in that state."""
        return tuple(layer for layer in self.layers if layer.state is state)

    @property
    def converted(self) -> tuple[LayerReport, ...]:
        """The layers that convert() took over."""
        return self.of(LayerState.CONVERTED)

    @property
    def left(self) -> tuple[LayerReport, ...]:
        """The layers that convert() will not take over, each with its reason."""
        return self.of(LayerState.LEFT)

    def __str__(self) -> str:
        lines = [
            f"torchconv: {len(self.converted)} of {len(self.layers)} layers converted"
        ]
        for state in LayerState:
            layers = self.of(state)
            if state is LayerState.LEFT:
                lines += [f"  {layer}" for layer in layers]
            else:
                lines += [
                    f"  {state.value:9}  {count} {kind}"
                    for kind, count in sorted(Counter(x.kind for x in layers).items())
                ]
        return "\n".join(lines)


def convert(
    model: AnyModule, filter: Callable[[str, Module], bool] | None = None
) -> AnyModule:
    """Swaps the layers of model that torchconv has for torchconv's, in place.

    Taken are the convolution (lazy ones too), pooling, Unfold and Fold layers whose
    class is exactly torch.nn's, also those with weight_norm, spectral_norm or another
    parametrization. Left are subclasses, layers whose forward somebody replaced, because
    they may compute something else, and layers with quantized or distributed weights;
    `conversion_report` names them. Calls of torch.nn.functional in a model's own code
    are not layers and stay as they are.

    Args:
        model: any module; it may itself be a layer.
        filter: called once for each layer that could be swapped, with its name in the
            model (the first, if it has several) and the layer; False leaves it.

    Returns:
        The same model.

    Raises:
        TypeError: model is not a torch.nn.Module.
    """
    for name, module in _named_modules(model):
        if _state(module)[0] is not LayerState.TORCH:
            continue
        if filter is not None and not filter(name, module):
            continue
        _change_class(module, _TO_TORCHCONV)
        setattr(module, _MARK, True)
    if _log.isEnabledFor(logging.INFO):
        _log.info("%s", conversion_report(model))
    return model


def revert(model: AnyModule) -> AnyModule:
    """Gives the layers that `convert` took over back to torch.nn, in place.

    Layers that were made as torchconv's stay so. Frozen layers are unfrozen.

    Returns:
        The same model.

    Raises:
        TypeError: model is not a torch.nn.Module.
        RuntimeError: a layer that convert() took over was given an activation or flip
            since, which torch.nn's has no room for.
    """
    for name, module in _named_modules(model):
        if _MARK not in vars(module):  # a frozen layer has it too
            continue
        for option, default in (("activation", None), ("flip", False)):
            value = getattr(module, option, default)
            if value != default:
                raise RuntimeError(
                    f"{name or 'the model'} has {option}={value!r}, which a layer of "
                    f"torch.nn would not compute; set it to {default} first"
                )
    unfreeze(model)
    for _, module in _named_modules(model):
        if _state(module)[0] is LayerState.CONVERTED:
            _change_class(module, _TO_TORCH)
            delattr(module, _MARK)
            # Chosen for the converted layer; torch.nn's has no such choice.
            for option in ("algorithm", "activation", "flip"):
                vars(module).pop(option, None)
    return model


def conversion_report(model: Module) -> ConversionReport:
    """What computes each convolution, pooling and folding layer of model, and why.

    It is read from the model as it is now, so it may be asked for at any time, also
    after deepcopy or unpickling, and before convert() to see what it would do.

    Raises:
        TypeError: model is not a torch.nn.Module.
    """
    layers = []
    for name, module in _named_modules(model):
        state, reason = _state(module)
        if state is not None:
            kind = parametrize.type_before_parametrizations(module).__name__
            layers.append(LayerReport(name, kind, state, reason))
    return ConversionReport(tuple(layers))


def _named_modules(model: Module) -> Iterator[tuple[str, Module]]:
    """Each module once, however often it is used."""
    if not isinstance(model, Module):
        raise TypeError(
            f"model must be a torch.nn.Module, but got {type(model).__name__}"
        )
    return iter(list(model.named_modules()))


def _state(module: Module) -> tuple[LayerState | None, str]:
    """The state of a layer and its reason; (None, "") for other modules."""
    kind = parametrize.type_before_parametrizations(module)
    if _MARK in vars(module) and kind in _TO_TORCH:
        return LayerState.CONVERTED, ""
    if isinstance(module, _TORCHCONV_LAYERS):
        return LayerState.TORCHCONV, ""
    if not isinstance(module, _TORCH_LAYERS):
        return None, ""
    if kind not in _TO_TORCHCONV:
        layer = next(c for c in kind.__mro__ if c in _TO_TORCHCONV)
        reason = f"a subclass of torch.nn.{layer.__name__} may compute something else"
        return LayerState.LEFT, reason
    for method in _METHODS:
        if method in vars(module):
            return LayerState.LEFT, f"{method} was replaced on the layer itself"
    for name, parameter in module.named_parameters(recurse=False):
        if is_traceable_wrapper_subclass(parameter):
            reason = f"{name} is a {type(parameter).__name__}, not a plain tensor"
            return LayerState.LEFT, reason
    return LayerState.TORCH, ""


def _change_class(module: Module, classes: Classes) -> None:
    """Gives module the class that stands beside its own in classes."""
    kind = type(module)
    if not parametrize.is_parametrized(module):
        module.__class__ = classes[kind]
        return
    # parametrize made a class for this module alone, derived from the layer's, that
    # holds a property for each parametrized tensor. Its copies share it, so it is not
    # changed but made again on the other base.
    members = {
        name: value
        for name, value in vars(kind).items()
        if name not in ("__dict__", "__weakref__")
    }
    module.__class__ = type(kind.__name__, (classes[kind.__bases__[0]],), members)
