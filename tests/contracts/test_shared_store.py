"""What a SharedStore promises: several stores over one real Redis, each with a memory of its own, as in processes."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from gateway.errors import Code, GatewayError
from gateway.events import Text
from gateway.request import Caller
from gateway.stores import reservations
from gateway.streams.cursor import Cursor
from gateway.streams.ids import Place, new_sid
from gateway.streams.store import LogStore
from gateway.streams.stream import State, Stream, opened
from tests.contracts.shared import Member, Sharing, soon
from tests.doubles import ALICE, BOB, DONE, END, question
from tests.redis_server import RedisServer

RETENTION_S = 600.0
AWAY_S = 1.0
"""For a store that is away to say so."""


@pytest.fixture
async def sharing(redis_server: RedisServer) -> AsyncIterator[Sharing]:
    """An empty Redis; it is thawed in the end whatever happens."""
    async with Sharing(redis_server, retention_s=RETENTION_S) as sharing:
        yield sharing
        redis_server.thaw()


@pytest.fixture
async def a(sharing: Sharing) -> Member:
    """The one that makes streams."""
    return await sharing.join()


@pytest.fixture
async def b(sharing: Sharing) -> Member:
    """Another one."""
    return await sharing.join()


async def begun(by: Member, *texts: str, owner: Caller = ALICE) -> Stream:
    """A stream that runs and is written down."""
    stream = Stream(new_sid(), question(), owner)
    stream.aside(opened(stream.request))
    await by.store.create(stream)
    stream.append([Text(text) for text in texts])
    await by.store.written()
    return stream


def latest(stream: Stream) -> Stream:
    """Where its readers are by now: a mirror may be made anew."""
    while stream.successor is not None:
        stream = stream.successor
    return stream


async def refused(store: LogStore, sid: str, caller: Caller = ALICE) -> tuple[Code, str]:
    """How `find` says no."""
    with pytest.raises(GatewayError) as raised:
        await store.find(sid, caller)
    return raised.value.code, raised.value.message


async def test_what_one_creates_another_finds_and_reads_as_it_grows(a: Member, b: Member) -> None:
    """The same text under the same ids in the same epoch, to the same end; and there is nothing behind it."""
    stream = await begun(a, "one ")
    mirror = await b.store.find(stream.sid, ALICE)
    assert mirror.mirrored
    assert (mirror.text(), mirror.head, mirror.epoch, mirror.poured) == ("one ", stream.head, 1, stream.poured)
    for number in range(20):
        stream.append([Text(f"{number} ")])
        await asyncio.sleep(0)
    stream.append([END])
    stream.finish(DONE)
    await soon(lambda: mirror.ended)
    assert mirror.after(0, 1 << 20) == stream.after(0, 1 << 20)
    assert (mirror.state, mirror.terminal) == (State.COMPLETED, DONE)
    assert Cursor(mirror, Place(stream.sid, 1, stream.head)).done


async def test_a_mirror_belongs_to_the_owner_of_its_stream(a: Member, b: Member) -> None:
    """A stranger hears what he hears of a stream that never was, before it is mirrored and after."""
    stream = await begun(a, "x")
    unknown = await refused(b.store, new_sid(), BOB)
    assert unknown[0] is Code.STREAM_NOT_FOUND
    assert await refused(b.store, stream.sid, BOB) == unknown
    await b.store.find(stream.sid, ALICE)
    assert await refused(b.store, stream.sid, BOB) == unknown


async def test_what_is_no_longer_kept_is_gone_for_its_owner_everywhere(sharing: Sharing, a: Member, b: Member) -> None:
    """410 for the owner, in a process that never saw it too; for anybody else it never was."""
    stream = await begun(a, "x")
    stream.finish(DONE)
    a.store.settle(stream)
    await sharing.passes(RETENTION_S + 1)
    assert (await refused(b.store, stream.sid))[0] is Code.STREAM_EXPIRED
    assert await refused(b.store, stream.sid, BOB) == await refused(b.store, new_sid(), BOB)


@pytest.mark.parametrize("dead", [False, True], ids=["frozen", "dead"])
async def test_a_redis_that_is_away_is_said_to_be_within_a_second(dead: bool) -> None:
    """Never 404: whoever comes back later finds the stream. What is here is found here all the same."""
    with RedisServer() as server:
        async with Sharing(server, command_s=0.3) as sharing:
            a, b = await sharing.join(), await sharing.join()
            stream = await begun(a, "x")
            server.kill() if dead else server.freeze()
            try:
                began = time.monotonic()
                assert (await refused(b.store, stream.sid))[0] is Code.STORE_AWAY
                assert time.monotonic() - began < AWAY_S
                with pytest.raises(GatewayError, match="STORE_AWAY"):
                    await b.store.check()
                assert await a.store.find(stream.sid, ALICE) is stream
            finally:
                server.start() if dead else server.thaw()
            await soon(lambda: _finds(b, stream.sid))


async def _finds(member: Member, sid: str) -> bool:
    try:
        await member.store.find(sid, ALICE)
    except GatewayError:
        return False
    return True


async def test_a_stream_is_bereft_when_its_producer_is_dead_and_not_before(a: Member, b: Member) -> None:
    """And one that has ended needs nobody."""
    running, over = await begun(a, "x"), await begun(a, "y")
    over.finish(DONE)
    await a.store.written()
    mirrors = [await b.store.find(stream.sid, ALICE) for stream in (running, over)]
    assert [await b.store.is_bereft(mirror) for mirror in mirrors] == [False, False]
    await a.die()
    await soon(lambda: b.store.is_bereft(mirrors[0]))
    assert not await b.store.is_bereft(mirrors[1])


async def test_of_all_that_claim_a_bereft_stream_one_wins(sharing: Sharing, a: Member) -> None:
    """It goes on where the log ends; the others read what the winner makes, and so do those who read before."""
    stream = await begun(a, "before ")
    others = [await sharing.join() for _ in range(4)]
    mirrors = [await other.store.find(stream.sid, ALICE) for other in others]
    await a.die()
    heirs = await asyncio.gather(*[o.store.claim(m) for o, m in zip(others, mirrors, strict=True)])
    (winner,) = [heir for heir in heirs if not heir.mirrored]
    assert {(heir.epoch, heir.lineage.ends[1], heir.text()) for heir in heirs} == {(2, stream.head, "before ")}
    assert all(mirror.given_up and mirror.successor is not None for mirror in mirrors)
    winner.append([Text("after")])
    winner.finish(DONE)
    await soon(lambda: all(latest(heir).ended for heir in heirs))
    assert {latest(heir).text() for heir in heirs} == {"before after"}


async def test_a_key_is_reserved_once_among_all_processes(sharing: Sharing) -> None:
    """All the others get the stream of the winner, though it may not be written down yet when they ask."""
    members = [await sharing.join() for _ in range(3)]

    async def ask(member: Member) -> str:
        stream = Stream(new_sid(), question(), ALICE)
        holder = await member.store.reserve(ALICE, "k", b"f", stream.sid)
        if holder is not None:
            return (await member.store.find(holder, ALICE)).sid
        await asyncio.sleep(0.05)
        stream.aside(opened(stream.request))
        await member.store.create(stream)
        return stream.sid

    assert len(set(await asyncio.gather(*[ask(members[n % 3]) for n in range(50)]))) == 1


async def test_a_key_whose_process_died_before_its_stream_was_there_is_free(
    a: Member, b: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the question could not be asked again for as long as streams are kept."""
    monkeypatch.setattr(reservations, "CREATED_S", 0.1)
    assert await a.store.reserve(ALICE, "k", b"f", new_sid()) is None
    await a.die()
    assert await b.store.reserve(ALICE, "k", b"f", new_sid()) is None


async def test_a_cancel_reaches_the_producer_at_once(a: Member, b: Member) -> None:
    """Within 100 ms, where the machine has the time."""
    took: list[float] = []
    for number in range(5):
        mirror = await b.store.find((await begun(a, "x")).sid, ALICE)
        began = time.monotonic()
        await b.store.ask_to_cancel(mirror)
        await soon(lambda number=number: len(a.told.cancelled) > number)
        took.append(time.monotonic() - began)
        assert a.told.cancelled[-1] == mirror.sid
    assert min(took) <= 0.1


async def test_a_cancel_outlives_the_process_that_should_have_heard_it(a: Member, b: Member) -> None:
    """Whoever takes the stream over ends it as its client wished, and does not pay for the rest of the answer."""
    mirror = await b.store.find((await begun(a, "x")).sid, ALICE)
    await a.die()
    await b.store.ask_to_cancel(mirror)
    heir = await b.store.claim(mirror)
    assert (heir.sealed, heir.seal_reason, heir.ended) == (True, "cancelled", False)


async def test_a_key_holds_over_the_edges_of_an_outage(a: Member, b: Member, redis_server: RedisServer) -> None:
    """Reserved before it and asked again while Redis is away, or reserved meanwhile and asked again elsewhere."""
    before, within = new_sid(), await begun(a, "x")
    assert await a.store.reserve(ALICE, "before", b"f", before) is None
    redis_server.kill()
    await soon(lambda: not a.store.durable)
    assert await a.store.reserve(ALICE, "before", b"f", new_sid()) == before
    with pytest.raises(GatewayError) as raised:
        await a.store.reserve(ALICE, "before", b"another", new_sid())
    assert raised.value.code is Code.IDEMPOTENCY_MISMATCH
    assert await a.store.reserve(ALICE, "within", b"f", within.sid) is None
    redis_server.start()
    await soon(lambda: a.store.durable and b.store.durable)
    await asyncio.sleep(0)
    await a.store._chores.work_off()
    assert await b.store.reserve(ALICE, "within", b"f", new_sid()) == within.sid


async def test_the_producer_hears_of_those_who_read_elsewhere(a: Member, b: Member) -> None:
    """That they read, that they have left, and that their process is dead."""
    stream, here = await begun(a, "x"), b.store.instance
    await b.store.find(stream.sid, ALICE)
    b.store.announce(stream.sid, reading=True)
    await soon(lambda: a.told.readers == [(stream.sid, here, True)])
    b.store.announce(stream.sid, reading=False)
    await soon(lambda: a.told.readers[1:] == [(stream.sid, here, False)])
    await b.die()
    await soon(lambda: a.told.dead == [here])


async def test_a_list_holds_the_streams_of_all_processes_and_nobody_elses(
    sharing: Sharing, a: Member, b: Member
) -> None:
    """The same list wherever it is asked for."""
    mine = {(await begun(member, "x")).sid for member in (a, b)}
    await begun(a, "y", owner=BOB)
    await sharing.settled()
    for member in (a, b):
        assert {summary.sid for summary in await member.store.streams_of(ALICE)} == mine


async def test_what_redis_lost_is_written_again_by_those_who_have_it(sharing: Sharing, a: Member, b: Member) -> None:
    """Running or finished; until then it is away and not unknown, once the loss is known, and never another text."""
    running, over = await begun(a, "one "), await begun(a, "whole")
    over.finish(DONE)
    mirror = await b.store.find(running.sid, ALICE)
    sharing.server.command("FLUSHALL")
    await b.store._lease.renew()
    assert (await refused(b.store, over.sid))[0] is Code.STORE_AWAY
    running.append([Text("two")])
    await soon(lambda: _finds(b, over.sid))
    assert (await b.store.find(over.sid, ALICE)).text() == "whole"
    await soon(lambda: mirror.text() == "one two" or mirror.given_up)
    assert (await b.store.find(running.sid, ALICE)).text() == "one two"


async def test_nothing_that_a_superseded_process_says_is_ever_read(sharing: Sharing, a: Member, b: Member) -> None:
    """It stood still, was taken for dead, and woke: its words are no part of the log, and it is told so."""
    stream = await begun(a, "before ")
    await a.die()
    heir = await b.store.claim(await b.store.find(stream.sid, ALICE))
    stream.append([Text("zombie")])
    heir.append([Text("after")])
    await b.store.written()
    await a.store.written()
    stream.finish(DONE)
    await a.store.written()
    c = await sharing.join()
    assert (await c.store.find(stream.sid, ALICE)).text() == "before after"
    assert a.told.taken == [stream]


async def test_what_was_handed_over_is_claimed_at_once_and_whole(a: Member, b: Member) -> None:
    """Who says goodbye has written everything, and nobody waits for a lease to end."""
    stream = await begun(a, "one ")
    mirror = await b.store.find(stream.sid, ALICE)
    stream.append([Text("two ")])
    stream.append([Text("three")])
    await a.store.written()
    await a.store.stop()
    began = time.monotonic()
    await soon(lambda: b.store.is_bereft(mirror))
    heir = await b.store.claim(mirror)
    assert time.monotonic() - began < AWAY_S
    assert (heir.text(), heir.lineage.ends[1]) == ("one two three", stream.head)
