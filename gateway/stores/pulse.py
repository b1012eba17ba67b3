"""Pulse: notices that this process stood still (it was stopped, or its machine): others may have its streams by now."""

import asyncio
import functools
import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

BEATS = 3
"""Of its own timer within the limit, for loops on which nothing is written."""

_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)

uptime: Callable[[], float] = (
    time.monotonic if _BOOT_CLOCK is None else functools.partial(time.clock_gettime, _BOOT_CLOCK)
)
"""Seconds that never go back. Unlike those of `time.monotonic`, on Linux they go on while the machine is suspended."""


class Pulse:
    """Tells `on_freeze(seconds)` when the loop did nothing for longer than `limit_s`.

    Nothing may go out then. Whoever is told finds out which streams are still this process's own, and resumes.
    """

    __slots__ = ("_again_s", "_clock", "_limit_s", "_seen", "_timer", "on_freeze", "suspended")

    def __init__(
        self, limit_s: float, on_freeze: Callable[[float], None], *, clock: Callable[[], float] = uptime
    ) -> None:
        self._limit_s = limit_s
        self._clock = clock
        self._seen = clock()
        self._again_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.on_freeze = on_freeze
        self.suspended = False

    def start(self) -> None:
        """Watch the running loop from now on."""
        self._seen = self._clock()
        self._timer = asyncio.get_running_loop().call_later(self._limit_s / BEATS, self._on_timer)

    def stop(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()

    def stood_still(self) -> bool:
        """Whether nothing may go out; to be asked before what was made in a turn of the loop is written."""
        now = self._clock()
        seconds = now - self._seen
        self._seen = now
        if seconds > self._limit_s:
            self._froze(seconds)
        return self.suspended

    def resume(self) -> bool:
        """Let things go out again; false if the loop has stood still again.

        What was found out since the first time is old then, and `on_freeze` is told anew.
        """
        self.stood_still()
        again_s, self._again_s = self._again_s, 0.0
        self.suspended = False
        if again_s:
            self._froze(again_s)
        return not self.suspended

    def _froze(self, seconds: float) -> None:
        if self.suspended:
            self._again_s += seconds
            return
        self.suspended = True
        log.warning("the process stood still", extra={"seconds": round(seconds, 3)})
        self.on_freeze(seconds)

    def _on_timer(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._limit_s / BEATS, self._on_timer)
        self.stood_still()
