"""Derivatives of every function, to the second order, by every way to ask for them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from common import here
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.gradcheck import gradcheck, gradgradcheck
from torch.func import grad, hessian, jacfwd, jacrev, jvp, vmap

import torchconv.autograd.conv as rules
import torchconv.functional as tc


def _distinct(*size: int) -> Tensor:
    """Values with gaps: a finite difference must not change which one is largest."""
    n = torch.Size(size).numel()
    order = torch.randperm(n, generator=torch.Generator().manual_seed(n))
    return (order.double() / 8 - n / 16).reshape(size)


def _uniform(*size: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(size))
    return torch.rand(*size, dtype=torch.float64, generator=generator) * 2 - 1


def _positive(*size: int) -> Tensor:
    return _uniform(*size).abs() + 0.5


class Case(NamedTuple):
    name: str
    function: Callable[..., Any]
    inputs: tuple[Tensor, ...]


def _conv(name: str, x: Any, w: Any, b: bool = True, **options: Any) -> Case:
    channels = w[0]
    if "transpose" in name:
        channels = w[1] * options.get("groups", 1)
    inputs = (_uniform(*x), _uniform(*w)) + ((_uniform(channels),) if b else ())
    label = "-".join([name, *(f"{k}={v}" for k, v in options.items())])
    return Case(label, lambda *t: getattr(tc, name)(*t, **options), inputs)


def _pool(name: str, x: Tensor, *args: Any, **options: Any) -> Case:
    words = [f"{k}={v}" for k, v in options.items() if not isinstance(v, Tensor)]
    label = "-".join([name, *map(str, args), *words])

    def run(t: Tensor) -> Tensor:
        tensors = {k: here(v) for k, v in options.items() if isinstance(v, Tensor)}
        out = getattr(tc, name)(t, *args, **options | tensors)
        return out[0] if isinstance(out, tuple) else out

    return Case(label.replace(" ", ""), run, (x,))


def _unpool(name: str, pool: str, x: Tensor) -> Case:
    indices = getattr(tc, pool)(x, 2, return_indices=True)[1]
    values = _uniform(*indices.shape)
    return Case(name, lambda t: getattr(tc, name)(t, here(indices), 2), (values,))


_SAMPLES = torch.rand(2, 2, 3, dtype=torch.float64)

CASES = [
    _conv("conv1d", (2, 4, 7), (6, 2, 3), stride=2, padding=1, groups=2),
    _conv("conv1d", (3, 5), (2, 3, 2), b=False, padding="causal"),
    _conv("conv2d", (2, 2, 5, 4), (4, 1, 3, 2), padding=(1, 0), groups=2),
    _conv("conv2d", (1, 2, 6, 5), (2, 2, 3, 2), stride=(2, 1), dilation=(1, 2)),
    _conv("conv2d", (1, 2, 4, 4), (2, 2, 3, 3), padding=((2, 0), (1, 2))),
    _conv("conv2d", (1, 2, 4, 5), (2, 2, 3, 3), padding=1, padding_mode="reflect"),
    _conv("conv2d", (1, 2, 4, 5), (2, 2, 3, 3), padding=2, padding_mode="circular"),
    _conv("conv2d", (1, 2, 4, 5), (2, 2, 3, 3), padding=2, padding_mode="replicate"),
    _conv("conv2d", (4, 4, 3), (2, 4, 1, 1), b=False),
    _conv("conv2d", (1, 2, 3, 3), (2, 2, 2, 2), padding="full"),
    _conv("conv3d", (1, 2, 3, 4, 3), (2, 1, 2, 3, 2), padding="same", groups=2),
    _conv("conv_transpose1d", (2, 4, 4), (4, 3, 3), stride=2, output_padding=1),
    _conv("conv_transpose2d", (1, 4, 3, 3), (4, 1, 3, 2), groups=2, padding=1),
    _conv("conv_transpose2d", (2, 3, 3), (2, 2, 2, 2), dilation=3, output_padding=2),
    _conv("conv_transpose3d", (1, 2, 2, 2, 3), (2, 2, 2, 2, 2), b=False, stride=2),
    _pool("max_pool1d", _distinct(2, 2, 9), 3, 2, 1),
    _pool("max_pool1d", _distinct(2, 9), 2, return_indices=True),
    _pool("max_pool2d", _distinct(2, 2, 6, 7), 3, 2, 1, ceil_mode=True),
    _pool("max_pool2d", _distinct(1, 2, 7, 7), 3, 1, 1, 2),
    _pool("max_pool2d", _distinct(1, 1, 20, 18), 17, 1),
    _pool("max_pool2d", _distinct(2, 6, 6), (2, 3), return_indices=True),
    _pool("max_pool3d", _distinct(1, 2, 4, 5, 4), 2, 1),
    _pool("max_pool3d", _distinct(1, 2, 4, 4, 4), 2, return_indices=True),
    _pool("adaptive_max_pool1d", _distinct(2, 2, 7), 3),
    _pool("adaptive_max_pool2d", _distinct(2, 2, 5, 7), (3, 4)),
    _pool("adaptive_max_pool2d", _distinct(2, 5, 5), 2, return_indices=True),
    _pool("adaptive_max_pool3d", _distinct(1, 2, 4, 3, 5), (2, None, 3)),
    _pool(
        "fractional_max_pool2d",
        _distinct(2, 2, 6, 6),
        2,
        output_size=3,
        _random_samples=_SAMPLES[..., :2],
    ),
    _pool(
        "fractional_max_pool3d",
        _distinct(2, 2, 5, 5, 5),
        2,
        output_size=3,
        _random_samples=_SAMPLES,
    ),
    _unpool("max_unpool1d", "max_pool1d", _distinct(2, 2, 6)),
    _unpool("max_unpool2d", "max_pool2d", _distinct(2, 2, 6, 4)),
    _unpool("max_unpool3d", "max_pool3d", _distinct(2, 4, 4, 4)),
    _pool("avg_pool1d", _uniform(2, 2, 7), 3, 2, 1),
    _pool("avg_pool2d", _uniform(2, 2, 6, 5), 3, 2, 1, True, False),
    _pool("avg_pool2d", _uniform(2, 6, 5), 2, divisor_override=3),
    _pool("avg_pool3d", _uniform(1, 2, 4, 5, 4), 2, 1, 1, count_include_pad=False),
    _pool("adaptive_avg_pool1d", _uniform(2, 2, 7), 3),
    _pool("adaptive_avg_pool2d", _uniform(2, 2, 5, 7), (3, 4)),
    _pool("adaptive_avg_pool3d", _uniform(1, 2, 4, 3, 5), 2),
    _pool("lp_pool1d", _positive(2, 2, 7), 3, 2),
    _pool("lp_pool1d", _uniform(2, 7), 2, 3, 2, True),
    _pool("lp_pool2d", _positive(2, 2, 5, 5), 1.5, 2),
    _pool("lp_pool2d", _uniform(1, 2, 5, 5), 2, 3, 1),
    _pool("lp_pool2d", _uniform(1, 2, 4, 4), 1, 2),
    _pool("lp_pool2d", _distinct(1, 2, 4, 4), float("inf"), 2),
    _pool("lp_pool3d", _positive(1, 2, 3, 4, 3), 3, 2, 1),
    _pool("unfold", _uniform(2, 2, 5, 4), 2, 1, 1, 2),
    _pool("fold", _uniform(2, 8, 6), (3, 4), 2),
]

each_case = pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
on_every_device = pytest.mark.usefixtures("kernel_device")


def _leaves(case: Case) -> tuple[Tensor, ...]:
    return tuple(here(t.detach().clone()).requires_grad_() for t in case.inputs)


@on_every_device
@each_case
def test_gradcheck(case: Case) -> None:
    assert gradcheck(case.function, _leaves(case), check_batched_grad=True)


@on_every_device
@each_case
def test_gradgradcheck(case: Case) -> None:
    assert gradgradcheck(case.function, _leaves(case))


@on_every_device
@each_case
def test_forward_mode(case: Case) -> None:
    assert gradcheck(
        case.function,
        _leaves(case),
        check_forward_ad=True,
        check_batched_forward_grad=True,
        check_backward_ad=False,
    )


@each_case
def test_forward_over_reverse(case: Case) -> None:
    assert gradgradcheck(
        case.function,
        _leaves(case),
        check_fwd_over_rev=True,
        check_rev_over_rev=False,
        check_undefined_grad=False,
    )


@each_case
def test_torch_func_agrees_with_eager(case: Case) -> None:
    """grad, jacrev and jacfwd of torch.func against backward."""
    leaves = _leaves(case)
    weights = _uniform(*case.function(*leaves).shape)

    def loss(*inputs: Tensor) -> Tensor:
        return (case.function(*inputs) * weights).sum()

    expected = torch.autograd.grad(loss(*leaves), leaves)
    which = tuple(range(len(leaves)))
    for transform in (grad, jacrev, jacfwd):
        found = transform(loss, argnums=which)(*case.inputs)
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)


@on_every_device
@each_case
def test_vmap_agrees_with_a_loop(case: Case) -> None:
    """Every choice of which inputs have the extra dimension."""
    for mask in itertools.product((False, True), repeat=len(case.inputs)):
        if not any(mask):
            continue
        inputs = [here(t) for t in case.inputs]
        stacked = tuple(
            torch.stack([t, t.flip(-1) * 0.5], dim=-1) if m else t
            for t, m in zip(inputs, mask, strict=True)
        )
        in_dims = tuple(-1 if m else None for m in mask)
        found = vmap(case.function, in_dims=in_dims)(*stacked)
        for i in range(2):
            one = [t[..., i] if m else t for t, m in zip(stacked, mask, strict=True)]
            torch.testing.assert_close(found[i], case.function(*one))


def test_hessian_of_a_network() -> None:
    """Reverse over forward, through convolution and pooling together."""
    x = _uniform(1, 2, 6, 6)
    w = _uniform(2, 2, 3, 3)

    def loss(w: Tensor, functional: Any) -> Tensor:
        y = functional.conv2d(x, w, padding=1).tanh()
        y = functional.max_pool2d(y, 2)
        y = functional.conv_transpose2d(y, w, stride=2)
        return functional.avg_pool2d(y, 2).square().sum()

    found = hessian(lambda w: loss(w, tc))(w)
    expected = hessian(lambda w: loss(w, torch.nn.functional))(w)
    torch.testing.assert_close(found, expected)


def test_jvp_of_a_bias() -> None:
    """A tangent of the bias alone."""
    x, w, b = _uniform(2, 2, 4, 4), _uniform(3, 2, 3, 3), _uniform(3)
    _, tangent = jvp(lambda b: tc.conv2d(x, w, b), (b,), (b,))
    torch.testing.assert_close(tangent, b.view(1, 3, 1, 1).expand(2, 3, 2, 2))


def test_per_sample_gradients() -> None:
    x, w = _uniform(5, 2, 6, 6), _uniform(3, 2, 3, 3)

    def loss(w: Tensor, sample: Tensor) -> Tensor:
        return tc.conv2d(sample, w, padding=1).square().sum()

    found = vmap(grad(loss), in_dims=(None, 0))(w, x)
    for i in range(5):
        torch.testing.assert_close(found[i], grad(loss)(w, x[i]))


def test_complex_convolution() -> None:
    generator = torch.Generator().manual_seed(0)

    def values(*size: int) -> Tensor:
        return torch.randn(
            *size, dtype=torch.complex128, generator=generator
        ).requires_grad_()

    for name in ("conv2d", "conv_transpose2d"):
        function = getattr(tc, name)
        inputs = (values(1, 2, 3, 2), values(2, 1, 2, 2), values(2))

        def run(*t: Tensor, function: Any = function) -> Tensor:
            return function(*t, groups=2)

        assert gradcheck(run, inputs)
        assert gradgradcheck(run, inputs)


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_only_wanted_gradients_are_computed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the three gradients by itself calls the one operator it needs."""
    called: list[str] = []
    passes = ("conv_forward", "conv_input_grad", "conv_weight_grad", "channel_sum")
    for op in passes:
        original = getattr(rules, op)

        def record(*args: Any, op: str = op, original: Any = original) -> Tensor:
            called.append(op)
            return original(*args)

        monkeypatch.setattr(rules, op, record)
    back = "conv_forward" if "transpose" in name else "conv_input_grad"
    for wanted, expected in enumerate((back, "conv_weight_grad", "channel_sum")):
        tensors = [_uniform(1, 3, 5, 5), _uniform(3, 3, 3, 3), _uniform(3)]
        tensors[wanted].requires_grad_()
        y = getattr(tc, name)(*tensors)
        called.clear()
        y.sum().backward()
        assert called == [expected]


def test_backward_keeps_no_tensor_it_does_not_need() -> None:
    """A frozen layer keeps its weight, a first layer its input, and not both."""
    x, w = _uniform(1, 2, 5, 5), _uniform(3, 2, 3, 3)
    kept: list[Tensor] = []

    def keep(t: Tensor) -> Tensor:
        kept.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        tc.conv2d(x, w.clone().requires_grad_())
        assert [t.shape for t in kept] == [x.shape]
        kept.clear()
        tc.conv2d(x.clone().requires_grad_(), w)
        assert [t.shape for t in kept] == [w.shape]


def test_max_pooling_keeps_small_codes() -> None:
    """One byte per output, no int64 indices and no copy of the input."""
    kept: list[Tensor] = []

    def keep(t: Tensor) -> Tensor:
        kept.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        tc.max_pool2d(_distinct(1, 2, 8, 8).requires_grad_(), 2)
    assert [(t.dtype, t.shape) for t in kept] == [(torch.uint8, (1, 2, 4, 4))]


@on_every_device
@each_case
def test_gradient_of_a_sum(case: Case) -> None:
    """sum() passes back an expanded tensor of strides 0."""
    leaves = _leaves(case)
    out = case.function(*leaves)
    found = torch.autograd.grad(out.sum(), leaves)
    expected = torch.autograd.grad(case.function(*leaves), leaves, torch.ones_like(out))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, check_stride=True)


def test_lp_pool_of_zeros_has_gradient_zero() -> None:
    """Where torch's composition gives NaN."""
    x = torch.zeros(1, 1, 4, 4, dtype=torch.float64)
    x[..., :2, :2] = 1
    x.requires_grad_()
    (found,) = torch.autograd.grad(tc.lp_pool2d(x, 2, 2).sum(), x)
    expected = torch.zeros_like(x)
    expected[..., :2, :2] = 0.5
    torch.testing.assert_close(found, expected)


def test_gradient_checkpoint_and_retained_graph() -> None:
    x = _uniform(1, 2, 6, 6).requires_grad_()
    w = _uniform(2, 2, 3, 3).requires_grad_()

    def block(x: Tensor) -> Tensor:
        return tc.max_pool2d(tc.conv2d(x, w, padding=1), 2)

    plain = torch.autograd.grad(block(x).sum(), (x, w))
    y = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False)
    for _ in range(2):
        again = torch.autograd.grad(y.sum(), (x, w), retain_graph=True)
        for a, b in zip(again, plain, strict=True):
            torch.testing.assert_close(a, b)


def test_forward_ad_level_without_torch_func() -> None:
    x, t = _uniform(1, 1, 4, 4), _uniform(1, 1, 4, 4)
    w = _uniform(1, 1, 3, 3)
    with forward_ad.dual_level():
        y = tc.conv2d(forward_ad.make_dual(x, t), w)
        tangent = forward_ad.unpack_dual(y).tangent
    torch.testing.assert_close(tangent, tc.conv2d(t, w))


def test_a_changed_weight_is_noticed() -> None:
    """Saved tensors are saved as autograd's, with its version check."""
    x = _uniform(1, 1, 4, 4).requires_grad_()
    w = _uniform(1, 1, 3, 3)
    y = tc.conv2d(x, w)
    w.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("leaf", [True, False])
def test_gradients_left_out_of_autograd_grad_are_not_computed(
    leaf: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    for name in ("conv_input_grad", "conv_weight_grad", "channel_sum"):
        function = getattr(rules, name)

        def run(*inputs: Any, function: Any = function, name: str = name) -> Any:
            ran.append(name)
            return function(*inputs)

        monkeypatch.setattr(rules, name, run)
    sizes = (1, 64, 4000), (64, 64, 9), (64,)  # large enough to be asked about
    x, w, b = (torch.randn(s, requires_grad=True) for s in sizes)
    x, w, b = (t if leaf else t * 1 for t in (x, w, b))
    wanted = {"conv_input_grad": x, "conv_weight_grad": w, "channel_sum": b}
    for bias in (b, None):
        y = tc.conv1d(x, w, bias)
        for name, t in wanted.items():
            if t is b and bias is None:
                continue
            ran.clear()
            torch.autograd.grad(y.sum(), t, retain_graph=True)
            assert ran == [name]
    ran.clear()
    y.sum().backward()
    assert ran == ["conv_input_grad", "conv_weight_grad"]


def test_backward_of_a_node_run_by_hand() -> None:
    sizes = (1, 64, 4000), (64, 64, 9), (64,)  # large enough to be asked about
    x, w, b = (torch.randn(s, requires_grad=True) for s in sizes)
    y, found = tc.conv1d(x, w, b), []
    node: Any = y.grad_fn
    z = torch.randn(3, requires_grad=True)
    u = z * 2
    u.register_hook(lambda grad: found.extend(node.apply(torch.ones_like(y))[:3]))
    u.sum().backward()
    assert [g.shape for g in found] == [x.shape, w.shape, b.shape]
