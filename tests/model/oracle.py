"""Oracle: what was said at each place of each epoch, noted where it was said."""

import contextlib
from collections.abc import Sequence
from typing import NamedTuple

from gateway.events import Completed, Event, Failed, Status, Text, WholeText
from gateway.stores.redis_log import Found
from gateway.streams.ids import Place
from gateway.streams.stream import Stream


class Violation(AssertionError):
    """A promise was broken."""


class Epoch(NamedTuple):
    """One producer's part: its text behind each of its places, and where it began."""

    instance: str
    begins: int
    texts: dict[int, str]
    terminals: list[Event]


class Oracle:
    """Told by each producer, as a reader of its log, before anybody else hears of an event."""

    def __init__(self) -> None:
        self.sid = ""
        self.epochs: dict[int, Epoch] = {}
        self.found: list[str] = []
        """What was wrong, in the order in which it was seen; where it happens an exception would be swallowed."""

    def watch(self, stream: Stream, instance: str) -> None:
        """`instance` makes the stream from now on."""
        epoch = stream.epoch
        if epoch in self.epochs:
            self.found.append(f"epoch {epoch} was begun by {self.epochs[epoch].instance} and by {instance}")
            return
        if epoch == 1:
            begins, text = 1, ""
        else:
            self._fill(epoch - 1, stream)
            end = stream.lineage.ends[epoch - 1]
            begins, text = end + 1, self.text(epoch - 1, end)
            if stream.text() != text and not stream.lost:
                self.found.append(f"epoch {epoch} begins with {stream.text()!r} instead of {text!r}")
            if stream.head != begins or stream.events()[-1] != Status("continued"):
                self.found.append(f"epoch {epoch} does not begin by saying so at {begins}")
        self.epochs[epoch] = Epoch(instance, begins, {begins - 1: text, begins: text}, [])
        stream.attach(Ear(self.epochs[epoch], stream))

    def _fill(self, epoch: int, stream: Stream) -> None:
        """An epoch whose producer never heard that it was one has nothing but its beginning."""
        if epoch not in self.epochs and epoch > 1:
            self._fill(epoch - 1, stream)
            begins = stream.lineage.ends[epoch - 1] + 1
            text = self.text(epoch - 1, begins - 1)
            self.epochs[epoch] = Epoch("nobody", begins, {begins - 1: text, begins: text}, [])

    def text(self, epoch: int, seq: int) -> str:
        """The text of a reader who has read up to there. Raises `Violation` where there is no such place."""
        at = self.epochs.get(epoch)
        while at is not None and seq < at.begins - 1:
            epoch -= 1
            at = self.epochs.get(epoch)
        if at is None or seq not in at.texts:
            raise Violation(f"nobody ever said {epoch}-{seq}")
        return at.texts[seq]

    def says(self, text: str) -> bool:
        """Whether the text is that of some place."""
        return any(text in epoch.texts.values() for epoch in self.epochs.values())

    def check_place(self, place: Place, text: str, *, partial: bool) -> None:
        """A reader that stands there must have that text, or `partial`, its end."""
        wanted = self._texts(place)
        if text not in wanted and not (partial and any(one.endswith(text) for one in wanted)):
            raise Violation(f"at {place.epoch}-{place.seq} stands {wanted}, but the client has {text!r}")

    def _texts(self, place: Place) -> list[str]:
        """The text there; two may be it in an epoch that was claimed by a process that has not heard of it yet.

        Nothing stands there but what was said before, and the event that says so.
        """
        if place.epoch in self.epochs or place.epoch == 1:
            return [self.text(place.epoch, place.seq)]
        before = Place(place.sid, place.epoch - 1, place.seq)
        found = list[str]()
        for one in (before, before._replace(seq=place.seq - 1)):
            with contextlib.suppress(Violation):
                found += self._texts(one)
        return found

    def check_rewind(self, place: Place, to: int, dropped: int) -> None:
        """What a client was told whose place was lost with its process."""
        heir = self.epochs.get(place.epoch + 1)
        if heir is None:
            return
        if to != heir.begins - 1 or dropped != place.seq - to:
            raise Violation(f"{place.epoch}-{place.seq} was told of a rewind to {to} by {dropped}: {heir}")

    def check_log(self, found: Found) -> None:
        """What stands in Redis must be what was said by those whose turn it was."""
        last, text = 0, ""
        for entry in found.entries:
            if entry.first > last + 1 and last:
                raise Violation(f"a gap in the log before {entry.first}")
            for seq, event in entry.records(after=last):
                if isinstance(event, Text):
                    text = str(event) if isinstance(event, WholeText) else text + event
                last = seq
            lost = found.entries[0].first > 1
            if not lost and text not in self._texts(Place(found.sid, entry.epoch, entry.last)):
                raise Violation(f"the log says {text!r} up to {entry.epoch}-{entry.last}")


class Ear:
    """Notes what one producer says."""

    def __init__(self, epoch: Epoch, stream: Stream) -> None:
        self._epoch = epoch
        self._stream = stream

    def appended(self, first: int, events: Sequence[Event]) -> None:
        """More of it."""
        texts = self._epoch.texts
        for seq, event in enumerate(events, first):
            texts[seq] = texts[seq - 1] + (event if isinstance(event, Text) else "")
            if isinstance(event, (Completed, Failed)):
                self._epoch.terminals.append(event)

    def superseded(self) -> None:
        """It says nothing more."""
