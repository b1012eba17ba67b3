"""Readings whose stream is made elsewhere now: cut off, or going on in a successor unseen."""

import asyncio
from contextlib import closing

import orjson
import pytest

from gateway.delivery.connection import Ending
from gateway.delivery.waiter import Waiter, successor_of
from gateway.dialects.base import Dialect
from gateway.errors import ClientGone, Code, GatewayError
from gateway.events import NOT_DURABLE, Metadata, Status, Text
from gateway.streams.lineage import Lineage
from gateway.streams.stream import Stream
from tests.delivery.bench import NATIVE, OPENAI, Bench, tokens
from tests.doubles import ALICE, DONE, END, RecordingSink, question


def heir_of(stream: Stream, last: int, *, exact: bool = False) -> Stream:
    """What another process goes on with, of which the first `last` events were durable."""
    lineage = Lineage(stream.epoch + 1, {stream.epoch: last}, exact)
    heir = Stream(stream.sid, question(), ALICE, lineage=lineage)
    heir.load((), 1, stream.events()[:last], lost=0, poured=last)
    heir.aside(Status("continued"))
    return heir


# Without a successor.


@pytest.mark.parametrize("dialect", [NATIVE, OPENAI], ids=["native", "openai"])
def test_nothing_more_is_said_of_a_stream_that_is_made_elsewhere(bench: Bench, dialect: Dialect) -> None:
    """Neither what comes nor last words: the client is cut off and comes back."""
    reader = bench.read(dialect)
    bench.append(Text("a"))
    arrived = reader.sink.arrived
    bench.stream.give_up()
    bench.append(Text("b"))
    bench.loop.turn()
    assert reader.ending() is Ending.SUPERSEDED
    assert reader.sink.arrived == arrived


def test_what_a_slow_client_has_not_taken_yet_is_not_given_to_it(bench: Bench) -> None:
    """Other words may have been said elsewhere since."""
    reader = bench.read()
    reader.congest()
    bench.append(Text("stale"))
    bench.loop.turn()
    assert reader.sink.waiting
    bench.stream.give_up()
    assert reader.sink.waiting == b""
    reader.take()
    assert reader.ending() is Ending.SUPERSEDED
    assert "stale" not in reader.text


def test_a_reader_that_lags_reads_on_no_further(bench: Bench) -> None:
    """However much of the log it had before it."""
    reader = bench.read(room=150)
    bench.append(*tokens(50))
    bench.loop.turn()
    arrived = reader.sink.arrived
    bench.stream.give_up()
    reader.take()
    assert reader.ending() is Ending.SUPERSEDED
    assert reader.sink.arrived == arrived


# With one.


def test_what_was_written_goes_out_where_there_is_a_successor(bench: Bench) -> None:
    """It is the same answer."""
    reader = bench.read()
    reader.congest()
    bench.append(Text("said"))
    bench.loop.turn()
    bench.stream.give_up(heir_of(bench.stream, 2))
    reader.take()
    assert reader.ending() is Ending.RENEWED
    assert reader.text == "said"


def test_a_reading_goes_on_in_the_successor_without_a_hello(bench: Bench) -> None:
    """One unbroken reading: each event once, with the ids of the new epoch behind the old ones."""
    reader = bench.read()
    bench.append(Text("a"), Text("b"))
    heir = heir_of(bench.stream, 3)
    bench.stream.give_up(heir)
    bench.loop.turn()
    assert reader.ending() is Ending.RENEWED
    again = reader.goes_on_in(heir)
    bench.loop.turn()
    heir.append([Text("c")])
    heir.append([END])
    heir.finish(DONE)
    bench.loop.turn()
    assert again.ending() is Ending.FINISHED
    names = [event.event for event in reader.events]
    assert names == ["connected", "status", "text", "text", "status", "text", "status", "complete", "close"]
    sid = bench.stream.sid
    ids = [event.id for event in reader.events if event.event == "text"]
    assert ids == [f"{sid}-1-2", f"{sid}-1-3", f"{sid}-2-5"]
    assert reader.text == "abc"


def test_who_has_heard_more_than_was_durable_is_told_to_take_it_back(bench: Bench) -> None:
    """REWIND, and the text as it is now."""
    reader = bench.read()
    bench.append(Text("a"), Text("b"), Text("c"))
    heir = heir_of(bench.stream, 2)
    bench.stream.give_up(heir)
    bench.loop.turn()
    reader.goes_on_in(heir)
    heir.append([Text("x")])
    bench.loop.turn()
    (warning,) = [orjson.loads(event.data) for event in reader.events if event.event == "warning"]
    assert (warning["code"], warning["to"], warning["dropped"]) == ("REWIND", 2, 2)
    assert reader.text == "ax"
    heir.give_up()


def test_who_reads_an_exact_answer_waits_for_it_and_hears_heartbeats(bench: Bench) -> None:
    """While it is said again there is nothing to tell; then it goes on with the very next word."""
    reader = bench.read()
    bench.append(Text("a"), Text("b"), Text("c"))
    heir = heir_of(bench.stream, 2, exact=True)
    bench.stream.give_up(heir)
    bench.loop.turn()
    again = reader.goes_on_in(heir)
    bench.loop.turn()
    arrived, beats = reader.sink.arrived, reader.sink.beats
    bench.loop.advance(20, 1)
    assert reader.sink.beats == beats + 1
    for text in "bc":
        heir.append([Text(text)])
        bench.loop.turn()
    assert reader.sink.arrived.replace(b": hb\n", b"") == arrived
    heir.append([Text("d")])
    bench.loop.turn()
    assert reader.text == "abcd"
    assert not [event for event in reader.events if event.event == "warning"]
    heir.give_up()
    bench.loop.turn()
    assert again.ending() is Ending.SUPERSEDED


@pytest.mark.parametrize(("last", "code"), [(2, "PRODUCER_LOST"), (4, None)])
def test_a_dialect_that_cannot_take_words_back_ends_with_an_error(bench: Bench, last: int, code: str | None) -> None:
    """Without `[DONE]`; where nothing was lost it just goes on."""
    reader = bench.read(OPENAI)
    bench.append(Text("a"), Text("b"), Text("c"))
    heir = heir_of(bench.stream, last)
    bench.stream.give_up(heir)
    bench.loop.turn()
    again = reader.goes_on_in(heir)
    bench.loop.turn()
    error = orjson.loads(reader.last.data).get("error")
    assert (None if error is None else error["code"]) == code
    assert again.ending() is (None if code is None else Ending.LOST)
    assert b"[DONE]" not in reader.sink.arrived
    heir.give_up()


# Said to one client.


def test_what_is_not_in_the_log_is_said_once_and_has_no_id(bench: Bench) -> None:
    """A warning between two events; a reader that comes later does not hear it."""
    reader = bench.read()
    bench.append(Text("a"))
    bench.heart.tell_all(NOT_DURABLE)
    bench.loop.turn()
    bench.append(Text("b"))
    later = bench.read()
    (warning,) = [event for event in reader.events if event.event == "warning"]
    assert orjson.loads(warning.data)["code"] == "NOT_DURABLE"
    assert b"-3\n\nevent: warning" not in reader.sink.arrived
    assert reader.names[-3:] == ["text", "warning", "text"]
    assert "warning" not in later.names
    assert bench.stream.head == 3


def test_what_is_not_in_the_log_is_said_to_one_that_lags_too(bench: Bench) -> None:
    """Once it takes again, and once; it loses nothing by it."""
    reader = bench.read(room=150)
    bench.append(*tokens(20))
    bench.loop.turn()
    bench.heart.tell_all(NOT_DURABLE)
    bench.append(Text("end"))
    bench.loop.turn()
    reader.take()
    assert reader.names.count("warning") == 1
    assert reader.text == "".join(tokens(20)) + "end"


def test_a_dialect_without_words_for_it_says_nothing(bench: Bench) -> None:
    """Not even an empty chunk."""
    reader = bench.read(OPENAI)
    before = len(reader.sink.writes)
    bench.heart.tell_all(NOT_DURABLE)
    bench.loop.turn()
    assert len(reader.sink.writes) == before
    bench.append(Text("a"))
    assert reader.text == "a"


# Events that cannot be told.


class HoldingSink(RecordingSink):
    """Holds what is written until the turn is over, as a socket's sink does."""

    def __init__(self, room: int | None = None) -> None:
        super().__init__(room)
        self.held = b""

    def write(self, data: bytes, *, last: bool = False) -> None:
        if self.gone:
            raise ClientGone
        self.held += data

    def drop(self) -> None:
        self.held = b""

    def abort(self) -> None:
        """As at the end of a reading that is cut off."""
        super().write(self.held)


def test_what_was_said_before_an_event_that_cannot_be_told_goes_out(bench: Bench) -> None:
    """In the same turn: the client must see that the answer had begun, or it asks anew."""
    sink = HoldingSink()
    reader = bench.read(sink=sink)
    bench.append(Text("a"))
    bench.append(Metadata({"what": object()}))
    bench.loop.turn()
    assert reader.ending() is Ending.BROKEN
    sink.abort()
    assert reader.text == "a"


# Those who wait for the whole.


def test_a_waiter_hears_that_nothing_more_comes(bench: Bench) -> None:
    """It looks again, and sees that the stream was given up."""
    stream = bench.stream

    async def wait() -> bool:
        with closing(Waiter(stream)) as waiter:
            asyncio.get_running_loop().call_later(5, stream.give_up)
            return await waiter.wait(lambda: stream.ended or stream.given_up, 60)

    begin = bench.loop.time()
    assert bench.loop.run(wait())
    assert bench.loop.time() - begin < 6


def test_a_stream_without_a_successor_here_was_lost(bench: Bench) -> None:
    """A client that waits for all of it hears an error it can act on."""
    bench.stream.give_up()
    with pytest.raises(GatewayError) as raised:
        successor_of(bench.stream)
    assert raised.value.code is Code.PRODUCER_LOST
