"""Deadline: a Source that must begin, go on and end in time."""

import asyncio

from gateway.errors import Code, GatewayError
from gateway.events import has_content
from gateway.request import StreamRequest
from gateway.resilience.around import Around
from gateway.sources.base import Batch, Outlet, Source


class Deadline(Around):
    """Ends `source` with `UPSTREAM_TIMEOUT` when one of three times is over, all in seconds.

    `first_token_s` runs until the first content, `silence_s` from each piece of content to the next, `total_s`
    over all. Keep-alives and role announcements of an upstream are not content and do not count as progress.
    """

    def __init__(self, source: Source, *, first_token_s: float, silence_s: float, total_s: float) -> None:
        super().__init__(source)
        self._first_token_s = first_token_s
        self._silence_s = silence_s
        self._total_s = total_s

    async def pour(self, request: StreamRequest, outlet: Outlet, skip: int = 0) -> None:
        """The batches of the source, as long as they come in time."""
        alarm = _Alarm(self._first_token_s, self._silence_s, self._total_s)
        now = asyncio.get_running_loop().time

        def watched(batch: Batch) -> None:
            outlet(batch)
            if batch[0].is_content or has_content(batch):
                if alarm.heard_at:
                    alarm.heard_at = now()
                else:
                    alarm.begun()

        try:
            await self._source.pour(request, watched, skip)
        except asyncio.CancelledError:
            # Ours only if nobody else asked for it too: whoever cancels the stream must win.
            if alarm.rung and _uncancelled():
                raise alarm.timeout() from None
            raise
        finally:
            alarm.stop()


class _Alarm:
    """One timer for a whole stream: when something was heard is noted, and looked at when the timer is over.

    It rings by cancelling the task that made it, which is the one that waits for the source.
    """

    def __init__(self, first_token_s: float, silence_s: float, total_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._first_token_s = first_token_s
        self._silence_s = silence_s
        self._total_s = total_s
        self._task = asyncio.current_task()
        self.heard_at = 0.0
        self.rung = False
        self._timer = self._loop.call_at(self._due(), self._look)

    def begun(self) -> None:
        """The first content is there: from now on it is silence that counts."""
        self.heard_at = self._loop.time()
        if self._due() < self._timer.when():
            self._timer.cancel()
            self._timer = self._loop.call_at(self._due(), self._look)

    def stop(self) -> None:
        """No more ringing."""
        self._timer.cancel()

    def timeout(self) -> GatewayError:
        """What was not in time."""
        if self._loop.time() >= self._began + self._total_s:
            return GatewayError(Code.UPSTREAM_TIMEOUT, f"the answer did not end within {self._total_s:g} s")
        what, limit_s = ("next", self._silence_s) if self.heard_at else ("first", self._first_token_s)
        return GatewayError(Code.UPSTREAM_TIMEOUT, f"the {what} token did not come within {limit_s:g} s")

    def _due(self) -> float:
        next_s = self.heard_at + self._silence_s if self.heard_at else self._began + self._first_token_s
        return min(next_s, self._began + self._total_s)

    def _look(self) -> None:
        due = self._due()
        if self._loop.time() < due:
            self._timer = self._loop.call_at(due, self._look)
        elif self._task is not None:
            self.rung = True
            self._task.cancel()


def _uncancelled() -> bool:
    """Take back one cancellation of the current task; whether that was the only one."""
    task = asyncio.current_task()
    return task is not None and task.uncancel() == 0
