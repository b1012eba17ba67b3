"""The flusher over a real Redis that dies, freezes, fills, forgets, or belongs to somebody else by now."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.exceptions import RedisError

from gateway.events import Audio, AudioEvicted, Event, Metadata, Opened, Text
from gateway.stores.flusher import Flusher
from gateway.stores.redis_client import Clients
from gateway.streams.stream import Bounds, State, Stream
from tests.doubles import DONE, END, ManualClock, stream_of
from tests.house import eventually
from tests.redis_server import RedisServer
from tests.stores.shared import KEYS, THEM, US, clients_of, log_of, records_of, text_of, write

OPENED = Opened("m")
COMMAND_S = 1.0


class Writing:
    """A flusher and what it said."""

    def __init__(self, clients: Clients, *, max_bytes: int = 1 << 20, flush_s: float = 0.02) -> None:
        self.clock = ManualClock()
        self.log = log_of(clients, COMMAND_S)
        self.durable: list[bool] = []
        self.superseded: list[Stream] = []
        self.flushed: list[float] = []
        self.flusher = Flusher(
            self.log,
            US,
            flush_s=flush_s,
            max_bytes=max_bytes,
            on_durable=self.durable.append,
            on_superseded=self.superseded.append,
            on_flushed=self.flushed.append,
            clock=self.clock,
        )

    def keep(self, *events: Event, **options: Any) -> Stream:
        """A stream that is written down."""
        stream = stream_of(*events, **options)
        self.flusher.keep(stream, dialect="native", provider="local")
        return stream

    async def text(self, stream: Stream) -> str:
        """What a reader in another process reads."""
        return text_of(await self.log.load(stream.sid))


@contextlib.asynccontextmanager
async def writing_to(server: RedisServer, **options: Any) -> AsyncIterator[Writing]:
    """A flusher for this Redis, stopped in the end."""
    async with clients_of(server, COMMAND_S) as clients:
        writing = Writing(clients, **options)
        yield writing
        await writing.flusher.stop()


@pytest.fixture
async def writing(redis_server: RedisServer) -> AsyncIterator[Writing]:
    """A flusher for the Redis that tests share."""
    async with writing_to(redis_server) as writing:
        yield writing


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis of the test's own, to be ill-treated."""
    with RedisServer() as server:
        yield server


async def test_one_command_a_round_holds_everything_new(writing: Writing) -> None:
    """However many appends there were."""
    stream = writing.keep(OPENED, Text("a"))
    await writing.flusher.flush()
    assert writing.flusher.commands == 1
    for n in range(10):
        stream.append([Text(str(n))])
    assert writing.flusher.exposed == 10
    await writing.flusher.flush()
    assert (writing.flusher.commands, writing.flusher.exposed) == (2, 0)
    await writing.flusher.flush()
    assert writing.flusher.commands == 2
    assert await writing.text(stream) == "a0123456789"


async def test_a_stream_that_has_ended_is_written_and_let_go(writing: Writing) -> None:
    """With its state; nobody reads along any more."""
    stream = writing.keep(OPENED, Text("a"))
    await writing.flusher.flush()
    stream.append([END])
    stream.finish(DONE)
    await writing.flusher.flush()
    found = await writing.log.load(stream.sid)
    assert found is not None
    assert found.state is State.COMPLETED
    assert [event for _, event in records_of(found)] == stream.events()
    assert stream.readers == 0
    assert writing.flusher.exposed == 0


async def test_what_opens_begins_or_ends_a_stream_is_written_at_once(redis_server: RedisServer) -> None:
    """Everything else within its time: here it would be an hour."""
    async with writing_to(redis_server, flush_s=3600) as writing:
        writing.flusher.start()
        stream = writing.keep(OPENED)
        await eventually(lambda: writing.flusher.exposed == 0)
        stream.append([Text("a")])
        await eventually(lambda: writing.flusher.exposed == 0)
        stream.append([Text("b")])
        await asyncio.sleep(0.05)
        assert writing.flusher.exposed == 1
        stream.append([Text("c")])
        stream.finish(DONE)
        await eventually(lambda: stream.readers == 0)
        assert await writing.text(stream) == "abc"


async def test_the_rest_is_written_soon(writing: Writing) -> None:
    """By itself, for many streams in few commands."""
    writing.flusher.start()
    streams = [writing.keep(OPENED, Text("a")) for _ in range(100)]
    await eventually(lambda: writing.flusher.exposed == 0)
    before = writing.flusher.commands
    for n in range(8):
        for stream in streams:
            stream.append([Text(str(n))])
    await eventually(lambda: writing.flusher.exposed == 0)
    assert writing.flusher.commands == before + 100
    assert {await writing.text(stream) for stream in streams} == {"a01234567"}


async def test_a_stopped_flusher_goes_on_by_hand(writing: Writing) -> None:
    """A process that goes away writes its last words when it likes."""
    writing.flusher.start()
    await writing.flusher.stop()
    stream = writing.keep(OPENED, Text("a"))
    await writing.flusher.flush()
    assert await writing.text(stream) == "a"


async def test_speech_is_written_when_it_is_asked_for(writing: Writing) -> None:
    """While a process drains, others play it on."""
    speech = Audio(b"sound", "pcm", 24000, "Hi.", 1, False, 100)
    stream = writing.keep(OPENED, speech)
    await writing.flusher.flush()
    writing.flusher.with_audio = True
    stream.append([speech])
    await writing.flusher.flush()
    written = [event for _, event in records_of(await writing.log.load(stream.sid))]
    assert written == [OPENED, AudioEvicted(1), speech]


async def test_a_log_beyond_its_bound_is_folded(redis_server: RedisServer) -> None:
    """It takes less room then, and is not folded again for each new event."""
    async with writing_to(redis_server, max_bytes=500) as writing:
        stream = writing.keep(OPENED)
        await writing.flusher.flush()
        for n in range(400):
            stream.append([Text(f"{n} ")])
            await writing.flusher.flush()
        found = await writing.log.load(stream.sid)
        assert found is not None
        assert text_of(found) == stream.text()
        assert len(found.entries) < 350
        assert writing.flusher.written_bytes < 150_000


@pytest.mark.parametrize("ended", [False, True], ids=["running", "ended"])
async def test_after_a_flush_streams_are_written_again(
    writing: Writing, redis_server: RedisServer, ended: bool
) -> None:
    """The next entry finds no log, or ours; no reader gets a text without its beginning."""
    stream = writing.keep(OPENED, Text("a"))
    await writing.flusher.flush()
    redis_server.command("FLUSHALL")
    stream.append([Text("b")])
    if ended:
        stream.finish(DONE)
    await writing.flusher.flush()
    found = await writing.log.load(stream.sid)
    assert found is not None
    assert [event for _, event in records_of(found)] == stream.events()
    assert found.state is (State.COMPLETED if ended else State.LIVE)
    assert writing.durable == []


async def test_all_that_is_in_memory_is_written_again(writing: Writing, redis_server: RedisServer) -> None:
    """Also what has ended, and what says nothing at the moment."""
    silent, ended, gone = writing.keep(OPENED, Text("a")), writing.keep(OPENED, Text("b")), writing.keep(OPENED)
    ended.finish(DONE)
    gone.finish(DONE)
    await writing.flusher.flush()
    sid = gone.sid
    del gone
    redis_server.command("FLUSHALL")
    writing.flusher.lost_data()
    await writing.flusher.flush()
    assert await writing.text(silent) == "a"
    assert await writing.text(ended) == "b"
    assert await writing.log.load(sid) is None
    silent.append([Text("c")])
    await writing.flusher.flush()
    assert await writing.text(silent) == "ac"


async def test_redis_killed_and_back(own_redis: RedisServer) -> None:
    """It is said once that nothing is durable, once that it is again; the log is whole."""
    async with writing_to(own_redis) as writing:
        stream = writing.keep(OPENED, Text("a"))
        await writing.flusher.flush()
        own_redis.kill()
        for n in range(3):
            stream.append([Text(str(n))])
            await writing.flusher.flush()
        late = writing.keep(OPENED, Text("late"))
        assert writing.durable == [False]
        assert not writing.flusher.durable
        assert writing.flusher.exposed == 5
        own_redis.start()
        await writing.flusher.flush()
        assert writing.durable == [False, True]
        assert await writing.text(stream) == "a012"
        assert await writing.text(late) == "late"


async def test_it_finds_back_by_itself(own_redis: RedisServer) -> None:
    """Also when nothing new is said."""
    async with writing_to(own_redis) as writing:
        writing.flusher.start()
        stream = writing.keep(OPENED, Text("a"))
        await eventually(lambda: writing.flusher.exposed == 0)
        own_redis.kill()
        stream.append([Text("b")])
        await eventually(lambda: writing.durable == [False])
        own_redis.start()
        await eventually(lambda: writing.durable == [False, True])
        assert await writing.text(stream) == "ab"
        own_redis.kill()
        stream.append([Text("c")])
        await eventually(lambda: writing.durable == [False, True, False])
        stream.give_up()
        own_redis.start()
        await eventually(lambda: writing.durable == [False, True, False, True])


async def test_a_write_that_was_thought_lost_is_read_once(own_redis: RedisServer) -> None:
    """Redis stood still while it was on its way, and does it after all when it goes on."""
    async with writing_to(own_redis) as writing:
        stream, silent = writing.keep(OPENED, Text("a")), writing.keep(OPENED, Text("s"))
        await writing.flusher.flush()
        own_redis.freeze()
        stream.append([Text("b")])
        silent.append([Text("t")])
        await writing.flusher.flush()
        assert writing.durable == [False]
        stream.append([Text("c")])
        own_redis.thaw()
        await writing.flusher.flush()
        assert writing.durable == [False, True]
        assert await writing.text(stream) == "abc"
        assert await writing.text(silent) == "st"
        found = await writing.log.load(stream.sid)
        assert [record.seq for record in records_of(found)] == [1, 2, 3, 4]


async def test_a_stream_that_opens_while_redis_stands_still(own_redis: RedisServer) -> None:
    """It is written once, whole, with its end, though the first attempt is done late."""
    async with writing_to(own_redis) as writing:
        own_redis.freeze()
        stream = writing.keep(OPENED, Text("a"))
        await writing.flusher.flush()
        stream.append([Text("b")])
        stream.finish(DONE)
        own_redis.thaw()
        await writing.flusher.flush()
        found = await writing.log.load(stream.sid)
        assert found is not None
        assert [event for _, event in records_of(found)] == stream.events()
        assert found.state is State.COMPLETED


async def test_a_full_redis_is_away_for_writing(own_redis: RedisServer) -> None:
    """And well again when there is room."""
    async with writing_to(own_redis) as writing:
        stream = writing.keep(OPENED, Text("a"))
        await writing.flusher.flush()
        own_redis.command("CONFIG", "SET", "maxmemory", "1")
        stream.append([Text("b")])
        new = writing.keep(OPENED, Text("n"))
        for _ in range(3):
            await writing.flusher.flush()
        assert writing.durable == [False]
        own_redis.command("CONFIG", "SET", "maxmemory", "0")
        stream.finish(DONE)
        await writing.flusher.flush()
        assert writing.durable == [False, True]
        assert await writing.text(stream) == "ab"
        assert await writing.text(new) == "n"


async def test_a_redis_that_only_reads_is_away_for_writing(own_redis: RedisServer) -> None:
    """As after a failover that has not reached us; also when nothing is to be written while it lasts."""
    async with writing_to(own_redis) as writing:
        stream = writing.keep(OPENED, Text("a"))
        await writing.flusher.flush()
        own_redis.command("REPLICAOF", "127.0.0.1", "1")
        stream.append([Text("b")])
        await writing.flusher.flush()
        stream.finish(DONE)
        await writing.flusher.flush()
        assert writing.durable == [False]
        own_redis.command("REPLICAOF", "NO", "ONE")
        await writing.flusher.flush()
        assert writing.durable == [False, True]
        assert await writing.text(stream) == "ab"


async def test_what_ended_just_before_redis_lost_its_tail_is_written_again(own_redis: RedisServer) -> None:
    """A crash may cost Redis what it had acknowledged in its last second; later ones are on its disk."""
    async with writing_to(own_redis) as writing:
        old = writing.keep(OPENED, Text("old"))
        old.finish(DONE)
        await writing.flusher.flush()
        writing.clock.advance(61)
        fresh = writing.keep(OPENED, Text("fresh"))
        fresh.finish(DONE)
        await writing.flusher.flush()
        own_redis.command("FLUSHALL")
        own_redis.kill()
        running = writing.keep(OPENED)
        await writing.flusher.flush()
        own_redis.start()
        await writing.flusher.flush()
        assert await writing.text(fresh) == "fresh"
        assert await writing.log.load(old.sid) is None
        assert running.readers == 1


async def test_what_was_folded_while_redis_was_away_is_written_whole(own_redis: RedisServer) -> None:
    """Its events are not there one by one any more."""
    async with writing_to(own_redis) as writing:
        stream = writing.keep(OPENED, Text("a"), bounds=Bounds(max_bytes=10_000, max_events=40, max_audio_ms=0))
        await writing.flusher.flush()
        own_redis.kill()
        for n in range(100):
            stream.append([Text(f"{n} ")])
        await writing.flusher.flush()
        own_redis.start()
        await writing.flusher.flush()
        assert await writing.text(stream) == stream.text()


async def test_a_zombie_appends_nothing(writing: Writing) -> None:
    """Whatever it still has to say; that it was superseded is said once."""
    stream, ending = writing.keep(OPENED, Text("a")), writing.keep(OPENED, Text("x"))
    await writing.flusher.flush()
    for each in (stream, ending):
        claimed = await writing.log.claim(each.sid, expected_producer="us", expected_epoch=1, producer=THEM)
        assert claimed.won
    stream.append([Text("zombie")])
    ending.append([Text("zombie")])
    ending.finish(DONE)
    for _ in range(3):
        await writing.flusher.flush()
        stream.append([Text("zombie")])
    assert await writing.text(stream) == "a"
    assert await writing.text(ending) == "x"
    assert sorted(each.sid for each in writing.superseded) == sorted([stream.sid, ending.sid])
    assert writing.durable == []
    writing.flusher.lost_data()
    await writing.flusher.flush()
    assert (await writing.log.epochs([stream.sid])) == [(2, "them")]


async def test_whose_a_stream_is_can_be_asked(writing: Writing, redis_server: RedisServer) -> None:
    """Before anything is delivered after a standstill; what Redis has lost is written again."""
    mine, theirs, lost = (writing.keep(OPENED, Text(c)) for c in "abc")
    await writing.flusher.flush()
    await writing.log.claim(theirs.sid, expected_producer="us", expected_epoch=1, producer=THEM)
    redis_server.command("DEL", KEYS.log(lost.sid), KEYS.meta(lost.sid))
    for _ in range(2):
        await writing.flusher.verify()
    assert writing.superseded == [theirs]
    await writing.flusher.flush()
    assert await writing.text(lost) == "c"
    assert await writing.text(mine) == "a"


async def test_asking_a_redis_that_is_away_fails(own_redis: RedisServer) -> None:
    """Whoever asks must not go on as if all were well."""
    async with writing_to(own_redis) as writing:
        writing.keep(OPENED, Text("a"))
        await writing.flusher.flush()
        own_redis.kill()
        with pytest.raises(RedisError):
            await writing.flusher.verify()


async def test_a_claimed_stream_goes_on_where_it_was_claimed(writing: Writing) -> None:
    """What the predecessor wrote is not written again."""
    stream = stream_of(OPENED, Text("a"))
    await write(writing.log, stream, THEM)
    claimed = await writing.log.claim(stream.sid, expected_producer="them", expected_epoch=1, producer=US)
    mine = Stream(stream.sid, stream.request, stream.owner, lineage=stream.lineage.succeeded(claimed.last))
    found = await writing.log.load(stream.sid)
    assert found is not None
    mine.load([], 1, [event for _, event in records_of(found)], lost=0, poured=0)
    writing.flusher.keep(mine, dialect="native", provider="local", flushed=mine.head)
    mine.append([Text("b")])
    await writing.flusher.flush()
    found = await writing.log.load(stream.sid)
    assert text_of(found) == "ab"
    assert found is not None
    assert [entry.epoch for entry in found.entries] == [1, 2, 2]


async def test_another_producer_of_the_same_epoch_is_another(writing: Writing, redis_server: RedisServer) -> None:
    """After Redis lost a claim and its winner wrote first, only one may go on."""
    stream, ending = writing.keep(OPENED, Text("a")), writing.keep(OPENED, Text("x"))
    await writing.flusher.flush()
    for each in (stream, ending):
        redis_server.command("HSET", KEYS.meta(each.sid), "producer", "them")
    redis_server.command("XADD", KEYS.log(stream.sid), "1-9", "f", 3, "p", 9, "b", '["' + "t" * 7 + '"]')
    stream.append([Text("zombie")])
    ending.finish(DONE)
    await writing.flusher.flush()
    assert sorted(each.sid for each in writing.superseded) == sorted([stream.sid, ending.sid])
    assert await writing.text(ending) == "x"


async def test_given_up_streams_are_forgotten(writing: Writing) -> None:
    """Nothing that a stream says after its successor exists is written."""
    stream = writing.keep(OPENED, Text("a"))
    await writing.flusher.flush()
    stream.append([Text("b")])
    stream.give_up()
    await writing.flusher.flush()
    assert await writing.text(stream) == "a"
    assert stream.readers == 0


async def test_one_broken_key_stops_nobody_else(writing: Writing, redis_server: RedisServer) -> None:
    """Somebody has put something else under its name: that stream is given up, the others are written."""
    broken, well = writing.keep(OPENED), writing.keep(OPENED)
    redis_server.command("SET", KEYS.log(broken.sid), "surprise")
    for _ in range(2):
        broken.append([Text("x")])
        well.append([Text("y")])
        await writing.flusher.flush()
    assert await writing.text(well) == "yy"
    assert writing.durable == []
    assert writing.flusher.exposed == 0


async def test_a_listener_that_fails_stops_nothing(own_redis: RedisServer) -> None:
    """Neither the writing nor the other listener."""
    async with writing_to(own_redis) as writing:

        def fail(what: object) -> None:
            raise ValueError(what)

        writing.flusher._on_durable = writing.flusher._on_superseded = fail
        stream = writing.keep(OPENED, Text("a"))
        own_redis.kill()
        await writing.flusher.flush()
        own_redis.start()
        await writing.flusher.flush()
        assert await writing.text(stream) == "a"


async def test_a_cancelled_round_is_made_good(writing: Writing) -> None:
    """Whether its commands arrived is not known; nothing is lost or doubled."""
    streams = [writing.keep(OPENED, Text("a")) for _ in range(200)]
    for turns in range(6):
        for stream in streams:
            stream.append([Text(str(turns))])
        task = asyncio.ensure_future(writing.flusher.flush())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await writing.flusher.flush()
    assert {await writing.text(stream) for stream in streams} == {"a012345"}


STEPS = st.lists(
    st.sampled_from(["say", "say", "say", "much", "other", "flush", "flush", "flushall", "freeze", "end"]),
    min_size=3,
    max_size=14,
)


@settings(max_examples=40)
@given(steps=STEPS, small=st.booleans())
def test_what_is_read_is_always_a_prefix_of_what_was_said(
    shared_redis: RedisServer, steps: list[str], small: bool
) -> None:
    """Whatever happened to Redis between: never other text, never a hole, and all of it in the end."""
    asyncio.run(_live_through(shared_redis, steps, small))


async def _live_through(server: RedisServer, steps: list[str], small: bool) -> None:
    bounds = Bounds(max_bytes=600, max_events=12, max_audio_ms=0)
    async with clients_of(server) as clients:
        writing = Writing(clients, max_bytes=300)
        writing.flusher._log = log_of(clients, 0.04)
        stream = writing.keep(OPENED, **({"bounds": bounds} if small else {}))
        said = 0
        for step in steps:
            if step in ("say", "much"):
                count = 1 if step == "say" else 7
                stream.append([Text(f"{n}.") for n in range(said, said + count)])
                said += 0 if stream.sealed else count
            else:
                await _befall(step, stream, writing, server)
            found = await writing.log.load(stream.sid)
            _is_prefix(found and text_of(found), stream, said)
        if "flushall" in steps:
            writing.flusher.lost_data()
        writing.flusher._log = writing.log
        await writing.flusher.flush()
        await writing.flusher.flush()
        found = await writing.log.load(stream.sid)
        assert text_of(found) == stream.text()
        assert records_of(found)[-1].seq == stream.head


def _is_prefix(read: str | None, stream: Stream, said: int) -> None:
    whole = "".join(f"{n}." for n in range(said))
    kept = stream.text()
    assert not read or whole.startswith(read) or (stream.lost and (read in whole and kept))


async def _befall(step: str, stream: Stream, writing: Writing, server: RedisServer) -> None:
    act: dict[str, Callable[[], object]] = {
        "other": lambda: stream.append([Metadata({"n": 1})]),
        "flushall": lambda: server.command("FLUSHALL"),
        "end": lambda: stream.finish(DONE),
    }
    if step == "flush":
        await writing.flusher.flush()
    elif step == "freeze":
        server.freeze()
        try:
            await writing.flusher.flush()
        finally:
            server.thaw()
    else:
        act[step]()
