"""The life of a reading that keeps up: hello, what is kept, then every append in the turn in which it happens."""

import time
from collections.abc import Callable

import orjson
import pytest

from gateway.delivery.connection import Ending
from gateway.events import Metadata, Status, Text
from gateway.sse import ServerEvent
from tests.delivery.bench import OPENAI, Bench, tokens


def test_the_first_words_are_hello_and_then_what_is_kept(bench: Bench) -> None:
    """With the time after which to come back, and without an id."""
    bench.append(Text("a"), Text("b"))
    reader = bench.read()
    assert reader.names == ["connected", "status", "text"]
    assert reader.events[0].id == ""
    assert reader.sink.arrived.startswith(b"retry: 1500\nevent: connected\n")
    assert (reader.text, reader.seqs) == ("ab", [1, 3])


def test_a_dialect_without_a_hello_says_none(bench: Bench) -> None:
    """Its first words are its first event's."""
    reader = bench.read(OPENAI)
    assert len(reader.events) == 1
    assert b"retry" not in reader.sink.arrived


def test_an_append_is_written_in_the_same_turn(bench: Bench) -> None:
    """No task has to be woken and no timer to come due: the bytes are there when `append` returns."""
    reader = bench.read()
    for n in range(3):
        bench.append(Text(f"{n}"))
        assert reader.text.endswith(f"{n}")
        assert reader.sink.waiting == b""
    assert reader.seqs == [1, 2, 3, 4]


def test_what_is_appended_together_goes_out_together(bench: Bench) -> None:
    """One write, unchanged: the events are not merged."""
    reader = bench.read()
    before = len(reader.sink.writes)
    bench.append(Text("a"), Status("s"), Text("b"), Text("c"))
    assert len(reader.sink.writes) == before + 1
    assert reader.names[-4:] == ["text", "status", "text", "text"]
    assert reader.seqs == [1, 2, 3, 4, 5]


def test_an_event_without_words_writes_nothing(bench: Bench) -> None:
    """Not even an empty chunk, which would end an HTTP body."""
    reader = bench.read(OPENAI)
    before = len(reader.sink.writes)
    bench.append(Status("thinking"))
    bench.loop.turn()
    assert len(reader.sink.writes) == before
    assert all(reader.sink.writes)


@pytest.mark.parametrize("seq", [0, 1, 3, 6])
def test_a_reader_that_comes_back_goes_on_behind_its_place(bench: Bench, seq: int) -> None:
    """Exactly the next ones, then live, and it counts as having been replayed to."""
    bench.append(*tokens(5))
    reader = bench.read(place=seq)
    assert orjson.loads(reader.events[0].data)["resumed"] is True
    assert reader.seqs == list(range(seq + 1, 7))
    assert reader.connection.replayed == 6 - seq
    bench.append(Text("live"))
    assert reader.seqs[-1] == 7
    assert reader.connection.replayed == 6 - seq


def test_the_time_to_the_first_token_is_taken_once_at_the_first_content(bench: Bench) -> None:
    """Not at a status, not again later; for a reader that lives and for one that catches up."""
    live = bench.read(asked_at=time.monotonic() - 5)
    bench.append(Status("thinking"), Metadata({}))
    before = live.connection.first_token_s
    bench.append(Text("a"))
    first = live.connection.first_token_s
    assert before is None
    assert first is not None
    assert 5 <= first < 60
    bench.append(Text("b"))
    assert live.connection.first_token_s == first
    assert bench.read(asked_at=time.monotonic()).connection.first_token_s is not None
    assert bench.read().connection.first_token_s is None


# Many in one.


@pytest.mark.parametrize("others", [lambda b: b.read(unnamed=True), lambda b: b.read(OPENAI), lambda b: b.read()])
def test_readers_do_not_know_of_each_other(bench: Bench, others: Callable[[Bench], object]) -> None:
    """One that is full, one that leaves: a third hears everything at once."""
    reader, full, leaving = bench.read(), bench.read(), bench.read()
    others(bench)
    full.congest()
    for n in range(5):
        bench.append(Text(f"{n}"))
        if n == 2:
            leaving.sink.leave()
        assert reader.text == "01234"[: n + 1]
    full.take()
    assert full.text == "01234"
    assert leaving.ending() is Ending.GONE
    assert reader.last == ServerEvent('{"token":"4"}', "text", f"{bench.stream.sid}-1-6")
