"""What all tests share: how property tests search, and a hub to work on."""

import os
from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, settings

from tests.bench import Bench

# The same examples every time: a run that fails can be repeated, and one that passes does so again.
# HYPOTHESIS_PROFILE=search looks for new ones.
settings.register_profile(
    "repeatable", derandomize=True, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("search", database=None, deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A hub; nothing runs on behind a test, and every stream that was opened has had its account."""
    bench = Bench()
    yield bench
    await bench.hub.drain(0)
    assert bench.hub.running == 0
    assert len(bench.accounts) == len(bench.metrics.of("stream_opened"))
