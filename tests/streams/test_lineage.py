"""Lineage: where a place in an earlier epoch lies today, and what is said where it is not to be had."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.events import Completed, Event, Opened, Status, Text, Warned, WholeText
from gateway.streams.cursor import Cursor
from gateway.streams.ids import Place
from gateway.streams.lineage import EXACT, FIRST_EPOCH, Lineage, Lost
from gateway.streams.stream import Stream
from tests.doubles import ALICE, DONE, END, question

ALL = 1 << 30
SID = "0123456789ABCDEFGHIJKL"


def at(seq: int, epoch: int = 1) -> Place:
    """Where a reader was."""
    return Place(SID, epoch, seq)


def stream_in(lineage: Lineage, *events: Event, mirrored: bool = False) -> Stream:
    """A stream of that lineage, with these events."""
    stream = Stream(SID, question(), ALICE, lineage=lineage)
    stream.mirrored = mirrored
    stream.append(events)
    return stream


@pytest.mark.parametrize("lineage", [FIRST_EPOCH, EXACT, Lineage(3, {1: 4, 2: 9})])
@pytest.mark.parametrize("seq", [0, 4, 10**9])
def test_a_place_in_this_epoch_is_where_it_is(lineage: Lineage, seq: int) -> None:
    """Whether the log reaches it is the log's to say."""
    assert lineage.locate(at(seq, lineage.epoch)) == seq


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("seq", [0, 1, 4])
def test_what_was_durable_is_where_it_was(seq: int, exact: bool) -> None:
    """Up to the last durable event of its epoch."""
    assert Lineage(3, {1: 4, 2: 9}, exact).locate(at(seq)) == seq


@pytest.mark.parametrize(("seq", "dropped"), [(5, 1), (9, 5)])
def test_what_was_lost_rewinds_to_the_last_durable_event(seq: int, dropped: int) -> None:
    """With how many events the reader had that are not to be had again."""
    found = Lineage(3, {1: 4, 2: 9}).locate(at(seq))
    assert isinstance(found, Lost)
    assert (found.code, found.to, found.dropped) == ("REWIND", 4, dropped)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("place", [at(3, 3), at(0, 9), at(3, 2)])
def test_an_epoch_that_never_was_is_reset(place: Place, exact: bool) -> None:
    """One to come, or one of which nothing is known."""
    found = Lineage(2, {}, exact).locate(place)
    assert found == 3 if place.epoch == 2 else isinstance(found, Lost) and found.code == "RESET"


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=5), st.integers(0, 5))
def test_an_exact_answer_is_found_again_over_any_number_of_takeovers(
    lives: list[tuple[int, int]], at_life: int
) -> None:
    """Each life says so many that become durable and so many that do not: the place behind a word stays behind it."""
    words, ends, log = [f"w{n}" for n in range(100)], dict[int, int](), list[str]()
    places: list[tuple[Place, int]] = []
    for epoch, (durable, lost) in enumerate(lives, 1):
        said = sum(entry != "continued" for entry in log)
        heard = log + words[said : said + durable + lost]
        places += [
            (at(seq, epoch), sum(entry != "continued" for entry in heard[:seq]))
            for seq in range(len(log) + 1, len(heard) + 1)
        ]
        log = heard[: len(log) + durable]
        ends[epoch] = len(log)
        log.append("continued")
    said = sum(entry != "continued" for entry in log)
    log += words[said:]
    lineage = Lineage(len(lives) + 1, ends, exact=True)
    for place, known in places:
        found = lineage.locate(place)
        assert isinstance(found, int)
        rest = [entry for entry in log[found:] if entry != "continued"]
        assert rest == words[known:], place
        assert log[found - 1] != "continued", "an event was skipped"


def test_each_takeover_adds_one_end() -> None:
    """And keeps whether the source is exact."""
    lineage = EXACT.succeeded(7).succeeded(12)
    assert lineage == Lineage(3, {1: 7, 2: 12}, exact=True)
    assert FIRST_EPOCH.succeeded(7) == Lineage(2, {1: 7})


# Standing there.

TAKEN = (Opened("m"), Text("a"), Text("b"), Status("continued"))
"""The log at the moment of a takeover: three events were durable."""


def test_a_reader_that_saw_more_than_was_durable_is_told_what_to_take_back() -> None:
    """REWIND with the last event that holds and the number of those that do not; its first text replaces."""
    stream = stream_in(Lineage(2, {1: 3}), *TAKEN, Text("c"))
    cursor = Cursor(stream, at(5))
    (warning,) = cursor.notices()[:1]
    assert isinstance(warning, Warned)
    assert (warning.code, cursor.lost) == ("REWIND", "REWIND")
    assert warning.details == {"to": 3, "dropped": 2}
    assert not cursor.ahead
    texts = [event for _, event in cursor.read(ALL) if isinstance(event, Text)]
    assert texts == [WholeText("ab"), Text("c")]


def test_a_reader_of_what_was_durable_goes_on_behind_it() -> None:
    """Unseen: the same ids, the next event is `continued`."""
    cursor = Cursor(stream_in(Lineage(2, {1: 3}), *TAKEN, Text("c")), at(3))
    assert cursor.lost == ""
    assert [event for _, event in cursor.read(ALL)] == [Status("continued"), Text("c")]


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_reader_of_an_exact_answer_waits_until_it_has_been_said_again(mirrored: bool) -> None:
    """Nothing twice and nothing missing, and nothing said of it."""
    stream = stream_in(Lineage(2, {1: 3}, exact=True), *TAKEN, mirrored=mirrored)
    cursor = Cursor(stream, at(5))
    for text in "cd":
        assert (list(cursor.read(ALL)), cursor.notices(), cursor.ahead, cursor.done) == ([], [], True, False)
        stream.append([Text(text)])
    assert list(cursor.read(ALL)) == []
    assert cursor.at_head
    stream.append([Text("e")])
    assert [event for _, event in cursor.read(ALL)] == [Text("e")]
    assert (cursor.lost, cursor.lag_bytes) == ("", 0)


def test_a_reader_ahead_of_a_mirror_waits_for_it() -> None:
    """It comes from another process, which has said more than has arrived here."""
    stream = stream_in(FIRST_EPOCH, Opened("m"), Text("a"), mirrored=True)
    cursor = Cursor(stream, at(4))
    assert cursor.ahead
    assert cursor.place == at(4)
    assert (list(cursor.read(ALL)), cursor.lag_bytes) == ([], 0)
    stream.receive([Text("b"), Text("c"), Text("d")], 5)
    assert [event for _, event in cursor.read(ALL)] == [Text("d")]


def test_nobody_waits_for_what_this_process_makes_itself() -> None:
    """A place beyond its head never was."""
    cursor = Cursor(stream_in(FIRST_EPOCH, Opened("m"), Text("a")), at(4))
    assert (cursor.lost, cursor.ahead) == ("RESET", False)


@pytest.mark.parametrize("before", [True, False])
def test_who_waits_for_more_than_ever_comes_is_told_so(before: bool) -> None:
    """The stream ends below that place, before the reader comes or while it waits: everything anew, to the end."""
    stream = stream_in(FIRST_EPOCH, Opened("m"), Text("a"), mirrored=True)
    cursor = Cursor(stream, at(9))
    assert cursor.ahead
    stream.receive([END, DONE], 4)
    cursor = Cursor(stream, at(9)) if before else cursor
    records = cursor.read(ALL)
    (warning,) = cursor.notices()[:1]
    assert isinstance(warning, Warned)
    assert (warning.code, warning.details) == ("RESET", {"to": 4, "dropped": 0})
    records = records or cursor.read(ALL)
    assert [type(event) for _, event in records][-1] is Completed
    assert WholeText("a") in [event for _, event in records]
    assert cursor.done


def test_the_place_of_a_reader_goes_on_in_another_copy() -> None:
    """With the epoch in which it was read; a reader that has read nothing has none."""
    stream = stream_in(Lineage(2, {1: 3}), *TAKEN)
    cursor = Cursor(stream)
    before = cursor.place
    cursor.read(ALL)
    assert (before, cursor.place) == (None, at(4, 2))
    heir = stream_in(Lineage(3, {1: 3, 2: 4}), *TAKEN, Status("continued"), Text("c"))
    assert [event for _, event in Cursor(heir, cursor.place).read(ALL)] == [Status("continued"), Text("c")]


# Given up.


def test_a_stream_that_was_given_up_gets_nothing_more() -> None:
    """Neither events nor an end, and what came too late is counted."""
    stream = stream_in(FIRST_EPOCH, *TAKEN)
    stream.give_up()
    stream.append([Text("late")])
    stream.finish(DONE)
    assert (stream.events(), stream.ended, stream.late_events) == (list(TAKEN), False, 2)
    assert (stream.seal_reason, stream.successor) == ("handed_over", None)


def test_a_stream_is_given_up_once_and_for_one_successor() -> None:
    """A second time changes nothing and tells nobody."""
    stream, heir = stream_in(FIRST_EPOCH, *TAKEN), stream_in(Lineage(2, {1: 3}))
    told: list[str] = []

    class Told:
        def appended(self, first: int, events: object) -> None:
            told.append("appended")

        def superseded(self) -> None:
            assert stream.successor is heir
            told.append("superseded")

    readers = [Told(), Told()]
    for reader in readers:
        stream.attach(reader)
    stream.give_up(heir)
    stream.give_up(None)
    assert told == ["superseded"] * 2
    assert stream.successor is heir
