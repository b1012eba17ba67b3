"""Watch, chores, backoff: what is looked after beside the logs, and what becomes of it while Redis is away."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.errors import Code, GatewayError
from gateway.stores.backoff import Backoff
from gateway.stores.chores import AT_ONCE, WAITING_MAX, Chores
from gateway.stores.watch import SWEPT_AT_ONCE, Watch
from gateway.streams.stream import Stream
from tests.doubles import ALICE, DONE, RecordingReader, stream_of
from tests.redis_server import RedisServer
from tests.stores.shared import KEYS, clients_of, log_of


class Others:
    """What is known of the other instances."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.listed: dict[str, str] = {}
        self.left: dict[str, list[str]] = {}
        self.buried: list[str] = []

    async def alive(self, instance: str, address: str) -> bool:
        return instance not in self.dead

    async def has_left(self, instance: str, address: str) -> bool:
        return instance in self.dead

    async def others(self) -> dict[str, str]:
        return self.listed

    async def streams_of(self, instance: str) -> list[str]:
        return self.left.get(instance, [])

    async def bury(self, instance: str) -> bool:
        self.buried.append(instance)
        return True


class Here:
    """The producer that is told, with a watch over scripted others."""

    def __init__(self) -> None:
        self.others = Others()
        self.mirrors: list[Any] = []
        self.told: list[tuple[str, bool]] = []
        self.dead: list[str] = []
        self.over: list[tuple[str, str]] = []
        self.errors: dict[str, GatewayError] = {}
        self.watch = Watch(cast(Any, self.others), cast(Any, self.mirrors), cast(Any, self), self._over)

    def mirror(self, producer: str, *, read: bool = True) -> Stream:
        """A stream that `producer` makes."""
        stream = stream_of()
        if read:
            stream.attach(RecordingReader())
        self.mirrors.append(SimpleNamespace(producer=producer, at="127.0.0.1:1", stream=stream))
        return stream

    async def bereft(self, sid: str, *, read_here: bool) -> None:
        self.told.append((sid, read_here))
        if sid in self.errors:
            raise self.errors[sid]

    def told_of_death(self, process: str) -> None:
        self.dead.append(process)

    def _over(self, sid: str, instance: str) -> None:
        self.over.append((sid, instance))


async def test_a_stream_that_is_read_here_is_gone_on_with_when_its_process_is_dead() -> None:
    """Not one that nobody reads, nor one that has ended, nor one whose process lives."""
    here = Here()
    here.others.dead = {"dead"}
    bereft, _, _ = here.mirror("dead"), here.mirror("dead", read=False), here.mirror("living")
    ended = here.mirror("dead")
    ended.give_up()

    over = here.mirror("dead")
    over.finish(DONE)
    await here.watch.look()
    assert here.told == [(bereft.sid, True), (ended.sid, True)]


async def test_the_death_of_those_who_read_ours_is_told_once() -> None:
    """And they are asked no more."""
    here = Here()
    here.watch.readers_at.update(dead="127.0.0.1:1", living="127.0.0.1:2")
    here.others.dead = {"dead"}
    await here.watch.look()
    await here.watch.look()
    assert here.dead == ["dead"]
    assert list(here.watch.readers_at) == ["living"]


async def test_what_the_dead_left_is_looked_after_and_then_they_are_buried() -> None:
    """Not before; the living are left alone; what is no more is struck off their list."""
    here = Here()
    here.others.listed = {"dead": "127.0.0.1:1", "living": "127.0.0.1:2"}
    here.others.dead = {"dead"}
    here.others.left = {"dead": ["a", "b", "c"], "living": ["d"]}
    here.errors = {"b": GatewayError(Code.STREAM_EXPIRED), "c": GatewayError(Code.OVERLOADED)}
    await here.watch.sweep()
    assert here.told == [("a", False), ("b", False), ("c", False)]
    assert here.over == [("b", "dead")]
    assert here.others.buried == []
    here.others.left["dead"] = []
    await here.watch.sweep()
    assert here.others.buried == ["dead"]


async def test_every_stream_of_the_dead_has_its_turn() -> None:
    """However many wait for their readers: those behind them may have to go on at once."""
    here = Here()
    here.others.listed, here.others.dead = {"dead": "127.0.0.1:1"}, {"dead"}
    here.others.left = {"dead": [f"s{n}" for n in range(3 * SWEPT_AT_ONCE)]}
    for _ in range(3):
        before = len(here.told)
        await here.watch.sweep()
        assert len(here.told) - before <= SWEPT_AT_ONCE
    assert len({sid for sid, _ in here.told}) == 3 * SWEPT_AT_ONCE


# Chores.


class Log:
    """Takes batches, or is away."""

    def __init__(self) -> None:
        self.away = False
        self.done: list[tuple[Any, ...]] = []
        self.sizes: list[int] = []

    def batch(self) -> Any:
        commands: list[tuple[Any, ...]] = []

        async def send() -> list[Any]:
            if self.away:
                raise RedisConnectionError("away")
            self.done += commands
            self.sizes.append(len(commands))
            return [b"OK"] * len(commands)

        return SimpleNamespace(add=lambda *words: commands.append(words), send=send)


def chores(log: Log) -> Chores:
    """Of an instance `us`."""
    return Chores(cast(Any, log), KEYS, "us", kept_s=60)


async def test_chores_wait_while_redis_is_away_and_keep_their_order() -> None:
    """None is lost and none overtakes another."""
    log = Log()
    work = chores(log)
    log.away = True
    work.begins("a", ALICE, 7)
    work.leaves("a")
    for _ in range(3):
        with pytest.raises(RedisConnectionError):
            await work.work_off()
    work.takes("b", "them")
    log.away = False
    await work.work_off()
    members = [command for command in log.done if command[0] in ("SADD", "SREM")]
    assert [(verb, sid) for verb, _, sid in members] == [("SADD", "a"), ("SREM", "a"), ("SADD", "b"), ("SREM", "b")]
    assert log.done[-1] == ("SREM", KEYS.streams("them"), "b")


async def test_chores_that_wait_are_bounded() -> None:
    """The oldest are forgotten: all of them only make life easier."""
    log = Log()
    work = chores(log)
    for number in range(WAITING_MAX + 10):
        work.leaves(f"{number}")
    await work.work_off()
    assert len(log.done) == WAITING_MAX
    assert log.done[0][2] == "10"
    assert max(log.sizes) <= AT_ONCE


async def test_chores_are_done_in_a_real_redis(redis_server: RedisServer) -> None:
    """Sets and lists are what they should be; stopping does what is left."""
    async with clients_of(redis_server) as clients:
        work = Chores(log_of(clients), KEYS, "us", kept_s=60)
        work.start()
        work.begins("a", ALICE, 7)
        work.begins("b", ALICE, 8)
        work.leaves("a")
        await work.stop()
    assert redis_server.command("SMEMBERS", KEYS.streams("us")) in (["b"], {"b"})
    assert redis_server.command("ZRANGE", KEYS.mine(ALICE), 0, -1) == ["a", "b"]
    assert 0 < redis_server.command("TTL", KEYS.mine(ALICE)) <= 60


async def test_stopping_while_redis_is_away_does_not_fail() -> None:
    """Nor hang."""
    log = Log()
    log.away = True
    work = chores(log)
    work.start()
    work.leaves("a")
    await asyncio.sleep(0)
    async with asyncio.timeout(2):
        await work.stop()


def test_each_failure_waits_longer_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a success begins anew."""
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    pause = Backoff()
    assert pause.fresh
    waits = [pause.next_s() for _ in range(6)]
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    was_fresh = pause.fresh
    pause.reset()
    assert (was_fresh, pause.fresh, pause.next_s()) == (False, True, 0.1)
