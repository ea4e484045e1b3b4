"""What the test files share: inputs, torch's answers, comparisons, forced variants."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))

from shapes import Conv, ConvTranspose, Pool
from torch.nn import functional as F

from torchconv._extension import binary

ops = torch.ops.torchconv

# By which a convolution can be forced, from the CPU's table. Those that transform
# their operands round even where the operands are whole numbers; "auto" may lead to them.
ROUNDING = ("winograd",)
ALGORITHMS = (
    "auto-exact",
    *(name for name in binary().conv_algorithms() if name not in ROUNDING),
)
EVERY = ("auto", *ALGORITHMS, *ROUNDING)
COMPLETE = ("auto", "auto-exact", "direct", "im2col")  # take every problem

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
COMPLEX = (torch.complex64, torch.complex128)
REAL_CONV_DTYPES = (*FLOATS, torch.int64)

# torch.nn.functional.pad's names of the padding modes.
PAD_MODES = {"zeros": "constant"} | {m: m for m in ("reflect", "replicate", "circular")}


# Where operators compute; see computing_on.
_device = "cpu"


@contextmanager
def computing_on(device: str) -> Iterator[None]:
    """Operators compute on a device inside the block: "cpu", "cuda", or "cuda-on-cpu",
    the CUDA kernels on CPU tensors. Tensors are made there unless a device is named."""
    global _device
    before = _device
    _device = device
    try:
        if device == "cuda-on-cpu":
            from cuda_on_cpu import library

            with library.switched_on():
                yield
        elif device == "cuda":
            with torch.device("cuda"):
                yield
        else:
            yield
    finally:
        _device = before


def here(x: Tensor) -> Tensor:
    """A CPU tensor, on the device that operators compute on."""
    return x.cuda() if _device == "cuda" else x


def on_cuda() -> bool:
    """Whether operators compute on a GPU."""
    return _device == "cuda"


class _Oracle:
    """torch.nn.functional, computed by torch's CPU kernels also for CUDA tensors: they
    take more dtypes, and cuDNN's rounding is not what is tested."""

    def __getattr__(self, name: str) -> Any:
        function = getattr(F, name)
        if not on_cuda():
            return function

        def moved(value: Any, device: str) -> Any:
            if isinstance(value, tuple):
                return tuple(moved(v, device) for v in value)
            return value.to(device) if isinstance(value, Tensor) else value

        def run(*args: Any, **options: Any) -> Any:
            with torch.device("cpu"):
                found = function(
                    *moved(args, "cpu"),
                    **{k: moved(v, "cpu") for k, v in options.items()},
                )
            return moved(found, "cuda")

        return run


oracle = _Oracle()


def examples(count: int) -> Any:
    """How many examples hypothesis draws; a search for new ones draws more."""
    from hypothesis import settings

    searching = os.environ.get("HYPOTHESIS_PROFILE") == "search"
    return settings(max_examples=count * (20 if searching else 1))


def seeded(*key: object) -> torch.Generator:
    """A generator whose numbers depend on the key alone."""
    number = 0
    for letter in repr(key):
        number = (number * 131 + ord(letter)) % (2**31 - 1)
    return torch.Generator("cpu").manual_seed(number)


def whole(
    size: Sequence[int], dtype: torch.dtype, *key: object, top: int = 2
) -> Tensor:
    """Small whole numbers: their sums of products are exact in every dtype, whatever
    the order of addition, so that results can be compared bit by bit."""
    g = seeded(size, *key)

    def draw(low: int) -> Tensor:
        x = torch.randint(low, top + 1, tuple(size), generator=g, device="cpu")
        return here(x)

    if dtype.is_complex:
        part = torch.float32 if dtype == torch.complex64 else torch.float64
        return torch.complex(draw(-top).to(part), draw(-top).to(part))
    return draw(-top if dtype.is_signed and dtype != torch.bool else 0).to(dtype)


def normal(size: Sequence[int], dtype: torch.dtype, *key: object) -> Tensor:
    """Normal numbers, rounded to the dtype."""
    wide = torch.complex128 if dtype.is_complex else torch.float64
    g = seeded(size, *key)
    x = here(torch.randn(tuple(size), generator=g, dtype=wide, device="cpu"))
    return (
        x.to(dtype)
        if dtype.is_floating_point or dtype.is_complex
        else (4 * x).to(dtype)
    )


def wide(x: Tensor | None) -> Tensor | None:
    """The tensor in the dtype its oracle computes in."""
    if x is None:
        return None
    if x.dtype.is_complex:
        return x.detach().to(torch.complex128)
    return x.detach().to(torch.float64)


# -- torch's answers ----------------------------------------------------------------


def per_rank(name: str, nd: int, module: Any) -> Any:
    """For example F.conv2d, for ("conv", 2, F)."""
    return getattr(module, f"{name}{nd}d")


def torch_conv(
    problem: Conv, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """The convolution by torch alone: padded with torch's pad, then convolved."""
    flat = [p for pair in reversed(problem.pads) for p in pair]
    if any(flat):
        if x.shape[0] == 0 and problem.padding_mode != "zeros":
            raise AssertionError("torch cannot pad an empty batch in this mode")
        x = F.pad(x, flat, mode=PAD_MODES[problem.padding_mode])
    conv = per_rank("conv", problem.nd, F)
    options = (problem.strides, 0, problem.dilations, problem.groups)
    return conv(x, weight, bias, *options)


def torch_conv_transpose(
    problem: ConvTranspose, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    return per_rank("conv_transpose", problem.nd, F)(
        x, weight, bias, **transpose_options(problem)
    )


def conv_options(problem: Conv) -> dict[str, Any]:
    """Keyword arguments of torchconv.functional.conv*d."""
    return {
        "stride": problem.stride,
        "padding": problem.padding,
        "dilation": problem.dilation,
        "groups": problem.groups,
        "padding_mode": problem.padding_mode,
    }


def transpose_options(problem: ConvTranspose) -> dict[str, Any]:
    return {
        "stride": problem.stride,
        "padding": problem.padding,
        "output_padding": problem.output_padding,
        "groups": problem.groups,
        "dilation": problem.dilation,
    }


def pool_options(problem: Pool, kind: str) -> dict[str, Any]:
    """Keyword arguments of F.max_pool*d, F.avg_pool*d or (without the norm) F.lp_pool*d."""
    options: dict[str, Any] = {
        "kernel_size": problem.kernel,
        "stride": problem.stride,
        "ceil_mode": problem.ceil_mode,
    }
    if kind != "lp":
        options["padding"] = problem.padding
    if kind == "max":
        options["dilation"] = problem.dilation
    return options


# -- the operators of the binary ----------------------------------------------------


def conv_args(problem: Conv) -> tuple[Any, ...]:
    """The operators' arguments from stride to padding_mode."""
    return (
        problem.strides,
        [p for pair in problem.pads for p in pair],
        problem.dilations,
        problem.groups,
        problem.padding_mode,
    )


def conv_passes(
    problem: Conv,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    grad: Tensor,
    algorithm: str,
    channels_last: bool = False,
) -> dict[str, Tensor | Exception]:
    """Every pass by one algorithm; where it refuses, its RuntimeError."""
    args = (*conv_args(problem), channels_last, algorithm)
    calls = {
        "forward": lambda: ops.conv_forward(x, weight, bias, *args),
        "input_grad": lambda: ops.conv_input_grad(grad, weight, None, x.shape, *args),
        "weight_grad": lambda: ops.conv_weight_grad(grad, x, weight.shape, *args),
    }
    results: dict[str, Tensor | Exception] = {}
    for name, call in calls.items():
        try:
            results[name] = call()
        except RuntimeError as error:
            results[name] = error
    return results


# -- variants -----------------------------------------------------------------------


def isas() -> list[str]:
    """The variants of the kernels: the CPU's are compiled for several instruction sets,
    of which these are the machine's; other devices have one."""
    return list(binary().supported_isas()) if _device == "cpu" else [_device]


@contextmanager
def isa(name: str) -> Iterator[None]:
    """Kernels of one instruction set inside the block."""
    if name == _device:
        yield
        return
    before = binary().active_isa()
    binary().set_isa(name)
    try:
        yield
    finally:
        binary().set_isa(before)


def each_isa() -> Iterator[str]:
    """For loops whose body runs under every instruction set in turn."""
    for name in isas():
        with isa(name):
            yield name


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch's thread pool of this size inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# -- comparisons --------------------------------------------------------------------


def difference(actual: Tensor, expected: Tensor) -> str | None:
    """None if the tensors are the same bit for bit (any NaN like any other), else where
    they first differ."""
    if actual.dtype != expected.dtype:
        return f"dtype {actual.dtype}, expected {expected.dtype}"
    if actual.shape != expected.shape:
        return f"shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    same = (actual == expected) | ((actual != actual) & (expected != expected))  # noqa: PLR0124
    if bool(same.all()):
        return None
    at = tuple((~same).nonzero()[0].tolist())
    count = int((~same).sum())
    return (
        f"{count} of {same.numel()} differ, first at {at}: "
        f"{actual[at].item()}, expected {expected[at].item()}"
    )


def assert_same(actual: Tensor, expected: Tensor, what: str = "") -> None:
    found = difference(actual, expected)
    assert found is None, f"{what}: {found}"


def beyond(actual: Tensor, expected: Tensor, bound: Tensor) -> str | None:
    """None if |actual - expected| <= bound everywhere, else the worst place."""
    if actual.shape != expected.shape:
        return f"shape {tuple(actual.shape)}, expected {tuple(expected.shape)}"
    if actual.numel() == 0:
        return None
    error = (wide(actual) - expected).abs()
    excess = torch.where(error <= bound, 0.0, error / bound.clamp_min(1e-300))
    if float(excess.max()) == 0 and not bool(error.isnan().any()):
        return None
    at = tuple(int(i) for i in torch.unravel_index(excess.argmax(), excess.shape))
    return (
        f"error {error[at].item():.3g} at {at}, {excess[at].item():.3g} times the "
        f"bound: {actual[at].item()}, expected {expected[at].item()}"
    )


def rounding_bound(
    expected: Tensor, magnitude: Tensor, terms: int, dtype: torch.dtype
) -> Tensor:
    """What rounding may do to a sum of `terms` products, with `magnitude` the sum of
    their absolute values.

    Half types accumulate in float32, so their sum has float32's unit roundoff u. A sum
    in any order is off by at most terms*u*magnitude, and by lambda*sqrt(terms)*u*
    magnitude with probability 1 - 2*terms*exp(-lambda^2/2) (Higham and Mary, "A new
    approach to probabilistic rounding error analysis", 2019); lambda = 8 makes that
    certain in practice, and a forgotten product stands out by orders of magnitude. The
    result is then rounded once to the dtype.
    """
    part = {torch.complex64: torch.float32, torch.complex128: torch.float64}
    real = part.get(dtype, dtype)
    sums = torch.float32 if real in (torch.float16, torch.bfloat16) else real
    unit = torch.finfo(sums).eps / 2
    last = torch.finfo(real).eps / 2
    spread = min(8 * math.sqrt(terms + 1), terms + 2)
    # Complex products are three real ones of parts and of their sums (factor 4).
    factor = 4 if dtype.is_complex else 1
    return (
        factor * spread * unit * magnitude
        + (last + unit) * expected.abs()
        + (torch.finfo(real).smallest_normal)
    )


def terms_of(problem: Conv) -> dict[str, int]:
    """How many products each pass adds up into one number, at most."""
    taps = math.prod(problem.kernel)
    out = math.prod(problem.out_size[2:])
    return {
        "forward": problem.weight_size[1] * taps + 1,
        "input_grad": problem.filters // problem.groups * taps * 4,
        "weight_grad": max(1, problem.x_size[0] * out),
    }


# -- layouts ------------------------------------------------------------------------


def layouts(x: Tensor) -> dict[str, Tensor]:
    """The same values under different strides."""
    found = {"contiguous": x.contiguous()}
    nd = x.dim() - 2
    if nd == 2:
        found["channels_last"] = x.contiguous(memory_format=torch.channels_last)
    if nd == 3:
        found["channels_last"] = x.contiguous(memory_format=torch.channels_last_3d)
    # Every second element of a larger tensor, in every dimension, the others NaN.
    outside = math.nan if x.is_floating_point() or x.is_complex() else 1
    room = torch.full([2 * n + 1 for n in x.shape], outside, dtype=x.dtype)
    view = room[tuple(slice(1, 2 * n + 1, 2) for n in x.shape)]
    found["sliced"] = view.copy_(x)
    # Dimensions stored in reverse order.
    backwards = tuple(reversed(range(x.dim())))
    found["reversed"] = x.permute(backwards).contiguous().permute(backwards)
    # The batch stored inside the channels.
    found["batch_inside"] = x.transpose(0, 1).contiguous().transpose(0, 1)
    return found


def expanded(x: Tensor) -> dict[str, Tensor]:
    """Views with stride 0: one sample, channel or position repeated."""
    found = {"batch": x[:1].expand_as(x), "channels": x[:, :1].expand_as(x)}
    found["last"] = x[..., :1].expand_as(x)
    found["all"] = x.reshape(-1)[:1].expand(x.shape)
    return found


def memory_format_of(nd: int) -> torch.memory_format:
    """channels_last of this rank."""
    return torch.channels_last_3d if nd == 3 else torch.channels_last
