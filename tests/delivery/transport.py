"""A socket without a network: what a client takes of it is said by the test."""

import asyncio
from typing import Any

from aiohttp import web

from gateway.delivery.server import GatewayProtocol
from gateway.telemetry.metrics import Metrics


class ScriptedTransport(asyncio.Transport):
    """Has `room` bytes of buffer (None: no end of it); tells its protocol what asyncio's transports tell."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: GatewayProtocol | None = None
        self.room: int | None = None
        self.arrived = b""
        self.waiting = b""
        self.closing = False
        self._paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert (high, low) == (0, 0)

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: Any) -> None:
        self.waiting += data
        self._flow()

    def close(self) -> None:
        """As asyncio's: what waits may still go, nothing new may come."""
        self.closing = True

    def abort(self) -> None:
        self.closing = True
        self.waiting = b""
        self.leave()

    def pause_reading(self) -> None:
        """Nothing is read."""

    def resume_reading(self) -> None:
        """Nothing is read."""

    # What the client does.

    def take(self, count: int | None = None) -> None:
        """Read `count` bytes, or everything and ever after."""
        self.room = None if count is None else (self.room or 0) + count
        self._flow()

    def leave(self) -> None:
        """Hang up."""
        if self.protocol is not None:
            protocol, self.protocol = self.protocol, None
            protocol.connection_lost(None)

    def _flow(self) -> None:
        count = len(self.waiting) if self.room is None else min(self.room, len(self.waiting))
        self.arrived += self.waiting[:count]
        self.waiting = self.waiting[count:]
        if self.room is not None:
            self.room -= count
        if self.protocol is not None and bool(self.waiting) != self._paused:
            self._paused = not self._paused
            (self.protocol.pause_writing if self._paused else self.protocol.resume_writing)()


async def _never(request: web.BaseRequest) -> web.StreamResponse:
    raise AssertionError("no request comes over a scripted transport")


async def connected() -> tuple[GatewayProtocol, ScriptedTransport]:
    """A protocol of ours on such a socket."""
    loop, transport = asyncio.get_running_loop(), ScriptedTransport()
    protocol = GatewayProtocol(web.Server(_never), loop=loop, metrics=Metrics(), admit=lambda connections: True)
    transport.protocol = protocol
    protocol.connection_made(transport)
    return protocol, transport
