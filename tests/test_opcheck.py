"""torch.library.opcheck on every operator: schema, autograd registration, fake kernel
(shapes and strides), and ahead-of-time dispatch with dynamic sizes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from common import ops
from torch import Tensor


def x(*size: int, grad: bool = False, last: bool = False, **options: Any) -> Tensor:
    """A random tensor, of channels_last strides if asked."""
    t = torch.randn(size, **options)
    if last:
        format = torch.channels_last if len(size) == 4 else torch.channels_last_3d
        t = t.contiguous(memory_format=format)
    return t.requires_grad_(grad)


def conv_samples() -> list[tuple[str, tuple]]:
    samples: list[tuple[str, tuple]] = []
    for grad in (False, True):
        for last in (False, True):
            window = ([2, 1], [1, 0, 2, 1], [1, 2], 2, "zeros", last, "auto")
            a, w, b = x(2, 4, 7, 8, last=last), x(6, 2, 3, 2), x(6)
            g = x(*ops.conv_forward(a, w, b, *window).shape, last=last)
            for t in (a, w, b, g):
                t.requires_grad_(grad)
            size = list(a.shape)
            act = ("relu", 0.0, 0.0) if last else ("hardswish", 0.0, 0.0)
            r, rx = torch.randn_like(g), torch.randn_like(a)
            samples += [
                (
                    "conv_forward_fused",
                    (a, w, b, r.requires_grad_(grad), *window, *act),
                ),
                ("conv_input_grad_fused", (g, w, None, rx, size, *window, *act)),
                ("conv_forward", (a, w, b, *window)),
                ("conv_input_grad", (g, w, None, size, *window)),
                ("conv_weight_grad", (g, a, list(w.shape), *window)),
                ("channel_sum", (g,)),
            ]
        a, w = x(1, 3, 9, grad=grad), x(4, 3, 3, grad=grad)
        window1 = ([1], [1, 1], [1], 1, "circular", False, "im2col")
        samples.append(("conv_forward", (a, w, None, *window1)))
        g = x(1, 4, 9, grad=grad)
        b = x(3, grad=grad)
        samples += [
            ("conv_input_grad", (g, w, b, [1, 3, 9], *window1)),
            ("conv_weight_grad", (g, a, [4, 3, 3], *window1)),
        ]
        a, w = x(1, 2, 4, 5, 4, grad=grad), x(3, 2, 2, 2, 2, grad=grad)
        window3 = ([1] * 3, [0] * 6, [1] * 3, 1, "zeros", True, "direct")
        samples.append(("conv_forward", (a, w, None, *window3)))
    return samples


def pool_samples() -> list[tuple[str, tuple]]:
    samples: list[tuple[str, tuple]] = []
    for grad, last, nd in (
        (False, False, 1),
        (True, False, 1),
        (False, False, 2),
        (True, False, 2),
        (True, True, 2),
        (False, True, 3),
        (True, False, 3),
    ):
        a = x(2, 3, *(9, 8, 7)[:nd], grad=grad, last=last)
        k, s, p, d = [3] * nd, [2] * nd, [1] * nd, [1] * nd
        window = (k, s, p, d)
        plain = a.detach()
        y, codes = ops.max_pool_with_codes(plain, *window, False, last)
        index = ops.max_pool_with_indices(plain, *window, False, last)[1]
        g = torch.randn_like(y).requires_grad_(grad)
        size, out = list(a.shape), [3] * nd
        small = torch.randn_like(ops.adaptive_avg_pool(plain, out, last))
        small_codes = ops.adaptive_max_pool_with_codes(plain, out, last)[1]
        small.requires_grad_(grad)
        positive = plain.abs().requires_grad_(grad)
        norm = ops.lp_pool(positive.detach(), 2.0, k, s, False, last)
        lg = torch.randn_like(norm).requires_grad_(grad)
        none = ([1] * nd, [1] * nd, [0] * nd, [1] * nd)
        avg = (k, s, p, False, True, None)
        samples += [
            ("max_pool", (a, *window, False, last)),
            ("max_pool_with_codes", (a, *window, True, last)),
            ("max_pool_with_indices", (a, *window, False, last)),
            ("pool_scatter", (g, codes, size, *window, last)),
            ("pool_scatter", (g, index, size, *none, last)),
            ("pool_gather", (a, codes, *window, last)),
            ("pool_scatter", (small, small_codes, size, *none, last)),
            ("adaptive_max_pool", (a, out, last)),
            ("adaptive_max_pool_with_codes", (a, out, last)),
            ("adaptive_max_pool_with_indices", (a, out, last)),
            ("avg_pool", (a, *avg, last)),
            ("avg_pool", (a, k, s, p, True, False, 5, last)),
            ("avg_pool_input_grad", (g, size, *avg, last)),
            ("adaptive_avg_pool", (a, out, last)),
            ("adaptive_avg_pool_input_grad", (small, size, last)),
            ("lp_pool", (positive, 2.0, k, s, False, last)),
            ("lp_pool_input_grad", (lg, positive, norm, 2.0, k, s, False, last)),
        ]
        if nd > 1:
            u = torch.rand(2, 3, nd)
            samples.append(("fractional_max_pool", (a, u, [2] * nd, out, last)))
        unpooled = list(plain.shape[2:])
        samples.append(("max_unpool", (g, index, unpooled, last)))
    for grad in (False, True):
        a = x(2, 3, 6, 7, grad=grad)
        window = ([3, 2], [1, 2], [1, 0], [2, 1])
        columns = torch.randn_like(ops.unfold(a.detach(), *window))
        samples += [
            ("unfold", (a, *window)),
            ("fold", (columns.requires_grad_(grad), [6, 7], *window)),
        ]
    return samples


def local_samples() -> list[tuple[str, tuple]]:
    samples: list[tuple[str, tuple]] = []
    for grad, last in ((False, False), (True, False), (True, True)):
        for nd in (1, 2, 3):
            last_here = last and nd > 1
            a = x(2, 4, *(7, 8, 5)[:nd], last=last_here)
            w, b = x(*[2] * nd, 6, 2, *[3] * nd), x(*[2] * nd, 6)
            window = ([2] * nd, [1, 0] * nd, [1] * nd, 2, "zeros")
            g = ops.local_conv_forward(a, w, b, *window, last_here)
            for t in (a, w, b, g):
                t.requires_grad_(grad)
            size, w_size = list(a.shape), list(w.shape)
            samples += [
                ("local_conv_forward", (a, w, b, *window, last_here)),
                ("local_conv_input_grad", (g, w, size, *window, last_here)),
                ("local_conv_weight_grad", (g, a, w_size, *window)),
            ]
    return samples


SAMPLES = {"conv": conv_samples, "pool": pool_samples, "local": local_samples}


def parameters() -> list[Any]:
    """(operator, number of the sample): the tensors are made when a test runs."""
    counts: dict[str, int] = {}
    found = []
    for kind, make in SAMPLES.items():
        for position, (name, _) in enumerate(make()):
            number = counts[name] = counts.get(name, -1) + 1
            found.append(pytest.param(kind, position, id=f"{name}-{number}"))
    return found


@pytest.fixture(scope="module")
def samples() -> dict[str, list[tuple[str, tuple]]]:
    return {kind: make() for kind, make in SAMPLES.items()}


@pytest.mark.parametrize(("kind", "position"), parameters())
def test_opcheck(samples: Any, kind: str, position: int) -> None:
    name, args = samples[kind][position]
    torch.library.opcheck(getattr(ops, name).default, args)


def test_every_operator_is_checked() -> None:
    registered = {
        schema.name.removeprefix("torchconv::")
        for schema in torch._C._jit_get_all_schemas()
        if schema.name.startswith("torchconv::")
    }
    checked = {name for make in SAMPLES.values() for name, _ in make()}
    # Eager calls alone use them, below autograd and without a fake kernel.
    eager = {"conv_prepared", "conv_pack", "bound", "bound_pair"}
    assert registered - eager == checked
