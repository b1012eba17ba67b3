"""Readers who do not keep up: waited for, merged, cut off, overtaken; and never a wrong text."""

from dataclasses import replace

import orjson
import pytest

from gateway.delivery.connection import Ending
from gateway.events import Status, Text
from tests.delivery.bench import OPENAI, PATIENCE, SMALL, Bench, tokens


def test_a_full_socket_makes_a_reader_lag_and_an_empty_one_live_again(bench: Bench) -> None:
    """While it lags nothing is written for it; then all that it missed, in order; then at once again."""
    reader = bench.read()
    reader.congest()
    bench.append(Text("a"))
    written = len(reader.sink.writes)
    bench.append(Text("b"))
    bench.append(Status("s"))
    bench.loop.turn()
    assert len(reader.sink.writes) == written
    assert reader.text == ""
    reader.take()
    assert (reader.text, reader.seqs) == ("ab", [1, 2, 3, 4])
    bench.append(Text("c"))
    assert reader.text == "abc"
    assert bench.metrics.of("slow_consumer") == []


def test_a_reader_whose_socket_is_full_already_at_hello_is_waited_for(bench: Bench) -> None:
    """Nothing of the log is written onto what waits."""
    bench.append(Text("a"))
    reader = bench.read(room=5)
    assert len(reader.sink.writes) == 1
    reader.take()
    assert reader.text == "a"


@pytest.mark.parametrize(
    ("appended", "seconds", "merged"),
    [(10, 0, False), (11, 0, True), (5, 2, False), (5, 2.1, True)],
    ids=["up to the bytes", "beyond the bytes", "up to the seconds", "beyond the seconds"],
)
def test_beyond_the_first_bound_text_is_merged_and_stays_exact(
    bench: Bench, appended: int, seconds: float, merged: bool
) -> None:
    """100 bytes or 2 s: adjacent text becomes one event with the id of its last piece; below them, each its own."""
    reader = bench.read()
    reader.congest()
    bench.append(Status("full"))
    bench.loop.turn()
    for token in tokens(appended):
        bench.append(token)
    bench.loop.advance(seconds)
    reader.take()
    assert reader.text == "".join(token.token for token in tokens(appended))
    assert reader.names.count("text") == (1 if merged else appended)
    assert reader.seqs[-1] == appended + 2
    assert bench.metrics.of("slow_consumer") == ([("merged",)] if merged else [])
    # What has been made good is forgotten: another lag begins at zero.
    reader.congest()
    bench.append(Status("full"))
    bench.append(Text("a"), Text("b"))
    bench.loop.turn()
    reader.take()
    assert reader.names[-3:] == ["status", "text", "text"]


def test_a_reader_that_is_woken_for_nothing_writes_nothing(bench: Bench) -> None:
    """Not onto what waits."""
    reader = bench.read()
    reader.congest()
    bench.append(Text("a"))
    bench.append(Text("b"))
    bench.loop.turn()
    written = len(reader.sink.writes)
    reader.sink.release()
    bench.loop.turn()
    assert len(reader.sink.writes) == written
    reader.take()
    assert reader.text == "ab"


def test_beyond_the_second_bound_a_reader_is_cut_off_at_once(bench: Bench) -> None:
    """With the append that goes beyond it; what waits is not added to, and the others read on."""
    slow, other = bench.read(), bench.read()
    slow.congest()
    bench.append(Status("full"))
    bench.loop.turn()
    for token in tokens(100):
        bench.append(token)
    bench.loop.turn()
    assert slow.ending() is None
    written = len(slow.sink.writes)
    bench.append(Text("x"))
    bench.loop.turn()
    assert slow.ending() is Ending.SLOW
    assert len(slow.sink.writes) == written
    assert bench.metrics.of("slow_consumer") == [("aborted",)]
    assert other.ending() is None
    assert other.text.endswith("x")


def test_a_reader_is_cut_off_also_between_two_of_its_turns() -> None:
    """Beyond the bound in the very turn that it has given to others: it does not begin to wait for the deadline."""
    with Bench() as bench:
        reader = bench.read()
        reader.congest()
        bench.append(Text("a"))
        bench.append(Text("b"))
        bench.loop.turn()
        waits, write = len(reader.sink.limits), reader.sink.write

        def write_and_be_overtaken(data: bytes, *, last: bool = False) -> None:
            write(data, last=last)
            bench.loop.call_soon(bench.append, Text("x" * 1001))

        reader.sink.write = write_and_be_overtaken  # type: ignore[method-assign]  # the moment cannot be had otherwise
        reader.take(len(reader.sink.waiting) + 10)
        assert reader.ending() is Ending.SLOW
        assert len(reader.sink.limits) == waits


def test_a_reader_that_takes_nothing_until_the_deadline_is_cut_off(bench: Bench) -> None:
    """However little it lags."""
    reader = bench.read()
    reader.congest()
    bench.append(Text("a"))
    bench.loop.turn()
    assert reader.sink.limits == [PATIENCE.write_deadline_s]
    reader.sink.stall()
    bench.loop.turn()
    assert reader.ending() is Ending.SLOW
    assert bench.metrics.of("slow_consumer") == [("aborted",)]


def test_what_was_there_before_the_reader_came_is_no_lag_of_its_own(bench: Bench) -> None:
    """Five times the second bound to replay, taken slowly; only what is appended meanwhile counts."""
    bench.append(*tokens(500))
    reader = bench.read(place=0, room=0)
    bench.append(Text("y" * 999))
    bench.loop.turn()
    assert reader.ending() is None
    while reader.sink.waiting:
        reader.take(2000)
    reader.take()
    assert reader.ending() is None
    assert reader.text == bench.stream.text()
    reader.congest()
    bench.append(Text("z"))
    bench.loop.turn()
    bench.append(Text("z" * 1001))
    bench.loop.turn()
    assert reader.ending() is Ending.SLOW, "the old allowance was kept after it had caught up"


def test_a_long_replay_is_written_piece_by_piece_while_others_are_served() -> None:
    """No more than a turn's bytes or events at once, and live readers need not wait for the end of it."""
    with Bench(*tokens(1000), patience=replace(PATIENCE, turn_bytes=500, turn_events=20)) as bench:
        late = bench.read(place=0)
        other = bench.read(place=1001)
        bench.append(Text("now"))
        assert other.text == "now"
        assert len(late.seqs) < 1000
        bench.loop.turn(100)
        assert late.seqs == list(range(1, 1003))
        assert late.text == bench.stream.text()
        assert max(write.count(b"\n\n") for write in late.sink.writes) == 20


def test_a_long_replay_of_long_pieces_is_bounded_in_bytes() -> None:
    """A piece that goes beyond the bound is the last of its turn."""
    with Bench(*tokens(50, characters=100), patience=replace(PATIENCE, turn_bytes=500)) as bench:
        late = bench.read(place=0)
        bench.loop.turn(50)
        assert late.text == bench.stream.text()
        assert max(write.count(b"\n\n") for write in late.sink.writes) == 6


# Overtaken by the log.


def overtake(bench: Bench, *events: Text) -> None:
    """So many appends that the log is folded under whoever lags."""
    for event in [*events, *tokens(60)]:
        bench.append(event)


def test_a_reader_that_is_overtaken_is_told_and_starts_over() -> None:
    """`warning` GAP, then text that replaces what it had: the same as everybody's."""
    with Bench(bounds=SMALL) as bench:
        reader = bench.read()
        bench.append(Text("had"))
        reader.congest()
        bench.append(Text("this"))
        overtake(bench)
        reader.take()
        warning = next(event for event in reader.events if event.event == "warning")
        assert orjson.loads(warning.data)["code"] == "GAP"
        replacing = reader.events[reader.events.index(warning) + 1 :]
        assert orjson.loads(next(e.data for e in replacing if e.event == "text"))["replace"] is True
        assert reader.text == bench.stream.text() == "hadthis" + "".join(token.token for token in tokens(60))
        bench.append(Text("live"))
        assert reader.text.endswith("live")


def test_a_reader_that_cannot_start_over_hears_an_error_and_the_end() -> None:
    """Its text is a beginning of the answer and nothing else, and it is not told that this is all."""
    with Bench(bounds=SMALL) as bench:
        reader = bench.read(OPENAI)
        bench.append(Text("had"))
        reader.congest()
        bench.append(Text("this"))
        overtake(bench)
        reader.take()
        assert reader.ending() is Ending.LOST
        assert reader.text == "hadthis"
        assert orjson.loads(reader.last.data)["error"]["code"] == "GAP"
        assert "[DONE]" not in [event.data for event in reader.events]


@pytest.mark.parametrize("seq", [99, 1])
def test_a_place_that_is_lost_at_the_door_is_told_before_anything_else(seq: int) -> None:
    """RESET beyond the head, GAP before what is kept; behind hello, in front of the log."""
    with Bench(*tokens(60), bounds=SMALL) as bench:
        reader = bench.read(place=seq)
        assert reader.names[:2] == ["connected", "warning"]
        assert reader.text == bench.stream.text()
