"""How readings end: each for its own reason, none of them at another's cost, and nothing is left behind."""

import logging
from collections.abc import Callable

import orjson
import pytest

from gateway.delivery.connection import Ending
from gateway.events import Completed, Custom, Failed, Status, Text
from tests.delivery.bench import OPENAI, SMALL, Bench, Reader
from tests.doubles import END, stream_of

FAILED = Failed("UPSTREAM_ERROR", "m", True, 502, 0)
UNSPEAKABLE = Custom("two\nlines", {})
"""Its name cannot stand in an `event:` line."""


@pytest.mark.parametrize("terminal", [FAILED, Completed("cancelled", "client", None, 0, 0)])
def test_the_end_of_the_stream_is_the_end_of_the_reading(terminal: Failed | Completed) -> None:
    """The terminal event in the turn of its append, then `close`, then nothing."""
    with Bench(Text("a")) as bench:
        reader = bench.read()
        bench.stream.finish(terminal)
        assert reader.names[-1] in ("error", "complete")
        bench.loop.turn()
        assert reader.ending() is Ending.FINISHED
        assert reader.last.event == "close"
        assert orjson.loads(reader.last.data)["reason"] == "complete"


def test_a_reader_of_a_stream_that_has_ended_gets_all_of_it_and_the_end() -> None:
    """From the beginning, or only what it missed."""
    with Bench(Text("a"), Text("b")) as bench:
        bench.finish()
        reader, returning = bench.read(), bench.read(place=2)
        assert reader.ending() is returning.ending() is Ending.FINISHED
        assert reader.names == ["connected", "status", "text", "status", "complete", "close"]
        assert returning.names == ["connected", "text", "status", "complete", "close"]


def test_in_a_dialect_without_last_words_the_terminal_event_is_the_last_word() -> None:
    """`[DONE]`, and nothing behind it."""
    with Bench(Text("a")) as bench:
        reader = bench.read(OPENAI)
        bench.finish()
        assert reader.ending() is Ending.FINISHED
        assert reader.last.data == "[DONE]"


def test_a_reader_that_lags_at_the_end_gets_the_rest_first() -> None:
    """The end does not overtake what comes before it."""
    with Bench() as bench:
        reader = bench.read()
        reader.congest()
        bench.append(Text("a"))
        bench.append(Text("b"))
        bench.finish()
        assert reader.ending() is None
        reader.take()
        assert reader.ending() is Ending.FINISHED
        assert reader.names == ["connected", "status", "text", "text", "status", "complete", "close"]


def test_a_client_that_has_gone_is_noticed_by_the_next_write() -> None:
    """The writer of the log hears nothing of it."""
    with Bench() as bench:
        reader = bench.read()
        reader.sink.leave()
        bench.append(Text("a"))
        bench.loop.turn()
        assert reader.ending() is Ending.GONE
        assert bench.stream.text() == "a"


def test_a_client_that_goes_while_it_is_waited_for_is_noticed_at_once() -> None:
    """Without any append."""
    with Bench() as bench:
        reader = bench.read()
        reader.congest()
        bench.append(Text("a"))
        bench.loop.turn()
        reader.sink.leave()
        bench.loop.turn()
        assert reader.ending() is Ending.GONE


@pytest.mark.parametrize("late", [False, True], ids=["live", "catching up"])
def test_an_event_that_cannot_be_told_ends_only_that_reading(late: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Others, who have other words, hear it and read on; the fault is in the log."""
    with Bench() as bench:
        others = [bench.read(unnamed=True), bench.read(OPENAI)]
        reader = None if late else bench.read()
        with caplog.at_level(logging.ERROR):
            bench.append(UNSPEAKABLE)
            reader = reader or bench.read()
            bench.loop.turn()
        bench.append(Text("a"))
        assert reader.ending() is Ending.BROKEN
        assert "a connection failed" in caplog.text
        assert [other.text for other in others] == ["a", "a"]
        assert orjson.loads(others[0].events[-2].data) == {"event": "two\nlines"}


def test_a_client_that_comes_back_is_sent_away_politely() -> None:
    """`status` with when to come back, `close` with the reason; and it finds the rest by its last id."""
    with Bench() as bench:
        reader, other = bench.read(comes_back=True), bench.read()
        bench.append(Text("a"))
        bench.heart.send_away_all("draining")
        bench.loop.turn()
        assert reader.ending() is Ending.SENT_AWAY
        assert other.ending() is None
        state, close = reader.events[-2:]
        assert orjson.loads(state.data)["state"] == orjson.loads(close.data)["reason"] == "draining"
        assert 1000 <= orjson.loads(state.data)["retry"] <= 2000
        assert b"retry: %d\nevent: status\n" % orjson.loads(state.data)["retry"] in reader.sink.arrived
        bench.append(Text("b"))
        back = bench.read(place=close.id)
        assert (reader.text, back.text, other.text) == ("a", "b", "ab")


def test_a_client_that_lags_is_sent_away_when_it_has_what_it_missed() -> None:
    """Not in the middle of it."""
    with Bench() as bench:
        reader = bench.read(comes_back=True)
        reader.congest()
        bench.append(Text("a"))
        bench.append(Text("b"))
        reader.connection.send_away("draining", 1000)
        bench.loop.turn()
        assert reader.ending() is None
        reader.take()
        assert reader.ending() is Ending.SENT_AWAY
        assert reader.names[-4:] == ["text", "text", "status", "close"]


def test_a_stream_that_ends_while_its_reader_is_sent_away_has_ended() -> None:
    """Else the client would come back for nothing."""
    with Bench(Text("a")) as bench:
        reader = bench.read(comes_back=True)
        reader.connection.send_away("draining", 1000)
        bench.finish()
        assert reader.ending() is Ending.FINISHED
        assert reader.names[-2:] == ["complete", "close"]


# Nothing is left behind.


def finish(bench: Bench, reader: Reader) -> None:
    """The stream ends."""
    bench.finish()


def leave(bench: Bench, reader: Reader) -> None:
    """The client hangs up."""
    reader.sink.leave()
    bench.append(Text("x"))


def stall(bench: Bench, reader: Reader) -> None:
    """The client takes nothing."""
    reader.congest()
    bench.append(Text("x"))
    bench.loop.turn()
    reader.sink.stall()


def break_it(bench: Bench, reader: Reader) -> None:
    """An event has no words."""
    bench.append(UNSPEAKABLE)


def send_away(bench: Bench, reader: Reader) -> None:
    """The process drains."""
    bench.heart.send_away_all("draining")


def overtake(bench: Bench, reader: Reader) -> None:
    """The log is folded under it."""
    reader.congest()
    for n in range(60):
        bench.append(Text(f"{n}"))
    reader.take()


def cancel(bench: Bench, reader: Reader) -> None:
    """aiohttp cancels the handler of a request whose connection is lost."""
    reader.task.cancel()


def supersede(bench: Bench, reader: Reader) -> None:
    """Another process makes the stream now."""
    bench.stream.give_up()


def renew(bench: Bench, reader: Reader) -> None:
    """Another log of this process goes on with it."""
    bench.stream.give_up(stream_of())


ENDINGS = [
    (finish, Ending.FINISHED),
    (leave, Ending.GONE),
    (stall, Ending.SLOW),
    (break_it, Ending.BROKEN),
    (send_away, Ending.SENT_AWAY),
    (overtake, Ending.LOST),
    (supersede, Ending.SUPERSEDED),
    (renew, Ending.RENEWED),
    (cancel, None),
]


@pytest.mark.parametrize(("end", "ending"), ENDINGS, ids=[end.__name__ for end, _ in ENDINGS])
def test_however_a_reading_ends_nothing_of_it_is_left(
    end: Callable[[Bench, Reader], None], ending: Ending | None
) -> None:
    """It is told no more, no heart looks after it, nobody keeps its framer, and what comes later does not reach it."""
    with Bench(bounds=SMALL) as bench:
        reader = bench.read(OPENAI) if end is overtake else bench.read(comes_back=True)
        end(bench, reader)
        bench.loop.turn()
        assert reader.task.done()
        assert reader.task.cancelled() if ending is None else reader.ending() is ending
        bench.assert_nobody_is_left()
        written = len(reader.sink.writes)
        bench.append(Status("later"), END)
        bench.loop.advance(60, step_s=1)
        assert len(reader.sink.writes) == written


def test_every_ending_is_tried() -> None:
    """Add the new one above."""
    assert {ending for _, ending in ENDINGS if ending} == set(Ending)
