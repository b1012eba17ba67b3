"""A lease says that an instance lives; what Redis lost, or could not hear, is no proof against anybody."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from gateway.stores.keys import Keys
from gateway.stores.lease import Lease
from gateway.stores.redis_client import connect
from tests.doubles import ManualClock
from tests.house import eventually
from tests.redis_server import RedisServer

KEYS = Keys("t")
LEASE_S = 1.5


class Holder:
    """An instance with its lease, a clock of its own, and what it was told."""

    def __init__(
        self,
        commands: Redis,
        instance: str = "me",
        lease_s: float = LEASE_S,
        on_loss: Callable[[], None] | None = None,
    ) -> None:
        self.clock = ManualClock()
        self.told: list[str] = []
        self.missed: list[float] = []
        self.lease = Lease(
            commands,
            KEYS,
            instance=instance,
            address=f"127.0.0.1:1@{instance}",
            lease_s=lease_s,
            command_s=0.5,
            on_loss=on_loss or (lambda: self.told.append("loss")),
            on_lapse=lambda: self.told.append("lapse"),
            on_relapse=lambda: self.told.append("relapse"),
            on_missed=lambda: self.missed.append(self.clock()),
            clock=self.clock,
        )

    async def settle(self) -> None:
        """Renew for longer than a lease lasts: from now on this instance may trust what Redis lacks."""
        for _ in range(4):
            assert await self.lease.renew()
            self.clock.advance(LEASE_S / 3)


async def test_a_renewal_says_who_lives_where(commands: Redis, redis_server: RedisServer) -> None:
    """The lease with its time, the place on the list, and the era."""
    holder = Holder(commands)
    holder.clock.now = 77.0
    assert await holder.lease.renew()
    assert redis_server.command("GET", KEYS.lease("me")) == "127.0.0.1:1@me"
    assert 1000 < redis_server.command("PTTL", KEYS.lease("me")) <= 1500
    assert redis_server.command("HGETALL", KEYS.instances) == {"me": "127.0.0.1:1@me"}
    assert redis_server.command("GET", KEYS.era)
    assert holder.lease.renewed_at == 77.0
    assert holder.told == []


async def test_a_flushed_redis_is_noticed_once_by_everybody(commands: Redis, redis_server: RedisServer) -> None:
    """Whoever comes first begins the new era, the others hear that it is another one."""
    holders = [Holder(commands, name) for name in ("a", "b", "c")]
    for holder in holders:
        await holder.settle()
        assert not holder.lease.recently_lost(60)
    redis_server.command("FLUSHALL")
    for _ in range(3):
        for holder in holders:
            assert await holder.lease.renew()
            holder.clock.advance(0.5)
    assert [holder.told for holder in holders] == [["loss"]] * 3
    assert holders[0].lease.recently_lost(1.6)
    assert not holders[0].lease.recently_lost(1.4)
    redis_server.command("FLUSHALL")
    await holders[0].lease.renew()
    assert holders[0].told == ["loss", "loss"]


async def test_a_loss_can_be_asked_for_before_it_is_told(commands: Redis, redis_server: RedisServer) -> None:
    """Between two renewals: what is missing then is no proof that it never was."""
    holder, other = Holder(commands), Holder(commands, "other")
    assert not await holder.lease.is_stale()
    await holder.settle()
    assert not await holder.lease.is_stale()
    redis_server.command("FLUSHALL")
    assert await holder.lease.is_stale()
    await other.settle()
    assert await holder.lease.is_stale()
    await holder.lease.renew()
    assert not await holder.lease.is_stale()


async def test_a_restarted_redis_with_its_data_is_the_same(redis_server: RedisServer, commands: Redis) -> None:
    """Nothing was lost, so nothing is told but that the lease had run out meanwhile, if it had."""
    holder = Holder(commands)
    await holder.settle()
    redis_server.restart()
    await holder.lease.renew()
    assert await holder.lease.renew()
    assert "loss" not in holder.told


async def test_a_lease_that_had_run_out_is_told(commands: Redis, redis_server: RedisServer) -> None:
    """The instance itself may have noticed nothing: its machine was stopped, or it was cut off from Redis."""
    holder = Holder(commands)
    await holder.settle()
    redis_server.command("DEL", KEYS.lease("me"))
    assert await holder.lease.renew()
    assert holder.told == ["lapse"]
    await holder.lease.renew()
    assert holder.told == ["lapse"]


async def test_a_full_redis_still_prolongs_a_lease() -> None:
    """It takes no new data, but who lived before it was full goes on living."""
    with RedisServer() as server:
        clients = connect(server.url, 0.5)
        holder = Holder(clients.commands)
        await holder.settle()
        server.command("PEXPIRE", KEYS.lease("me"), 300)
        server.command("CONFIG", "SET", "maxmemory", "1")
        assert await holder.lease.renew()
        assert server.command("PTTL", KEYS.lease("me")) > 1000
        assert not await Holder(clients.commands, "new").lease.renew()
        assert holder.told == []
        await clients.aclose()


async def test_a_missed_renewal_is_told_once_and_made_up_for(
    commands: Redis, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A frozen Redis costs no more than the command's limit each time, and one line in the log."""
    holder = Holder(commands)
    await holder.settle()
    caplog.clear()
    redis_server.freeze()
    try:
        begun = time.monotonic()
        assert not await holder.lease.renew()
        assert not await holder.lease.renew()
        assert time.monotonic() - begun < 1.5
    finally:
        redis_server.thaw()
    assert [record.message for record in caplog.records] == ["the lease is not renewed"]
    assert await holder.lease.renew()
    assert caplog.records[-1].message in ("the lease is renewed again", "the lease had run out")


async def test_it_beats_by_itself_and_through_failures(
    commands: Redis, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Three times a lease; what a listener throws does not end it."""

    def fails() -> None:
        raise RuntimeError("a listener")

    holder = Holder(commands, lease_s=0.5, on_loss=fails)
    holder.lease.start()
    await eventually(lambda: redis_server.command("EXISTS", KEYS.lease("me")))
    redis_server.command("FLUSHALL")
    await eventually(lambda: any(record.message == "a renewal failed" for record in caplog.records))
    await eventually(lambda: redis_server.command("EXISTS", KEYS.lease("me")))
    redis_server.command("PERSIST", KEYS.lease("me"))
    await eventually(lambda: redis_server.command("PTTL", KEYS.lease("me")) > 0)
    await holder.lease.goodbye()


async def test_goodbye_takes_the_lease_and_the_place_on_the_list(commands: Redis, redis_server: RedisServer) -> None:
    """And no beat brings them back."""
    for _ in range(20):
        holder = Holder(commands, lease_s=0.003)
        holder.lease.start()
        await asyncio.sleep(0.005)
        await holder.lease.goodbye()
        await asyncio.sleep(0.005)
        assert not redis_server.command("EXISTS", KEYS.lease("me"))
        assert redis_server.command("HGETALL", KEYS.instances) == {}


async def test_a_renewal_behind_goodbye_does_nothing(commands: Redis, redis_server: RedisServer) -> None:
    """The client may swallow the beat's cancellation; the lease is given back all the same."""
    holder = Holder(commands)
    await holder.lease.renew()
    await holder.lease.goodbye()
    assert not await holder.lease.renew()
    assert redis_server.command("HGETALL", KEYS.instances) == {}


async def test_goodbye_waits_for_a_renewal_on_its_way(
    commands: Redis, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that still waits for a connection would overtake it backwards."""
    gate = asyncio.Event()
    pipeline = commands.pipeline

    def slow(transaction: bool = True) -> Pipeline:
        pipe = pipeline(transaction=transaction)
        execute = pipe.execute

        async def later(raise_on_error: bool = True) -> list[Any]:
            await gate.wait()
            return await execute(raise_on_error)

        monkeypatch.setattr(pipe, "execute", later)
        return pipe

    monkeypatch.setattr(commands, "pipeline", slow)
    holder = Holder(commands)
    renewal = asyncio.create_task(holder.lease.renew())
    await asyncio.sleep(0)
    leaving = asyncio.create_task(holder.lease.goodbye())
    await asyncio.sleep(0.05)
    gate.set()
    assert await renewal
    await leaving
    assert redis_server.command("HGETALL", KEYS.instances) == {}


async def test_goodbye_with_streams_left_stays_on_the_list(commands: Redis, redis_server: RedisServer) -> None:
    """Else nobody would find the streams to which no reader comes back."""
    holder = Holder(commands)
    await holder.lease.renew()
    redis_server.command("SADD", KEYS.streams("me"), "sid")
    await holder.lease.goodbye()
    assert not redis_server.command("EXISTS", KEYS.lease("me"))
    assert redis_server.command("HKEYS", KEYS.instances) == ["me"]


async def test_goodbye_to_an_absent_redis_is_short(commands: Redis, redis_server: RedisServer) -> None:
    """The process ends all the same."""
    holder = Holder(commands)
    await holder.lease.renew()
    redis_server.freeze()
    try:
        begun = time.monotonic()
        await holder.lease.goodbye()
        assert time.monotonic() - begun < 1.0
    finally:
        redis_server.thaw()


class TestHeldBy:
    """Whether another one has its lease, and when the answer no is to be believed."""

    async def test_a_lease_is_there_until_it_runs_out(self, commands: Redis, redis_server: RedisServer) -> None:
        """Where Redis was well all the time, a missing lease is a missing lease."""
        me, other = Holder(commands), Holder(commands, "other")
        await me.settle()
        await other.lease.renew()
        assert await me.lease.held_by("other")
        redis_server.command("DEL", KEYS.lease("other"))
        assert not await me.lease.held_by("other")

    async def test_one_who_has_just_come_believes_nothing_missing(self, commands: Redis) -> None:
        """Redis may have been away until a moment ago; after the time of a lease all that live have renewed theirs."""
        me = Holder(commands)
        assert await me.lease.held_by("other")
        await me.lease.renew()
        me.clock.advance(LEASE_S - 0.1)
        await me.lease.renew()
        assert await me.lease.held_by("other")
        me.clock.advance(0.2)
        await me.lease.renew()
        assert not await me.lease.held_by("other")

    async def test_a_flush_kills_nobody(self, commands: Redis, redis_server: RedisServer) -> None:
        """Neither before it is noticed nor until all have had the time to renew."""
        me = Holder(commands)
        await me.settle()
        redis_server.command("FLUSHALL")
        assert await me.lease.held_by("other")
        await me.lease.renew()
        assert await me.lease.held_by("other")
        me.clock.advance(LEASE_S)
        await me.lease.renew()
        assert not await me.lease.held_by("other")

    async def test_a_frozen_redis_kills_nobody(self, commands: Redis, redis_server: RedisServer) -> None:
        """Nor does it when it has come back, since all leases ran out meanwhile."""
        me = Holder(commands)
        await me.settle()
        redis_server.freeze()
        try:
            begun = time.monotonic()
            assert await me.lease.held_by("other")
            assert time.monotonic() - begun < 1.0
            assert not await me.lease.renew()
        finally:
            redis_server.thaw()
        assert await me.lease.renew()
        assert await me.lease.held_by("other")
        me.clock.advance(LEASE_S)
        await me.lease.renew()
        assert not await me.lease.held_by("other")


async def test_a_redis_that_forgot_its_last_second_is_noticed_once(commands: Redis, redis_server: RedisServer) -> None:
    """As after a restart from its last save: the era is the same, only the newest writes are missing."""
    holder = Holder(commands)
    await holder.settle()
    redis_server.command("SET", KEYS.beats("me"), "2")
    for _ in range(3):
        assert await holder.lease.renew()
    assert holder.told == ["relapse"]


async def test_the_first_renewal_that_fails_is_told(commands: Redis, redis_server: RedisServer) -> None:
    """So that an instance that writes nothing learns of an outage too; once for each outage."""
    holder = Holder(commands)
    await holder.settle()
    for _ in range(2):
        redis_server.kill()
        assert not await holder.lease.renew()
        assert not await holder.lease.renew()
        redis_server.start()
        assert await holder.lease.renew()
    assert len(holder.missed) == 2
