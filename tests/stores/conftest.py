"""A Redis for the tests of one file, empty and well at the beginning of each."""

from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from gateway.stores.redis_client import connect
from tests.redis_server import RedisServer


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[RedisServer]:
    """Started once for all tests of a file."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def redis_server(shared_redis: RedisServer) -> RedisServer:
    """Whoever freezes it thaws it again."""
    shared_redis.command("FLUSHALL")
    # On a busy disk it would stand still for longer than commands are waited for; a kill loses nothing all the same.
    shared_redis.command("CONFIG", "SET", "appendfsync", "no")
    return shared_redis


@pytest.fixture
async def commands(redis_server: RedisServer) -> AsyncIterator[Redis]:
    """A client as the service has one."""
    clients = connect(redis_server.url, 0.5)
    yield clients.commands
    await clients.aclose()
