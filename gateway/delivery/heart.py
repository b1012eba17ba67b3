"""Heart: one timer for the heartbeats, the rotation and the sending away of all connections."""

import asyncio
import logging
import random
from collections import defaultdict
from typing import Protocol

from gateway.events import Event
from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

TICKS_PER_BEAT = 15
"""Resolution: with a heartbeat every 15 s the timer runs once a second."""


class Beating(Protocol):
    """What the heart needs of a connection."""

    def pulse(self, tick: int, now: float) -> int:
        """Beat if it was silent too long; the tick at which to look again."""

    def send_away(self, reason: str, retry_ms: int) -> None:
        """End politely; come back after `retry_ms`."""

    def tell(self, event: Event) -> None:
        """Say something that is not in the log."""


class Heart:
    """Looks at a connection about once per heartbeat, however much it writes: writing costs no timer."""

    period = TICKS_PER_BEAT

    def __init__(self, *, heartbeat_s: float, retry_min_ms: int, retry_max_ms: int, metrics: Metrics) -> None:
        self._tick_s = heartbeat_s / TICKS_PER_BEAT
        self._retry_range = (retry_min_ms, retry_max_ms)
        self._metrics = metrics
        self._due: defaultdict[int, set[Beating]] = defaultdict(set)
        self._slot: dict[Beating, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.tick = 0
        self.beats = 0

    def __len__(self) -> int:
        return len(self._slot)

    def start(self) -> None:
        """Begin to tick."""
        self._timer = asyncio.get_running_loop().call_later(self._tick_s, self._on_tick)

    def stop(self) -> None:
        """Tick no more."""
        if self._timer is not None:
            self._timer.cancel()

    def add(self, connection: Beating) -> None:
        """Look after `connection`."""
        self._put(connection, self.tick + TICKS_PER_BEAT)

    def remove(self, connection: Beating) -> None:
        """Look after it no more."""
        slot = self._slot.pop(connection, None)
        if slot is not None:
            self._due[slot].discard(connection)

    def retry_ms(self) -> int:
        """When to come back, spread so that not all come at once."""
        return random.randint(*self._retry_range)

    def send_away_all(self, reason: str) -> None:
        """Ask every connection that may be ended early to end."""
        for connection in list(self._slot):
            connection.send_away(reason, self.retry_ms())

    def tell_all(self, event: Event) -> None:
        """Say something to every client that is not in any log."""
        for connection in list(self._slot):
            connection.tell(event)

    def _put(self, connection: Beating, slot: int) -> None:
        self._slot[connection] = slot
        self._due[slot].add(connection)

    def _on_tick(self) -> None:
        loop = asyncio.get_running_loop()
        self.tick += 1
        self._timer = loop.call_later(self._tick_s, self._on_tick)
        now = loop.time()
        for connection in self._due.pop(self.tick, ()):
            try:
                due = connection.pulse(self.tick, now)
            except Exception:
                # The others of this tick must be looked at all the same.
                log.exception("a connection failed at its pulse")
                due = self.tick + TICKS_PER_BEAT
            self._put(connection, max(due, self.tick + 1))
        if self.beats:
            self._metrics.heartbeats(self.beats)
            self.beats = 0
