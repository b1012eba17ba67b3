"""Many clients in one process: each is a protocol of asyncio's, without a task, a timer or a parser while it reads."""

import asyncio
import contextlib
import json
import os
import resource
import socket
from collections.abc import Iterable, Iterator
from typing import Any

from gateway.sse import Parser
from tests.house import Process, Seen

FULL = os.environ.get("SSEGW_FULL") == "1"
"""Whether the stated scale is to be run, and not the smaller one."""

Address = tuple[str, int] | str
EVENTS = {"Accept": "text/event-stream"}
OPEN: set["Client"] = set()
"""Clients that have not hung up."""

LAST_CHUNK = b"\r\n0\r\n\r\n"
"""With the line end before it, which no header can have."""


def at_scale(normal: int, full: int) -> int:
    """How many: the normal number, or the stated one when `SSEGW_FULL=1`."""
    return full if FULL else normal


def raise_descriptor_limit() -> None:
    """As many descriptors as this machine allows, for us and for the processes that we start."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def request(method: str, path: str, body: Any = None, **headers: str) -> bytes:
    """The bytes of a request; `Last_Event_ID=…` names a header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    payload = b"" if body is None else json.dumps(body).encode()
    if body is not None:
        named |= {"Content-Type": "application/json", "Content-Length": str(len(payload))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n".encode() + payload


def post(path: str, body: Any, **headers: str) -> bytes:
    """A POST with a JSON body."""
    return request("POST", path, body, **headers)


def get(path: str, **headers: str) -> bytes:
    """A GET as a browser's EventSource sends it."""
    return request("GET", path, **EVENTS, **headers)


class Client(asyncio.Protocol):
    """One connection, one request, its answer. `times` are those of the reads (loop time); `done` when it is over."""

    def __init__(self, asked: bytes) -> None:
        self._asked = asked
        self._loop = asyncio.get_running_loop()
        self._body_at = 0
        self._length: int | None = None
        self.raw = bytearray()
        self.times: list[float] = []
        self.done: asyncio.Future[None] = self._loop.create_future()
        self.whole = False
        self.transport: asyncio.Transport | None = None
        self._enough: tuple[int, asyncio.Future[None]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        OPEN.add(self)
        transport.write(self._asked)

    def data_received(self, data: bytes) -> None:
        self.raw += data
        self.times.append(self._loop.time())
        if self._enough is not None and len(self.times) >= self._enough[0]:
            self._tell()
        if not self._body_at:
            self._find_body()
        if not self._body_at:
            return
        if self._length is None:
            self.whole = self.raw.endswith(LAST_CHUNK)
        else:
            self.whole = len(self.raw) - self._body_at >= self._length
        if self.whole:
            self.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        OPEN.discard(self)
        self._over()

    def close(self) -> None:
        """Hang up."""
        if self.transport is not None:
            self.transport.close()
        self._over()

    def reset(self) -> None:
        """Hang up rudely: a RST, and what waits to be read is lost."""
        if self.transport is not None:
            self.transport.abort()
        self._over()

    async def reads(self, count: int) -> None:
        """Wait until so many reads brought something, or the answer is over."""
        if len(self.times) < count and not self.done.done():
            self._enough = (count, self._loop.create_future())
            await self._enough[1]

    def _tell(self) -> None:
        if self._enough is not None and not self._enough[1].done():
            self._enough[1].set_result(None)

    def _over(self) -> None:
        self._tell()
        if not self.done.done():
            self.done.set_result(None)

    def _find_body(self) -> None:
        end = self.raw.find(b"\r\n\r\n")
        if end < 0:
            return
        self._body_at = end + 4
        length = self.headers.get("content-length")
        self._length = None if length is None else int(length)

    # What it saw.

    @property
    def status(self) -> int:
        """The HTTP status; 0 when there was no answer."""
        return int(self.raw[9:12]) if self._body_at else 0

    @property
    def headers(self) -> dict[str, str]:
        """By their names in lower case."""
        lines = self.raw[: max(0, self._body_at - 4)].decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}

    @property
    def body(self) -> bytes:
        """The body so far, without the chunks' heads."""
        rest = bytes(self.raw[self._body_at :]) if self._body_at else b""
        return rest if self._length is not None else unchunked(rest)

    def seen(self) -> Seen:
        """The events, parsed now."""
        body = self.body
        events = Parser(16 * 1024 * 1024).feed(body) if "event-stream" in self.headers.get("content-type", "") else []
        return Seen(self.status, self.headers, events, body, cut=not self.whole)


def unchunked(data: bytes) -> bytes:
    """The payload of as many of HTTP's chunks as `data` holds; of the last one what is there."""
    parts: list[bytes] = []
    at = 0
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:end], 16)
        parts.append(data[end + 2 : end + 2 + size])
        at = end + 4 + size
    return b"".join(parts)


async def ask(address: Address, asked: bytes) -> Client:
    """A client that has connected and sent its request."""
    loop = asyncio.get_running_loop()
    if isinstance(address, str):
        _, client = await loop.create_unix_connection(lambda: Client(asked), address)
    else:
        _, client = await loop.create_connection(lambda: Client(asked), *address)
    return client


async def ask_all(address: Address, requests: Iterable[bytes], *, at_once: int = 100) -> list[Client]:
    """A client for each request, in order, so many connecting at the same time."""
    clients: list[Client] = []
    waiting = list(requests)
    for start in range(0, len(waiting), at_once):
        clients += await asyncio.gather(*(ask(address, asked) for asked in waiting[start : start + at_once]))
    return clients


async def hang_up_all() -> None:
    """Whoever has not hung up does so now."""
    for client in list(OPEN):
        client.reset()
    await asyncio.sleep(0)  # a transport tells in the next turn of the loop


async def over(clients: Iterable[Client], limit_s: float = 30.0) -> None:
    """Wait until the answers of all are over, whole or cut."""
    async with asyncio.timeout(limit_s):
        for client in clients:
            await client.done


def mute(address: Address, asked: bytes, *, receive_bytes: int = 4096) -> socket.socket:
    """A client that asks and never reads; its receive buffer is small."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.settimeout(5)
    sock.connect(address)
    sock.sendall(asked)
    sock.setblocking(False)
    return sock


@contextlib.contextmanager
def all_closed(sockets: list[socket.socket]) -> Iterator[list[socket.socket]]:
    """Close them at the end, whatever happens."""
    try:
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def address_of(process: Process) -> Address:
    """Where a gateway process listens."""
    return ("127.0.0.1", process.port)


def p99(values: Iterable[float]) -> float:
    """The 99th percentile, the larger of two neighbours."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
