"""Prepared convolutions: what eager calls use must never show."""

from __future__ import annotations

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

import torchconv.functional as F
from torchconv import _ops, _prepared

ARGS = ((1, 1), (1, 1, 1, 1), (1, 1), 1, "zeros", False, "auto")


def prepared(x: torch.Tensor, w: torch.Tensor) -> _prepared.Args:
    args = _prepared.prepare(
        "forward", x.shape, x.stride(), w.shape, w.stride(), x.dtype, ARGS
    )
    assert isinstance(args, _prepared.Args)
    assert args == ARGS
    return args


def test_other_strides_than_prepared_for() -> None:
    x, w = torch.randn(2, 3, 6, 6), torch.randn(4, 3, 3, 3)
    args = prepared(x, w)
    expected = torch.nn.functional.conv2d(x.double(), w.double(), padding=1)
    for form in (torch.contiguous_format, torch.channels_last):
        y = _ops.conv_prepared(x.contiguous(memory_format=form), w, None, None, args.id)
        torch.testing.assert_close(y, expected.float())
    # The imaginary part of a conjugate is a tensor with the negative bit.
    z = torch.complex(x, x).conj().imag
    assert z.is_neg()
    torch.testing.assert_close(
        F.conv2d(z, w, padding=1), -expected.float(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("what", ["size", "dtype", "bias"])
def test_other_tensors_are_refused(what: str) -> None:
    x, w = torch.randn(2, 3, 6, 6), torch.randn(4, 3, 3, 3)
    args = prepared(x, w)
    bias = None
    if what == "size":
        x = x[:1]
    elif what == "dtype":
        x = x.double()
    else:
        bias = torch.randn(5)
    with pytest.raises(RuntimeError, match="conv_prepared"):
        _ops.conv_prepared(x, w, bias, None, args.id)


def test_a_number_lives_as_long_as_what_it_stands_for() -> None:
    x, w = torch.randn(1, 2, 5, 7), torch.randn(2, 2, 3, 3)
    args = prepared(x, w)
    number = args.id
    _ops.conv_prepared(x, w, None, None, number)
    _prepared.prepare.cache_clear()
    del args
    with pytest.raises(RuntimeError, match="no convolution is prepared"):
        _ops.conv_prepared(x, w, None, None, number)


def test_traced_programs_hold_the_operator_itself() -> None:
    x, w = torch.randn(1, 2, 5, 5), torch.randn(2, 2, 3, 3)
    F.conv2d(x, w)  # prepares
    graph = make_fx(lambda x: F.conv2d(x, w))(x)
    names = [str(node.target) for node in graph.graph.nodes]
    assert any("conv_forward" in name for name in names)
    assert not any("conv_prepared" in name for name in names)
