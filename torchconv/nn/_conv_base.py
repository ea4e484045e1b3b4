"""What torchconv's convolution layers have in common.

A layer is torch.nn's class with another computation: parameters, initialisation,
state_dict and repr are inherited, so that there is nothing to drift apart from torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, TypeAlias

import torch
from torch import Tensor

from .._activation import ActivationLike, canonical_activation

Size: TypeAlias = int | tuple[int, ...]
Padding: TypeAlias = str | int | Sequence[int] | Sequence[tuple[int, int]]
PaddingMode: TypeAlias = Literal["zeros", "reflect", "replicate", "circular"]

# Rows of output channels, columns of input channels: a tensor or nested sequences.
ChannelMap: TypeAlias = Tensor | Sequence[Sequence[int]] | Sequence[Sequence[bool]]

# What torchconv.functional takes by name; torch's constructors know the first two.
_TORCH_PADDINGS = ("valid", "same")
_PADDINGS = (*_TORCH_PADDINGS, "full", "causal")


def canonical_padding(padding: Padding) -> Any:
    """Pairs as a tuple of tuples; what torch knows unchanged.

    Raises:
        ValueError: padding is a string that names no padding.
    """
    if isinstance(padding, str):
        if padding not in _PADDINGS:
            raise ValueError(
                f"Invalid padding string {padding!r}, should be one of {_PADDINGS}"
            )
        return padding
    if isinstance(padding, Sequence):
        return tuple(tuple(p) if isinstance(p, Sequence) else p for p in padding)
    return padding


def _torch_takes(padding: Any) -> bool:
    if isinstance(padding, str):
        return padding in _TORCH_PADDINGS
    return not isinstance(padding, tuple) or all(
        not isinstance(p, tuple) for p in padding
    )


class ConvBase(torch.nn.modules.conv._ConvNd):
    """A convolution layer of torch.nn, computed by torchconv."""

    # Class attributes, so that a layer of torch.nn whose class convert() replaced,
    # and one pickled by an older release, have them too.
    algorithm: str | None = None
    flip: bool = False
    activation: ActivationLike = None
    channel_map: Tensor  # a buffer, if _mapped
    _mapped: bool = False
    padding: Any  # torch's annotation has no room for pairs
    _functional: ClassVar[Callable[..., Tensor]]

    def __init__(
        self,
        *args: Any,
        padding: Padding,
        algorithm: str | None,
        flip: bool = False,
        channel_map: Any = None,
        activation: ActivationLike = None,
        **kwargs: Any,
    ) -> None:
        canonical_activation(type(self).__name__, activation)  # raises what is wrong
        canonical = canonical_padding(padding)
        known = _torch_takes(canonical)
        kwargs["padding"] = canonical if known else 0
        super().__init__(*args, **kwargs)
        if not known:
            self.padding = canonical
        self._keep(algorithm, flip, activation)
        if channel_map is not None:
            self._connect(channel_map)

    def _keep(
        self, algorithm: str | None, flip: bool, activation: ActivationLike
    ) -> None:
        self.algorithm = algorithm
        if flip:
            self.flip = True
        if activation is not None:
            self.activation = activation

    def _connect(self, channel_map: Any) -> None:
        """Keeps the connection table: a buffer, which is no part of the state_dict."""
        table = torch.as_tensor(channel_map).to(torch.bool)
        expected = (self.out_channels, self.in_channels // self.groups)
        if table.shape != expected:
            raise ValueError(
                f"channel_map should be of size {expected}, (out_channels, in_channels "
                f"/ groups), but got {tuple(table.shape)}"
            )
        table = table.to(self.weight.device)
        self.register_buffer("channel_map", table, persistent=False)
        self._mapped = True

    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        """activation(convolution of input + residual).

        Args:
            input: (N, C, *spatial) or (C, *spatial).
            residual: of the result's size, or one that expands to it; or None.
        """
        if residual is None:
            # As torch.nn's forward: subclasses may have a _conv_forward of theirs.
            return self._conv_forward(input, self.weight, self.bias)
        return self._conv_forward(input, self.weight, self.bias, residual)

    def _conv_forward(
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        residual: Tensor | None = None,
    ) -> Tensor:
        return self._functional(
            input,
            weight,
            bias,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            padding_mode=self.padding_mode,
            algorithm=self.algorithm,
            flip=self.flip,
            channel_map=self.channel_map if self._mapped else None,
            activation=self.activation,
            residual=residual,
        )

    def extra_repr(self) -> str:
        text = super().extra_repr()
        if self.flip:
            text += ", flip=True"
        if self._mapped:
            connections = int(self.channel_map.sum())
            text += f", channel_map of {connections} connections"
        if self.activation is not None:
            text += f", activation={self.activation!r}"
        if self.algorithm is not None:
            text += f", algorithm={self.algorithm!r}"
        return text


class ConvTransposeBase(ConvBase, torch.nn.modules.conv._ConvTransposeNd):
    """A transposed convolution layer of torch.nn, computed by torchconv."""

    def __init__(self, *args: Any, padding: Padding, **kwargs: Any) -> None:
        if isinstance(padding, str):
            raise TypeError(
                "padding of a transposed convolution must be ints or (low, high) "
                f"pairs, but got padding={padding!r}"
            )
        super().__init__(*args, padding=padding, **kwargs)

    def forward(  # type: ignore[override]
        self,
        input: Tensor,
        output_size: list[int] | None = None,
        residual: Tensor | None = None,
    ) -> Tensor:
        """activation(transposed convolution of input + residual); input is
        (N, C, *spatial) or (C, *spatial).

        Args:
            input: the input.
            output_size: the spatial size wanted, with or without the leading
                dimensions, where the stride leaves a choice.
            residual: of the result's size, or one that expands to it; or None.

        Raises:
            ValueError: output_size is not one that stride and padding allow.
        """
        return self._conv_forward(input, self.weight, self.bias, output_size, residual)

    def _conv_forward(  # type: ignore[override]
        self,
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        output_size: list[int] | None = None,
        residual: Tensor | None = None,
    ) -> Tensor:
        output_padding = self.output_padding
        if output_size is not None:
            output_padding = self._padding_for(input, output_size)
        return self._functional(
            input,
            weight,
            bias,
            self.stride,
            self.padding,
            output_padding,
            self.groups,
            self.dilation,
            algorithm=self.algorithm,
            flip=self.flip,
            activation=self.activation,
            residual=residual,
        )

    def _padding_for(self, input: Tensor, output_size: list[int]) -> tuple[int, ...]:
        """The output_padding that gives output_size."""
        # torch takes padding off twice: for a pair, half of both sides together.
        padding: list[Any] = [
            sum(p) / 2 if isinstance(p, tuple) else p for p in self.padding
        ]
        result = self._output_padding(
            input,
            output_size,
            list(self.stride),
            padding,
            list(self.kernel_size),
            len(self.kernel_size),
            list(self.dilation),
        )
        return tuple(int(n) if isinstance(n, float) else n for n in result)
