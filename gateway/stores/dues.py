"""Dues: which streams are to be written at once, and which with the next round."""

import asyncio

from gateway.stores.kept import Kept


class Dues:
    """Streams with something new. What is urgent wakes the writer; the rest does so `flush_s` after the first of it."""

    def __init__(self, flush_s: float) -> None:
        self._flush_s = flush_s
        self._urgent: dict[Kept, None] = {}
        self._rest: dict[Kept, None] = {}
        self._wake = asyncio.Event()
        self._all_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """From now on somebody waits in `wait`."""
        self._loop = asyncio.get_running_loop()
        self.ring()

    def stop(self) -> None:
        """Nobody waits any more; what is due is still noted."""
        self._loop = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def mark(self, kept: Kept, urgent: bool) -> None:
        """There is something new in a stream."""
        kept.dirty = True
        if urgent:
            self._rest.pop(kept, None)
            self._urgent[kept] = None
            self._wake.set()
        elif kept not in self._urgent:
            self._rest[kept] = None
            if self._timer is None and self._loop is not None:
                self._timer = self._loop.call_later(self._flush_s, self.ring)

    def drop(self, kept: Kept) -> None:
        """It is being written, or never will be."""
        self._urgent.pop(kept, None)
        self._rest.pop(kept, None)

    def take(self, *, everything: bool) -> list[Kept]:
        """Those that are urgent, and with `everything` the others as well. They stay due until they are dropped."""
        return [*self._urgent, *(self._rest if everything else ())]

    def ring(self) -> None:
        """Everything is due."""
        self._timer = None
        self._all_due = True
        self._wake.set()

    async def wait(self) -> bool:
        """Until something is due; whether that is everything."""
        await self._wake.wait()
        self._wake.clear()
        everything, self._all_due = self._all_due, False
        return everything
