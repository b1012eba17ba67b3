"""Framer: the bytes of one stream's events, made once and shared by all that read it the same way."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gateway.delivery.sink import Packing
from gateway.dialects.base import Encoder
from gateway.events import Record, Text
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
        self._first = self._last = -1
        self._bytes = b""

    def pack(self, frames: Sequence[Frame]) -> bytes:
        """The bytes of frames that are not in the log."""
        return self._packing.pack(frames)

    def frame(self, records: Sequence[Record]) -> bytes:
        """The bytes of `records`, in order. Only the log's own records may be asked for, not folded ones."""
        (first, event), last = records[0], records[-1][0]
        if first != self._first or last != self._last:
            self._first, self._last = first, last
            if first == last and type(event) is Text and self._single is not None:
                self._bytes = self._single(first, event)
            else:
                self._bytes = self.frame_once(records)
        return self._bytes

    def frame_once(self, records: Sequence[Record]) -> bytes:
        """The same without remembering, for catching up."""
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
