"""What SharedCounts promise, in a real Redis: every process's counts, added up, for as long as they are wanted."""

from collections.abc import AsyncIterator

import pytest

from gateway.admission.rollback import Rollback, Triggers
from gateway.errors import Code, GatewayError
from gateway.flags import STREAMING, Flag
from gateway.stores.batch import Batch
from gateway.stores.courier import Courier
from gateway.stores.flags_redis import RedisFlags
from gateway.stores.keys import Keys
from gateway.stores.outcomes_redis import RedisOutcomes
from gateway.stores.redis_client import Clients, connect
from gateway.telemetry.metrics import Account
from tests.doubles import ManualClock, RecordingMetrics, stream_of
from tests.redis_server import RedisServer

KEYS = Keys("contract")
FAILED = Account("native", "openai", "provider_error", "UPSTREAM_ERROR", 1.0, 1, 1, True)


@pytest.fixture
async def clients(redis_server: RedisServer) -> AsyncIterator[Clients]:
    """Connections to an empty Redis, which is thawed in the end whatever happens."""
    clients = connect(redis_server.url, 0.3)
    yield clients
    redis_server.thaw()
    await clients.aclose()


def courier(clients: Clients) -> Courier:
    """Carries for one process."""
    return Courier(lambda: Batch(clients.commands, 0.3))


async def test_what_each_adds_all_hear(clients: Clients) -> None:
    """Of the whiles that they ask for, and of no others."""
    one, other = RedisOutcomes(courier(clients), KEYS), RedisOutcomes(courier(clients), KEYS)
    await one.exchange(7, {"streams": 3, "errors": 1}, [], 60)
    await other.exchange(8, {"streams": 4}, [], 60)
    heard = await one.exchange(8, {"stars": -2}, [6, 7, 8], 60)
    assert heard == {6: {}, 7: {"streams": 3, "errors": 1}, 8: {"streams": 4, "stars": -2}}


async def test_what_is_over_is_forgotten_by_redis_itself(clients: Clients, redis_server: RedisServer) -> None:
    """Nobody has to clear up behind a process that is gone."""
    await RedisOutcomes(courier(clients), KEYS).exchange(7, {"streams": 1}, [], 59.5)
    assert 0 < redis_server.command("TTL", KEYS.outcomes(7)) <= 60


async def test_while_redis_is_away_or_refuses_it_is_said(clients: Clients, redis_server: RedisServer) -> None:
    """As an error with a code."""
    counts = RedisOutcomes(courier(clients), KEYS)
    redis_server.command("SET", KEYS.outcomes(7), "not a hash")
    with pytest.raises(GatewayError) as refused:
        await counts.exchange(7, {"streams": 1}, [7], 60)
    assert refused.value.code is Code.STORE_AWAY
    redis_server.freeze()
    with pytest.raises(GatewayError) as away:
        await counts.exchange(7, {"streams": 1}, [7], 60)
    assert away.value.code is Code.STORE_AWAY


async def test_of_all_who_see_a_trigger_one_takes_the_rollout_back(clients: Clients) -> None:
    """Three processes look at the same counts at the same time; the trail has one entry."""
    clock, told = ManualClock(1_800_000_000.0), list[str]()
    stores = [RedisFlags([Flag(STREAMING, percent=50)], courier(clients), KEYS, poll_s=1, clock=clock) for _ in "123"]
    watching = [
        Rollback(
            store,
            Triggers(min_streams=90),
            RecordingMetrics(),
            shared=RedisOutcomes(courier(clients), KEYS),
            on_rollback=lambda name, reason: told.append(reason),
            clock=clock,
        )
        for store in stores
    ]
    for _ in range(2):
        for rollback in watching:
            for _ in range(30):
                rollback.ended(stream_of(), FAILED)
        for rollback in watching:
            await rollback.look()
    assert len(told) == 1
    assert len(await stores[0].audit(STREAMING)) == 1
    for store in stores:
        await store.look()
        assert store.read()[STREAMING].percent == 0
