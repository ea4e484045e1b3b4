"""Convolution of signals: what numpy and scipy.signal call convolve and correlate."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_variadic

from .conv import CONV

_MODES = ("full", "same", "valid")


def convolve(u: Tensor, w: Tensor, mode: str = "full", *, dims: int = 1) -> Tensor:
    """The convolution of two signals, s_t = sum_a u_a w_{t-a}.

    Goodfellow, Bengio, Courville, *Deep Learning* (2016), equation 9.3. Along one
    dimension it is numpy.convolve, and with ``dims`` scipy.signal.convolve; batched,
    and differentiable in both signals.

    Args:
        u, w: (..., *size) with ``dims`` trailing spatial dimensions, at least one long.
            The dimensions before them are broadcast: many signals with one kernel, or
            each signal with its own. Floating point, complex or integer, of one dtype.
        mode: 'full' has every output that touches both signals, size_u + size_w - 1;
            'same' the middle of it, as long as the longer signal; 'valid' those that lie
            in the longer signal entirely, max(size) - min(size) + 1.
        dims: over how many trailing dimensions (1, 2 or 3).

    Raises:
        ValueError: an unknown mode, dims, or an empty signal; 'valid' where neither signal
            is at least as long as the other along every dimension.
        RuntimeError: dtypes or devices differ, or batch dimensions cannot be broadcast.

    For 'same' with a ``u`` shorter than ``w``, numpy returns the length of the longer one
    and scipy that of ``u``: here it is numpy's.
    """
    if has_torch_function_variadic(u, w):
        return handle_torch_function(convolve, (u, w), u, w, mode, dims=dims)
    return _convolve("convolve", u, w, mode, dims, flip=True)


def correlate(u: Tensor, w: Tensor, mode: str = "full", *, dims: int = 1) -> Tensor:
    """The cross-correlation of two signals, s_t = sum_a u_{t+a} conj(w_a).

    Goodfellow, Bengio, Courville, *Deep Learning* (2016), equation 9.6. It is
    :func:`convolve` with the conjugate of ``w``, flipped, as scipy.signal.correlate has it;
    arguments, results and errors as there.
    """
    if has_torch_function_variadic(u, w):
        return handle_torch_function(correlate, (u, w), u, w, mode, dims=dims)
    kernel = w.conj().resolve_conj() if w.is_complex() else w
    return _convolve("correlate", u, kernel, mode, dims, flip=False)


def _convolve(
    name: str, u: Tensor, w: Tensor, mode: str, dims: int, flip: bool
) -> Tensor:
    if mode not in _MODES:
        raise ValueError(
            f"{name}(): mode must be one of {_MODES}, but got mode={mode!r}"
        )
    if dims not in CONV:
        raise ValueError(f"{name}(): dims must be 1, 2 or 3, but got dims={dims!r}")
    for label, t in (("u", u), ("w", w)):
        if t.dim() < dims or 0 in t.shape[t.dim() - dims :]:
            raise ValueError(
                f"{name}(): {label} needs {dims} dimensions that are not empty, but got "
                f"size {list(t.shape)}"
            )
    longer = [a >= b for a, b in zip(u.shape[-dims:], w.shape[-dims:])]
    shorter = [a <= b for a, b in zip(u.shape[-dims:], w.shape[-dims:])]
    if mode == "valid" and not all(longer) and not all(shorter):
        raise ValueError(
            f"{name}(): for mode='valid' one signal must be at least as long as the other "
            f"along every dimension, but got sizes {list(u.shape)} and {list(w.shape)}"
        )
    spatial = tuple(range(-dims, 0))
    swapped = math.prod(w.shape[-dims:]) > math.prod(u.shape[-dims:])
    if swapped:  # the kernel should be the smaller one; convolution commutes
        u, w = (w, u) if flip else (w.flip(spatial), u.flip(spatial))
    pads = []
    for n, k in zip(u.shape[-dims:], w.shape[-dims:]):
        if mode == "full":
            pads.append((k - 1, k - 1))
        elif mode == "valid":
            pads.append((0, 0))
        else:  # the middle max(n, k) of n + k - 1
            cut = (n + k - 1 - max(n, k)) // 2
            pads.append((k - 1 - cut, max(n, k) - n + cut))
    return _one_kernel_each(u, w, pads, dims, flip)


def _one_kernel_each(
    u: Tensor, w: Tensor, pads: list[tuple[int, int]], dims: int, flip: bool
) -> Tensor:
    """Batches as samples of one channel if there is a single kernel, else as channels of
    one sample, each a group of its own."""
    conv = CONV[dims]
    kernel = w.shape[-dims:]
    batch = torch.broadcast_shapes(u.shape[:-dims], w.shape[:-dims])
    if math.prod(w.shape[:-dims]) == 1:
        x = u.expand(*batch, *u.shape[-dims:]).reshape(-1, 1, *u.shape[-dims:])
        y = conv(x, w.reshape(1, 1, *kernel), padding=pads, flip=flip)
    else:
        x = u.expand(*batch, *u.shape[-dims:]).reshape(1, -1, *u.shape[-dims:])
        each = w.expand(*batch, *kernel).reshape(-1, 1, *kernel)
        y = conv(x, each, padding=pads, groups=each.shape[0], flip=flip)
    return y.reshape(*batch, *y.shape[-dims:])
