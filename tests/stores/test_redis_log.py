"""One stream in a real Redis: written, ended, read, taken over, and never written by two."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.events import Audio, AudioEvicted, Event, Failed, Metadata, Opened, Status, Text, TextComplete
from gateway.stores.entries import ENTRY_MAX_BYTES, BrokenEntry
from gateway.stores.mirrors import restored
from gateway.stores.pieces import Piece, all_pieces, new_pieces
from gateway.stores.redis_client import Clients
from gateway.stores.redis_log import MISSING, OK, SUPERSEDED, Claimed, RedisLog, is_stale
from gateway.streams.lineage import Lineage
from gateway.streams.stream import DEFAULT_BOUNDS, Bounds, State, Stream
from tests.doubles import ALICE, DONE, END, question, stream_of
from tests.redis_server import RedisServer
from tests.stores.shared import KEYS, THEM, US, clients_of, log_of, records_of, text_of, write

OPENED = Opened("m")


@pytest.fixture
async def clients(redis_server: RedisServer) -> AsyncIterator[Clients]:
    """Clients of an empty Redis."""
    async with clients_of(redis_server) as clients:
        yield clients


@pytest.fixture
def log(clients: Clients) -> RedisLog:
    """A log in it."""
    return log_of(clients)


def _new(stream: Stream, after: int) -> list[Piece]:
    return new_pieces(stream, after, with_audio=False)


async def _append(log: RedisLog, stream: Stream, after: int) -> object:
    batch = log.batch()
    log.append(batch, stream, _new(stream, after))
    return (await batch.send())[0]


async def _finish(log: RedisLog, stream: Stream, after: int) -> object:
    batch = log.batch()
    log.finish(batch, stream, _new(stream, after), US)
    return (await batch.send())[0]


async def test_a_stream_is_found_as_it_was_written(log: RedisLog) -> None:
    """Its facts and its events, appended in several goes."""
    stream = stream_of(OPENED, Text("a"), metadata={"k": 1})
    assert await write(log, stream) == OK
    stream.append([Text("b"), Metadata({"x": 1})])
    stream.asides = 1
    assert await _append(log, stream, 2) == b"1-4"
    found = await log.load(stream.sid)
    assert found is not None
    assert [event for _, event in records_of(found)] == stream.events()
    assert (found.epoch, found.ends, found.exact, found.state) == (1, {}, False, State.LIVE)
    assert (found.owner, found.request, found.created_s) == (ALICE, stream.request, stream.created_s)
    assert (found.producer, found.at, found.dialect, found.provider) == ("us", US.at, "native", "local")
    assert found.entries[-1].poured == 3
    assert found.running
    assert not found.gone


async def test_what_its_owner_showed_is_kept_with_a_stream(log: RedisLog) -> None:
    """By its name; whoever goes on must know it. Of a stream without, as older versions wrote them all, nothing."""
    stream = stream_of(OPENED, Text("a"))
    stream.credential = "key:acme:0123"
    for one in (stream, stream_of(OPENED, Text("a"))):
        await write(log, one)
        found = await log.load(one.sid)
        assert found is not None
        assert found.credential == restored(found, DEFAULT_BOUNDS).credential == one.credential
        assert restored(found, DEFAULT_BOUNDS).copy(one.lineage).credential == one.credential


async def test_nothing_is_known_of_an_unknown_stream(log: RedisLog) -> None:
    """It is not the same as one that has been there."""
    assert await log.load("nobody") is None


async def test_the_end_is_written_with_the_state(log: RedisLog, redis_server: RedisServer) -> None:
    """In one, so that no reader finds one without the other; the question is not kept longer than its answer."""
    stream = stream_of(OPENED, Text("a"))
    await write(log, stream)
    stream.append([END])
    stream.finish(DONE)
    for _ in range(2):
        assert await _finish(log, stream, 2) == OK
    found = await log.load(stream.sid)
    assert found is not None
    assert [event for _, event in records_of(found)] == stream.events()
    assert found.state is State.COMPLETED
    assert found.request == stream.request.without_question()
    assert 290 < redis_server.command("TTL", KEYS.log(stream.sid)) <= 300
    assert 390 < redis_server.command("TTL", KEYS.meta(stream.sid)) <= 400


async def test_only_a_tombstone_outlives_the_log(log: RedisLog, redis_server: RedisServer) -> None:
    """Its owner is still known: 410 for him, 404 for everybody else."""
    stream = stream_of(OPENED, Text("a"))
    await write(log, stream)
    redis_server.command("DEL", KEYS.log(stream.sid))
    found = await log.load(stream.sid)
    assert found is not None
    assert found.gone
    assert found.owner == ALICE


async def test_an_entry_written_twice_stands_there_once(log: RedisLog) -> None:
    """The second is refused, and known for what it is."""
    stream = stream_of(OPENED, Text("a"))
    await write(log, stream)
    stream.append([Text("b")])
    await _append(log, stream, 2)
    assert is_stale(await _append(log, stream, 2))
    assert not is_stale(None)
    assert text_of(await log.load(stream.sid)) == "ab"


async def test_nothing_is_appended_to_what_is_not_there(log: RedisLog) -> None:
    """A flushed Redis must not be told the end of a text without its beginning."""
    stream = stream_of(OPENED, Text("a" * ENTRY_MAX_BYTES), Text("b"))
    assert await _append(log, stream, 2) is None
    assert len(_new(stream, 0)) > 1
    assert await _append(log, stream, 0) is None
    stream.finish(DONE)
    assert await _finish(log, stream, 2) == MISSING
    assert await log.load(stream.sid) is None


async def test_an_end_behind_a_gap_is_refused(log: RedisLog) -> None:
    """Redis may come back without the last second: then it is written whole."""
    stream = stream_of(OPENED, Text("a"))
    await write(log, stream)
    stream.append([Text("b")])
    stream.finish(DONE)
    assert await _finish(log, stream, 3) == MISSING
    assert text_of(await log.load(stream.sid)) == "a"


async def test_entries_are_bounded(log: RedisLog) -> None:
    """However much is new: what takes several is written by one command, since only the last knows what was poured."""
    stream = stream_of(OPENED)
    await write(log, stream)
    stream.append([Text(f"{n:100}€") for n in range(3000)])
    stream.asides = 1
    pieces = _new(stream, 1)
    assert len(pieces) > 4
    assert all(len(piece.body) <= ENTRY_MAX_BYTES for piece in pieces)
    assert await _append(log, stream, 1) == b"1-3001"
    found = await log.load(stream.sid)
    assert text_of(found) == stream.text()


async def test_what_is_folded_stays_one_piece(log: RedisLog) -> None:
    """Its places have no events any more, and what follows has."""
    bounds = Bounds(max_bytes=1000, max_events=20, max_audio_ms=0)
    stream = stream_of(OPENED, *(Text(f"{n} ") for n in range(30)), Status("thinking"), Text("end"), bounds=bounds)
    assert stream.exact_from > 1
    await write(log, stream)
    found = await log.load(stream.sid)
    assert text_of(found) == stream.text()
    assert records_of(found) == [*stream.folded(), *stream.after(stream.exact_from - 1, 10_000)]
    folded = all_pieces(stream, with_audio=False, folded=True)
    assert len(folded) < len(all_pieces(stream, with_audio=False, folded=False)) + 10
    assert folded[-1].last == stream.head
    batch = log.batch()
    log.write(batch, stream, folded, US, dialect="native", provider="local")
    assert await batch.send() == [OK]
    assert text_of(await log.load(stream.sid)) == stream.text()


async def test_a_delayed_rewrite_takes_nothing_back(log: RedisLog) -> None:
    """A command that was on its way while Redis stood still may come after its successors."""
    stream = stream_of(OPENED, Text("a"))
    await write(log, stream)
    old = all_pieces(stream, with_audio=False, folded=False)
    stream.append([Text("b")])
    await _append(log, stream, 2)
    batch = log.batch()
    log.write(batch, stream, old, US, dialect="native", provider="local")
    assert await batch.send() == [OK]
    assert text_of(await log.load(stream.sid)) == "ab"


async def test_a_rewrite_is_refused_to_one_that_was_superseded(log: RedisLog) -> None:
    """Neither with an older epoch nor with the same one in another's hands; the newer epoch wins."""
    stream = stream_of(OPENED, Text("a"))
    await write(log, stream)
    assert await write(log, stream, THEM) == SUPERSEDED
    newer = Stream(stream.sid, question(), ALICE, lineage=Lineage(2, {1: 2}))
    newer.append([OPENED, Text("c")])
    assert await write(log, newer, THEM) == OK
    assert await write(log, stream) == SUPERSEDED
    stream.finish(DONE)
    assert await _finish(log, stream, 2) == SUPERSEDED
    assert is_stale(await _append(log, stream, 2))
    found = await log.load(stream.sid)
    assert text_of(found) == "c"
    assert found is not None
    assert found.ends == {1: 2}


async def test_a_rewrite_after_a_flush_brings_everything_back(log: RedisLog, redis_server: RedisServer) -> None:
    """Finished ones with the state that they ended in."""
    stream = stream_of(OPENED, Text("a"), Text("b"))
    stream.finish(Failed("INTERNAL", "no", True, 500, 1))
    redis_server.command("FLUSHALL")
    assert await write(log, stream) == OK
    found = await log.load(stream.sid)
    assert found is not None
    assert found.state is State.FAILED
    assert [event for _, event in records_of(found)] == stream.events()
    assert 290 < redis_server.command("TTL", KEYS.log(stream.sid)) <= 300


async def test_scripts_are_loaded_where_they_are_not_known(log: RedisLog, redis_server: RedisServer) -> None:
    """A Redis that was restarted has forgotten them; commands beside them are done once."""
    redis_server.command("SCRIPT", "FLUSH")
    stream, other = stream_of(OPENED, Text("a")), stream_of(OPENED, Text("x"))
    batch = log.batch()
    for each in (stream, other):
        pieces = all_pieces(each, with_audio=False, folded=False)
        log.write(batch, each, pieces, US, dialect="native", provider="local")
        batch.add("INCR", "beside")
    assert await batch.send() == [OK, 1, OK, 2]


async def test_one_of_many_claims_wins(log: RedisLog) -> None:
    """The others hear who has it; what was said last is known, and the log goes on one place later."""
    stream = stream_of(OPENED, Text("a"), Text("b"))
    stream.asides = 1
    await write(log, stream)
    claimers = [US._replace(instance=f"i{n}") for n in range(20)]
    claims = await asyncio.gather(
        *(log.claim(stream.sid, expected_producer="us", expected_epoch=1, producer=each) for each in claimers)
    )
    (won,) = [claim for claim in claims if claim.won]
    assert (won.epoch, won.last) == (2, 3)
    assert {(claim.epoch, claim.producer) for claim in claims} == {(2, won.producer)}
    found = await log.load(stream.sid)
    assert found is not None
    assert (found.epoch, found.ends, found.producer) == (2, {1: 3}, won.producer)
    assert [event for _, event in records_of(found)] == [*stream.events(), Status("continued")]
    assert (found.entries[-1].epoch, found.entries[-1].poured) == (2, 2)


async def test_a_claim_whose_answer_was_lost_is_won_again(log: RedisLog) -> None:
    """By the same instance with the same answer, also after it has gone on writing; by no other."""
    stream = stream_of(OPENED, Text("a"))
    await write(log, stream)

    async def claim() -> Claimed:
        return await log.claim(stream.sid, expected_producer="us", expected_epoch=1, producer=THEM)

    first = await claim()
    assert first == (True, 2, 2, "them", False)
    assert await claim() == first
    late = await log.claim(stream.sid, expected_producer="us", expected_epoch=1, producer=US._replace(instance="x"))
    assert late == (False, 2, 0, "them", False)


async def test_epochs_are_remembered_over_several_claims(log: RedisLog) -> None:
    """A reader of any of them can be told where it stands."""
    stream = stream_of(OPENED, Text("a"))
    await write(log, stream)
    await log.claim(stream.sid, expected_producer="us", expected_epoch=1, producer=THEM)
    again = await log.claim(stream.sid, expected_producer="them", expected_epoch=2, producer=US)
    assert again == (True, 3, 3, "us", False)
    found = await log.load(stream.sid)
    assert found is not None
    assert found.ends == {1: 2, 2: 3}


async def test_an_ended_or_unknown_stream_is_not_claimed(log: RedisLog, redis_server: RedisServer) -> None:
    """There is nothing to go on with; nor where only the tombstone is left."""
    stream = stream_of(OPENED, Text("a"), TextComplete("stop"))
    stream.finish(DONE)
    await write(log, stream)
    claim = await log.claim(stream.sid, expected_producer="us", expected_epoch=1, producer=THEM)
    assert claim == (False, 1, 0, "us", False)
    assert (await log.claim("x", expected_producer="us", expected_epoch=1, producer=THEM)) == (False, 0, 0, "", False)
    running = stream_of(OPENED, Text("a"))
    await write(log, running)
    redis_server.command("DEL", KEYS.log(running.sid))
    assert not (await log.claim(running.sid, expected_producer="us", expected_epoch=1, producer=THEM)).won


async def test_tops_and_epochs_of_many(log: RedisLog) -> None:
    """In the order asked, in several round trips where there are many."""
    streams = [stream_of(OPENED, *[Text("a")] * (n % 3)) for n in range(70)]
    for stream in streams:
        await write(log, stream)
    sids = ["none", *(stream.sid for stream in streams)]
    assert await log.tops(sids) == [None, *((1, 1 + n % 3) for n in range(70))]
    assert await log.epochs(sids) == [None, *[(1, "us")] * 70]


async def test_what_cannot_be_read_says_so(log: RedisLog, redis_server: RedisServer) -> None:
    """A log of another version, or one that somebody has been at."""
    stream = stream_of(OPENED, Text("a"))
    await write(log, stream)
    redis_server.command("HSET", KEYS.meta(stream.sid), "state", "dreaming")
    with pytest.raises(BrokenEntry):
        await log.load(stream.sid)
    redis_server.command("HSET", KEYS.meta(stream.sid), "state", "open")
    redis_server.command("XADD", KEYS.log(stream.sid), "1-9", "f", "3", "p", "0", "b", "[5]")
    with pytest.raises(BrokenEntry):
        await log.load(stream.sid)


async def test_speech_is_written_only_when_it_is_asked_for() -> None:
    """In between its place is held."""
    speech: list[Event] = [Audio(b"sound", "pcm", 24000, "Hi.", 1, True, 100)]
    stream = stream_of(OPENED, *speech)
    assert b"AudioEvicted" in new_pieces(stream, 1, with_audio=False)[0].body
    assert b"AudioEvicted" not in new_pieces(stream, 1, with_audio=True)[0].body
    assert AudioEvicted(1) not in stream.events()
