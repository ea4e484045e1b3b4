"""Bad arguments: the error torch raises, a message that names the argument, no crash."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing._internal.common_methods_invocations import op_db

import torchconv
import torchconv.functional as tc

X1, X2, X3 = torch.ones(2, 4, 8), torch.ones(2, 4, 8, 8), torch.ones(2, 4, 8, 8, 8)
INPUTS = {1: X1, 2: X2, 3: X3}
W2, W2T = torch.ones(6, 4, 3, 3), torch.ones(4, 6, 3, 3)


def _raises(
    name: str, args: tuple[Any, ...], options: dict[str, Any], pattern: str
) -> None:
    """torchconv raises what torch raises, with a message that matches."""
    try:
        getattr(torch.nn.functional, name)(*args, **options)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        # For a dtype without a kernel, torch raises a subclass of RuntimeError.
        kind = RuntimeError if isinstance(error, RuntimeError) else type(error)
    else:
        pytest.fail("torch takes these arguments")
    with pytest.raises(kind) as info:
        getattr(tc, name)(*args, **options)
    assert type(info.value) is kind
    assert re.search(pattern, str(info.value)), str(info.value)


CONV_ERRORS: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((X2[0, 0], W2), {}, r"Expected 3D \(unbatched\) or 4D .* conv2d.*\[8, 8\]"),
    ((X3, W2), {}, r"Expected 3D .* got input of size: \[2, 4, 8, 8, 8\]"),
    ((X2, W2[0]), {}, r"3-dimensional weight \[4, 3, 3\]"),
    ((X2, W2[0, 0]), {}, r"at least three dimensions.*\[3, 3\]"),
    ((X2, W2[:, :3]), {}, r"expected input\[2, 4, 8, 8\] to have 3 channels"),
    ((X2, W2), {"groups": 4}, r"groups=4.*divisible by 4 at dimension 0"),
    ((X2, W2), {"groups": 2}, r"groups=2.*to have 8 channels, but got 4"),
    ((X2, W2), {"groups": 0}, r"non-positive groups.*groups=0"),
    ((X2, W2), {"groups": -2}, r"non-positive groups.*groups=-2"),
    ((X2, W2), {"stride": 0}, r"non-positive stride.*\[0, 0\]"),
    ((X2, W2), {"stride": (1, -1)}, r"non-positive stride.*\[1, -1\]"),
    ((X2, W2), {"stride": (1, 1, 1)}, r"stride.*list of 2 values.*\[1, 1, 1\]"),
    ((X2, W2), {"dilation": 0}, r"dilation should be greater than zero.*\[0, 0\]"),
    ((X2, W2), {"dilation": (1, 2, 3)}, r"dilation.*list of 2 values"),
    ((X2, W2), {"padding": -1}, r"negative padding.*-1"),
    ((X2, W2), {"padding": (0, -2)}, r"negative padding.*\(0, -2\)"),
    ((X2, W2), {"padding": (1, 1, 1)}, r"padding.*list of 2 values"),
    ((X2, W2), {"padding": "some"}, r"Invalid padding string: 'some'"),
    ((X2, W2), {"padding": "same", "stride": 2}, r"padding='same' is not supported"),
    ((X2[..., :2], W2), {}, r"padded input size per channel: \(8 x 2\).*\(3 x 3\)"),
    ((X2, W2), {"dilation": 4}, r"Kernel size: \(9 x 9\)"),
    ((X2, W2[..., :0]), {}, r"kernel size should be greater than zero"),
    ((X2[:, :, :0], W2[..., :1, :1]), {"padding": 1}, r"input shape: \[2, 4, 0, 8\]"),
    ((X2, W2, torch.ones(5)), {}, r"1-dimensional with 6 elements.*size \[5\]"),
    ((X2, W2, torch.ones(6, 1)), {}, r"1-dimensional with 6 elements.*\[6, 1\]"),
    ((X2, W2.double()), {}, r"float32.*weight.*float64.*should be the same"),
    ((X2, W2, torch.ones(6).half()), {}, r"float32.*bias.*float16.*should be the same"),
    ((X2 > 0, W2 > 0), {}, r"\"conv2d\" not implemented for torch.bool"),
    ((X2, W2), {"stride": 1.5}, r"'stride'.*1.5"),
    ((X2, W2), {"padding": 0.5}, r"'padding'.*0.5"),
    ((X2, W2), {"stride": None}, r"'stride'.*None"),
    ((X2, W2), {"groups": "2"}, r"'groups'.*'2'"),
    (([1.0], W2), {}, r"'input' must be Tensor, not list"),
    ((X2, None), {}, r"'weight' must be Tensor, not NoneType"),
]

TRANSPOSE_ERRORS: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
    ((X2[0, 0], W2T), {}, r"Expected 3D .* conv_transpose2d"),
    ((X2[:, :3], W2T), {}, r"transposed=1.*to have 4 channels, but got 3"),
    ((X2, W2T, torch.ones(4)), {}, r"1-dimensional with 6 elements"),
    ((X2[:, :3], W2T[:3]), {"groups": 2}, r"divisible by 2 at dimension 0"),
    ((X2, W2T), {"output_padding": 1}, r"output padding must be smaller.*\[1, 1\]"),
    ((X2, W2T), {"output_padding": 2, "stride": 2}, r"output padding must be smaller"),
    ((X2, W2T), {"output_padding": -1}, r"negative output_padding.*-1"),
    ((X2, W2T), {"padding": -1}, r"negative padding"),
    ((X2, W2T), {"padding": "same"}, r"'padding'.*'same'"),
    ((X2[..., :1, :1], W2T), {"padding": 2}, r"output size per channel: \(-1 x -1\)"),
    ((X2, W2T), {"stride": 0}, r"non-positive stride"),
    ((X2, W2T.double()), {}, r"weight type.*should be the same"),
]


@pytest.mark.parametrize(("args", "options", "pattern"), CONV_ERRORS)
def test_conv(args: Any, options: Any, pattern: str) -> None:
    _raises("conv2d", args, options, pattern)


@pytest.mark.parametrize(("args", "options", "pattern"), TRANSPOSE_ERRORS)
def test_conv_transpose(args: Any, options: Any, pattern: str) -> None:
    _raises("conv_transpose2d", args, options, pattern)


POOL_ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"kernel_size": 0}, r"kernel.size.*greater than zero.*0"),
    ({"kernel_size": -2}, r"kernel.size.*greater than zero.*-2"),
    ({"kernel_size": 2, "stride": 0}, r"stride.*greater than zero.*0"),
    ({"kernel_size": 2, "stride": -1}, r"stride.*greater than zero.*-1"),
    ({"kernel_size": 9}, r"output size|smaller than kernel size"),
    ({"kernel_size": (2, 2, 2, 2)}, r"kernel_size.*\[2, 2, 2, 2\]"),
    ({"kernel_size": 2, "stride": (1, 1, 1, 1)}, r"stride.*\[1, 1, 1, 1\]"),
    ({"kernel_size": 2.5}, r"'kernel_size'.*2.5"),
    ({"kernel_size": None}, r"'kernel_size'.*None"),
    ({"kernel_size": 2, "padding": -1}, r"non-negative.*-1"),
    ({"kernel_size": 3, "padding": 2}, r"at most half.*2.*3"),
    ({"kernel_size": 3, "padding": "same"}, r"'padding'.*'same'"),
]


@pytest.mark.parametrize("nd", [1, 2, 3])
@pytest.mark.parametrize("kind", ["max_pool", "avg_pool"])
@pytest.mark.parametrize(("options", "pattern"), POOL_ERRORS)
def test_pool(nd: int, kind: str, options: Any, pattern: str) -> None:
    _raises(f"{kind}{nd}d", (INPUTS[nd],), options, pattern)


@pytest.mark.parametrize("nd", [1, 2, 3])
def test_pool_inputs(nd: int) -> None:
    x = INPUTS[nd]
    for kind in ("max_pool", "avg_pool"):
        name, size = f"{kind}{nd}d", list(x.shape)
        for bad in (x[:, 0] if nd == 1 else x[0, 0], x[None], x[:, :0], x[..., :0]):
            if nd == 1 and bad.dim() == 2:
                bad = x[0, 0]
            _raises(name, (bad, 1), {}, r"\[.*\]")
        _raises(name, (x > 0, 1), {}, f'"{name}" not implemented for torch.bool')
        assert getattr(tc, name)(x[:0], 1).shape == (0, *size[1:])


@pytest.mark.parametrize("nd", [1, 2, 3])
def test_max_pool_dilation(nd: int) -> None:
    for dilation in (0, -1):
        _raises(
            f"max_pool{nd}d",
            (INPUTS[nd], 2),
            {"dilation": dilation},
            rf"dilation.*greater than zero.*{dilation}",
        )


def test_divisor_zero() -> None:
    _raises("avg_pool2d", (X2, 2), {"divisor_override": 0}, "divisor must be not zero")
    _raises("avg_pool3d", (X3, 2), {"divisor_override": 0}, "divisor must be not zero")


@pytest.mark.parametrize("nd", [1, 2, 3])
@pytest.mark.parametrize("kind", ["adaptive_max_pool", "adaptive_avg_pool"])
def test_adaptive(nd: int, kind: str) -> None:
    name, x = f"{kind}{nd}d", INPUTS[nd]
    _raises(name, (x, -1), {}, "output_size.*-1|-1.*output_size|received.*-1")
    _raises(name, (x, (2,) * (nd + 1)), {}, r"output_size")
    _raises(name, (x, 2.5), {}, r"output_size.*2.5")
    _raises(name, (x[None], 2), {}, r"\[1, 2, 4, 8")
    _raises(name, (x[..., :0], 2), {}, "non-zero")
    _raises(name, (x.int(), 2), {}, "not implemented for torch.int32")


@pytest.mark.parametrize("nd", [1, 2, 3])
def test_unpool(nd: int) -> None:
    name = f"max_unpool{nd}d"
    size = (2, 3, *(2,) * nd)
    x, i = torch.ones(size), torch.zeros(size, dtype=torch.long)
    _raises(name, (x, i.int(), 2), {}, "type int64.*int32")
    _raises(name, (x, i[:1], 2), {}, r"shape of indices.*\[2, 3.*\[1, 3")
    _raises(name, (x, i, 2), {"output_size": (9,) * nd}, "between 2 and 6")
    _raises(name, (x, i, 2), {"output_size": (4,) * (nd + 3)}, f"{nd} or {nd + 2}")
    _raises(name, (x, i, 2), {"padding": 3}, r"non-negative.*output_size\[0\]=-2")
    _raises(name, (x[0, 0], i[0, 0], 2), {}, f"{nd + 1}d or {nd + 2}d")
    for wrong in (4**nd, -1, 2**40):
        bad = i.clone()
        bad[1, 2] = wrong
        _raises(name, (x, bad, 2), {}, f"{wrong}.*{'x'.join(['4'] * nd)}")


@pytest.mark.parametrize("nd", [2, 3])
def test_fractional(nd: int) -> None:
    name, x = f"fractional_max_pool{nd}d", INPUTS[nd]
    samples = torch.rand(2, 4, nd)
    _raises(name, (x, 2), {}, "either an output_size or an output_ratio")
    _raises(name, (x, 2), {"output_size": 8}, "kernel_size=2.*output_size=8.*too large")
    _raises(name, (x, 9), {"output_size": 2}, "kernel_size=9.*too large")
    _raises(name, (x, 2), {"output_size": -1}, "negative dimension.*-1")
    _raises(name, (x[0, 0], 2), {"output_size": 2}, r"\[8, 8")
    for bad, pattern in (
        (samples.double(), "same dtype"),
        (samples[:1], r"size\(0\)"),
        (samples[:, :1], r"size\(1\)"),
        (samples[..., :1], r"size\(2\)"),
        (samples[0], "3 dimensions"),
    ):
        options = {"output_size": 3, "_random_samples": bad}
        _raises(name, (x, 2), options, pattern)


FOLD_ERRORS: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("unfold", (X2, 0), {}, r"kernel size.*\[0, 0\]"),
    ("unfold", (X2, 3), {"dilation": 0}, r"dilation.*\[0, 0\]"),
    ("unfold", (X2, 3), {"stride": 0}, r"stride.*\[0, 0\]"),
    ("unfold", (X2, 3), {"padding": -1}, r"padding.*\[-1, -1\]"),
    ("unfold", (X2, 9), {}, r"kernel_size=\(9, 9\).*at least one"),
    ("unfold", (X2, (3, 3, 3)), {}, r"kernel_size equals to 2.*3"),
    ("unfold", (X2[0, 0], 3), {}, r"\[8, 8\]"),
    ("unfold", (X3, 3), {}, r"\[2, 4, 8, 8, 8\]"),
    ("unfold", (X2[:, :0], 3), {}, r"\[2, 0, 8, 8\]"),
    ("unfold", (X2.int(), 3), {}, "not implemented for torch.int32"),
    ("fold", (torch.ones(2, 26, 36), 8, 3), {}, r"input.size\(1\)=26"),
    ("fold", (torch.ones(2, 27, 35), 8, 3), {}, r"6 \* 6 = 36.*=35"),
    ("fold", (torch.ones(2, 27, 36), 0, 3), {}, r"output_size=\(0, 0\)"),
    ("fold", (torch.ones(2, 27, 36), 2, 3), {}, r"output_size=\(2, 2\)"),
    ("fold", (torch.ones(2, 27, 36), (8, 8, 8), 3), {}, "output_size equals to 2"),
    ("fold", (torch.ones(27), 8, 3), {}, r"\[27\]"),
    ("fold", (torch.ones(2, 0, 36), 8, 3), {}, r"\[2, 0, 36\]"),
]


@pytest.mark.parametrize(("name", "args", "options", "pattern"), FOLD_ERRORS)
def test_fold(name: str, args: Any, options: Any, pattern: str) -> None:
    _raises(name, args, options, pattern)


# What torch has no counterpart for.


def test_padding_modes() -> None:
    with pytest.raises(ValueError, match=r"padding_mode.*'mirror'"):
        tc.conv2d(X2, W2, padding_mode="mirror")
    with pytest.raises(RuntimeError, match=r"less than .* \(8, 8\) at dimension 2"):
        tc.conv2d(X2, W2, padding=8, padding_mode="reflect")
    with pytest.raises(RuntimeError, match=r"wrapping around .* \(9, 9\)"):
        tc.conv2d(X2, W2, padding=9, padding_mode="circular")
    with pytest.raises(
        RuntimeError, match=r"pair for each of the 2 .* \(\(1, 1\),\)|1"
    ):
        tc.conv2d(X2, W2, padding=((1, 1),))


def test_algorithms() -> None:
    message = "unknown algorithm 'fft'; known algorithms: 'auto', .*'direct'.*'im2col'"
    with pytest.raises(ValueError, match=message):
        tc.conv2d(X2, W2, algorithm="fft")
    with pytest.raises(ValueError, match=message), torchconv.algorithm("fft"):
        pass
    with pytest.raises(ValueError, match="unknown algorithm"):
        torchconv.algorithm(None).__enter__()  # type: ignore[arg-type]


def test_devices() -> None:
    with pytest.raises(RuntimeError, match=r"weight device .meta. should be the same"):
        tc.conv2d(X2, W2.to("meta"))
    with pytest.raises(RuntimeError, match=r"bias device .meta. should be the same"):
        tc.conv2d(X2, W2, torch.empty(6, device="meta"))
    i = torch.empty(2, 4, 8, 8, dtype=torch.long, device="meta")
    with pytest.raises(RuntimeError, match=r"indices .*meta"):
        tc.max_unpool2d(X2, i, 2)


@pytest.mark.parametrize("device", ["mps", "xpu"])
def test_unsupported_devices(device: str) -> None:
    """No such device is needed to ask: the checks see sizes, dtypes and devices."""
    from torchconv._conv_args import Spec, conv_plan
    from torchconv._pool_args import max_pool_plan

    def spec(t: Tensor) -> Spec:
        return Spec(t.shape, t.stride(), t.dtype, torch.device(device))

    message = f"supports tensors on cpu and cuda, but input is on {device}"
    with pytest.raises(RuntimeError, match=message):
        conv_plan("conv2d", 2, spec(X2), spec(W2), None, 1, 0, 1, 1, "zeros", "auto")
    with pytest.raises(RuntimeError, match=message):
        max_pool_plan("max_pool2d", 2, spec(X2), 2, None, 0, 1, False)


def test_the_same_error_again() -> None:
    """Refused arguments are not remembered as good ones, nor as anything else."""
    for _ in range(3):
        with pytest.raises(RuntimeError, match="to have 3 channels"):
            tc.conv2d(X2, W2[:, :3])
        with pytest.raises(TypeError, match=r"'stride'.*1.0"):
            tc.conv2d(X2, W2, stride=1.0)  # type: ignore[arg-type]
        assert tc.conv2d(X2, W2, stride=1).shape == (2, 6, 6, 6)


def test_errors_leave_no_cause_behind() -> None:
    """A list of wrong values is refused once, not while handling another error."""
    with pytest.raises(TypeError) as info:
        tc.conv2d(X2, W2, stride=[1.5, 1])  # type: ignore[list-item]
    assert info.value.__context__ is None or info.value.__suppress_context__


OPINFOS = [
    op
    for op in op_db
    if op.error_inputs_func is not None
    and not op.variant_test_name
    and hasattr(tc, op.name.removeprefix("nn.functional."))
]


@pytest.mark.parametrize("op", OPINFOS, ids=lambda op: op.name)
def test_pytorchs_own_error_inputs(op: Any) -> None:
    """What PyTorch's tests say must be refused, with the error and words they expect."""
    function = getattr(tc, op.name.removeprefix("nn.functional."))
    for case in op.error_inputs("cpu"):
        sample = case.sample_input
        with pytest.raises(case.error_type, match=case.error_regex):
            function(sample.input, *sample.args, **sample.kwargs)


def test_there_are_error_inputs() -> None:
    assert len(OPINFOS) >= 15


def test_strides_and_padding_beyond_everything() -> None:
    """One output, gradients in no time; what would overflow is refused."""
    x = torch.ones(1, 1, 8, requires_grad=True)
    y = tc.conv1d(x, torch.ones(1, 1, 3), stride=2**40)
    y.sum().backward()
    assert y.shape == (1, 1, 1)
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [1, 1, 1, 0, 0, 0, 0, 0]
    with pytest.raises(RuntimeError, match="padding"):
        tc.conv1d(torch.ones(1, 1, 4), torch.ones(1, 1, 1), padding=2**62)
