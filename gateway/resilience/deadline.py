"""Deadline: a Source that must begin, go on and end in time."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from gateway.errors import Code, GatewayError
from gateway.events import has_content
from gateway.request import StreamRequest
from gateway.sources.base import Batch, Source

RING_AGAIN_S = 0.05


class Deadline:
    """Ends `source` with `UPSTREAM_TIMEOUT` when one of three times is over, all in seconds.

    `first_token_s` runs until the first content, `silence_s` from each piece of content to the next, `total_s`
    over all. Keep-alives and role announcements of an upstream are not content and do not count as progress.
    """

    def __init__(self, source: Source, *, first_token_s: float, silence_s: float, total_s: float) -> None:
        self._source = source
        self.name = source.name
        self.exact = source.exact
        self._first_token_s = first_token_s
        self._silence_s = silence_s
        self._total_s = total_s

    async def stream(self, request: StreamRequest, skip: int = 0) -> AsyncGenerator[Batch]:
        """The batches of the source, as long as they come in time."""
        alarm = _Alarm(self._total_s)
        alarm.set("the first token", self._first_token_s)
        try:
            async with aclosing(self._source.stream(request, skip)) as batches:
                while (batch := await alarm.watch(batches)) is not None:
                    if has_content(batch):
                        alarm.set("the next token", self._silence_s)
                    yield batch
        finally:
            alarm.stop()

    async def check(self) -> None:
        """As the source's."""
        await self._source.check()

    async def close(self) -> None:
        """As the source's."""
        await self._source.close()


class _Alarm:
    """One timer for a whole stream: moving the time ahead costs an assignment, not a timer.

    It rings by cancelling the task that watches, and only while that task waits for the source; nothing is
    ever yielded inside it (a consumer's cancellation must not be mistaken for ours). One task, the one that
    makes it, pulls the whole stream.
    """

    def __init__(self, total_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = self._loop.time() + total_s
        self._total_s = total_s
        self._due = self._end
        self._what = ""
        self._limit_s = total_s
        self._task = asyncio.current_task()
        self._waiting = False
        self._rung = False
        self._timer: asyncio.TimerHandle | None = None

    def set(self, what: str, limit_s: float) -> None:
        """From now on `what` must arrive within `limit_s`."""
        self._due = self._loop.time() + limit_s
        self._what, self._limit_s = what, limit_s
        if self._timer is None or self._timer.when() > self._due:
            self._arm()

    def stop(self) -> None:
        """No more ringing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def watch(self, batches: AsyncGenerator[Batch]) -> Batch | None:
        """The next batch, None at the end; raises `UPSTREAM_TIMEOUT` when it does not come in time."""
        if self._loop.time() >= self._end:
            raise self._timeout()
        self._waiting = True
        try:
            return await anext(batches)
        except StopAsyncIteration:
            return None
        except asyncio.CancelledError:
            # Ours only if nobody else asked for it too: whoever cancels the stream must win.
            if self._rung and _uncancelled():
                raise self._timeout() from None
            raise
        finally:
            self._waiting = False

    def _arm(self) -> None:
        self.stop()
        self._timer = self._loop.call_at(min(self._due, self._end), self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._loop.time() < min(self._due, self._end):
            self._arm()
        elif not self._waiting or self._task is None:
            # Nobody waits at this moment: the consumer is at work, and what it needs may be there already.
            self._timer = self._loop.call_later(RING_AGAIN_S, self._ring)
        else:
            self._rung = True
            self._task.cancel()

    def _timeout(self) -> GatewayError:
        if self._loop.time() >= self._end:
            return GatewayError(Code.UPSTREAM_TIMEOUT, f"the answer did not end within {self._total_s:g} s")
        return GatewayError(Code.UPSTREAM_TIMEOUT, f"{self._what} did not come within {self._limit_s:g} s")


def _uncancelled() -> bool:
    """Take back one cancellation of the current task; whether that was the only one."""
    task = asyncio.current_task()
    return task is not None and task.uncancel() == 0
