"""Deadline: a Source that must begin, go on and end in time."""

import asyncio

from gateway.errors import Code, GatewayError
from gateway.events import has_content
from gateway.request import StreamRequest
from gateway.sources.base import Batch, Outlet, Source


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

    async def pour(self, request: StreamRequest, outlet: Outlet, skip: int = 0) -> None:
        """The batches of the source, as long as they come in time."""
        alarm = _Alarm(self._total_s, self._silence_s)
        alarm.set("the first token", self._first_token_s)

        def watched(batch: Batch) -> None:
            outlet(batch)
            if batch[0].is_content or has_content(batch):
                alarm.progressed()

        try:
            await self._source.pour(request, watched, skip)
        except asyncio.CancelledError:
            # Ours only if nobody else asked for it too: whoever cancels the stream must win.
            if alarm.rung and _uncancelled():
                raise alarm.timeout() from None
            raise
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

    It rings by cancelling the task that made it, which is the one that waits for the source.
    """

    def __init__(self, total_s: float, silence_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._time = self._loop.time
        self._end = self._time() + total_s
        self._total_s = total_s
        self._silence_s = silence_s
        self._due = self._end
        self._what = ""
        self._limit_s = total_s
        self._task = asyncio.current_task()
        self._timer: asyncio.TimerHandle | None = None
        self._begun = False
        self.rung = False

    def set(self, what: str, limit_s: float) -> None:
        """From now on `what` must arrive within `limit_s`."""
        self._due = self._time() + limit_s
        self._what, self._limit_s = what, limit_s
        if self._timer is None or self._timer.when() > self._due:
            self._arm()

    def progressed(self) -> None:
        """The next token must arrive in time again."""
        if self._begun:
            self._due = self._time() + self._silence_s
        else:
            self._begun = True
            self.set("the next token", self._silence_s)

    def stop(self) -> None:
        """No more ringing."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def timeout(self) -> GatewayError:
        """What was not in time."""
        if self._time() >= self._end:
            return GatewayError(Code.UPSTREAM_TIMEOUT, f"the answer did not end within {self._total_s:g} s")
        return GatewayError(Code.UPSTREAM_TIMEOUT, f"{self._what} did not come within {self._limit_s:g} s")

    def _arm(self) -> None:
        self.stop()
        self._timer = self._loop.call_at(min(self._due, self._end), self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._time() < min(self._due, self._end):
            self._arm()
        elif self._task is not None:
            self.rung = True
            self._task.cancel()


def _uncancelled() -> bool:
    """Take back one cancellation of the current task; whether that was the only one."""
    task = asyncio.current_task()
    return task is not None and task.uncancel() == 0
