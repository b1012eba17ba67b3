"""Collector: hears all of an answer, for clients that want it as a whole and not as a stream."""

import asyncio
from collections.abc import Sequence

from gateway.errors import Code, GatewayError
from gateway.events import Audio, Event
from gateway.streams.stream import Stream

MAX_BYTES = 16 * 1024 * 1024
"""Of one answer that is collected. Its content is bounded by `stream.max_output_bytes`, what is beside it is not."""


class Collector:
    """A reader that keeps what it is told, so that it needs nothing of the log, which may forget.

    Speech is not kept: there is no place for it in an answer that is read. Raises `STREAM_EXPIRED` where the beginning
    of the stream is gone already. Close it, or it goes on being told.
    """

    def __init__(self, stream: Stream, max_bytes: int = MAX_BYTES) -> None:
        if stream.lost:
            raise GatewayError(Code.STREAM_EXPIRED, "the beginning of this answer is no longer kept")
        self._stream = stream
        self._left = max_bytes
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.events: list[Event] = []
        stream.attach(self)
        self.appended(1, stream.events())
        if stream.ended or stream.given_up:
            self.superseded()

    async def whole(self) -> list[Event]:
        """All of it, once the stream has ended or is given up. Raises `OUTPUT_LIMIT` where it is too much."""
        await self._over
        if self._left < 0:
            raise GatewayError(Code.OUTPUT_LIMIT, "the answer is too long to be told as a whole")
        return self.events

    def appended(self, first: int, events: Sequence[Event]) -> None:
        """More of the answer."""
        for event in events:
            if not isinstance(event, Audio):
                self._left -= event.size
                self.events.append(event)
        if self._left < 0:
            self.events.clear()
        if self._left < 0 or (events and events[-1].is_terminal):
            self.superseded()

    def superseded(self) -> None:
        """No more of it will come here."""
        if not self._over.done():
            self._over.set_result(None)

    def close(self) -> None:
        """Be told no more."""
        self._stream.detach(self)
