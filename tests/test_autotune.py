"""Autotuning: measured choices are taken, kept, shared and never in the way."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

import torchconv
from torchconv import _extension
from torchconv import functional as F
from torchconv.autotune import _add, _place

ROOT = Path(__file__).resolve().parents[1]
autotune = torchconv.autotune


@pytest.fixture(autouse=True)
def nothing_known() -> Iterator[None]:
    autotune.disable()
    autotune.forget()
    yield
    autotune.disable()
    autotune.forget()


def tensors(**options: Any) -> tuple[Tensor, Tensor]:
    return torch.randn(1, 8, 12, 12, **options), torch.randn(8, 8, 3, 3, **options)


def key_of(start: str) -> str:
    (key,) = (key for key in autotune.measurements if key.startswith(start))
    return key


def runs(x: Tensor, w: Tensor) -> str:
    """What would compute the forward pass now."""
    return torchconv.explain("conv2d", x, w, padding=1).passes[0].tuned


def test_off_by_default() -> None:
    x, w = tensors()
    F.conv2d(x, w, padding=1)
    assert not autotune.enabled
    assert not autotune.measurements


def test_first_call_measures_and_results_stay() -> None:
    x, w = tensors()
    expected = torch.nn.functional.conv2d(x, w, padding=1)
    with autotune():
        assert autotune.enabled
        for _ in range(3):
            torch.testing.assert_close(F.conv2d(x, w, padding=1), expected)
        timings = autotune.measurements[key_of("forward")]
    assert {"direct", "im2col"} <= set(timings)
    assert "torch" not in timings
    assert all(seconds > 0 for seconds in timings.values())
    assert not autotune.enabled


def test_the_fastest_is_taken_and_explained() -> None:
    x, w = tensors()
    with autotune():
        F.conv2d(x, w, padding=1)
        key = key_of("forward")
        binary = _extension.binary()
        for best in ("direct", "im2col"):
            binary.add_tuned(key, dict.fromkeys(autotune.measurements[key], 1.0))
            binary.add_tuned(key, {best: 1e-9})
            plan = torchconv.explain("conv2d", x, w, padding=1).passes[0]
            assert plan.tuned == best
            assert plan.chosen is not None
            assert plan.chosen.name == best
            assert plan.measured[best] == 1e-9
            with torchconv.algorithm(best):
                expected = F.conv2d(x, w, padding=1)
            assert torch.equal(F.conv2d(x, w, padding=1), expected)
        assert f"runs: {best}" in str(torchconv.explain("conv2d", x, w, padding=1))
    assert runs(x, w) == ""


def test_backward_is_measured_too() -> None:
    x, w = tensors(requires_grad=True)
    exact = [t.detach().double().requires_grad_() for t in (x, w)]
    torch.nn.functional.conv2d(*exact, padding=1).sum().backward()
    with autotune():
        F.conv2d(x, w, padding=1).sum().backward()
        kinds = {key.split()[0] for key in autotune.measurements}
    assert kinds == {"forward", "input_grad", "weight_grad"}
    for ours, reference in zip((x, w), exact):
        torch.testing.assert_close(ours.grad, reference.grad, check_dtype=False)


def test_named_algorithms_are_not_tuned() -> None:
    x, w = tensors()
    with autotune():
        F.conv2d(x, w, algorithm="im2col")
        with torchconv.algorithm("direct"):
            F.conv2d(x, w)
    assert not autotune.measurements


def test_max_workspace_bounds_the_candidates() -> None:
    x, w = tensors()
    plans = torchconv.explain("conv2d", x, w, padding=1).passes[0].candidates
    sizes = {c.name: c.workspace for c in plans if c.supported}
    smallest = min(sizes.values())
    allowed = {name for name, size in sizes.items() if size <= smallest}
    assert allowed < set(sizes)
    with autotune(max_workspace=smallest):
        F.conv2d(x, w, padding=1)
        assert set(autotune.measurements[key_of("forward")]) == allowed
    # A wider limit has more candidates: it measures again.
    with autotune():
        F.conv2d(x, w, padding=1)
        measured = set(autotune.measurements[key_of("forward")])
    # Rows that "auto" may not take, such as winograd where it is off, are explained
    # and not measured.
    assert allowed < measured <= set(sizes)
    autotune.forget()
    with autotune(max_workspace=0):  # nothing is allowed: the planner decides
        F.conv2d(x, w, padding=1)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("function", "x", "w", "options"),
    [
        ("conv2d", (2, 8, 9, 8), (6, 4, 3, 3), {"padding": 1, "groups": 2}),
        ("conv2d", (2, 8, 9, 8), (6, 8, 3, 2), {"stride": 2, "dilation": (1, 2)}),
        ("conv1d", (2, 8, 9), (6, 8, 3), {"padding": 2}),
        ("conv3d", (1, 4, 5, 6, 7), (4, 4, 2, 2, 2), {"stride": 2}),
        ("conv_transpose2d", (2, 8, 5, 5), (8, 3, 3, 3), {"stride": 2}),
        (
            "conv_transpose2d",
            (2, 8, 5, 5),
            (8, 3, 3, 3),
            {"stride": 3, "output_padding": (1, 2), "padding": 1},
        ),
    ],
)
def test_torch_as_a_candidate(
    function: str, x: Any, w: Any, options: Any, dtype: torch.dtype, channels_last: bool
) -> None:
    filters = w[0] if "transpose" not in function else w[1]
    inputs = [torch.randn(size).to(dtype) for size in (x, w, (filters,))]
    if channels_last and len(x) > 3:
        form = torch.channels_last if len(x) == 4 else torch.channels_last_3d
        inputs[:2] = [t.contiguous(memory_format=form) for t in inputs[:2]]

    def run(module: Any) -> list[Tensor]:
        leaves = [t.detach().requires_grad_() for t in inputs]
        y = getattr(module, function)(*leaves, **options)
        torch.manual_seed(1)
        return [y, *torch.autograd.grad(y, leaves, torch.randn_like(y))]

    expected = run(torch.nn.functional)
    untuned = run(F)
    binary = _extension.binary()
    with autotune(include_torch=True):
        run(F)
        known = autotune.measurements
        assert len(known) == 3
        for key, timings in known.items():
            assert timings["torch"] > 0
            binary.add_tuned(key, {"torch": 1e-12})
        tuned = run(F)
    for ours, theirs, before in zip(tuned, expected, untuned):
        assert ours.stride() == before.stride()
        tolerance = {"rtol": 0.03, "atol": 0.1} if dtype is torch.bfloat16 else {}
        torch.testing.assert_close(ours, theirs, check_stride=False, **tolerance)
    assert torch.equal(tuned[0], expected[0])


def test_torch_cannot_do_all_of_it() -> None:
    x, w = tensors()
    for options in ({"padding": [(2, 0), (1, 1)]}, {"padding_mode": "circular"}):
        options = {"padding": 1, **options}
        expected = F.conv2d(x, w, **options)
        autotune.forget()
        with autotune(include_torch=True):
            for _ in range(2):
                torch.testing.assert_close(F.conv2d(x, w, **options), expected)
            assert autotune.measurements[key_of("forward")]["torch"] < 0
            plan = torchconv.explain("conv2d", x, w, **options).passes[0]
            assert plan.tuned not in ("", "torch")
            assert "torch failed" in str(torchconv.explain("conv2d", x, w, **options))


def test_higher_derivatives_with_torch_in_it() -> None:
    x, w = (t.double().requires_grad_() for t in tensors())
    x = x[:, :, :4, :4].detach().requires_grad_()
    with autotune(include_torch=True):
        F.conv2d(x, w, padding=1).sum().backward()
        for key in autotune.measurements:
            _extension.binary().add_tuned(key, {"torch": 1e-12})
        small = w[:2].detach().requires_grad_()
        assert torch.autograd.gradcheck(lambda a, b: F.conv2d(a, b), (x, small))
        assert torch.autograd.gradgradcheck(lambda a, b: F.conv2d(a, b), (x, small))
        hessian = torch.func.hessian(lambda a: F.conv2d(a, small).square().sum())(
            x.detach()
        )
    assert hessian.shape == x.shape * 2


# torch.compile


def test_compiled_graphs_have_no_guard_on_it() -> None:
    counter = CompileCounter()
    x, w = tensors()

    @torch.compile(backend=counter, fullgraph=True)
    def compiled(x: Tensor) -> Tensor:
        return F.conv2d(x, w, padding=1) + 1

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        expected = compiled(x)
        with autotune():
            torch.testing.assert_close(compiled(x), expected)
            assert autotune.measurements
        with autotune(include_torch=True, max_workspace=0):
            torch.testing.assert_close(compiled(x), expected)
        compiled(x)
    assert counter.frame_count == 1
    assert counter.op_count == 2


def test_a_block_inside_a_compiled_function_does_nothing() -> None:
    x, w = tensors()

    @torch.compile(backend="eager", fullgraph=True)
    def compiled(x: Tensor) -> Tensor:
        with torchconv.autotune():
            return F.conv2d(x, w, padding=1)

    torch.testing.assert_close(compiled(x), F.conv2d(x, w, padding=1))
    assert not autotune.measurements


# The cache file.


def test_cache_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "tuned.json"
    x, w = tensors()
    with autotune(cache=path):
        F.conv2d(x, w, padding=1)
        known = autotune.measurements
    content = json.loads(path.read_text())
    assert content["places"] == {_place(): known}
    autotune.forget()
    with autotune(cache=str(path), measure=False):
        assert autotune.measurements == known
        assert runs(x, w) in known[key_of("forward")]
        F.conv2d(x, w)  # another problem: not measured
        assert autotune.measurements == known


def test_entries_of_other_machines_are_kept_and_not_used(tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    x, w = tensors()
    with autotune(cache=path):
        F.conv2d(x, w, padding=1)
    content = json.loads(path.read_text())
    content["places"] = {"another machine": content["places"][_place()]}
    path.write_text(json.dumps(content))
    autotune.forget()
    with autotune(cache=path):
        assert not autotune.measurements
        F.conv2d(x, w)
    assert set(json.loads(path.read_text())["places"]) == {"another machine", _place()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": 1, "na', "is damaged"),
        ("\0\1", "is damaged"),
        ('{"some": "settings"}', "holds something else"),
        ("[1, 2]", "holds something else"),
        ('{"name": "torchconv autotune", "format": 99}', "another version"),
    ],
)
def test_other_files_are_left_alone(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    x, w = tensors()
    with pytest.warns(RuntimeWarning, match=message):
        autotune.enable(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        F.conv2d(x, w, padding=1)
    assert autotune.measurements
    assert path.read_text() == text


def test_entries_that_are_none_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    content = {"name": "torchconv autotune", "format": 1}
    problems = {"a": {"direct": "fast"}, "b": 3, "c": {"direct": 0.5}}
    path.write_text(json.dumps({**content, "places": {_place(): problems}}))
    with autotune(cache=path):
        assert autotune.measurements == {"c": {"direct": 0.5}}


def test_a_cache_that_cannot_be_written_warns(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    x, w = tensors()
    with (
        pytest.warns(RuntimeWarning, match="cannot be"),
        autotune(cache=tmp_path / "file" / "tuned.json"),
    ):
        F.conv2d(x, w, padding=1)


def write_some(path: Path, process: int) -> None:
    for i in range(20):
        _add(path, {f"problem {process} {i}": {"direct": 1.0}})


def test_processes_share_a_cache(tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=write_some, args=(path, n)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(json.loads(path.read_text())["places"][_place()]) == 60
    assert [p.name for p in tmp_path.iterdir() if "lock" not in p.name] == [
        "tuned.json"
    ]


SCRIPT = """
import sys, torch, torchconv
torchconv.autotune.enable(sys.argv[1])
x, w = torch.randn(1, 4, 8, 8), torch.randn(4, 4, 3, 3)
torchconv.functional.conv2d(x, w)
print(len(torchconv.autotune.measurements))
"""


def test_a_process_that_ends_while_it_is_on(tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.stdout.strip() == "1"
    assert done.stderr == ""
    assert len(json.loads(path.read_text())["places"]) == 1


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"max_workspace": -1}, ValueError, "max_workspace must not be negative"),
        ({"max_workspace": 0.5}, TypeError, "max_workspace must be an int"),
        ({"cache": 3}, TypeError, "cache must be a path"),
        ({"cache": "."}, ValueError, "is a folder"),
    ],
)
def test_bad_arguments(options: Any, kind: Any, message: str) -> None:
    with pytest.raises(kind, match=message):
        autotune.enable(**options)
    with pytest.raises(kind, match=message):
        autotune(**options)
    assert not autotune.enabled


def test_blocks_nest() -> None:
    with autotune(measure=False):
        with autotune(include_torch=True):
            assert repr(autotune) == "torchconv.autotune (measure)"
        assert repr(autotune) == "torchconv.autotune (use)"
    autotune.enable()
    with pytest.raises(KeyError), autotune():
        raise KeyError
    assert repr(autotune) == "torchconv.autotune (measure)"
    autotune.disable()
    assert repr(autotune) == "torchconv.autotune (off)"
