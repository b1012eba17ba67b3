"""A line to an upstream without a network: what it says, and when it hangs up, is said by the test."""

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from gateway.errors import GatewayError
from gateway.transport.connection import Headers, UpstreamConnection
from gateway.turn import Turn
from tests.doubles import ManualLoop

Call = tuple[Any, ...]


class Heard:
    """A listener that remembers what it was told; pieces of a body that follow each other as one."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.rests = 0
        self.pieces = 0

    def began(self, status: int, headers: Headers) -> None:
        self.calls.append(("began", status, headers))

    def body(self, data: bytes) -> None:
        self.pieces += 1
        if self.calls and self.calls[-1][0] == "body":
            data = self.calls.pop()[1] + data
        self.calls.append(("body", data))

    def rested(self) -> None:
        self.rests += 1

    def ended(self) -> None:
        self.calls.append(("ended",))

    def failed(self, error: GatewayError) -> None:
        self.calls.append(("failed", error.code.name))

    @property
    def names(self) -> list[str]:
        """What was told, without what with."""
        return [call[0] for call in self.calls]

    @property
    def whole(self) -> bytes:
        """The body."""
        return b"".join(call[1] for call in self.calls if call[0] == "body")


class ScriptedTransport(asyncio.Transport):
    """A socket to an upstream; `unread` bytes of what was written are still in this process."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._protocol: asyncio.BaseProtocol | None = None
        self.written = b""
        self.unread = 0
        self.closing = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return self.unread

    def write(self, data: Any) -> None:
        self.written += data

    def abort(self) -> None:
        self.lose(None)

    def lose(self, error: Exception | None) -> None:
        """The connection is over; its protocol hears of it in the next turn, once."""
        if not self.closing:
            self.closing = True
            assert isinstance(self._protocol, asyncio.Protocol)
            self._loop.call_soon(self._protocol.connection_lost, error)


class Line:
    """One connection, and what an upstream does at its other end."""

    def __init__(self) -> None:
        self.loop = ManualLoop()
        self.turn = Turn(self.loop)
        self.released: list[UpstreamConnection] = []
        self.connection = UpstreamConnection(self.turn, self.released.append)
        self.transport = ScriptedTransport(self.loop)
        self.transport.set_protocol(self.connection)
        self.connection.connection_made(self.transport)

    def __enter__(self) -> "Line":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.loop.close()

    def ask(self, request: bytes = b"question") -> Heard:
        """Ask; who hears the answer."""
        heard = Heard()
        self.connection.ask(request, heard)
        return heard

    def leave(self, heard: Heard, *, at_end: bool) -> None:
        """Lose interest."""

        async def leave() -> None:
            self.connection.leave(heard, at_end=at_end)

        self.loop.run(leave())
        self.loop.turn()

    def says(self, *pieces: bytes) -> None:
        """The upstream sends these, each read in a turn of its own."""
        for piece in pieces:
            self.reads(piece)
            self.loop.turn(1)
        self.loop.turn()

    def reads(self, *pieces: bytes) -> None:
        """These are read, and the turn is not over."""
        for piece in pieces:
            self.connection.data_received(piece)

    def hangs_up(self, error: Exception | None = None) -> None:
        """The upstream's end, by a FIN or by an error."""
        self.transport.lose(error)
        self.loop.turn()


def head(*lines: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    """The head of an answer."""
    return "\r\n".join([status, *lines, "", ""]).encode()


def sized(body: bytes, *lines: str) -> bytes:
    """An answer with a Content-Length."""
    return head(f"Content-Length: {len(body)}", *lines) + body


def chunks(*pieces: bytes, trailers: Iterable[str] = ()) -> bytes:
    """An answer in chunks."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head("Transfer-Encoding: chunked") + body + "\r\n".join(["0", *trailers, "", ""]).encode()
