"""PyTorch's own sample inputs and error inputs of this family, run through torchconv.

`torch.testing._internal.common_methods_invocations.op_db` is what PyTorch tests its
operators with. All samples of all dtypes that its CPU operators take are compared with
torch, strides and gradients included; bad arguments must raise the error torch raises.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from common import each_isa, ops, seeded
from torch import Tensor
from torch.testing._internal.common_methods_invocations import op_db

from torchconv import functional as TF

FAMILY = re.compile(
    r"nn\.functional\.(conv\w*|\w*_pool[123]d|max_unpool[123]d|unfold|fold)"
    r"|max_pool2d_with_indices_backward"
)
OPS = [op for op in op_db if FAMILY.fullmatch(op.name)]
NARROW = (torch.float16, torch.bfloat16)

# Error inputs whose message here is another than torch's: why.
OTHER_MESSAGE = {
    # torch says "internal error" of a missing output_size; torchconv names it.
    ("nn.functional.adaptive_max_pool2d", "internal error"): "output_size",
    ("nn.functional.adaptive_max_pool3d", "internal error"): "output_size",
    # torch has computed the output's size and fails to allocate; torchconv looks first.
    **{
        (
            f"nn.functional.adaptive_max_pool{nd}d",
            "Trying to create tensor with negative dimension",
        ): "output_size"
        for nd in (1, 2, 3)
    },
}


def label(op: Any) -> str:
    return op.name.replace("nn.functional.", "") + op.variant_test_name


def by_dtype() -> list[Any]:
    return [
        pytest.param(op, dtype, id=f"{label(op)}-{str(dtype)[6:]}")
        for op in OPS
        for dtype in sorted(op.dtypes, key=str)
    ]


def scatter_of_ones(
    x: Tensor, kernel_size: Any, stride: Any = None, **options: Any
) -> Tensor:
    """What op_db's max_pool2d_with_indices_backward computes: the gradient of the sum of
    a max pooling, here by the operator that every max pooling's gradient uses."""
    options.pop("return_indices", None)
    y, index = TF.max_pool2d(
        x, kernel_size, stride or None, **options, return_indices=True
    )
    grad, index, size = (
        (torch.ones_like(y), index, x.shape)
        if x.dim() == 4
        else (torch.ones_like(y)[None], index[None], (1, *x.shape))
    )
    window = ([1, 1], [1, 1], [0, 0], [1, 1])  # of no consequence for flat indices
    return ops.pool_scatter(grad, index, size, *window, False).reshape(x.shape)


def ours(op: Any) -> Any:
    """torchconv's function of the same name."""
    if op.name == "max_pool2d_with_indices_backward":
        return scatter_of_ones
    return getattr(TF, op.name.removeprefix("nn.functional."))


def run(function: Any, sample: Any) -> tuple[Tensor, ...]:
    """The function's results. op_db's own wrapper of those that draw random numbers sets
    this seed."""
    torch.default_generator.manual_seed(42)
    result = function(sample.input, *sample.args, **sample.kwargs)
    return result if isinstance(result, tuple) else (result,)


def leaves(sample: Any) -> list[Tensor]:
    found = [sample.input, *sample.args, *sample.kwargs.values()]
    return [t for t in found if isinstance(t, Tensor) and t.requires_grad]


def close(actual: Tensor, expected: Tensor) -> None:
    """Within what two orders of addition may differ by, relative to the largest value;
    for half types, which torch also rounds on the way, within a few of their units."""
    options: dict[str, Any] = {}
    if expected.numel() and (expected.is_floating_point() or expected.is_complex()):
        eps = torch.finfo(expected.dtype).eps
        top = float(expected.detach().abs().nan_to_num(0, 0, 0).amax())
        factor = 4 if expected.dtype in NARROW else 64
        options = {"rtol": factor * eps, "atol": factor * eps * top}
    torch.testing.assert_close(actual, expected, equal_nan=True, **options)


def compare(op: Any, sample: Any, number: int, gradients: bool) -> None:
    expected, found = run(op.op, sample), run(ours(op), sample)
    assert len(found) == len(expected)
    for a, e in zip(found, expected, strict=True):
        close(a, e)
        if op.name != "max_pool2d_with_indices_backward":
            assert a.stride() == e.stride() or a.numel() == 0, "strides"
    inputs = leaves(sample)
    if not (gradients and inputs and expected[0].requires_grad):
        return
    assert found[0].requires_grad
    size, dtype = expected[0].shape, expected[0].dtype
    grad = torch.randn(size, generator=seeded(number)).to(dtype)
    wanted = torch.autograd.grad(expected[0], inputs, grad, allow_unused=True)
    given = torch.autograd.grad(found[0], inputs, grad, allow_unused=True)
    for a, e in zip(given, wanted, strict=True):
        assert (a is None) == (e is None), "a gradient is missing"
        if e is not None:
            close(a, e)


@pytest.mark.parametrize(("op", "dtype"), by_dtype())
def test_samples(op: Any, dtype: torch.dtype) -> None:
    """Every sample; every gradient too in float32, in the other dtypes those of one
    sample in five where there are hundreds."""
    with_grad = op.supports_autograd and (dtype.is_floating_point or dtype.is_complex)
    # The gradient of the pooling's gradient in the pooling's input is zero in torch.
    with_grad &= op.name != "max_pool2d_with_indices_backward"
    samples = list(op.reference_inputs("cpu", dtype, requires_grad=with_grad))
    assert samples
    every = 1 if dtype == torch.float32 or len(samples) < 100 else 5
    for number, sample in enumerate(samples):
        try:
            compare(op, sample, number, gradients=number % every == 0)
        except Exception as error:
            raise AssertionError(f"sample {number}, {sample.summary()}") from error


@pytest.mark.parametrize("op", OPS, ids=label)
def test_samples_on_every_instruction_set(op: Any) -> None:
    """The float32 samples again, without gradients."""
    for number, sample in enumerate(op.sample_inputs("cpu", torch.float32)):
        if number % 7:  # one in seven; the parity tests run all of theirs
            continue
        expected = run(op.op, sample)
        for isa in each_isa():
            for a, e in zip(run(ours(op), sample), expected, strict=True):
                try:
                    close(a, e)
                except AssertionError as error:
                    raise AssertionError(f"{isa}, {sample.summary()}") from error


def errors() -> list[Any]:
    return [
        pytest.param(op, error, id=f"{label(op)}-{number}")
        for op in OPS
        if op.error_inputs_func is not None
        for number, error in enumerate(op.error_inputs("cpu"))
    ]


@pytest.mark.parametrize(("op", "error"), errors())
def test_errors(op: Any, error: Any) -> None:
    sample = error.sample_input
    message = OTHER_MESSAGE.get((op.name, error.error_regex), error.error_regex)
    with pytest.raises(error.error_type, match=error.error_regex):
        run(op.op, sample)
    with pytest.raises(error.error_type, match=message) as raised:
        run(ours(op), sample)
    assert raised.type is error.error_type


def test_the_whole_family_is_here() -> None:
    """A renamed entry of op_db would silently leave the tests."""
    names = {op.name.removeprefix("nn.functional.") for op in OPS}
    ranks = ("1d", "2d", "3d")
    expected = {
        f"{kind}{rank}"
        for kind in (
            "conv",
            "conv_transpose",
            "max_pool",
            "avg_pool",
            "adaptive_max_pool",
            "adaptive_avg_pool",
            "max_unpool",
        )
        for rank in ranks
    }
    expected |= {"fractional_max_pool2d", "fractional_max_pool3d", "unfold"}
    assert expected <= names
