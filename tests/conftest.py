"""What all tests share: how property tests search, a hub to work on, a Redis."""

import logging
import os
from collections.abc import AsyncIterator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.bench import Bench
from tests.redis_server import RedisServer

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


@pytest.fixture
def logging_undone() -> Iterator[None]:
    """Whoever serves in this process sets logging up for all of it: here it is as before again."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], _ = before
    root.setLevel(before[1])


@pytest.fixture(scope="session")
def shared_redis() -> Iterator[RedisServer]:
    """One Redis for the whole run; a test takes `redis_server`, which empties it first."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """An empty Redis that other tests use before and after: whoever stops or reconfigures one starts its own."""
    shared_redis.command("FLUSHALL")
    return shared_redis
