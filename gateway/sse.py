"""Server-Sent Events without I/O: frames to bytes, bytes to frames.

Source of the rules: WHATWG HTML, section 9.2 (parsing and interpreting an event stream).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from gateway.errors import Code, GatewayError

HEARTBEAT = b": hb\n"
"""A comment and ONE newline: an empty line after it would dispatch an event in some clients."""

BOM = b"\xef\xbb\xbf"


class Frame(NamedTuple):
    """The fields of one event, not yet bytes. `event` and `id` are names of ours, never a user's text."""

    data: bytes
    event: bytes = b""
    id: bytes = b""
    retry_ms: int = 0


def encode(frame: Frame) -> bytes:
    """The bytes of one event, ended by its blank line. `data` of several lines becomes several `data:` lines.

    Raises ValueError where `event` or `id` holds a CR, LF or NUL: they could end the field and begin another.
    """
    data, event, id_, retry_ms = frame
    head = b"retry: %d\n" % retry_ms if retry_ms else b""
    if event:
        head += b"event: " + _one_line(event) + b"\n"
    # The id comes last: fetch-event-source takes it with its line, so that an event cut off behind it would be lost.
    tail = b"\nid: " + _one_line(id_) + b"\n\n" if id_ else b"\n\n"
    if b"\n" in data or b"\r" in data:
        lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        return head + b"data: " + b"\ndata: ".join(lines) + tail
    return head + b"data: " + data + tail


def _one_line(value: bytes) -> bytes:
    if b"\n" in value or b"\r" in value or b"\0" in value:
        raise ValueError("an SSE field of one line cannot hold CR, LF or NUL")
    return value


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event as a client dispatches it: `event` is "message" where none was named."""

    data: str
    event: str = "message"
    id: str = ""


class Parser:
    """Bytes in, events out, however the bytes are cut.

    Strict where the standard is: an event counts only with its blank line. Stricter in one respect: a line or
    an event longer than `max_event_bytes` raises `UPSTREAM_PROTOCOL`, so that nobody can fill the memory.
    """

    def __init__(self, max_event_bytes: int = 256 * 1024) -> None:
        self._max_event_bytes = max_event_bytes
        self._rest = bytearray()
        self._at_start = True
        self._skip_lf = False
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._event = b""
        self._id = ""
        self.between = False
        """Whether the next byte begins an event: nothing is pending."""
        self.last_id = ""
        self.retry_ms: int | None = None

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """The events that `chunk` completes, in order; invalid UTF-8 raises `UPSTREAM_PROTOCOL`."""
        events: list[ServerEvent] = []

        def take(name: bytes, data: bytes) -> None:
            events.append(ServerEvent(_decode(data), _decode(name) or "message", self.last_id))

        self.push(chunk, take)
        return events

    def push(self, chunk: bytes, take: Callable[[bytes, bytes], None]) -> None:
        """The same, each handed to `take` as its name (empty where it has none) and its data, not decoded.

        Those before a fault are handed over before it is raised.
        """
        if self.between and _is_one_event(chunk) and len(chunk) <= self._max_event_bytes:
            # Nothing is pending, and nearly always one event comes alone: no need to take it apart into lines.
            self.last_id = self._id
            take(b"", chunk[6:-2])
            return
        if self._rest and b"\n" not in chunk and b"\r" not in chunk and not self._at_start:
            # Nothing ends with it: the pending line is not looked at again for each byte of it.
            self._rest += chunk
            self._refuse_long(self._rest)
            return
        data = bytes(self._rest) + chunk if self._rest else chunk
        if self._at_start:
            if len(data) < len(BOM) and BOM.startswith(data):
                self._rest = bytearray(data)
                return
            self._at_start = False
            data = data.removeprefix(BOM)
        if self._skip_lf and data:
            data = data.removeprefix(b"\n")
            self._skip_lf = False
        # A CR ends its line at once; only an LF right behind it, perhaps in the next chunk, belongs to it.
        self._skip_lf = self._skip_lf or data.endswith(b"\r")
        lines, rest = _split_lines(data)
        self._rest = bytearray(rest)
        for line in lines:
            if line:
                self._field(line)
            else:
                self._blank(take)
        self._refuse_long(self._rest)
        self.between = not (self._rest or self._data or self._event or self._skip_lf)

    def _blank(self, take: Callable[[bytes, bytes], None]) -> None:
        """An id counts with its blank line, even where there is no data and hence no event."""
        self.last_id = self._id
        name, lines = self._event, self._data
        self._event = b""
        if lines:
            self._data, self._data_bytes = [], 0
            take(name, lines[0] if len(lines) == 1 else b"\n".join(lines))

    def _refuse_long(self, line: bytes | bytearray) -> None:
        """Whole lines too, not only unfinished ones: how the bytes are cut must make no difference."""
        if len(line) > self._max_event_bytes:
            raise GatewayError(Code.UPSTREAM_PROTOCOL, f"a line is longer than {self._max_event_bytes} bytes")

    def _field(self, line: bytes) -> None:
        self._refuse_long(line)
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
            self._data_bytes += len(value) + 1
            if self._data_bytes > self._max_event_bytes:
                raise GatewayError(Code.UPSTREAM_PROTOCOL, f"an event is longer than {self._max_event_bytes} bytes")
        elif name == b"event":
            self._event = value
        elif name == b"id":
            if b"\0" not in value:
                self._id = _decode(value)
        elif name == b"retry" and value.isdigit() and len(value) < 10:
            self.retry_ms = int(value)


def _is_one_event(chunk: bytes) -> bool:
    """Whether it is a single line of data and its blank line, and nothing else."""
    return (
        chunk.startswith(b"data: ")
        and chunk.endswith(b"\n\n")
        and chunk.find(b"\n") == len(chunk) - 2
        and b"\r" not in chunk
    )


def _split_lines(data: bytes) -> tuple[list[bytes], bytes]:
    """Whole lines, and what is left of the last one."""
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    lines = data.split(b"\n")
    return lines, lines.pop()


def _decode(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise GatewayError(Code.UPSTREAM_PROTOCOL, "the stream is not valid UTF-8") from error
