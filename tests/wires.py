"""Wires: a whole gateway whose sockets are scripts, so that everything on its way from socket to socket is at hand."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

from gateway.app.house import Gateway
from gateway.streams.stream import Stream
from gateway.transport.dial import Dialler
from tests.house import house
from tests.upstream import HEAD, answer, chunk, chunked

SETTLE_TURNS = 30
"""Turns of the loop in which everything that waits for nothing but the loop is done."""

TARGETS = {"native": "/stream", "openai": "/v1/chat/completions"}
"""Where each dialect is asked."""


class Wire(asyncio.Transport):
    """A socket that takes everything at once and remembers how often, how much, and the last of it."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: Any = None
        self.writes = 0
        self.bytes = 0
        self.last = b""
        self._closing = False

    def write(self, data: Any) -> None:
        """Take it."""
        self.writes += 1
        self.bytes += len(data)
        self.last = bytes(data)

    def set_protocol(self, protocol: Any) -> None:
        """Whom to tell."""
        self.protocol = protocol

    def is_closing(self) -> bool:
        """Whether either side has hung up."""
        return self._closing

    def close(self) -> None:
        """Hang up."""
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    abort = close

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is no buffer."""

    def get_write_buffer_size(self) -> int:
        """There is no buffer."""
        return 0

    def pause_reading(self) -> None:
        """What is read is fed by hand."""

    def resume_reading(self) -> None:
        """What is read is fed by hand."""


class Scripted:
    """A gateway on scripted sockets. `clients` and `upstreams` are in the order in which they were connected."""

    def __init__(self) -> None:
        self.gateway: Gateway
        self.clients: list[Wire] = []
        self.upstreams: list[Wire] = []
        self._make_client: Callable[[], Any] = lambda: None

    @property
    def streams(self) -> list[Stream]:
        """Those that run."""
        return [work.stream for work in self.gateway.hub._running.values()]

    async def open(self, dialect: str, count: int = 1) -> None:
        """Open so many streams, each with a reader that is LIVE; their first tokens are said."""
        known = len(self.upstreams)
        for _ in range(count):
            self.request(question(dialect))
        await settle()
        for upstream in self.upstreams[known:]:
            upstream.protocol.data_received(HEAD)
            for event in answer(["t0 ", "t1 ", "t2 "])[:4]:
                upstream.protocol.data_received(chunked(event))
                await settle()

    async def join(self, dialect: str, sid: str) -> None:
        """One more reader of a stream, LIVE."""
        self.request(
            b"GET /stream/%b?dialect=%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % (sid.encode(), dialect.encode())
        )
        await settle()

    def request(self, data: bytes) -> None:
        """Send a request on a connection of its own."""
        client, protocol = Wire(), self._make_client()
        client.protocol = protocol
        protocol.connection_made(client)
        self.clients.append(client)
        protocol.data_received(data)

    async def create_server(self, factory: Callable[[], Any], *, sock: socket.socket, **_: Any) -> socket.socket:
        """Instead of the loop's: clients are made by hand. What is given back only has to be closed."""
        self._make_client = factory
        return sock

    async def create_connection(self, factory: Callable[[], Any], *, sock: socket.socket, **_: Any) -> tuple[Wire, Any]:
        """Instead of the loop's: a connection to an upstream that says what it is told."""
        sock.close()
        upstream = Wire()
        upstream.protocol = factory()
        upstream.protocol.connection_made(upstream)
        self.upstreams.append(upstream)
        return upstream, upstream.protocol


@contextlib.asynccontextmanager
async def scripted_house(**environment: str) -> AsyncIterator[Scripted]:
    """A running gateway on scripted sockets."""
    loop: Any = asyncio.get_running_loop()
    scripted = Scripted()

    async def connect(self: Dialler) -> socket.socket:
        return socket.socket()

    usual, Dialler.connect = Dialler.connect, connect  # type: ignore[method-assign]  # its network is the script
    loop.create_server, loop.create_connection = scripted.create_server, scripted.create_connection
    try:
        async with house(OPENAI_BASE_URL="http://127.0.0.1:9/v1", **environment) as scripted.gateway:
            yield scripted
            for client in scripted.clients:
                client.close()
            await settle()
    finally:
        Dialler.connect = usual  # type: ignore[method-assign]
        del loop.create_server, loop.create_connection


async def settle(turns: int = SETTLE_TURNS) -> None:
    """Let everything happen that waits for nothing but the loop."""
    for _ in range(turns):
        await asyncio.sleep(0)


def question(dialect: str) -> bytes:
    """A request that opens a stream."""
    asked = {"model": "up-1", "messages": [{"role": "user", "content": "hi"}]}
    body = json.dumps({**asked, "stream": True} if dialect == "openai" else asked).encode()
    head = f"POST {TARGETS[dialect]} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return b"%bContent-Length: %d\r\n\r\n%b" % (head.encode(), len(body), body)


def tokens(first: int, count: int) -> bytes:
    """What an upstream sends for tokens of 18 characters, `first` and those behind it, in one read."""
    return b"".join(chunked(chunk({"content": f"t{number:016d} "})) for number in range(first, first + count))
