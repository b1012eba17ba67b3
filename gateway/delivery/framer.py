"""Framer: the frames of one stream's events, made once and shared by all that read it the same way."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from gateway.dialects.base import Encoder
from gateway.events import Record
from gateway.sse import Frame
from gateway.streams.stream import Stream

Pack = Callable[[Sequence[Frame]], bytes]


class Framer:
    """Packs records; remembers the last batch, which is what live readers ask for one after the other."""

    def __init__(self, encoder: Encoder, pack: Pack) -> None:
        self.encoder = encoder
        self.pack = pack
        self.users = 0
        self._first = self._last = -1
        self._bytes = b""

    def frame(self, records: Sequence[Record]) -> bytes:
        """The bytes of `records`, in order. Only the log's own records may be asked for, not folded ones."""
        first, last = records[0].seq, records[-1].seq
        if first != self._first or last != self._last:
            self._bytes = self.frame_once(records)
            self._first, self._last = first, last
        return self._bytes

    def frame_once(self, records: Sequence[Record]) -> bytes:
        """The same without remembering, for catching up."""
        encode = self.encoder.encode
        if len(records) == 1:
            return self.pack(encode(records[0]))
        return self.pack([frame for record in records for frame in encode(record)])


class Framers:
    """The framers in use, each shared by all who read the same stream in the same way."""

    def __init__(self) -> None:
        self._in_use: dict[tuple[object, ...], Framer] = {}

    def __len__(self) -> int:
        return len(self._in_use)

    @contextmanager
    def lend(self, stream: Stream, encoder: Encoder, pack: Pack) -> Iterator[Framer]:
        """The framer for `stream` in the way of `encoder`; `pack` must be the same function for equal sinks."""
        key = (stream.sid, stream.epoch, encoder.key, pack)
        framer = self._in_use.get(key)
        if framer is None:
            framer = self._in_use[key] = Framer(encoder, pack)
        framer.users += 1
        try:
            yield framer
        finally:
            framer.users -= 1
            if not framer.users:
                del self._in_use[key]
