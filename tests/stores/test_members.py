"""Who lives: what a process says itself counts, then its lease, and an absent Redis kills nobody."""

import asyncio
import time

import pytest
from redis.asyncio import Redis

from gateway.stores import members
from gateway.stores.keys import Keys
from gateway.stores.lease import Lease
from gateway.stores.members import FRESH_S, Membership
from gateway.stores.probe import Probe, Verdict, ask, place
from tests.doubles import ManualClock
from tests.house import free_port
from tests.peer import Peer
from tests.redis_server import RedisServer

KEYS = Keys("t")
LEASE_S = 1.5
PEER = "00112233445566aa"


class Instance:
    """One of several, with a clock of its own; lets its lease be old enough to be believed."""

    def __init__(self, commands: Redis, name: str = "me") -> None:
        self.clock = ManualClock()
        self.lease = Lease(
            commands,
            KEYS,
            instance=name,
            address=f"127.0.0.1:1@{name}",
            lease_s=LEASE_S,
            command_s=0.5,
            on_loss=lambda: None,
            on_lapse=lambda: None,
            on_relapse=lambda: None,
            on_missed=lambda: None,
            clock=self.clock,
        )
        self.members = Membership(commands, KEYS, self.lease, clock=self.clock)

    async def settle(self) -> "Instance":
        """Renew for as long as a lease lasts."""
        await self.lease.renew()
        self.clock.advance(LEASE_S)
        await self.lease.renew()
        return self


@pytest.fixture
async def me(commands: Redis) -> Instance:
    """This instance; Redis was well for as long as a lease lasts."""
    return await Instance(commands).settle()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every address that was really asked."""
    addresses: list[str] = []

    async def counted(address: str, instance: str, *, met: bool) -> Verdict:
        addresses.append(address)
        return await ask(address, instance, met=met)

    monkeypatch.setattr(members, "ask", counted)
    return addresses


def lend(server: RedisServer, instance: str) -> None:
    """Give `instance` a lease that does not run out during a test."""
    server.command("SET", KEYS.lease(instance), "somewhere", "PX", 60_000)


async def test_who_answers_lives_even_without_a_lease(me: Instance, redis_server: RedisServer) -> None:
    """Redis may have lost it, or the instance may have lost Redis."""
    with Peer(PEER) as peer:
        assert not redis_server.command("EXISTS", KEYS.lease(PEER))
        assert await me.members.alive(PEER, peer.address)


async def test_who_was_killed_is_dead_at_once_though_the_lease_is_there(
    me: Instance, redis_server: RedisServer
) -> None:
    """Takeover does not wait for the lease to run out."""
    lend(redis_server, PEER)
    with Peer(PEER) as peer:
        peer.kill()
        begun = time.monotonic()
        assert not await me.members.alive(PEER, peer.address)
        assert time.monotonic() - begun < 0.25


async def test_the_dead_stay_dead_and_are_not_asked_again(me: Instance, asked: list[str]) -> None:
    """Ids are never used again."""
    address = f"127.0.0.1:{free_port()}@{place()}"
    for _ in range(3):
        assert not await me.members.alive(PEER, address)
        me.clock.advance(3600)
    assert asked == [address]


async def test_an_answer_holds_for_a_quarter_of_a_second(me: Instance, asked: list[str]) -> None:
    """A thousand readers that come back at once ask once; who died since is found out soon."""
    with Peer(PEER) as peer:
        assert await me.members.alive(PEER, peer.address)
        peer.kill()
        me.clock.advance(FRESH_S / 2)
        assert await me.members.alive(PEER, peer.address)
        assert len(asked) == 1
        me.clock.advance(FRESH_S)
        assert not await me.members.alive(PEER, peer.address)
        assert len(asked) == 2


async def test_of_the_frozen_the_lease_decides(me: Instance, redis_server: RedisServer) -> None:
    """As long as it lasts they may only be busy; and who goes on after that lives again."""
    lend(redis_server, PEER)
    with Peer(PEER) as peer:
        peer.freeze()
        assert await me.members.alive(PEER, peer.address)
        redis_server.command("DEL", KEYS.lease(PEER))
        me.clock.advance(FRESH_S)
        assert not await me.members.alive(PEER, peer.address)
        peer.thaw()
        me.clock.advance(FRESH_S)
        assert await me.members.alive(PEER, peer.address)


async def test_a_port_taken_over_by_another_instance_is_a_death(me: Instance, redis_server: RedisServer) -> None:
    """Whatever the lease says: two processes cannot have one port."""
    lend(redis_server, PEER)
    probe = Probe("another", "127.0.0.1")
    await probe.start()
    assert not await me.members.alive(PEER, probe.address)
    await probe.close()


async def test_an_absent_redis_kills_nobody(me: Instance, redis_server: RedisServer) -> None:
    """With Redis frozen the silent count as alive, the refused as dead, each within a second."""
    with Peer(PEER) as frozen:
        frozen.freeze()
        redis_server.freeze()
        try:
            begun = time.monotonic()
            assert await me.members.alive(PEER, frozen.address)
            assert time.monotonic() - begun < 1.0
            frozen.kill()
            me.clock.advance(FRESH_S)
            begun = time.monotonic()
            assert not await me.members.alive(PEER, frozen.address)
            assert time.monotonic() - begun < 0.25
        finally:
            redis_server.thaw()


async def test_a_flushed_redis_kills_nobody(me: Instance, redis_server: RedisServer) -> None:
    """All leases are gone then; the frozen get the time to write theirs again."""
    lend(redis_server, PEER)
    with Peer(PEER) as peer:
        peer.freeze()
        redis_server.command("FLUSHALL")
        assert await me.members.alive(PEER, peer.address)
        await me.lease.renew()
        me.clock.advance(FRESH_S)
        assert await me.members.alive(PEER, peer.address)


async def test_calls_that_race_share_one_look(me: Instance, asked: list[str]) -> None:
    """And one that gives up does not take the answer from the others."""
    with Peer(PEER) as peer:
        peer.freeze()
        calls = [asyncio.create_task(me.members.alive(PEER, peer.address)) for _ in range(1000)]
        await asyncio.sleep(0)
        calls[0].cancel()
        answers = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [False] * 999
    assert len(asked) == 1


async def test_a_refusal_from_elsewhere_counts_once_it_has_answered(me: Instance, redis_server: RedisServer) -> None:
    """Before that its lease decides: a firewall may be between us."""
    lend(redis_server, PEER)
    probe = Probe(PEER, "127.0.0.1")
    await probe.start()
    # No loopback by its name, though the same listener.
    address = probe.address.replace("127.0.0.1", "0.0.0.0").replace(place(), "elsewhere")
    await probe.close()
    assert await me.members.alive(PEER, address)
    again = Probe(PEER, "127.0.0.1", int(address.partition("@")[0].rpartition(":")[2]))
    await again.start()
    me.clock.advance(FRESH_S)
    assert await me.members.alive(PEER, address)
    await again.close()
    me.clock.advance(FRESH_S)
    assert not await me.members.alive(PEER, address)


async def test_what_is_remembered_is_bounded(me: Instance, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The longest unasked are forgotten, and would be asked again."""
    monkeypatch.setattr(members, "REMEMBERED_MAX", 3)
    address = f"127.0.0.1:{free_port()}@{place()}"
    for name in ("a", "b", "c", "d", "d", "c", "b", "a"):
        assert not await me.members.alive(name, address)
    assert len(asked) == 5


async def test_to_look_again_forgets_nobody(me: Instance, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Only another one needs room."""
    monkeypatch.setattr(members, "REMEMBERED_MAX", 2)
    nobody = f"127.0.0.1:{free_port()}@{place()}"
    with Peer(PEER) as peer:
        await me.members.alive("dead", nobody)
        for _ in range(3):
            assert await me.members.alive(PEER, peer.address)
            me.clock.advance(FRESH_S)
        assert not await me.members.alive("dead", nobody)
    assert asked.count(nobody) == 1


async def test_the_others_are_all_that_have_not_said_goodbye(commands: Redis, me: Instance) -> None:
    """Without oneself."""
    other, third = Instance(commands, "other"), Instance(commands, "third")
    await other.lease.renew()
    await third.lease.renew()
    await third.lease.goodbye()
    assert await me.members.others() == {"other": "127.0.0.1:1@other"}


async def test_the_dead_are_buried_when_their_streams_are_gone(commands: Redis, me: Instance) -> None:
    """Until then a sweeper finds them by the list."""
    dead = Instance(commands, "dead")
    await dead.lease.renew()
    await commands.sadd(KEYS.streams("dead"), "s1", "s2")
    assert sorted(await me.members.streams_of("dead")) == ["s1", "s2"]
    await commands.srem(KEYS.streams("dead"), "s1")
    assert not await me.members.bury("dead")
    assert list(await me.members.others()) == ["dead"]
    await commands.srem(KEYS.streams("dead"), "s2")
    assert await me.members.bury("dead")
    assert await me.members.others() == {}
    assert await me.members.streams_of("dead") == []
