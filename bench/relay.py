"""A bare relay on asyncio: bytes from one socket to another, and no more. It stands for the least that Python costs.

`python -m bench.relay PORT UPSTREAM_PORT` serves on loopback. Each client has an upstream connection of its own.
"""

import asyncio
import sys
from typing import cast

import uvloop

from bench import host


class Side(asyncio.Protocol):
    """One of the two ends; what it receives, its `other` end writes."""

    def __init__(self, other: "Side | None" = None) -> None:
        self.other = other
        self.transport: asyncio.Transport | None = None
        self.waiting = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance
        self.write(b"")

    def write(self, data: bytes) -> None:
        """Now, or when there is a connection."""
        if self.transport is None:
            self.waiting += data
            return
        self.transport.write(self.waiting + data)
        self.waiting = b""

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        other, self.other = self.other, None
        if other is not None:
            other.other = None
            if other.transport is not None:
                other.transport.close()


class Front(Side):
    """The client's end; it connects to the upstream when its client does."""

    def __init__(self, upstream: int) -> None:
        super().__init__()
        self._upstream = upstream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.other = Side(self)
        self._connecting = asyncio.ensure_future(self._connect(self.other))

    async def _connect(self, back: Side) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: back, "127.0.0.1", self._upstream)
        except OSError:
            if self.transport is not None:
                self.transport.abort()
            return
        if self.other is None and back.transport is not None:
            back.transport.close()


async def serve(port: int, upstream: int) -> None:
    """Until cancelled."""
    server = await asyncio.get_running_loop().create_server(lambda: Front(upstream), "127.0.0.1", port, backlog=16384)
    await server.serve_forever()


if __name__ == "__main__":
    host.raise_descriptors()
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
