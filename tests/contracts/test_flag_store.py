"""What a FlagStore promises, in memory and in a real Redis; and what the one in Redis promises besides."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from gateway.errors import Code, GatewayError
from gateway.flags import STREAMING, Flag, FlagStore
from gateway.stores.batch import Batch
from gateway.stores.courier import Courier
from gateway.stores.flags_memory import MemoryFlags
from gateway.stores.flags_redis import RedisFlags
from gateway.stores.keys import Keys
from gateway.stores.redis_client import Clients, connect
from tests.doubles import ManualClock
from tests.redis_server import RedisServer

CONFIGURED = Flag(STREAMING, percent=100)
CLOCK = ManualClock(1_800_000_000.0)


def to(percent: float) -> Callable[[Flag], Flag]:
    """A change of the percentage."""
    return lambda flag: replace(flag, percent=percent)


@pytest.fixture
async def clients(redis_server: RedisServer) -> AsyncIterator[Clients]:
    """Connections to an empty Redis, which is thawed in the end whatever happens."""
    clients = connect(redis_server.url, 0.3)
    yield clients
    redis_server.thaw()
    await clients.aclose()


def process(clients: Clients, configured: Flag = CONFIGURED) -> RedisFlags:
    """The flags as one of several processes keeps them; it looks when it is told to."""
    courier = Courier(lambda: Batch(clients.commands, 0.3))
    return RedisFlags([configured], courier, Keys("contract"), poll_s=0.05, clock=CLOCK)


@pytest.fixture(params=["memory", "redis"])
def store(request: pytest.FixtureRequest) -> FlagStore:
    """Each of them."""
    if request.param == "memory":
        return MemoryFlags([CONFIGURED], clock=CLOCK)
    return process(request.getfixturevalue("clients"))


async def test_a_flag_is_as_configured_until_it_is_changed(store: FlagStore) -> None:
    """Version 0 is the configuration's."""
    assert dict(store.read()) == {STREAMING: CONFIGURED}
    assert await store.audit(STREAMING) == []


async def test_a_change_is_seen_at_once_with_a_new_version(store: FlagStore) -> None:
    """By whoever made it."""
    changed = await store.change(STREAMING, to(5), "anna")
    assert (changed.percent, changed.version, changed.changed_s) == (5, 1, CLOCK())
    assert store.read()[STREAMING] == changed
    assert (await store.change(STREAMING, to(10), "ben")).version == 2


async def test_the_trail_says_who_changed_what_from_what_to_what(store: FlagStore) -> None:
    """The newest first."""
    await store.change(STREAMING, to(5), "anna")
    await store.change(STREAMING, to(10), "ben")
    trail = await store.audit(STREAMING)
    assert [(entry.actor, entry.at_s) for entry in trail] == [("ben", CLOCK()), ("anna", CLOCK())]
    assert [(entry.before["percent"], entry.after["percent"]) for entry in trail] == [(5, 10), (100, 5)]
    assert await store.audit("voice") == []


async def test_what_changes_nothing_leaves_no_trace(store: FlagStore) -> None:
    """No version, no entry."""
    assert await store.change(STREAMING, to(100), "anna") == CONFIGURED
    assert await store.audit(STREAMING) == []


async def test_a_change_that_refuses_leaves_no_trace(store: FlagStore) -> None:
    """What it raises comes through."""

    def refuse(flag: Flag) -> Flag:
        raise GatewayError(Code.INVALID_REQUEST, "no")

    with pytest.raises(GatewayError, match="INVALID_REQUEST"):
        await store.change(STREAMING, refuse, "anna")
    assert store.read()[STREAMING] == CONFIGURED
    assert await store.audit(STREAMING) == []


async def test_a_flag_that_is_not_there_cannot_be_changed(store: FlagStore) -> None:
    """It is a KeyError, not a new flag."""
    with pytest.raises(KeyError):
        await store.change("flying", to(5), "anna")


async def test_changes_at_the_same_time_are_all_made_one_after_the_other(store: FlagStore) -> None:
    """None is lost: each is made of what the one before it left."""

    def more(flag: Flag) -> Flag:
        return replace(flag, percent=flag.percent - 1)

    await asyncio.gather(*(store.change(STREAMING, more, f"actor {number}") for number in range(5)))
    assert (store.read()[STREAMING].percent, store.read()[STREAMING].version) == (95, 5)
    assert len(await store.audit(STREAMING)) == 5


async def test_the_trail_is_bounded() -> None:
    """In memory exactly; in Redis about so, by MAXLEN."""
    store = MemoryFlags([CONFIGURED], clock=CLOCK)
    for number in range(1100):
        await store.change(STREAMING, to(number % 100), "anna")
    assert len(await store.audit(STREAMING)) == 1000


# Several processes.


async def test_another_process_sees_a_change_when_it_looks(clients: Clients) -> None:
    """And what was changed wins over what is configured, also in a process that comes later."""
    a, b = process(clients), process(clients)
    changed = await a.change(STREAMING, to(5), "anna")
    await b.look()
    assert b.read()[STREAMING] == changed
    late = process(clients, Flag(STREAMING, percent=50))
    await late.look()
    assert late.read()[STREAMING] == changed


async def test_all_processes_look_by_themselves(clients: Clients) -> None:
    """Again and again, from `start` on until `stop`."""
    a, b = process(clients), process(clients)
    await b.start()
    await a.change(STREAMING, to(5), "anna")
    async with asyncio.timeout(2):
        while b.read()[STREAMING].percent != 5:  # noqa: ASYNC110  # it tells nobody
            await asyncio.sleep(0.01)
    b.stop()


async def test_of_two_processes_that_change_the_same_version_the_second_sees_the_first(clients: Clients) -> None:
    """Its change is asked again, with the flag as it is now."""
    a, b = process(clients), process(clients)
    await a.change(STREAMING, lambda flag: replace(flag, tenants=("internal",)), "anna")
    changed = await b.change(STREAMING, to(5), "ben")
    assert (changed.tenants, changed.percent, changed.version) == (("internal",), 5, 2)


async def test_while_redis_is_away_the_last_known_stands_and_nothing_is_changed(
    clients: Clients, redis_server: RedisServer
) -> None:
    """A change that only this process would know of is refused: 503, try again."""
    store = process(clients)
    await store.change(STREAMING, to(5), "anna")
    redis_server.freeze()
    await store.look()
    assert store.read()[STREAMING].percent == 5
    for refused in (store.change(STREAMING, to(10), "ben"), store.audit(STREAMING)):
        with pytest.raises(GatewayError) as raised:
            await refused
        assert (raised.value.code, raised.value.status, raised.value.retry_after_s) == (Code.STORE_AWAY, 503, 1)
    assert store.read()[STREAMING].percent == 5


async def test_a_flag_that_redis_has_lost_is_put_back_by_whoever_knows_it(
    clients: Clients, redis_server: RedisServer
) -> None:
    """What was rolled back does not come to life again; the trail says who did it."""
    a, b = process(clients), process(clients)
    changed = await a.change(STREAMING, lambda flag: flag.taken_back(0, "bad", CLOCK()), "rollback")
    redis_server.command("FLUSHALL")
    await b.look()
    assert b.read()[STREAMING] == CONFIGURED
    await a.look()
    await b.look()
    assert b.read()[STREAMING] == a.read()[STREAMING] == changed
    assert [entry.actor for entry in await b.audit(STREAMING)] == ["gateway"]


async def test_a_change_goes_on_from_what_is_known_where_redis_has_lost_it(
    clients: Clients, redis_server: RedisServer
) -> None:
    """With a version that all others believe."""
    a, b = process(clients), process(clients)
    await a.change(STREAMING, to(5), "anna")
    await b.look()
    redis_server.command("FLUSHALL")
    assert (await a.change(STREAMING, to(10), "anna")).version == 2
    await b.look()
    assert b.read()[STREAMING].percent == 10


async def test_what_stands_in_redis_and_is_no_flag_changes_nothing(clients: Clients, redis_server: RedisServer) -> None:
    """Somebody else's hand, or a later version's words."""
    store, keys = process(clients), Keys("contract")
    for said in ("no JSON", '{"name":"streaming","wings":2}', "[]"):
        redis_server.command("HSET", keys.flags, STREAMING, said)
        await store.look()
        assert store.read()[STREAMING] == CONFIGURED
    redis_server.command("DEL", keys.flags)
    redis_server.command("SET", keys.flags, "not a hash")
    await store.look()
    assert store.read()[STREAMING] == CONFIGURED
