"""Weights that are packed once, for inference.

    model = torchconv.freeze(torchconv.convert(model.eval()))
    torchconv.unfreeze(model)

A convolution arranges its weights for its inner loop in every call, since training
changes them in between. Where images are few and small and channels many that is a good
part of the call. A frozen layer does it once for each size of input. (Winograd transforms
in every call all the same: its transformed weights are four times as large, and reading
them takes longer than making them, 1.0 to 1.2 times the call for 256 and 512 channels.)

A packed weight must never be out of date, and no check notices every way of writing to a
tensor (``weight.data``, numpy, another process). So a frozen layer has no parameter that
could change: it computes with a private copy, made when it was frozen, of which others get
copies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from ._bound import dispatch_modes
from ._prepared import FrozenWeight
from .autograd import transforms_active
from .nn._conv_base import ConvBase, ConvTransposeBase

__all__ = ["freeze", "unfreeze"]

AnyModule = TypeVar("AnyModule", bound=Module)

_is_compiling = torch.compiler.is_compiling
_is_tracing = torch._C._is_tracing

# What a frozen layer runs instead; a layer that replaced one computes its own.
_COMPUTED_BY = {
    (ConvBase.forward, ConvBase._conv_forward),
    (ConvTransposeBase.forward, ConvTransposeBase._conv_forward),
}


def freeze(
    model: AnyModule, filter: Callable[[str, Module], bool] | None = None
) -> AnyModule:
    """Keeps the weights of model's convolution layers packed between calls, in place.

    Taken are torchconv's convolution and transposed convolution layers (see
    :func:`convert`) on the CPU; left are those with a parametrization such as weight_norm
    and subclasses with a computation of their own. Results are bitwise those of the same
    layer unfrozen. Packed forms are made at the first call for a size of input, and kept
    for eight sizes; a ninth takes the place of the oldest. Calls that record a graph for
    the input's gradient, and compiled ones, compute as before.

    A frozen layer's weight is what it was at this call, whatever happens to the tensor
    that was its parameter. `weight` reads as a copy, and is in the state_dict but not
    among the parameters; setting, resetting and loading it raise RuntimeError. The bias
    stays a parameter. Moving the model to another dtype or device moves the weight too.

    Memory: the copy, and for each size of input once more as much, where "direct" or "dot"
    computes; other algorithms read weights as they are.

    Args:
        model: any module; it may itself be a layer.
        filter: called once for each layer that could be frozen, with its name in the model
            and the layer; False leaves it.

    Returns:
        The same model.

    Raises:
        TypeError: model is not a torch.nn.Module.
    """
    for name, module in _named_modules(model):
        if _can_freeze(module) and (filter is None or filter(name, module)):
            parameter = module._parameters["weight"]
            assert parameter is not None
            kind = _frozen_class(type(module))
            with torch.inference_mode(False):
                weight = parameter.detach().clone()
            module.__class__ = kind
            vars(module).update(
                _frozen=weight, _thawed=module._parameters.pop("weight")
            )
    return model


def unfreeze(model: AnyModule) -> AnyModule:
    """Gives the layers that :func:`freeze` took their parameters back, in place.

    The parameters are the objects they were, with the values that they have now.

    Returns:
        The same model.

    Raises:
        TypeError: model is not a torch.nn.Module.
        RuntimeError: a frozen layer was given a parametrization since.
    """
    for name, module in _named_modules(model):
        if isinstance(module, _Frozen):
            kind = _thawed_class(type(module))
            if kind is None:
                raise RuntimeError(
                    f"{name or 'the model'} has a parametrization, which must be removed "
                    "before its weight is unfrozen"
                )
            module.__class__ = kind  # type: ignore[assignment]
            state = vars(module)
            # The weight first, as torch.nn's constructor has it.
            module._parameters = {"weight": state.pop("_thawed"), **module._parameters}
            state.pop("_frozen")
            state.pop("_view", None)
    return model


def _named_modules(model: Module) -> list[tuple[str, Module]]:
    if not isinstance(model, Module):
        raise TypeError(
            f"model must be a torch.nn.Module, but got {type(model).__name__}"
        )
    return list(model.named_modules())


def _can_freeze(module: Module) -> bool:
    if not isinstance(module, ConvBase) or isinstance(module, _Frozen):
        return False
    if parametrize.is_parametrized(module):
        return False
    weight = module._parameters.get("weight")
    return (
        (type(module).forward, type(module)._conv_forward) in _COMPUTED_BY
        and not {"forward", "_conv_forward"} & vars(module).keys()
        and type(weight) is Parameter
        and not is_lazy(weight)
        and weight.device.type == "cpu"
    )


class _Frozen(Module):
    """What a frozen layer's class puts before the layer's own."""

    _frozen: Tensor
    """The weight; nobody else has it."""
    _thawed: Parameter
    """The parameter that it was, for unfreeze."""

    @property
    def weight(self) -> Tensor:
        """A copy of the weight."""
        return self._frozen.clone()

    def forward(self, input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The convolution, as the layer's class has it."""
        layer: Any = self
        weight = self._frozen
        # Packed for plain eager calls only. Whoever looks into calls, and graphs, which
        # save the weight where the input's gradient is wanted, get an ordinary tensor.
        if not (
            _is_compiling()
            or dispatch_modes()
            or _is_tracing()
            or transforms_active()
            or getattr(input, "requires_grad", False)
        ):
            view = vars(self).get("_view")
            if view is None or view.of is not weight:
                view = weight.as_subclass(FrozenWeight)
                view.of, view.packed = weight, {}
                vars(self)["_view"] = view
            weight = view
        return layer._conv_forward(input, weight, layer.bias, *args, **kwargs)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, frozen"

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "weight":
            raise RuntimeError(
                "weight of a frozen layer can't be set; torchconv.unfreeze(model) first"
            )
        super().__setattr__(name, value)

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            weight = fn(self._frozen)
        # As a parameter, for its gradient's sake.
        self._parameters["weight"] = self._thawed
        try:
            super()._apply(fn, *args, **kwargs)
        finally:
            thawed = self._parameters.pop("weight")
            vars(self).update(_frozen=weight, _thawed=thawed)
        return self

    def reset_parameters(self) -> None:
        """Refused."""
        raise RuntimeError(
            "the weight of a frozen layer can't be reset; torchconv.unfreeze(model) first"
        )

    def _save_to_state_dict(
        self, destination: Any, prefix: str, keep_vars: bool
    ) -> None:
        destination[f"{prefix}weight"] = self.weight
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(
        self,
        state_dict: Any,
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        if f"{prefix}weight" in state_dict:
            error_msgs.append(
                f"the layer of {prefix}weight is frozen; torchconv.unfreeze(model) first"
            )
            return
        if strict:
            missing_keys.append(f"{prefix}weight")
        super()._load_from_state_dict(
            state_dict,
            prefix,
            local_metadata,
            strict,
            missing_keys,
            unexpected_keys,
            error_msgs,
        )

    def __reduce_ex__(self, protocol: Any) -> Any:
        kind = _thawed_class(type(self))
        if kind is None:
            return super().__reduce_ex__(protocol)
        getstate = getattr(super(), "__getstate__", None)  # object has it since 3.11
        state = dict(vars(self) if getstate is None else getstate())
        state.pop("_view", None)  # packed forms are made anew
        # Of the class that pickle finds under the name.
        return _new_frozen, (kind,), state


_classes: dict[type[Module], type[Module]] = {}


def _frozen_class(kind: type[Module]) -> type[Module]:
    """The class of a frozen layer of that class, under the same name."""
    if kind not in _classes:
        members = {"__module__": kind.__module__}
        _classes[kind] = type(kind.__name__, (_Frozen, kind), members)
    return _classes[kind]


def _thawed_class(kind: type[Module]) -> type[Module] | None:
    """The class that a frozen layer's was made of; None for those derived from it."""
    base = kind.__bases__[-1]
    return base if _classes.get(base) is kind else None


def _new_frozen(kind: type[Module]) -> Module:
    layer = _frozen_class(kind)
    return layer.__new__(layer)
