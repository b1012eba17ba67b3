"""Cutter: a TCP proxy that cuts its clients' connections, at a given place in a stream or on command.

    async with cutter(gateway.urls[0], cuts=[rb"id: .{8}", rb"\n\n"]) as line:
        the first event stream asked for at line.url is cut in the middle of an id, the second between two events

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
    """Passes bytes on between its clients and one address, and cuts by a plain close and by a reset in turn.

    After a reset a client may not even have what had reached its own kernel; the first cut never takes that away.
    """

    def __init__(self, url: str, cuts: Iterable[bytes] = (), *, swallow: int = 0) -> None:
        address = urlsplit(url)
        self._host, self._port = address.hostname or "127.0.0.1", address.port or 80
        self._cuts = [re.compile(cut, re.DOTALL) for cut in cuts]
        self._how = itertools.cycle(("fin", "rst"))
        self.swallow = swallow
        self._server: asyncio.Server | None = None
        self._wires: set[_Wire] = set()
        self._serving: set[asyncio.Task[None]] = set()
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

    @property
    def open(self) -> int:
        """How many connections there are now."""
        return len(self._wires)

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
        await asyncio.gather(*self._serving, return_exceptions=True)

    def cut(self) -> None:
        """Cut every event stream that is open now."""
        for wire in list(self._wires):
            if wire.body is not None:
                self._end(wire)

    def next_cut(self) -> re.Pattern[bytes] | None:
        """What must have passed in the next event stream for it to be cut; None to let it be."""
        return self._cuts.pop(0) if self._cuts else None

    def begin(self) -> bytearray:
        """Where to keep the body of the next event stream."""
        self.bodies.append(bytearray())
        return self.bodies[-1]

    def _end(self, wire: "_Wire") -> None:
        self.cut_count += 1
        wire.end(next(self._how))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
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
        self._cut: re.Pattern[bytes] | None = None
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
        """What the client gets; true when its stream has come to where it is to be cut, false when that is all."""
        head = b""
        while data := await _read(reader):
            if self._awaits_head:
                head += data
                if b"\r\n\r\n" not in head:
                    continue
                if self._owner.swallow:
                    self._owner.swallow -= 1
                    return True
                self._awaits_head = False
                start = head.index(b"\r\n\r\n") + 4
                await self._give(head[:start])
                data = head[start:]
                if b"text/event-stream" in head[:start].lower():
                    self.body = self._owner.begin()
                    self._cut = self._owner.next_cut()
                head = b""
            if self.body is not None:
                before = len(self.body)
                self.body += data
                if self._cut is not None and (found := self._cut.search(self.body)):
                    del self.body[found.end() :]
                    await self._give(data[: found.end() - before])
                    return True
            await self._give(data)
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
async def cutter(url: str, cuts: Iterable[bytes] = (), *, swallow: int = 0) -> AsyncIterator[Cutter]:
    """A running cutter in front of `url`. Of the first `swallow` answers nothing reaches the client."""
    line = Cutter(url, cuts, swallow=swallow)
    await line.start()
    try:
        yield line
    finally:
        await line.stop()
