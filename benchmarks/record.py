"""The layers of any model: every convolution and pooling call, with its shapes.

A TorchFunctionMode sees the calls of torch.nn.functional and torchconv.functional, from
modules or from a model's own code, whatever the model does around them.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from torchconv import functional as ours

from .layers import STEMS, Layer, make_layer


def _recorded_functions() -> dict[Any, str]:
    """The functions to record, of both libraries, and their names."""
    found: dict[Any, str] = {}
    for name in ours.__all__:
        stem = re.sub(r"\d+d$", "", name.removesuffix("_with_indices"))
        if stem not in STEMS:
            continue
        for place in (torch.nn.functional, ours, torch):
            function = getattr(place, name, None)
            if function is not None:
                found[function] = name
    return found


class Recorder(TorchFunctionMode):
    """Notes the layers of the calls made inside ``with``; ``layers`` has them in order,
    each distinct one once, with its count. ``left_out`` says what could not be noted."""

    def __init__(self) -> None:
        super().__init__()
        self._functions = _recorded_functions()
        self._counts: dict[str, int] = {}
        self._layers: dict[str, Layer] = {}
        self.left_out: list[str] = []
        self.path: list[str] = []

    @property
    def layers(self) -> list[Layer]:
        """The distinct layers, in the order of their first calls."""
        return [
            replace(layer, count=self._counts[spec])
            for spec, layer in self._layers.items()
        ]

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        try:
            name = self._functions.get(func)
        except TypeError:  # not hashable, so none of ours
            name = None
        if name is not None:
            try:
                self._note(name, args, kwargs, result)
            except Exception as error:  # noqa: BLE001 the model goes on
                where = self.path[-1] if self.path else name
                self.left_out.append(f"{where}: {name}: {error}")
        return result

    def _note(self, name: str, args: Any, kwargs: Any, result: Any) -> None:
        output = result[0] if isinstance(result, tuple) else result
        indices = name.endswith("_with_indices")
        name = name.removesuffix("_with_indices")
        bound = inspect.signature(getattr(ours, name)).bind(*args, **kwargs)
        given = dict(bound.arguments)
        x: Tensor = given.pop("input")
        weight: Tensor | None = given.pop("weight", None)
        bias = given.pop("bias", None) is not None
        for tensor in ("indices", "_random_samples", "algorithm"):
            given.pop(tensor, None)
        if given.pop("padding_mode", "zeros") != "zeros":
            raise ValueError("torch's function has no padding_mode")
        nd = 2 if name == "unfold" else 1 if name == "fold" else int(name[-2])
        shape, out = list(x.shape), tuple(output.shape)
        if len(shape) == nd + 1:
            shape, out = [1, *shape], (1, *out)
        sized = given.pop("output_size", None)
        if sized is not None or given.pop("output_ratio", None) is not None:
            given["output_size"] = sized if name == "fold" else out[2:]
        if indices:
            given["return_indices"] = True
        spatial = None if weight is None else tuple(weight.shape)
        layer = make_layer(name, tuple(shape), spatial, bias, given)
        place = self.path[-1] if self.path else ""
        self._counts[layer.spec] = self._counts.get(layer.spec, 0) + 1
        if layer.spec not in self._layers:
            self._layers[layer.spec] = replace(layer, source=place)


def record(model: Callable[..., Any], inputs: Sequence[Any]) -> Recorder:
    """Runs a model once, without gradients, and records its layers.

    Args:
        model: a module, or any function.
        inputs: its arguments.
    """
    recorder = Recorder()
    hooks = []
    if isinstance(model, nn.Module):
        model.eval()
        for name, module in model.named_modules():
            path = name or type(model).__name__
            enter = _entering(recorder, path)
            hooks.append(module.register_forward_pre_hook(enter))
            leave = _leaving(recorder)
            hooks.append(module.register_forward_hook(leave, always_call=True))
    try:
        with torch.no_grad(), recorder:
            model(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return recorder


def _entering(recorder: Recorder, path: str) -> Callable[..., None]:
    def enter(*_: Any) -> None:
        recorder.path.append(path)

    return enter


def _leaving(recorder: Recorder) -> Callable[..., None]:
    def leave(*_: Any) -> None:
        recorder.path.pop()

    return leave


def load_model(where: str) -> Any:
    """What ``package.module:factory`` makes; a module or a function is taken as it is.

    Raises:
        ValueError: there is no such thing; a sentence says what is missing.
    """
    module_name, colon, name = where.partition(":")
    if not colon or not name:
        raise ValueError(f"model {where!r} is not of the form package.module:factory")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"model {where!r} cannot be loaded: {error}") from None
    if isinstance(found, nn.Module):
        return found
    if isinstance(found, type) or not _takes_arguments(found):
        return found()
    return found


def _takes_arguments(function: Any) -> bool:
    """Whether a function wants arguments, and so is a model rather than a factory."""
    parameters = inspect.signature(function).parameters.values()
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return any(p.default is p.empty and p.kind not in kinds for p in parameters)


def parse_shape(text: str) -> tuple[int, ...]:
    """ "1x3x224x224" as a shape.

    Raises:
        ValueError: it is none.
    """
    if not re.fullmatch(r"\d+(x\d+)*", text):
        raise ValueError(f"input {text!r} is not a shape such as 1x3x224x224")
    return tuple(map(int, text.split("x")))


def layers_of(where: str, inputs: Sequence[str]) -> tuple[list[Layer], list[str]]:
    """The layers of a model on random inputs of the given shapes, each with its place in
    the model as its source, and what could not be recorded.

    Raises:
        ValueError: the model cannot be loaded, or does not run on such inputs.
    """
    model = load_model(where)
    tensors = [torch.randn(parse_shape(text)) for text in inputs]
    try:
        recorder = record(model, tensors)
    except Exception as error:
        shapes = ", ".join(inputs)
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"model {where!r} fails on {shapes}: {reason}") from error
    short = where.rpartition(":")[2]
    layers = [
        replace(layer, id=f"{layer.source or short}", source=f"{where} {layer.source}")
        for layer in recorder.layers
    ]
    seen: dict[str, int] = {}
    named = []
    for layer in layers:
        seen[layer.id] = seen.get(layer.id, 0) + 1
        again = f"#{seen[layer.id]}" if seen[layer.id] > 1 else ""
        named.append(replace(layer, id=layer.id + again))
    return named, recorder.left_out
