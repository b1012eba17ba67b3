"""RedisSessions beyond the contract: outages, lost answers, what waits, what stands there of other versions."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.errors import Code, GatewayError
from gateway.request import Caller, Preferences
from gateway.sessions import Exchange, SessionBounds
from gateway.stores.batch import Batch
from gateway.stores.courier import Courier
from gateway.stores.preferences_redis import RedisPreferences
from gateway.stores.redis_client import Clients
from gateway.stores.sessions_redis import RedisSessions
from gateway.streams.ids import new_sid
from tests.house import eventually
from tests.redis_server import RedisServer
from tests.stores.shared import KEYS, clients_of

ALICE = Caller("acme", "alice")
BOUNDS = SessionBounds(max_sessions=1000, max_turns=10, max_bytes=10_000, ttl_s=60)


class Breaking(Batch):
    """Done by Redis, while the answer is lost: so many times."""

    lost = 0

    async def send(self) -> list[Any]:
        answers = await super().send()
        if type(self).lost:
            type(self).lost -= 1
            raise RedisConnectionError("lost")
        return answers


def sessions_of(clients: Clients, memory_bytes: int = 1 << 20) -> RedisSessions:
    """A store of its own."""
    return RedisSessions(Courier(lambda: Breaking(clients.commands, 0.3)), KEYS, BOUNDS, memory_bytes=memory_bytes)


@pytest.fixture
async def store(redis_server: RedisServer) -> AsyncIterator[RedisSessions]:
    """An empty one; Redis is thawed in the end."""
    Breaking.lost = 0
    async with clients_of(redis_server, 0.3) as clients:
        store = sessions_of(clients)
        yield store
        redis_server.thaw()
        await store.close()


def turn(question: str = "q", answer: str = "a") -> Exchange:
    """One."""
    return Exchange(new_sid(), question, answer, 1, 2)


async def written(store: RedisSessions) -> None:
    """All that waited stands there."""
    await eventually(lambda: not len(store._waiting))


@pytest.mark.parametrize("times", [1, 3])
async def test_a_turn_whose_answer_was_lost_stands_there_once(store: RedisSessions, times: int) -> None:
    """It is written again, and found to be there."""
    Breaking.lost = times
    kept = turn()
    store.write(ALICE, "s", kept)
    await written(store)
    assert Breaking.lost == 0
    assert await store.read(ALICE, "s") == [kept]


async def test_a_read_over_a_broken_connection_is_repeated(store: RedisSessions) -> None:
    """Once: a connection that broke is no outage."""
    store.write(ALICE, "s", turn())
    await written(store)
    Breaking.lost = 1
    assert len(await store.read(ALICE, "s")) == 1
    Breaking.lost = 2
    with pytest.raises(GatewayError) as raised:
        await store.read(ALICE, "s")
    assert raised.value.code is Code.STORE_AWAY


async def test_what_was_said_while_redis_was_away_is_written_when_it_is_back(
    store: RedisSessions, redis_server: RedisServer
) -> None:
    """Nobody waited for it, and what reads cannot find out they say."""
    redis_server.freeze()
    turns = [turn(str(number)) for number in range(3)]
    before = asyncio.get_running_loop().time()
    for each in turns:
        store.write(ALICE, "s", each)
    assert asyncio.get_running_loop().time() - before < 0.1
    with pytest.raises(GatewayError):
        await store.read(ALICE, "s")
    with pytest.raises(GatewayError):
        await store.delete(ALICE, "other")
    assert store.unwritten(ALICE, "s") == turns
    redis_server.thaw()
    await written(store)
    assert await store.read(ALICE, "s") == turns


async def test_what_waits_is_bounded(store: RedisSessions, redis_server: RedisServer) -> None:
    """The oldest is lost, and the newest is written when Redis is back."""
    redis_server.freeze()
    store._waiting._max_bytes = 100_000
    for number in range(1000):
        store.write(ALICE, str(number), turn(answer="x" * 1000))
    assert store._waiting.bytes <= 100_000
    redis_server.thaw()
    await written(store)
    assert await store.read(ALICE, "0") == []
    assert len(await store.read(ALICE, "999")) == 1


async def test_what_is_deleted_while_it_waits_is_never_written(store: RedisSessions, redis_server: RedisServer) -> None:
    """Its owner hears that Redis is away and asks again; here it is forgotten at once."""
    redis_server.freeze()
    store.write(ALICE, "s", turn())
    with pytest.raises(GatewayError):
        await store.delete(ALICE, "s")
    assert store.unwritten(ALICE, "s") == []
    redis_server.thaw()
    with contextlib.suppress(GatewayError):
        await store.delete(ALICE, "s")
    await written(store)
    assert await store.read(ALICE, "s") == []


async def test_the_last_turns_are_written_before_the_end(store: RedisSessions, redis_server: RedisServer) -> None:
    """Those that were said in the same moment."""
    store.write(ALICE, "s", turn())
    await store.close()
    async with clients_of(redis_server) as clients:
        assert len(await sessions_of(clients).read(ALICE, "s")) == 1


async def test_what_is_no_conversation_is_none(store: RedisSessions, redis_server: RedisServer) -> None:
    """A foreign type under its name, and turns of another version; what is refused holds up nothing else."""
    redis_server.command("SET", KEYS.session(ALICE, "foreign"), "x")
    redis_server.command("RPUSH", KEYS.session(ALICE, "odd"), "x", "sid[1]", 'sid["q","a",1,2]', "[")
    store.write(ALICE, "foreign", turn())
    store.write(ALICE, "s", turn())
    await written(store)
    assert await store.read(ALICE, "foreign") == []
    assert await store.read(ALICE, "odd") == [Exchange("sid", "q", "a", 1, 2)]
    assert len(await store.read(ALICE, "s")) == 1
    assert await store.delete(ALICE, "foreign")


async def test_everything_is_forgotten_in_time(store: RedisSessions, redis_server: RedisServer) -> None:
    """No key but the two rosters stays for ever."""
    async with clients_of(redis_server) as clients:
        liked = RedisPreferences(Courier(lambda: Batch(clients.commands, 1.0)), KEYS, max_users=6, ttl_s=90)
        await liked.write(ALICE, Preferences("batched", "concise", True))
        store.write(ALICE, "s", turn())
        await written(store)
        assert 59_000 < redis_server.command("PTTL", KEYS.session(ALICE, "s")) <= 60_000
        assert 89_000 < redis_server.command("PTTL", KEYS.liking(ALICE)) <= 90_000
        assert await liked.read(ALICE) == Preferences("batched", "concise", True)
        for number in range(5):
            await liked.write(Caller("acme", str(number)), Preferences(metadata=False))
        assert await liked.read(ALICE) is None
        assert len(redis_server.command("KEYS", KEYS.liking(ALICE)[:12] + "*")) == 3
        assert 89_000 < redis_server.command("PTTL", KEYS.likings_of("acme")) <= 90_000
        assert 59_000 < redis_server.command("PTTL", KEYS.sessions_of("acme")) <= 60_000
        redis_server.command("SET", KEYS.liking(ALICE), "[]")
        assert await liked.read(ALICE) is None


class Recorder:
    """A batch of commands that are only counted."""

    def __init__(self) -> None:
        self.commands = 0

    def run(self, *_: object) -> None:
        """A script."""
        self.commands += 1


class AtOnce:
    """A courier whose Redis takes everything at once."""

    async def carry(self, put: Callable[[Any], None]) -> list[Any]:
        """An answer to each command, of which none is looked at."""
        recorder = Recorder()
        put(recorder)
        return [None] * recorder.commands


@pytest.mark.parametrize("steps", range(8))
async def test_whoever_writes_when_the_last_turn_was_just_written_does_not_wait_for_ever(steps: int) -> None:
    """At whatever step of the loop that is, somebody looks again."""
    courier: Any = AtOnce()
    store = RedisSessions(courier, KEYS, BOUNDS, memory_bytes=10_000)
    for number in range(2):
        store.write(ALICE, f"s{number}", Exchange(f"sid{number}", "q", "a", 1, 1))
        for _ in range(steps):
            await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not store._waiting
