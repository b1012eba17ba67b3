"""Framer: the bytes of one stream's events, made once and shared by all that read it the same way."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gateway.delivery.sink import Packing
from gateway.dialects.base import Encoder
from gateway.events import Event, Record, Text, as_record
from gateway.sse import Frame
from gateway.streams.stream import Stream


class Framer:
    """Packs records; remembers the last batch, which is what live readers ask for one after the other."""

    def __init__(self, encoder: Encoder, packing: Packing) -> None:
        self.encoder = encoder
        self._packing = packing
        layout = encoder.layout
        self._text = packing.text_writer(layout) if layout is not None else None
        self._single = packing.wrapped_text_writer(layout) if layout is not None else None
        self.users = 0
        self._first = self._count = -1
        self._bytes = b""

    def pack(self, frames: Sequence[Frame]) -> bytes:
        """The bytes of frames that are not in the log."""
        return self._packing.pack(frames)

    def frame(self, first: int, events: Sequence[Event]) -> bytes:
        """The bytes of events of the log, in order, the first of them at seq `first`."""
        event, count = events[0], len(events)
        if first != self._first or count != self._count:
            self._first, self._count = first, count
            if count == 1 and type(event) is Text and self._single is not None:
                self._bytes = self._single(first, event)
            else:
                self._bytes = self.frame_once(list(map(as_record, enumerate(events, first))))
        return self._bytes

    def frame_once(self, records: Sequence[Record]) -> bytes:
        """The same without remembering, for catching up; also of records that have been folded."""
        text, encode, pieces = self._text, self.encoder.encode, list[bytes]()
        for record in records:
            seq, event = record
            if type(event) is Text and text is not None:
                pieces.append(text(seq, event))
            else:
                pieces.extend(map(self._packing.encode, encode(record)))
        return self._packing.wrap(b"".join(pieces)) if pieces else b""


class Framers:
    """The framers in use, each shared by all who read the same stream in the same way."""

    def __init__(self) -> None:
        self._in_use: dict[tuple[object, ...], Framer] = {}

    def __len__(self) -> int:
        return len(self._in_use)

    @contextmanager
    def lend(self, stream: Stream, encoder: Encoder, packing: Packing) -> Iterator[Framer]:
        """The framer for `stream` in the way of `encoder`; equal sinks have the same `packing`."""
        key = (stream.sid, stream.epoch, encoder.key, packing)
        framer = self._in_use.get(key)
        if framer is None:
            framer = self._in_use[key] = Framer(encoder, packing)
        framer.users += 1
        try:
            yield framer
        finally:
            framer.users -= 1
            if not framer.users:
                del self._in_use[key]
