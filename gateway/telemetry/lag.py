"""Event-loop lag: how late a timer comes is how long every stream waited."""

import asyncio

from gateway.telemetry.metrics import Metrics

INTERVAL_S = 0.25


class LagMeter:
    """Sets a timer, notes how late it came, sets it again."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._timer: asyncio.TimerHandle | None = None
        self.last_s = 0.0

    def start(self) -> None:
        """Begin to measure."""
        loop = asyncio.get_running_loop()
        due = loop.time() + INTERVAL_S
        self._timer = loop.call_at(due, self._note, due)

    def stop(self) -> None:
        """Measure no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _note(self, due: float) -> None:
        self.last_s = max(0.0, asyncio.get_running_loop().time() - due)
        self._metrics.loop_lag(self.last_s)
        self.start()
