"""One HTTP answer as it arrives: its head, the end of its body, and the stamps of the tokens in between."""

import re

STAMP = re.compile(rb"t(\d{16}) ")
BEGUN = re.compile(rb"t\d{0,16}$")
STAMP_LENGTH = 18
HEAD_LIMIT = 65536
LAST_CHUNK = b"0\r\n\r\n"
CHUNKED, MEASURED, UNTIL_CLOSE = range(3)


class BadAnswerError(Exception):
    """What arrived is no answer of HTTP/1.1, or not the one that was asked for."""


class Answer:
    """Takes the bytes of an answer in any pieces; whatever a gateway makes of the events, the stamps are found.

    A `place` above 0 says of the last piece that it was one whole chunk, opened by `opening`, with one stamp at that
    place. The next piece of that length and opening is the next token then, and its stamp may be read off there.
    """

    __slots__ = ("_body", "_framing", "_raw", "_rest", "_size", "done", "greeted", "head", "keep", "opening", "place")

    def __init__(self) -> None:
        self._raw = b""
        """What was received and is not taken apart yet."""
        self._rest = b""
        """The end of the body so far, in which a stamp may have begun."""
        self._size = -1
        self._framing = UNTIL_CLOSE
        self.head = b""
        self.done = self.keep = self.greeted = False
        self.opening = b""
        self.place = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The stamps of all tokens that became whole with this piece."""
        self.place = 0
        clean = self._is_clean()
        self._raw = self._raw + data if self._raw else data
        if not self.head and not self._take_head():
            return []
        if self._framing == CHUNKED:
            text, chunks = self._chunks()
        else:
            text, chunks = self._plain(), 0
        stamps = self._stamps(text)
        if clean and chunks == len(stamps) == 1 and self._is_clean():
            self.opening = data[: data.index(b"\r\n") + 2]
            self.place = data.index(b"t" + stamps[0])
        return stamps

    def _is_clean(self) -> bool:
        """Between two chunks, with no stamp begun."""
        return bool(self.head) and not (self._raw or self._rest or self.done) and self._size < 0

    @property
    def begun(self) -> bool:
        """Anything has arrived."""
        return bool(self.head or self._raw)

    def closed(self) -> bool:
        """The connection was closed; whether that was the proper end."""
        self.done = self.done or (bool(self.head) and self._framing == UNTIL_CLOSE)
        return self.done

    def field(self, name: bytes) -> bytes:
        """A header's value, or nothing."""
        found = re.search(rb"\r\n" + name + rb": *([^\r]*)", self.head, re.IGNORECASE)
        return found[1] if found else b""

    def _take_head(self) -> bool:
        end = self._raw.find(b"\r\n\r\n") + 4
        if end < 4:
            if len(self._raw) > HEAD_LIMIT:
                raise BadAnswerError("a head without an end")
            return False
        self.head, self._raw = self._raw[:end], self._raw[end:]
        if self.head[9:12] != b"200":
            status = self.head[9:].split(b"\r\n", 1)[0]
            raise BadAnswerError(f"{status.decode()}: {self._raw[:300].decode(errors='replace')}")
        self.keep = self.field(b"connection").lower() != b"close"
        if self.field(b"transfer-encoding"):
            self._framing = CHUNKED
        elif length := self.field(b"content-length"):
            self._framing, self._size = MEASURED, int(length)
        return True

    def _chunks(self) -> tuple[bytes, int]:
        """The text that has arrived, and how many chunks ended with it. A chunk's text is taken before it is whole."""
        data, at, left, text, ended = self._raw, 0, self._size, list[bytes](), 0
        while at < len(data):
            if left < 0:
                line = data.find(b"\r\n", at)
                if line < 0 or (data.startswith(b"0\r\n", at) and len(data) < at + len(LAST_CHUNK)):
                    break
                if data.startswith(LAST_CHUNK, at):
                    self.done = True
                    at = len(data)
                    break
                left, at = self._chunk_size(data[at:line]) + 2, line + 2
            taken = min(left, len(data) - at)
            text.append(data[at : at + min(taken, max(left - 2, 0))])
            at, left = at + taken, left - taken
            if not left:
                left, ended = -1, ended + 1
        self._raw, self._size = data[at:], left
        return b"".join(text), ended

    @staticmethod
    def _chunk_size(line: bytes) -> int:
        try:
            return int(line.split(b";")[0], 16)
        except ValueError:
            raise BadAnswerError(f"not the size of a chunk: {line[:40]!r}") from None

    def _plain(self) -> bytes:
        text, self._raw = self._raw, b""
        if self._framing == MEASURED:
            self._size -= len(text)
            self.done = self._size <= 0
        return text

    def _stamps(self, text: bytes) -> list[bytes]:
        if self._rest:
            text = self._rest + text
        self.greeted = self.greeted or b"event: connected" in text
        begun = BEGUN.search(text, max(len(text) - STAMP_LENGTH + 1, 0))
        self._rest = begun[0] if begun else b""
        return STAMP.findall(text)
