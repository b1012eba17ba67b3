"""What a PreferenceStore promises of its room, in memory and over a real Redis: no tenant takes that of another."""

from collections.abc import AsyncIterator

import pytest

from gateway.request import Caller, Preferences
from gateway.sessions import PreferenceStore
from gateway.stores.batch import Batch
from gateway.stores.courier import Courier
from gateway.stores.keys import Keys
from gateway.stores.preferences_redis import RedisPreferences
from gateway.stores.sessions_memory import MemoryPreferences
from tests.redis_server import RedisServer
from tests.stores.shared import clients_of

MOST, TTL_S = 6, 90.0
SAID = Preferences("batched", "concise", True)


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[PreferenceStore]:
    """An empty one of each kind."""
    if request.param == "memory":
        yield MemoryPreferences(max_users=MOST, ttl_s=TTL_S)
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    async with clients_of(server) as clients:
        courier = Courier(lambda: Batch(clients.commands, 1.0))
        yield RedisPreferences(courier, Keys("contract"), max_users=MOST, ttl_s=TTL_S)


async def test_a_tenant_with_many_users_pushes_out_none_of_another(store: PreferenceStore) -> None:
    """Of its own those set longest ago go when it has half of all."""
    await store.write(Caller("acme", "alice"), SAID)
    for number in range(5 * MOST):
        await store.write(Caller("rival", f"user-{number}"), SAID)
    assert await store.read(Caller("acme", "alice")) == SAID
    kept = [number for number in range(5 * MOST) if await store.read(Caller("rival", f"user-{number}"))]
    assert kept == [5 * MOST - 3, 5 * MOST - 2, 5 * MOST - 1]


async def test_all_tenants_together_have_no_more_than_all(store: PreferenceStore) -> None:
    """However many they are."""
    for number in range(3 * MOST):
        await store.write(Caller(f"tenant-{number}", "alice"), SAID)
    kept = [number for number in range(3 * MOST) if await store.read(Caller(f"tenant-{number}", "alice"))]
    assert kept == list(range(2 * MOST, 3 * MOST))
