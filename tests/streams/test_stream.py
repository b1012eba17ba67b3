"""The log: its life, its bounds, and its readers, who do not know of each other."""

import logging
from collections.abc import Sequence

import pytest

from gateway.events import (
    RECORD_OVERHEAD_BYTES,
    Audio,
    AudioEvicted,
    Citation,
    Custom,
    Event,
    Failed,
    Metadata,
    Opened,
    Progress,
    Record,
    Results,
    Status,
    Text,
    WholeText,
)
from gateway.streams.fold import fold
from gateway.streams.stream import Bounds, State, Stream, opened
from tests.doubles import DONE, END, RecordingReader, question, stream_of

FAILED = Failed("INTERNAL", "m", True, 500, 0)


def bounds(max_bytes: int = 1 << 20, max_events: int = 1000, max_audio_ms: int = 1000) -> Bounds:
    """Roomy, but for what is named."""
    return Bounds(max_bytes=max_bytes, max_events=max_events, max_audio_ms=max_audio_ms)


def spoken(index: int, ms: int = 400, size: int = 100) -> Audio:
    """A piece of speech."""
    return Audio(b"x" * size, "mp3", 24000, "", index, False, ms)


def recount(stream: Stream) -> int:
    """The memory that a stream takes, counted anew."""
    return sum(event.size + RECORD_OVERHEAD_BYTES for event in stream.events())


def test_a_stream_is_open_then_live_then_over() -> None:
    """Only content makes it live, only the terminal event ends it."""
    stream = stream_of(Opened("m"), Status("thinking"))
    assert stream.state is State.OPEN
    assert not stream.begun
    stream.append([Text("a")])
    assert (stream.state, stream.begun, stream.content_events) == (State.LIVE, True, 1)
    stream.append([END])
    assert stream.text_ended
    assert not stream.ended
    stream.finish(DONE)
    assert (stream.state, stream.ended, stream.usage) == (State.COMPLETED, True, END.usage)
    assert "completed head=5" in repr(stream)


@pytest.mark.parametrize(
    ("terminal", "state"),
    [(DONE, State.COMPLETED), (FAILED, State.FAILED), (DONE.__class__("cancelled", "", None, 0, 0), State.CANCELLED)],
)
def test_the_terminal_event_says_how_it_ended(terminal: Failed, state: State) -> None:
    """Before the first content too."""
    stream = stream_of(Opened("m"))
    stream.finish(terminal)
    assert stream.state is state
    assert stream.begun


def test_there_is_one_terminal_event_and_it_is_the_last() -> None:
    """A second one, and everything appended behind it, is dropped and counted."""
    stream = stream_of(Text("a"))
    stream.finish(DONE)
    stream.finish(FAILED)
    stream.append([Text("late"), Text("later")])
    assert stream.events() == [Text("a"), DONE]
    assert (stream.late_events, stream.head, stream.state) == (3, 2, State.COMPLETED)


def test_a_sealed_stream_takes_only_its_end() -> None:
    """What comes late is counted; the first reason stays."""
    stream = stream_of(Text("a"))
    stream.seal("first")
    stream.seal("second")
    stream.append([Text("late"), Text("later")])
    stream.finish(FAILED)
    assert stream.events() == [Text("a"), FAILED]
    assert (stream.late_events, stream.seal_reason) == (2, "first")


def test_readers_are_told_once_for_each_append() -> None:
    """Of the whole batch, in order; of nothing when nothing was appended, and after they left."""
    stream, reader = stream_of(), RecordingReader()
    stream.attach(reader)
    stream.append([Text("a"), Text("b")])
    stream.append([])
    stream.finish(DONE)
    assert reader.told == [Record(1, Text("a")), Record(2, Text("b")), Record(3, DONE)]
    assert reader.calls == 2
    stream.detach(reader)
    stream.detach(reader)
    assert stream.readers == 0


class Leaving(RecordingReader):
    """A reader that leaves, and perhaps fails, as soon as it is told."""

    def __init__(self, stream: Stream, error: Exception | None = None) -> None:
        super().__init__()
        self._stream, self._error = stream, error

    def appended(self, first: int, events: Sequence[Event]) -> None:
        super().appended(first, events)
        self._stream.detach(self)
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize("error", [None, RuntimeError("oops")])
@pytest.mark.parametrize("first", [True, False])
def test_a_reader_that_leaves_or_fails_harms_nobody(
    first: bool, error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    """The others hear everything, the writer hears nothing; the failed one is dropped and logged."""
    stream, other = stream_of(), RecordingReader()
    leaving = Leaving(stream, error)
    for reader in [leaving, other] if first else [other, leaving]:
        stream.attach(reader)
    with caplog.at_level(logging.ERROR):
        stream.append([Text("a")])
        stream.append([Text("b")])
    assert [record.seq for record in other.told] == [1, 2]
    assert leaving.calls == 1
    assert stream.readers == 1
    assert ("a reader failed and was dropped" in caplog.text) == (error is not None)


def test_memory_is_counted_to_the_byte_and_told_to_the_keeper() -> None:
    """Every change, growth and shrinking alike."""
    stream = stream_of(bounds=bounds(max_bytes=3000, max_events=20))
    told: list[int] = []

    def grew(delta: int) -> bool:
        told.append(delta)
        return True

    stream.on_growth = grew
    for n in range(60):
        stream.append([Text("x" * (n % 7)), spoken(n)] if n % 5 == 0 else [Text("y" * n)])
        assert stream.bytes == sum(told) == recount(stream)
    assert stream.payload <= 3000
    assert min(told) < 0


def test_what_others_make_weighs_what_it_weighs() -> None:
    """Metadata of any size: probabilities of tokens, an echo of the client's own, a page of results."""
    big = {"x": ["y" * 100] * 100}
    for event in (Metadata(big), Citation(big), Results(big), Progress(big), Custom("c", big), Opened("m", big)):
        assert 10_000 < event.size < 16_000
    assert Metadata({}).size < 200
    assert Metadata({"odd": {(1, 2): 3}}).size > 0


def test_beyond_its_events_the_older_half_is_folded_and_no_text_lost() -> None:
    """The whole answer can still be read; only the exact places of the older half are gone."""
    stream = stream_of(*[Text(f"{n} ") for n in range(100)], bounds=bounds(max_events=10))
    assert stream.kept <= 10
    assert stream.lost == 0
    assert stream.text() == "".join(f"{n} " for n in range(100))
    assert 90 < stream.exact_from <= 100
    assert [r.seq for r in stream.after(stream.exact_from - 1, 1 << 20)] == list(range(stream.exact_from, 101))


@pytest.mark.parametrize(("max_bytes", "max_events"), [(640, 1000), (1 << 20, 10)], ids=["bytes", "events"])
def test_what_cannot_be_folded_is_forgotten_from_the_beginning(max_bytes: int, max_events: int) -> None:
    """The newest is always there, and `lost` says how much is not."""
    stream = stream_of(*[Status(str(n)) for n in range(100)], bounds=bounds(max_bytes, max_events))
    assert stream.kept <= 10
    assert stream.payload <= max_bytes
    assert stream.lost == 100 - stream.kept
    assert stream.events() == [Status(str(n)) for n in range(stream.lost, 100)]
    assert stream.exact_from > stream.lost


def test_a_full_log_is_not_walked_through_for_every_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a long stream of small unfoldable events costs grows with its length, not with its square."""
    walks: list[int] = []

    def counted(records: Sequence[Record]) -> list[Record]:
        walks.append(len(records))
        return fold(records)

    monkeypatch.setattr("gateway.streams.stream.fold", counted)
    stream_of(*[Status("x") for _ in range(4000)], bounds=bounds(max_events=800))
    assert sum(walks) < 5 * 4000


def test_one_event_larger_than_the_bound_is_kept_all_the_same() -> None:
    """A log that forgets its own newest event would be silent."""
    stream = stream_of(Text("a"), Text("x" * 10_000), bounds=bounds(max_bytes=2000))
    assert stream.events()[-1] == Text("x" * 10_000)
    stream.append([Text("b")])
    assert stream.events()[-1] == Text("b")


def test_speech_has_a_ring_of_its_own() -> None:
    """The oldest pieces give way to tombstones, text stays, and the numbers have no hole."""
    stream = stream_of(Text("a"), *[spoken(n) for n in range(5)], bounds=bounds(max_audio_ms=1000))
    assert stream.events()[:4] == [Text("a"), AudioEvicted(0), AudioEvicted(1), AudioEvicted(2)]
    assert stream.events()[4:] == [spoken(3), spoken(4)]
    assert stream.bytes == recount(stream)


def test_speech_that_was_forgotten_with_the_beginning_leaves_the_ring() -> None:
    """Else the ring would seem full for ever, and every new piece would be evicted at once."""
    events: list[Event] = [spoken(0, 500), *[Status(str(n)) for n in range(30)], spoken(1, 500)]
    stream = stream_of(*events, bounds=bounds(max_events=10, max_audio_ms=500))
    assert stream.events()[-1] == spoken(1, 500)


def test_a_piece_longer_than_the_ring_is_told_but_not_kept() -> None:
    """Readers who are there hear it."""
    stream, reader = stream_of(bounds=bounds(max_audio_ms=100)), RecordingReader()
    stream.attach(reader)
    stream.append([spoken(0)])
    assert reader.told == [Record(1, spoken(0))]
    assert stream.events() == [AudioEvicted(0)]


def test_the_text_can_be_asked_for_up_to_a_place() -> None:
    """And a replacement sets it, as it does for every client."""
    stream = stream_of(Text("a"), Status("s"), Text("b"), WholeText("C"), Text("d"))
    assert [stream.text(until=seq) for seq in range(6)] == ["", "a", "a", "ab", "C", "Cd"]


def test_the_first_event_names_the_model_and_echoes_the_metadata() -> None:
    """Seq 1, before the upstream is called."""
    assert opened(question(metadata={"k": 1})) == Opened("m", {"k": 1})
