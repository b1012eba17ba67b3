"""The resume table: what a reader is owed, by the place that it comes back with."""

import pytest

from gateway.events import Audio, AudioEvicted, Event, Metadata, Opened, Record, Status, Text, Warned, WholeText
from gateway.streams.cursor import Cursor
from gateway.streams.ids import Place
from gateway.streams.stream import Bounds, Stream
from tests.doubles import DONE, END, stream_of

ALL = 1 << 30
SMALL = Bounds(max_bytes=1 << 20, max_events=8, max_audio_ms=1000)
BEGINNING = (Opened("m"), Text("a"), Text("b"), Metadata({"k": 1}), Text("c"))


def place(stream: Stream, seq: int, epoch: int = 1) -> Place:
    """Where a reader was."""
    return Place(stream.sid, epoch, seq)


def test_no_place_gets_what_is_kept_with_its_text_folded_then_the_rest_live() -> None:
    """The first text replaces, each piece has the id of its last token, other events stay in order."""
    stream = stream_of(*BEGINNING)
    cursor = Cursor(stream)
    assert not cursor.resumed
    assert cursor.read(ALL) == [
        Record(1, Opened("m")),
        Record(3, WholeText("ab")),
        Record(4, Metadata({"k": 1})),
        Record(5, Text("c")),
    ]
    assert cursor.notices() == []
    assert cursor.at_head
    stream.append([Text("d")])
    assert cursor.read(ALL) == [Record(6, Text("d"))]


@pytest.mark.parametrize("seq", range(6))
def test_a_kept_place_gets_exactly_the_next_ones(seq: int) -> None:
    """No gap and no repeat, from any place, the place before the first event included."""
    stream = stream_of(*BEGINNING)
    cursor = Cursor(stream, place(stream, seq))
    assert cursor.resumed
    assert cursor.lost == ""
    assert list(cursor.read(ALL)) == [Record(n, event) for n, event in enumerate(BEGINNING, 1) if n > seq]
    assert cursor.notices() == []


def test_the_head_of_a_live_stream_waits() -> None:
    """Nothing to read, and not done."""
    stream = stream_of(*BEGINNING)
    cursor = Cursor(stream, place(stream, 5))
    assert cursor.read(ALL) == []
    assert cursor.at_head
    assert not cursor.done


def test_the_head_of_an_ended_stream_is_done() -> None:
    """So that the client can be told never to come back."""
    stream = stream_of(*BEGINNING, END)
    stream.finish(DONE)
    assert Cursor(stream, place(stream, stream.head)).done
    assert not Cursor(stream, place(stream, stream.head - 1)).done


@pytest.mark.parametrize(
    ("seq", "epoch", "code"),
    [(6, 1, "RESET"), (10**14, 1, "RESET"), (3, 2, "RESET"), (0, 9, "RESET")],
    ids=["beyond", "far beyond", "unknown epoch", "unknown epoch, beginning"],
)
def test_a_place_that_never_was_is_told_so_and_starts_over(seq: int, epoch: int, code: str) -> None:
    """A warning with where the log is now, then all of it, and no text of the client's own is left beside it."""
    stream = stream_of(*BEGINNING)
    cursor = Cursor(stream, place(stream, seq, epoch))
    warning, wipe = cursor.notices()
    assert isinstance(warning, Warned)
    assert (warning.code, cursor.lost) == (code, code)
    assert warning.details["to"] == 5
    assert wipe == WholeText("")
    assert cursor.read(ALL) == Cursor(stream).read(ALL)
    assert cursor.notices() == []


def test_a_place_older_than_what_is_kept_is_told_how_much_it_missed() -> None:
    """GAP with the number of events, then as for none."""
    stream = stream_of(Opened("m"), *[Text(f"{n} ") for n in range(20)], bounds=SMALL)
    cursor = Cursor(stream, place(stream, 2))
    warning, wipe = cursor.notices()
    assert isinstance(warning, Warned)
    assert warning.code == cursor.lost == "GAP"
    assert warning.details == {"to": 21, "dropped": stream.exact_from - 3}
    assert wipe == WholeText("")
    records = cursor.read(ALL)
    assert records[-1].seq == 21
    assert "".join(r.event.token for r in records if isinstance(r.event, Text)) == stream.text()
    assert isinstance(next(r.event for r in records if isinstance(r.event, Text)), WholeText)


def test_a_client_that_is_cut_off_while_it_starts_over_has_no_old_text_left() -> None:
    """Its text is wiped before anything else: behind the first records it comes back as one whose place is kept."""
    stream = stream_of(Status("s"), Status("s"), Text("new"))
    assert [type(notice) for notice in Cursor(stream, place(stream, 9)).notices()] == [Warned, WholeText]
    assert Cursor(stream, place(stream, 1)).read(ALL)[-1] == Record(3, Text("new"))
    begins_with_text = stream_of(Text("new"))
    assert [type(notice) for notice in Cursor(begins_with_text, place(stream, 9)).notices()] == [Warned]


def test_a_reader_that_is_overtaken_while_it_reads_is_told_too() -> None:
    """It read a bit, then the log was folded past it: GAP, then everything kept."""
    stream = stream_of(Opened("m"), Text("a"), bounds=SMALL)
    cursor = Cursor(stream, place(stream, 1))
    assert [r.seq for r in cursor.read(ALL)] == [2]
    stream.append([Text(str(n)) for n in range(30)])
    records = cursor.read(ALL)
    assert isinstance(cursor.notices()[0], Warned)
    assert cursor.lost == "GAP"
    assert records[-1].seq == stream.head


def test_a_new_reader_of_a_stream_whose_beginning_is_gone_is_told_so() -> None:
    """It never had it, and must not take what it gets for the whole."""
    events: list[Event] = [Status(str(n)) for n in range(20)]
    stream = stream_of(*events, bounds=SMALL)
    assert stream.lost > 10
    warning, wipe = Cursor(stream).notices()
    assert warning == Warned("GAP", "the beginning is no longer kept", {"to": stream.lost, "dropped": stream.lost})
    assert wipe == WholeText("")


@pytest.mark.parametrize("batch", [1, 40], ids=["one by one", "at once"])
@pytest.mark.parametrize("stuff", ["text", "status", "both"])
def test_from_any_place_at_all_a_client_ends_with_what_is_kept_and_nothing_twice(stuff: str, batch: int) -> None:
    """Kept, folded or forgotten: brute force over all places of a log that was folded many times."""
    is_text = [stuff == "text" or (stuff == "both" and n % 3 > 0) for n in range(40)]
    log: list[Event] = [Text(f"<{n}>") if is_text[n] else Status(f"<{n}>") for n in range(40)]
    stream = stream_of(bounds=SMALL)
    for at in range(0, 40, batch):
        stream.append(log[at : at + batch])
    for seq in range(41):
        had = [event for event in log[:seq] if isinstance(event, Text)]
        cursor = Cursor(stream, place(stream, seq))
        records = list(cursor.read(ALL))
        text = "".join(event.token for event in had)
        for event in [*cursor.notices(), *(record.event for record in records)]:
            if isinstance(event, Text):
                text = event.token if isinstance(event, WholeText) else text + event.token
        assert text.endswith(stream.text())
        assert "".join(event.token for event in log if isinstance(event, Text)).endswith(text)
        seqs = [record.seq for record in records]
        assert cursor.lost or seqs == list(range(seq + 1, 41))


def test_a_tombstone_keeps_the_place_of_evicted_speech() -> None:
    """No gap in the numbers: the piece is said to be gone, its neighbours are there."""
    speech = [Audio(b"x" * 9, "mp3", 24000, "s", n, False, 400) for n in range(4)]
    stream = stream_of(*speech, bounds=SMALL)
    cursor = Cursor(stream, place(stream, 0))
    assert cursor.read(ALL) == [
        Record(1, AudioEvicted(0)),
        Record(2, AudioEvicted(1)),
        Record(3, speech[2]),
        Record(4, speech[3]),
    ]


@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("start", [None, 0])
def test_a_turn_takes_no_more_than_it_may_and_never_nothing(start: int | None, merge: bool) -> None:
    """Bounded in bytes and in events, in order, to the end."""
    stream = stream_of(*[Metadata({"n": n}) for n in range(10)], Text("x" * 1000), Text("y"))
    cursor = Cursor(stream, None if start is None else place(stream, start))
    seen: list[int] = []
    while records := cursor.read(1, merge=merge):
        assert len(records) == 1
        seen += [record.seq for record in records]
    assert seen[:10] == list(range(1, 11))
    assert seen[-1] == 12
    cursor = Cursor(stream, None if start is None else place(stream, start))
    assert len(cursor.read(ALL, max_events=3)) == 3


def test_lag_is_what_is_still_to_be_read() -> None:
    """In bytes of payload; nothing at the head."""
    stream = stream_of(Text("abc"))
    cursor = Cursor(stream, place(stream, 1))
    assert cursor.lag_bytes == 0
    stream.append([Text("x" * 10), Text("y" * 20)])
    assert cursor.lag_bytes == 30
    cursor.read(1)
    assert cursor.lag_bytes == 20
    cursor.read(ALL)
    assert cursor.lag_bytes == 0
    assert Cursor(stream).lag_bytes == 33
    assert Cursor(stream, place(stream, 2)).lag_bytes == 20
    assert "seq=3" in repr(cursor)
