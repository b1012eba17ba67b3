"""Copies as a property: any log written down in pieces and restored elsewhere reads the same, for every place."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.events import Event, Metadata, Opened, Reasoning, Record, Status, Text, Warned, WholeText
from gateway.stores.entries import Entry, parse_entry
from gateway.stores.mirrors import restored
from gateway.stores.pieces import Piece, all_pieces, new_pieces
from gateway.stores.redis_log import Found
from gateway.streams.cursor import Cursor
from gateway.streams.ids import Place
from gateway.streams.stream import DEFAULT_BOUNDS, Bounds, Stream
from tests.doubles import ALICE, DONE, END, RecordingReader, question, stream_of

ALL = 1 << 30
BOUNDS = st.sampled_from(
    [
        DEFAULT_BOUNDS,
        Bounds(max_bytes=1 << 20, max_events=6, max_audio_ms=300),
        Bounds(max_bytes=1500, max_events=100, max_audio_ms=300),
    ]
)
EVENTS = st.lists(
    st.one_of(
        st.integers(0, 9).map(lambda n: Text(f"<{n}>")),
        st.integers(0, 9).map(lambda n: Reasoning(f"({n})")),
        st.integers(0, 9).map(lambda n: Metadata({"n": n})),
        st.sampled_from([Status("thinking"), WholeText("anew ")]),
    ),
    max_size=30,
)


def entry_of(piece: Piece, epoch: int = 1) -> Entry:
    """What a reader finds of a piece that was written down."""
    fields = [b"f", b"%d" % piece.first, b"p", b"%d" % piece.poured, b"b", piece.body]
    return parse_entry(b"%d-%d" % (epoch, piece.last), fields)


def copied(stream: Stream, pieces: Sequence[Piece], bounds: Bounds = DEFAULT_BOUNDS) -> Stream:
    """The stream that another process makes of these pieces."""
    lineage, entries = stream.lineage, [entry_of(piece, stream.epoch) for piece in pieces]
    found = Found(
        stream.sid, lineage.epoch, dict(lineage.ends), lineage.exact, stream.state, stream.owner, stream.request,
        stream.created_s, "them", "127.0.0.1:1", stream.dialect, "", entries,
    )  # fmt: skip
    return restored(found, bounds)


class Client:
    """Keeps text as clients do, and every other event by its place."""

    def __init__(self, stream: Stream, upto: int) -> None:
        self.others: dict[int, Event] = {}
        self.text = ""
        for record in stream_records(stream):
            if record.seq <= upto:
                self.hear(record)

    def hear(self, record: Record) -> None:
        """The next event."""
        event = record.event
        if isinstance(event, Text):
            self.text = event.token if isinstance(event, WholeText) else self.text + event.token
        elif not isinstance(event, Reasoning):
            self.others[record.seq] = event

    def read(self, cursor: Cursor) -> "Client":
        """Everything that the cursor has for it, in small bites."""
        while True:
            records = cursor.read(20)
            for notice in cursor.notices():
                if isinstance(notice, Warned):
                    self.others = {}
                if isinstance(notice, Text):
                    self.text = notice.token
            if not records:
                return self
            for record in records:
                self.hear(record)


def stream_records(stream: Stream) -> list[Record]:
    """All records of a log that has kept them all."""
    return [Record(seq, event) for seq, event in enumerate(stream.events(), 1)] if stream.kept == stream.head else []


def made(events: Sequence[Event], bounds: Bounds, *, ended: bool) -> tuple[Stream, Stream]:
    """A log within bounds, and the same without any."""
    within, whole = stream_of(Opened("m"), bounds=bounds), stream_of(Opened("m"))
    for stream in (within, whole):
        for event in events:
            stream.append([event])
        if ended:
            stream.append([END])
            stream.finish(DONE)
    return within, whole


@given(EVENTS, BOUNDS, st.booleans(), st.booleans())
def test_a_log_that_was_written_down_whole_reads_the_same_for_every_place(
    events: list[Event], bounds: Bounds, folded: bool, ended: bool
) -> None:
    """Whatever a client had, it has the same in the end from the copy; and a place that the copy honours, exactly."""
    stream, whole = made(events, bounds, ended=ended)
    copy = copied(stream, all_pieces(stream, with_audio=False, folded=folded), bounds)
    assert (copy.head, copy.text(), copy.ended, copy.poured) == (stream.head, stream.text(), ended, stream.poured)
    assert (copy.state, copy.usage, copy.finish_reason) == (stream.state, stream.usage, stream.finish_reason)
    for seq in range(stream.head + 1):
        here = Client(whole, seq).read(Cursor(stream, Place(stream.sid, 1, seq)))
        there = Client(whole, seq).read(Cursor(copy, Place(stream.sid, 1, seq)))
        lost = Cursor(copy, Place(stream.sid, 1, seq)).lost
        if bounds is DEFAULT_BOUNDS:
            assert (there.text, there.others) == (here.text, here.others), seq
        elif not lost:
            assert there.text == Client(whole, whole.head).text, seq
    fresh = [Cursor(each).read(ALL) for each in (stream, copy)]
    if bounds is DEFAULT_BOUNDS:
        assert fresh[0] == fresh[1]


@given(EVENTS, st.lists(st.integers(1, 6), max_size=10), st.booleans())
def test_a_log_that_was_written_down_as_it_grew_is_the_same_event_for_event(
    events: list[Event], cuts: list[int], ended: bool
) -> None:
    """However it was cut into pieces, and where a piece was written twice."""
    _, whole = made(events, DEFAULT_BOUNDS, ended=ended)
    growing = Stream(whole.sid, question(), ALICE)
    pieces: list[Piece] = []
    rest = stream_records(whole)
    for cut in [*cuts, len(rest)]:
        some, rest = rest[:cut], rest[cut:]
        before = growing.head
        if some:
            growing.append([record.event for record in some if not record.event.is_terminal])
            if some[-1].event.is_terminal:
                growing.finish(DONE)
            pieces += new_pieces(growing, before, with_audio=False)
            pieces += pieces[-1:] * (cut % 2)
    copy = copied(growing, pieces)
    assert copy.events() == whole.events()
    assert (copy.head, copy.exact_from, copy.lost) == (whole.head, 1, 0)
    assert (copy.ended, copy.content_events) == (ended, whole.content_events)


@given(EVENTS, BOUNDS, EVENTS)
def test_a_copy_grows_as_the_log_does(events: list[Event], bounds: Bounds, later: list[Event]) -> None:
    """What is received behind what was loaded stands where it stood there, and its readers are told."""
    stream, _ = made(events, bounds, ended=False)
    copy = copied(stream, all_pieces(stream, with_audio=False, folded=False), bounds)
    reader = RecordingReader()
    copy.attach(reader)
    for event in later:
        stream.append([event])
        copy.receive([event], stream.poured)
        assert (copy.head, copy.poured) == (stream.head, stream.poured)
        assert copy.lost or stream.lost or copy.text() == stream.text()
    assert [record.event for record in reader.told] == later


def test_what_stood_before_a_folded_piece_stands_before_it_in_the_copy() -> None:
    """A log is folded behind its opening; nobody reads `opened` in the middle of an answer."""
    bounds = Bounds(max_bytes=1 << 20, max_events=8, max_audio_ms=1000)
    stream = stream_of(Opened("m"), *[Text(f"{n} ") for n in range(9)], Status("s"), Text("x"), bounds=bounds)
    assert stream.exact_from > 2
    copy = copied(stream, all_pieces(stream, with_audio=False, folded=False))
    assert copy.events() == stream.events()
    assert Cursor(copy).read(ALL) == Cursor(stream).read(ALL)


@pytest.mark.parametrize("asides", [0, 1, 3])
def test_what_did_not_come_from_the_source_is_not_counted_as_poured(asides: int) -> None:
    """Neither here nor in the copy: an exact source must skip what it said, and no more."""
    stream = stream_of(Opened("m"))
    stream.append([Text("a"), Text("b")])
    for _ in range(asides):
        stream.aside(Status("s"))
    assert stream.poured == 3
    copy = copied(stream, all_pieces(stream, with_audio=False, folded=True))
    assert (copy.poured, copy.asides) == (3, asides)
