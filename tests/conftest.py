"""Settings of the whole suite."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import torch

import torchconv

# The suite is parallel over processes (pytest -n), so that each needs one thread; tests
# of the thread pool ask for more themselves.
torch.set_num_threads(1)

# The same examples in every run, so that a failure is a change of the code. For a
# search for new ones: HYPOTHESIS_PROFILE=search.
try:
    from hypothesis import HealthCheck, settings
except ImportError:  # the tests that draw examples cannot be collected, all others run
    pass
else:
    settings.register_profile(
        "fixed",
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    settings.register_profile(
        "search", settings.get_profile("fixed"), derandomize=False
    )
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

# Test modules that ask for the fixture `kernel_device` run on each of these. "cuda-on-cpu" are
# the CUDA kernels compiled for the host (tests/cuda_on_cpu), on small problems only.
DEVICES = ("cpu", "cuda-on-cpu", "cuda")

# What the simulator may visit in one test: window taps or products of one pass.
MOST_SIMULATED = 150_000


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--device",
        default="cpu,cuda-on-cpu",
        help=f"comma-separated devices to test on, of {', '.join(DEVICES)}",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "kernel_device" in metafunc.fixturenames:
        asked = metafunc.config.getoption("--device").split(",")
        metafunc.parametrize("kernel_device", asked, indirect=True, scope="function")


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Large problems are not simulated."""
    large = []
    for item in items:
        params: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
        work = max((getattr(value, "work", 0) for value in params.values()), default=0)
        if params.get("kernel_device") == "cuda-on-cpu" and work > MOST_SIMULATED:
            large.append(item)
    if large:
        config.hook.pytest_deselected(items=large)
        kept = {id(item) for item in large}
        items[:] = [item for item in items if id(item) not in kept]


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A kernel that broke off leaves its process no use of the GPU: a worker of xdist
    ends then, which names the test and starts another, lest all tests after it fail."""
    worker = "PYTEST_XDIST_WORKER" in os.environ
    if worker and report.failed and torch.cuda.is_initialized():
        try:
            torch.cuda.synchronize()
        except RuntimeError:
            os._exit(1)


@pytest.fixture
def kernel_device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The device that operators compute on during the test."""
    import common

    with common.computing_on(request.param):
        yield request.param


@pytest.fixture(autouse=True)
def exact_sums() -> Iterator[None]:
    """Most tests compare whole numbers bit by bit, which Winograd's algorithm is not made
    for; its own tests allow it."""
    with torchconv.allow_winograd(False):
        yield


@pytest.fixture(autouse=True)
def fixed_seed() -> Iterator[None]:
    """Every test draws the same numbers, whatever ran before it."""
    # torch.manual_seed also records a stack for each absent accelerator: milliseconds.
    torch.default_generator.manual_seed(20)
    yield
