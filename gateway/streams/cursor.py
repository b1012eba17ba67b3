"""Cursor: a reader's place in a stream, and what a returning reader is owed."""

from collections.abc import Sequence

from gateway.events import Event, Record, Text, Warned, WholeText
from gateway.streams.fold import fold
from gateway.streams.ids import Place
from gateway.streams.lineage import Lost
from gateway.streams.stream import Stream


class Cursor:
    """A place between two records. It never waits and never skips silently.

    A reader without a place, or with one that cannot be honoured, gets what is kept, folded. The latter is told
    first by `notices` (a `GAP`, `RESET` or `REWIND` warning that has no seq of its own); `lost` holds its code. What is
    kept is folded piece by piece as it is read: a reader that takes nothing holds nothing.
    """

    def __init__(self, stream: Stream, place: Place | None = None) -> None:
        self.stream = stream
        self.seq = 0
        self.bytes_seen = 0
        self._notices: list[Event] = []
        self._folded_upto = 0
        self._replaces = False
        self._awaited = False
        self.resumed = place is not None
        self.lost = ""
        if place is None:
            self._start_over()
            return
        found = stream.lineage.locate(place)
        if isinstance(found, Lost):
            self._lose(found.code, found.message, found.to or stream.head, found.dropped or stream.head)
        else:
            # A place in the epoch that this process makes cannot lie ahead; any other may still have to arrive here.
            own = place.epoch == stream.epoch and not stream.mirrored
            self._go_to(found, may_wait=not own)

    def __repr__(self) -> str:
        return f"<Cursor {self.stream.sid} seq={self.seq} of {self.stream.head}>"

    @property
    def at_head(self) -> bool:
        """Whether everything has been read."""
        return not self._notices and self.seq == self.stream.head

    @property
    def ahead(self) -> bool:
        """Whether the log has yet to reach this place: its reader has seen what is still on its way here."""
        return self.seq > self.stream.head

    @property
    def place(self) -> Place | None:
        """Where to go on in another copy of the stream; None when nothing has been read."""
        return Place(self.stream.sid, self.stream.epoch, self.seq) if self.seq > self.stream.lost else None

    @property
    def done(self) -> bool:
        """Whether everything has been read and nothing more will come."""
        return self.at_head and self.stream.ended

    @property
    def lag_bytes(self) -> int:
        """Payload appended since the place of this cursor."""
        return self.stream.bytes_ever - self.bytes_seen

    def notices(self) -> list[Event]:
        """What must be said before the next records; asked once."""
        said, self._notices = self._notices, []
        return said

    def read(self, max_bytes: int, *, merge: bool = False, max_events: int | None = None) -> Sequence[Record]:
        """The next records in order, about `max_bytes` of payload and `max_events` at most; empty at the head.

        With `merge`, adjacent text becomes one record under the id of its last piece, however many pieces there were.
        """
        if self._awaited:
            self._go_to(self.seq, may_wait=True)
            if self._awaited:
                return ()
        self._check_place()
        records: Sequence[Record]
        if self.seq < self._folded_upto:
            records = self._read_folded(max_bytes, max_events)
        else:
            records = self.stream.after(self.seq, max_bytes, None if merge else max_events)
            if merge:
                records = fold(records)
        if records:
            self.passed(records)
        return records

    def at_the_head(self) -> None:
        """Stand at the head of the log: all that was new there has been handed on by somebody else."""
        self.seq, self.bytes_seen = self.stream.head, self.stream.bytes_ever

    def passed(self, records: Sequence[Record]) -> None:
        """Stand behind `records`, which are being handed on."""
        self.seq = records[-1].seq
        if self.seq == self.stream.head:
            self.bytes_seen = self.stream.bytes_ever
        else:
            self.bytes_seen += _payload(records)

    def _go_to(self, seq: int, *, may_wait: bool) -> None:
        """Stand at `seq`, or wait for the log to reach it."""
        self.seq = seq
        self._awaited = self.ahead and may_wait and not self.stream.ended
        if self._awaited:
            self.bytes_seen = self.stream.bytes_ever
        elif self.ahead:
            self._lose("RESET", "that place is beyond the end of the stream", self.stream.head, 0)
        else:
            self._stand_at(seq)

    def _stand_at(self, seq: int) -> None:
        self.seq = seq
        self._check_place()
        if not self.lost:
            self.bytes_seen = self.stream.bytes_ever - _payload(self.stream.after(seq, self.stream.bytes_ever))

    def _check_place(self) -> None:
        """The log may have been folded or forgotten past this place: what was read of it can then not be continued."""
        exact_from = self.stream.exact_from
        kept = self.stream.divides(self.seq) if self.seq < self._folded_upto else self.seq + 1 >= exact_from
        if not kept:
            dropped = max(0, exact_from - 1 - self.seq)
            self._lose("GAP", "that place is older than what is kept", self.stream.head, dropped)

    def _lose(self, code: str, message: str, to: int, dropped: int) -> None:
        """The place cannot be honoured: say so, then start over."""
        self.lost, self._awaited = code, False
        self._notices.append(Warned(code, message, {"to": to, "dropped": dropped}))
        self._start_over()

    def _start_over(self) -> None:
        stream = self.stream
        if stream.lost and not self._notices:
            lost = Warned("GAP", "the beginning is no longer kept", {"to": stream.lost, "dropped": stream.lost})
            self._notices.append(lost)
        self.seq = stream.lost
        self._folded_upto, self._replaces = stream.head, True
        first = stream.kept_after(self.seq, stream.head, 0)
        if self._notices and not (first and isinstance(first[0].event, Text)):
            # Cut off behind the first records, the client would come back to a kept place with its old text.
            self._notices.append(WholeText(""))
        self.bytes_seen = stream.bytes_ever - stream.payload

    def _read_folded(self, max_bytes: int, max_events: int | None) -> list[Record]:
        """The next of what was there when the reader came; its first text replaces what a client had."""
        records = fold(self.stream.kept_after(self.seq, self._folded_upto, max_bytes))[:max_events]
        for index, (seq, event) in enumerate(records):
            if self._replaces and isinstance(event, Text):
                records[index] = Record(seq, WholeText(event))
                self._replaces = False
        return records


def _payload(records: Sequence[Record]) -> int:
    return sum(record.event.size for record in records)
