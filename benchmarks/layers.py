"""One layer: a call of a function of torch.nn.functional, and its short syntax.

The description is the function's name, shapes and options, so that it runs with
torch.nn.functional and with torchconv.functional alike. The short syntax writes it as

    conv2d:n1c64h56w56k64r3p1
    conv3d:c16d16h32w32k32r3s1x2x2p1
    conv_transpose1d:c512w64k256r16s8p4
    max_pool2d:c64h112w112r3s2p1

a function and ``:``, then letters with numbers: ``n`` batch (1 if it is left out), ``c``
channels, ``d h w`` spatial sizes (as many as the function has dimensions; one alone
stands for all), ``k`` output channels, ``r`` kernel, ``s`` stride, ``p`` padding, ``dil``
dilation, ``g`` groups, ``op`` output padding, ``out`` output size, ``norm`` the p of Lp
pooling; ``bias1``, ``ceil1``, ``idx1`` (return_indices), ``cip0`` (count_include_pad) and
``div9`` (divisor_override). ``3x1x1`` gives a value for each dimension.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

Tensors = dict[str, Tensor]
FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}
DIFFERENTIABLE = ("input", "weight", "bias")

STEMS = {
    "conv": "",
    "conv_transpose": "transposed",
    "max_pool": "max",
    "avg_pool": "avg",
    "lp_pool": "lp",
    "adaptive_avg_pool": "adaptive avg",
    "adaptive_max_pool": "adaptive max",
    "fractional_max_pool": "fractional",
    "max_unpool": "unpool",
    "unfold": "unfold",
    "fold": "fold",
}
"""Functions without their dimensions, and the family of those that are one."""

# What an option is where a call does not name it.
_DEFAULTS: dict[str, Any] = {
    "padding": 0,
    "dilation": 1,
    "groups": 1,
    "output_padding": 0,
    "ceil_mode": False,
    "count_include_pad": True,
    "divisor_override": None,
    "return_indices": False,
}

_TOKENS = {
    "r": "kernel_size",
    "s": "stride",
    "p": "padding",
    "dil": "dilation",
    "g": "groups",
    "op": "output_padding",
    "out": "output_size",
    "norm": "norm_type",
    "ceil": "ceil_mode",
    "idx": "return_indices",
    "cip": "count_include_pad",
    "div": "divisor_override",
}
_FLAGS = ("ceil_mode", "return_indices", "count_include_pad")
_TOKEN = re.compile(r"([a-z]+?)(\d+(?:x\d+)*)")
_WORD_PADDING = re.compile(r"p(same|valid)")


def _stem(function: str) -> str:
    return re.sub(r"\d+d$", "", function)


@dataclass(frozen=True)
class Layer:
    """One call of a function of torch.nn.functional.

    x and weight are shapes; options are the other arguments by name, without those at
    their defaults; count is how often the layer's model has it.
    """

    id: str
    function: str
    x: tuple[int, ...]
    weight: tuple[int, ...] | None = None
    bias: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""
    count: int = 1

    @property
    def dimensions(self) -> int:
        """Spatial ones."""
        return len(self.x) - 2

    @property
    def family(self) -> str:
        """The kind of layer that results are summed up by."""
        stem = _stem(self.function)
        if self.options.get("return_indices"):
            return f"{STEMS[stem]} indices"
        if self.weight is None or stem == "conv_transpose":
            return STEMS[stem]
        groups, nd = self.options.get("groups", 1), self.dimensions
        if groups == self.x[1] and groups > 1:
            return f"depthwise {nd}d"
        if groups > 1:
            return "grouped"
        if nd != 2:
            return f"conv{nd}d"
        plain = {self.options.get(name, 1) for name in ("stride", "dilation")} == {1}
        return "conv2d 3x3" if self.weight[2:] == (3, 3) and plain else "conv2d other"

    @property
    def spec(self) -> str:
        """The layer in the short syntax; equal layers have equal ones."""
        stem, nd = _stem(self.function), self.dimensions
        text = f"{self.function}:n{self.x[0]}c{self.x[1]}"
        sizes = zip("dhw"[-nd:] if nd else "", self.x[2:])
        if stem == "fold":
            text += f"w{self.x[2]}"
        else:
            text += "".join(f"{letter}{size}" for letter, size in sizes)
        if self.weight is not None:
            text += f"k{self.filters}r{_list(_short(self.weight[2:]))}"
        for token, option in _TOKENS.items():
            if option in self.options:
                value = self.options[option]
                if isinstance(value, bool):
                    value = int(value)
                text += token + (value if isinstance(value, str) else _list(value))
        return text + ("bias1" if self.bias else "")

    @property
    def filters(self) -> int:
        """Output channels of a convolution."""
        assert self.weight is not None
        if _stem(self.function) == "conv_transpose":
            return self.weight[1] * self.options.get("groups", 1)
        return self.weight[0]

    @property
    def is_conv(self) -> bool:
        """Whether algorithms can be chosen for it."""
        return self.weight is not None

    def with_batch(self, batch: int) -> Layer:
        """The same layer on other many samples."""
        return replace(self, x=(batch, *self.x[1:]))

    def inputs(
        self,
        dtype: torch.dtype,
        channels_last: bool = False,
        device: str = "cpu",
    ) -> Tensors:
        """Random tensors to call it with, by argument name."""
        tensors = {"input": torch.randn(self.x, device=device).to(dtype)}
        if self.weight is not None:
            scale = math.prod(self.weight[1:]) ** -0.5
            weight = torch.randn(self.weight, device=device) * scale
            tensors["weight"] = weight.to(dtype)
        if channels_last:
            form = FORMATS[self.dimensions]
            tensors = {k: t.contiguous(memory_format=form) for k, t in tensors.items()}
        if self.options.get("norm_type", 2) % 2:  # roots of sums that may be negative
            tensors["input"].abs_()
        if self.bias:
            tensors["bias"] = torch.randn(self.filters, device=device).to(dtype)
        if "unpool" in self.function:
            tensors["indices"] = self._distinct_places().to(device)
        if "fractional" in self.function:
            samples = torch.rand(*self.x[:2], self.dimensions, device=device)
            tensors["_random_samples"] = samples.to(dtype)
        return tensors

    def _distinct_places(self) -> Tensor:
        """Indices for unpooling: where max pooling found maxima of random numbers."""
        pool = getattr(torch.nn.functional, f"max_pool{self.dimensions}d")
        large = torch.randn(self.output_shape())
        names = ("kernel_size", "stride", "padding")
        options = {k: self.options[k] for k in names if k in self.options}
        indices: Tensor = pool(large, return_indices=True, **options)[1]
        return indices

    def call(self, functional: ModuleType, tensors: Tensors, **more: Any) -> Tensor:
        """The output, of torch.nn.functional or of a module that stands in for it."""
        function = getattr(functional, self.function)
        output = function(**tensors, **self.options, **more)
        result: Tensor = output[0] if isinstance(output, tuple) else output
        return result

    def output_shape(self) -> tuple[int, ...]:
        """The shape torch gives the output, without computing it."""
        nd = self.dimensions
        if "fractional" in self.function:
            return (*self.x[:2], *_spread(self.options["output_size"], nd))
        if "unpool" in self.function:
            return (*self.x[:2], *self._unpooled())
        tensors = {"input": torch.empty(self.x, device="meta")}
        if self.weight is not None:
            tensors["weight"] = torch.empty(self.weight, device="meta")
        return tuple(self.call(torch.nn.functional, tensors).shape)

    def _unpooled(self) -> tuple[int, ...]:
        nd = self.dimensions
        if "output_size" in self.options:
            return _spread(self.options["output_size"], nd)
        kernel = self.options["kernel_size"]
        windows = zip(
            self.x[2:],
            _spread(kernel, nd),
            _spread(self.options.get("stride", kernel), nd),
            _spread(self.options.get("padding", 0), nd),
        )
        return tuple((n - 1) * s - 2 * p + k for n, k, s, p in windows)

    def flops(self) -> int:
        """Multiplications and additions of a convolution's forward; 0 for others."""
        if self.weight is None:
            return 0
        pixels = self.x if "transpose" in self.function else self.output_shape()
        return 2 * pixels[0] * math.prod(pixels[2:]) * math.prod(self.weight)

    def operations(self) -> int:
        """flops of a convolution; of pooling, the elements that its windows read."""
        if self.weight is not None:
            return self.flops()
        if "kernel_size" not in self.options or "unpool" in self.function:
            return math.prod(self.x)
        if "fold" in self.function:
            return math.prod(self.output_shape())
        taps = math.prod(_spread(self.options["kernel_size"], self.dimensions))
        return math.prod(self.output_shape()) * taps

    def elements(self) -> int:
        """Of input, weight and output: what one pass has to move."""
        shapes = [self.x, self.weight or (0,), self.output_shape()]
        return sum(math.prod(shape) for shape in shapes)


def _spread(value: Any, nd: int) -> tuple[int, ...]:
    """One value per dimension."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * nd


def _short(value: Any) -> Any:
    """One number for equal ones."""
    if isinstance(value, (tuple, list)):
        value = tuple(value)
        return value[0] if len(set(value)) == 1 else value
    return value


def _list(value: Any) -> str:
    return "x".join(f"{v:g}" for v in (value if isinstance(value, tuple) else (value,)))


def make_layer(
    function: str,
    x: tuple[int, ...],
    weight: tuple[int, ...] | None = None,
    bias: bool = False,
    options: Mapping[str, Any] | None = None,
    **names: Any,
) -> Layer:
    """A layer with its options in the one form that equal layers share.

    Args:
        function: the name of a function of torch.nn.functional.
        x, weight: shapes.
        bias: whether the call has one.
        options: the other arguments, by their names.
        names: id (the short syntax, if left out), source, count.
    """
    kept = {key: _short(value) for key, value in (options or {}).items()}
    usual = dict(_DEFAULTS)
    usual["stride"] = 1 if weight is not None else kept.get("kernel_size")
    if function in ("fold", "unfold"):
        usual["stride"] = 1
    kept = {
        key: value
        for key, value in kept.items()
        if value is not None and (key not in usual or value != usual[key])
    }
    if "fold" in function or "unpool" in function:  # these want a number or a tuple
        kept = {
            k: v if isinstance(v, (int, float)) else tuple(v) for k, v in kept.items()
        }
    layer = Layer("", function, tuple(x), weight, bias, kept)
    return replace(layer, **{"id": layer.spec, **names})


def _functions() -> dict[str, str]:
    """Spellings of the functions, without underscores, and the functions."""
    names = {}
    for stem in STEMS:
        for nd in (1, 2, 3):
            function = stem if "fold" in stem else f"{stem}{nd}d"
            names[function.replace("_", "")] = function
            names[function.replace("_", "").replace("convtranspose", "convt")] = (
                function
            )
    return names


_FUNCTIONS = _functions()


def parse_layer(text: str) -> Layer:
    """The layer that a text in the short syntax describes.

    Raises:
        ValueError: it does not describe one; a sentence says why.
    """
    name, colon, rest = text.partition(":")
    function = _FUNCTIONS.get(name.replace("_", "").lower())
    if not colon or function is None:
        raise ValueError(
            f"layer {text!r} does not begin with a function and a colon, such as "
            "conv2d: or max_pool2d:"
        )
    values = _values(text, rest)
    try:
        layer = _build(function, values)
        layer.output_shape()
    except KeyError as error:
        raise ValueError(f"layer {text!r} lacks {error.args[0]!r}") from None
    except (RuntimeError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"layer {text!r} is not possible: {reason}") from None
    if values:
        unused = ", ".join(values)
        raise ValueError(f"layer {text!r} has values that {function} has not: {unused}")
    return layer


def _values(text: str, rest: str) -> dict[str, Any]:
    """The letters and their numbers."""
    values: dict[str, Any] = {}
    position = 0
    while position < len(rest):
        word = _WORD_PADDING.match(rest, position)
        match = word or _TOKEN.match(rest, position)
        if match is None:
            raise ValueError(
                f"layer {text!r}: {rest[position:]!r} is not a letter with a number"
            )
        key = "p" if word else match[1]
        if key in values:
            raise ValueError(f"layer {text!r} says {key!r} twice")
        if key not in {*"ncdhwk", "bias", *_TOKENS}:
            raise ValueError(f"layer {text!r}: {key!r} is no letter of the syntax")
        numbers = None if word else tuple(map(int, match[2].split("x")))
        values[key] = match[1] if numbers is None else _short(numbers)
        position = match.end()
    return values


def _build(function: str, values: dict[str, Any]) -> Layer:
    """Takes what the function has out of values; KeyError for what is missing."""
    take: Callable[..., Any] = values.pop
    nd = 2 if function == "unfold" else 1 if function == "fold" else int(function[-2])
    letters = "dhw"[-nd:]
    given = [letter for letter in letters if letter in values]
    if not given:
        raise KeyError(letters[0])
    if len(given) not in (1, nd):
        raise KeyError(next(letter for letter in letters if letter not in values))
    sizes = [take(letter) for letter in given] * (nd if len(given) == 1 else 1)
    x = (take("n", 1), take("c"), *sizes)
    weight = None
    bias = False
    if "conv" in function:
        filters, kernel = take("k"), _spread(take("r"), nd)
        groups = values.get("g", 1)
        if x[1] % groups or filters % groups:
            raise ValueError(f"{groups} groups do not divide its channels")
        transposed = "transpose" in function
        pair = (x[1], filters // groups) if transposed else (filters, x[1] // groups)
        weight = (*pair, *kernel)
        bias = bool(take("bias", 0))
        known = ["s", "p", "dil", "g"] + (["op"] if transposed else [])
    elif "adaptive" in function:
        values["out"]
        known = ["out", "idx"]
    else:
        values["r"]
        known = ["r", *_POOL_TOKENS[_stem(function)]]
    options: dict[str, Any] = {}
    for token in known:
        if token in values:
            option = _TOKENS[token]
            value = take(token)
            options[option] = bool(value) if option in _FLAGS else value
    if "lp_pool" in function:
        options.setdefault("norm_type", 2)
    return make_layer(function, x, weight, bias, options)


_POOL_TOKENS = {
    "max_pool": ("s", "p", "dil", "ceil", "idx"),
    "avg_pool": ("s", "p", "ceil", "cip", "div"),
    "lp_pool": ("s", "norm", "ceil"),
    "fractional_max_pool": ("out", "idx"),
    "max_unpool": ("s", "p", "out"),
    "unfold": ("s", "p", "dil"),
    "fold": ("s", "p", "dil", "out"),
}
