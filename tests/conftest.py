"""Settings of the whole suite."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

# The suite is parallel over processes (pytest -n), so that each needs one thread; tests
# of the thread pool ask for more themselves.
torch.set_num_threads(1)

# The same examples in every run, so that a failure is a change of the code. For a
# search for new ones: HYPOTHESIS_PROFILE=search.
settings.register_profile(
    "fixed",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.register_profile("search", settings.get_profile("fixed"), derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture(autouse=True)
def fixed_seed() -> Iterator[None]:
    """Every test draws the same numbers, whatever ran before it."""
    # torch.manual_seed also records a stack for each absent accelerator: milliseconds.
    torch.default_generator.manual_seed(20)
    yield
