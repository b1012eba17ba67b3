"""Waiter: waits until a stream is in some state, without being told its events."""

import asyncio
from collections.abc import Callable, Sequence

from gateway.errors import Code, GatewayError
from gateway.events import Event
from gateway.streams.stream import Stream


class Waiter:
    """A reader that only wants to know when. Close it, or it goes on being told."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._changed: asyncio.Future[None] | None = None
        self._late = False
        stream.attach(self)

    def appended(self, first: int, events: Sequence[Event]) -> None:
        """Something is new: look again."""
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)

    def superseded(self) -> None:
        """Nothing more will come here: look again."""
        self.appended(0, ())

    async def wait(self, until: Callable[[], bool], limit_s: float | None = None) -> bool:
        """Wait for `until()` to be true, at most `limit_s` seconds; whether it is."""
        loop = asyncio.get_running_loop()
        self._late = False
        # A plain timer: `asyncio.timeout` costs more than all else that happens here.
        timer = None if limit_s is None else loop.call_later(limit_s, self._give_up)
        try:
            while not (until() or self._late):
                self._changed = loop.create_future()
                await self._changed
        finally:
            if timer is not None:
                timer.cancel()
        return until()

    def _give_up(self) -> None:
        self._late = True
        self.appended(0, ())

    def close(self) -> None:
        """Be told no more."""
        self._stream.detach(self)


def successor_of(stream: Stream) -> Stream:
    """Where a stream that was given up goes on in this process. Raises `PRODUCER_LOST` where it does not."""
    if stream.successor is None:
        raise GatewayError(Code.PRODUCER_LOST)
    return stream.successor
