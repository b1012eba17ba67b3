"""Packing: frames as the bytes of SSE over HTTP, in HTTP chunks or not."""

from collections.abc import Callable, Sequence

import orjson

from gateway.dialects.base import TextLayout
from gateway.sse import Frame, encode

TextWriter = Callable[[int, str], bytes]


class SsePacking:
    """There are two of it, shared by all sinks of their kind, so that readers can share what it makes."""

    def __init__(self, *, chunked: bool) -> None:
        self._chunked = chunked
        self.wrap: Callable[[bytes], bytes] = _chunk if chunked else bytes

    def pack(self, frames: Sequence[Frame]) -> bytes:
        """Frames, ready to be written; nothing for none."""
        return self.wrap(b"".join(map(encode, frames))) if frames else b""

    def encode(self, frame: Frame) -> bytes:
        """One frame, to be wrapped together with others."""
        return encode(frame)

    def text_writer(self, layout: TextLayout) -> TextWriter:
        """Makes what `encode` would make of a text's frame, from its seq and token: nearly every event is one."""
        before = encode(Frame(layout.before, layout.event))[:-2]
        after, dumps = layout.after + b"\n", orjson.dumps
        if not layout.id_prefix:
            return lambda seq, token: before + dumps(token) + after + b"\n"
        after += b"id: " + layout.id_prefix
        return lambda seq, token: b"%b%b%b%d\n\n" % (before, dumps(token), after, seq)

    def wrapped_text_writer(self, layout: TextLayout) -> TextWriter:
        """Makes the same, wrapped: a single text is what is nearly always written."""
        write = self.text_writer(layout)
        if not self._chunked:
            return write

        def wrapped(seq: int, token: str) -> bytes:
            data = write(seq, token)
            return b"%x\r\n%b\r\n" % (len(data), data)

        return wrapped


def _chunk(data: bytes) -> bytes:
    """As one chunk of HTTP's chunked coding (RFC 9112, section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)


PLAIN = SsePacking(chunked=False)
CHUNKED = SsePacking(chunked=True)
