"""Stream: the append-only, bounded log of one answer; writers and readers share it and nothing else."""

import logging
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Protocol

from gateway.errors import Code, GatewayError
from gateway.events import (
    HANDED_OVER,
    RECORD_OVERHEAD_BYTES,
    Audio,
    AudioEvicted,
    Completed,
    Event,
    Failed,
    Opened,
    Record,
    Text,
    TextComplete,
    Usage,
    WholeText,
    as_record,
)
from gateway.request import Caller, StreamRequest
from gateway.streams.fold import fold
from gateway.streams.lineage import FIRST_EPOCH, Lineage

log = logging.getLogger(__name__)


class State(StrEnum):
    """Where a stream is in its life."""

    OPEN = "open"
    LIVE = "live"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"


class Reader(Protocol):
    """Somebody told of every append, in the loop turn in which it happens. Must not wait and must not raise."""

    def appended(self, first: int, events: Sequence[Event]) -> None:
        """`events` are new at the head of the log, the first of them at seq `first`. They must not be changed."""

    def superseded(self) -> None:
        """Nothing more will be appended here: the stream goes on in its `successor`, or in another process."""


class Bounds:
    """How much one stream may keep: payload, events (each takes `RECORD_OVERHEAD_BYTES` beside it), and speech."""

    __slots__ = ("max_audio_ms", "max_bytes", "max_events")

    def __init__(self, *, max_bytes: int, max_events: int, max_audio_ms: int) -> None:
        self.max_bytes = max_bytes
        self.max_events = max_events
        self.max_audio_ms = max_audio_ms


DEFAULT_BOUNDS = Bounds(max_bytes=2 * 1024 * 1024, max_events=65_536, max_audio_ms=20_000)


class Stream:
    """A log of events, open until its last one.

    `head` is the seq of the newest event, 0 when there is none. Everything from `exact_from` on is kept
    event by event; what is older is kept folded (adjacent text joined), and what does not even so fit
    into the bounds is gone (`lost` counts those events). `bytes` is the memory that it takes, `bytes_ever`
    the payload ever appended. Its keeper hears of every change of `bytes` through `on_growth`. The request,
    which is kept as long, takes `request_bytes` beside it.

    `asides` counts the events that did not come from its pipeline's source. A stream that is `mirrored` is made in
    another process and copied here; one that is `given_up` gets no more events here, whatever becomes of it elsewhere.
    `credential` is what its owner showed at the door, by a name that is no secret: whoever goes on with the stream must
    ask whether it is still good. `clients` are the names under which it is counted among its owner's streams.
    """

    def __init__(
        self,
        sid: str,
        request: StreamRequest,
        owner: Caller,
        bounds: Bounds = DEFAULT_BOUNDS,
        *,
        dialect: str = "",
        lineage: Lineage = FIRST_EPOCH,
        created_s: int = 0,
        credential: str = "",
        clients: tuple[str, ...] = (),
    ) -> None:
        self.sid = sid
        self.dialect = dialect
        self.lineage = lineage
        self.epoch = lineage.epoch
        self.request = request
        self.request_bytes = request.size()
        self.owner = owner
        self.created_s = created_s or int(time.time())
        self.credential = credential
        self.clients = clients
        self.state = State.OPEN
        self.sealed = False
        self.seal_reason = ""
        self.seal_error: GatewayError | None = None
        self.finish_reason = ""
        self.head = 0
        self.exact_from = 1
        self.lost = 0
        self.bytes = 0
        self.bytes_ever = 0
        self.late_events = 0
        self.content_events = 0
        self.asides = 0
        self.mirrored = False
        self.given_up = False
        self.successor: Stream | None = None
        self.usage: Usage | None = None
        self.terminal: Completed | Failed | None = None
        self.on_growth: Callable[[int], bool] | None = None
        self._bounds = bounds
        # Of most streams there is only `_events`, one after the other from `exact_from` on: their seq needs no keeping.
        # Text is kept as a plain string: nearly all that a process keeps, and nothing for the garbage collector.
        self._older: list[Record] = []
        self._events: list[Event | str] = []
        self._audio_ms = 0
        self._readers: list[Reader] = []

    def __repr__(self) -> str:
        return f"<Stream {self.sid} {self.state} head={self.head} readers={len(self._readers)} bytes={self.bytes}>"

    @property
    def ended(self) -> bool:
        """Whether the terminal event is in the log."""
        return self.terminal is not None

    @property
    def text_ended(self) -> bool:
        """Whether the source has ended by its own marker; followers may still be at work."""
        return bool(self.finish_reason)

    @property
    def begun(self) -> bool:
        """Whether the answer has begun, or ended without beginning."""
        return self.state is not State.OPEN

    @property
    def poured(self) -> int:
        """How many of the events came from its pipeline's source, through the stages."""
        return self.head - self.asides

    @property
    def kept(self) -> int:
        """How many records are kept."""
        return len(self._older) + len(self._events)

    @property
    def payload(self) -> int:
        """Payload of what is kept, in bytes."""
        return self.bytes - RECORD_OVERHEAD_BYTES * self.kept

    @property
    def readers(self) -> int:
        """How many read along."""
        return len(self._readers)

    # Writing.

    def append(self, events: Sequence[Event]) -> None:
        """Add events at the head and tell the readers once. Once the stream is sealed they are counted and dropped.

        Raises `STORE_FULL` when the keeper cannot bear that the stream goes on growing.
        """
        if self.sealed and self.terminal not in events:
            self.late_events += len(events)
            return
        if not events:
            return
        count, first, bytes_before, exact = len(events), self.head + 1, self.bytes, self._events
        self.head += count
        size = other = 0
        for event in events:
            # Text is nearly all there is: it takes the short way.
            if type(event) is Text:
                size += len(event)
                exact.append(str(event))
            else:
                size += event.size
                exact.append(event)
                other += 1
        self.content_events += count - other
        self.bytes += size + RECORD_OVERHEAD_BYTES * count
        self.bytes_ever += size
        if other or self.state is State.OPEN:
            self._note(events)
        kept, bounds = len(self._older) + len(exact), self._bounds
        if kept > bounds.max_events or self.bytes - RECORD_OVERHEAD_BYTES * kept > bounds.max_bytes:
            self._shrink()
        room = self.on_growth is None or self.on_growth(self.bytes - bytes_before)
        if self._readers:
            self._tell(first, events)
        if not room and self.terminal is None:
            raise GatewayError(Code.STORE_FULL, "running streams fill the memory set aside for logs", retry_after_s=5)

    def aside(self, event: Event) -> None:
        """Append what does not come from the source: an exact one will not say it again."""
        self.asides += 1
        self.append([event])

    def seal(self, reason: str = "", error: GatewayError | None = None) -> None:
        """Nothing but the terminal event may be appended from now on; the first reason given is kept.

        With `error` the terminal event is that failure.
        """
        if not self.sealed:
            self.sealed = True
            self.seal_reason = reason
            self.seal_error = error

    def finish(self, terminal: Completed | Failed) -> None:
        """Append the one terminal event; a second one is dropped."""
        if self.terminal is not None or self.given_up:
            self.late_events += 1
            return
        self.sealed = True
        self.terminal = terminal
        self.aside(terminal)

    def give_up(self, successor: "Stream | None" = None) -> None:
        """Append nothing more here, not even a terminal event; readers go on with the `successor`, if there is one."""
        if self.given_up:
            return
        self.seal(HANDED_OVER)
        self.given_up = True
        self.successor = successor
        for reader in tuple(self._readers):
            reader.superseded()

    def load(self, folded: Sequence[Record], first: int, events: Sequence[Event], *, lost: int, poured: int) -> None:
        """Fill an empty log with what is kept of it elsewhere: `folded` records, then `events` from seq `first` on."""
        self._older = list(folded)
        self.lost, self.exact_from, self.head = lost, first, first - 1
        size = sum(record.event.size for record in folded)
        self.bytes_ever = size
        self.bytes = size + RECORD_OVERHEAD_BYTES * len(folded)
        self.content_events += sum(type(record.event) is Text for record in folded)
        self._note([record.event for record in folded])
        self.receive(events, poured)

    def copy(self, lineage: Lineage) -> "Stream":
        """The same log in another epoch, without its readers."""
        copy = Stream(
            self.sid,
            self.request,
            self.owner,
            self._bounds,
            dialect=self.dialect,
            lineage=lineage,
            created_s=self.created_s,
            credential=self.credential,
            clients=self.clients,
        )
        events = list(map(_event, self._events))
        copy.load(self._older, self.exact_from, events, lost=self.lost, poured=self.poured)
        return copy

    def receive(self, events: Sequence[Event], poured: int) -> None:
        """Append what another process has appended to the same log."""
        last = events[-1] if events else None
        if isinstance(last, (Completed, Failed)):
            self.sealed, self.terminal = True, last
        self.asides = self.head + len(events) - poured
        self.append(events)

    def forget_question(self) -> None:
        """Once the answer has ended, what was asked is not needed any more to tell it."""
        before = self.request_bytes
        self.request = self.request.without_question()
        self.request_bytes = self.request.size()
        if self.on_growth is not None:
            self.on_growth(self.request_bytes - before)

    def _note(self, events: Sequence[Event]) -> None:
        """What the log remembers of events beside the events."""
        for event in events:
            self.content_events += event.is_content and type(event) is not Text
            if isinstance(event, TextComplete):
                self.finish_reason = event.finish_reason
                self.usage = event.usage
            elif isinstance(event, Audio):
                self._audio_ms += event.duration_ms
                if self._audio_ms > self._bounds.max_audio_ms:
                    self._evict_audio()
        if self.terminal is not None:
            self.state = _state_after(self.terminal)
        elif self.content_events:
            self.state = State.LIVE

    def _tell(self, first: int, events: Sequence[Event]) -> None:
        # A copy is taken only where there is more than one: a reader may detach while it is told.
        readers = self._readers
        for reader in readers if len(readers) == 1 else tuple(readers):
            try:
                reader.appended(first, events)
            except Exception:
                # One reader's trouble is not the log's, nor the other readers'.
                log.exception("a reader failed and was dropped", extra={"stream_id": self.sid})
                self.detach(reader)

    # Bounds.

    def _shrink(self) -> None:
        """Fold the older half; if the log is still too large, forget from its beginning.

        Then an eighth is made free at once: to forget one event for each that comes would cost a walk each time.
        """
        max_bytes, max_events = self._bounds.max_bytes, self._bounds.max_events
        moved = max(0, self.kept // 2 - len(self._older))
        self._older = fold([*self._older, *self._exact(0, moved)])
        del self._events[:moved]
        self.exact_from += moved
        self.bytes = sum(record.event.size + RECORD_OVERHEAD_BYTES for record in self._kept())
        if self.payload > max_bytes or self.kept > max_events:
            self._forget(max_bytes * 7 // 8, max_events * 7 // 8)

    def _forget(self, max_bytes: int, max_events: int) -> None:
        """Drop the oldest records until so much is left, or one."""
        drop, kept, payload = 0, self.kept, self.payload
        for seq, event in self._kept():
            if drop == kept - 1 or (payload <= max_bytes and kept - drop <= max_events):
                break
            drop += 1
            payload -= event.size
            self.lost = seq
            if isinstance(event, Audio):
                self._audio_ms -= event.duration_ms
        exact = max(0, drop - len(self._older))
        del self._older[:drop]
        del self._events[:exact]
        self.exact_from += exact
        self.bytes = payload + RECORD_OVERHEAD_BYTES * self.kept

    def _evict_audio(self) -> None:
        """Put tombstones in place of the oldest speech until what is left plays no longer than the ring."""
        for index, (seq, event) in enumerate(list(self._kept())):
            if self._audio_ms <= self._bounds.max_audio_ms:
                return
            if isinstance(event, Audio):
                tombstone = AudioEvicted(event.index)
                if index < len(self._older):
                    self._older[index] = Record(seq, tombstone)
                else:
                    self._events[index - len(self._older)] = tombstone
                self._audio_ms -= event.duration_ms
                self.bytes -= event.size - tombstone.size

    # Reading.

    def attach(self, reader: Reader) -> None:
        """Tell `reader` of every append from now on."""
        self._readers.append(reader)

    def detach(self, reader: Reader) -> None:
        """Tell it no more; harmless when it was not attached."""
        if reader in self._readers:
            self._readers.remove(reader)

    def after(self, seq: int, max_bytes: int, max_events: int | None = None) -> list[Record]:
        """Records behind `seq` in order, at least one if there is any, until `max_bytes` of payload are exceeded.

        `seq` must not be older than `exact_from - 1`: what lies before has lost its own records.
        """
        start, stop = seq + 1 - self.exact_from, len(self._events)
        if max_events is not None:
            stop = min(stop, start + max_events)
        total = 0
        for end in range(start, stop):
            kept = self._events[end]
            total += len(kept) if isinstance(kept, str) else kept.size
            if total > max_bytes:
                return self._exact(start, end + 1)
        return self._exact(start, stop)

    def plain_after(self, seq: int) -> Sequence[Event | str]:
        """Events behind `seq` as they are kept: text as plain strings. For `seq` see `after`."""
        return self._events[seq + 1 - self.exact_from :]

    def kept_after(self, seq: int, upto: int, max_bytes: int) -> list[Record]:
        """What is kept behind `seq`, folded or not, at least one record if there is any, else as in `after`.

        Ends with the record that holds `upto`. `seq` must be where two records meet (`divides`).
        """
        found: list[Record] = []
        total = 0
        for record in self._kept(seq):
            if found and (total >= max_bytes or found[-1].seq >= upto):
                break
            found.append(record)
            total += record.event.size
        return found

    def divides(self, seq: int) -> bool:
        """Whether two kept records meet behind `seq`: nothing behind it is gone, or folded with what lies before it."""
        if seq + 1 >= self.exact_from or seq <= self.lost:
            return seq >= self.lost
        at = bisect_right(self._older, seq, key=_seq_of)
        return at > 0 and self._older[at - 1].seq == seq

    def text(self, until: int | None = None) -> str:
        """The text of the answer up to and including seq `until`, as far as it is kept."""
        limit = self.head if until is None else until
        pieces: list[str] = []
        for seq, event in self._kept():
            if seq > limit:
                break
            if isinstance(event, Text):
                if isinstance(event, WholeText):
                    pieces.clear()
                pieces.append(event)
        return "".join(pieces)

    def events(self) -> list[Event]:
        """Everything kept, in order."""
        return [*(record.event for record in self._older), *map(_event, self._events)]

    def folded(self) -> list[Record]:
        """What is kept of everything before `exact_from`."""
        return list(self._older)

    def _exact(self, start: int, stop: int) -> list[Record]:
        """Some of the records that are kept one by one, by their index."""
        return list(map(as_record, enumerate(map(_event, self._events[start:stop]), self.exact_from + start)))

    def _kept(self, seq: int = 0) -> Iterator[Record]:
        """Everything kept behind `seq`, in order."""
        yield from self._older[bisect_right(self._older, seq, key=_seq_of) :]
        start = max(0, seq + 1 - self.exact_from)
        for index in range(start, len(self._events)):
            yield Record(self.exact_from + index, _event(self._events[index]))


def _event(kept: Event | str) -> Event:
    """What is kept as an event again."""
    return kept if isinstance(kept, Event) else Text(kept)


def _seq_of(record: Record) -> int:
    return record.seq


def _state_after(terminal: Completed | Failed) -> State:
    if isinstance(terminal, Failed):
        return State.FAILED
    return State.COMPLETED if terminal.status == "completed" else State.CANCELLED


def opened(request: StreamRequest) -> Opened:
    """The first event of the stream that answers `request`."""
    return Opened(request.model, request.metadata)
