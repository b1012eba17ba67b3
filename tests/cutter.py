"""Cutter: a TCP proxy that cuts its clients' connections, after so many bytes of a stream or on command.

    async with cutter(gateway.urls[0], cuts=[300, 95]) as line:
        the first event stream asked for at line.url is cut 300 bytes into its body, the second after 95, no third one

What goes through is kept: `requests` as the clients sent them, `bodies` of the event streams as they were received.
"""

import asyncio
import contextlib
import itertools
import re
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

_REQUEST = re.compile(rb"(GET|POST|DELETE|HEAD|OPTIONS) (\S+) HTTP/1\.[01]\r\n")


@dataclass
class Asked:
    """The head of one request; names of headers in lower case."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def last_event_id(self) -> str:
        """Where its client says that it was; empty when it does not."""
        return self.headers.get("last-event-id", "")


class Cutter:
    """Passes bytes on between its clients and one address, and cuts by a reset and by a plain close in turn."""

    def __init__(self, url: str, cuts: Iterable[int] = ()) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname or "127.0.0.1", address.port or 80
        self._cuts = list(cuts)
        self._how = itertools.cycle(("rst", "fin"))
        self._server: asyncio.Server | None = None
        self._wires: set[_Wire] = set()
        self.url = ""
        self.requests: list[Asked] = []
        self.bodies: list[bytearray] = []
        self.cut_count = 0

    @property
    def streams(self) -> list[Asked]:
        """The requests for streams: no pages, no scripts."""
        return [
            asked for asked in self.requests if asked.path.startswith(("/stream", "/v1/")) and asked.method != "DELETE"
        ]

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Let go of everything."""
        assert self._server is not None
        self._server.close()
        for wire in list(self._wires):
            wire.end("rst")
        async with asyncio.timeout(5):
            while self._wires:
                await asyncio.sleep(0.001)

    def cut(self) -> None:
        """Cut every event stream that is open now."""
        for wire in list(self._wires):
            if wire.body is not None:
                self._end(wire)

    def allowance(self) -> int | None:
        """How many bytes of its body the next event stream may have; None for all of them."""
        return self._cuts.pop(0) if self._cuts else None

    def _end(self, wire: "_Wire") -> None:
        self.cut_count += 1
        wire.end(next(self._how))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            return
        wire = _Wire(self, writer, far_writer)
        self._wires.add(wire)
        up = asyncio.create_task(wire.pass_up(reader))
        try:
            if await wire.pass_down(far_reader):
                self._end(wire)
        finally:
            wire.end("fin")
            self._wires.discard(wire)
            with contextlib.suppress(ConnectionError):
                await up


class _Wire:
    """One client's connection."""

    def __init__(self, owner: Cutter, client: asyncio.StreamWriter, far: asyncio.StreamWriter) -> None:
        self._owner = owner
        self._client = client
        self._far = far
        self._awaits_head = True
        self.body: bytearray | None = None

    async def pass_up(self, reader: asyncio.StreamReader) -> None:
        """What the client sends; requests are noted."""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if match := _REQUEST.match(data):
                    lines = data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
                    headers = {
                        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
                    }
                    self._owner.requests.append(Asked(match[1].decode(), match[2].decode(), headers))
                    self._awaits_head, self.body = True, None
                self._far.write(data)
        self._far.close()

    async def pass_down(self, reader: asyncio.StreamReader) -> bool:
        """What the client gets; true when it has had its allowance, false when the other side is done."""
        rest: int | None = None
        head = b""
        while data := await _read(reader):
            if self._awaits_head:
                head += data
                if b"\r\n\r\n" not in head:
                    continue
                self._awaits_head = False
                data, head = head, b""
                start = data.index(b"\r\n\r\n") + 4
                if b"text/event-stream" in data[:start].lower():
                    self.body = bytearray()
                    self._owner.bodies.append(self.body)
                    rest = self._owner.allowance()
                    await self._give(data[:start])
                    data = data[start:]
            if self.body is not None and rest is not None:
                data, rest = data[:rest], rest - len(data)
            if self.body is not None:
                self.body += data
            await self._give(data)
            if rest is not None and rest <= 0:
                return True
        return False

    async def _give(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self._client.write(data)
            await self._client.drain()

    def end(self, how: str) -> None:
        """Close both sides; harmless when that has happened."""
        sock = self._client.get_extra_info("socket")
        if how == "rst" and not self._client.is_closing():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._client.transport.abort()
        self._client.close()
        self._far.close()
        self.body = None


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(65536)
    except ConnectionError:
        return b""


def unchunked(body: bytes) -> bytes:
    """The content of a body in HTTP's chunked coding, however much of it there is."""
    content = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16) if size else 0
        content, body = content + body[:length], body[length + 2 :]
    return content


@contextlib.asynccontextmanager
async def cutter(url: str, cuts: Iterable[int] = ()) -> AsyncIterator[Cutter]:
    """A running cutter in front of `url`."""
    line = Cutter(url, cuts)
    await line.start()
    try:
        yield line
    finally:
        await line.stop()
