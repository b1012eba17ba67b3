"""Series of what waits: streams for their turn, and messages for their receivers."""

from gateway.telemetry.series import Counts, Gauges, Series, Tallies


class QueueSeries:
    """Of the waiting room; `bounds` are those of the time waited, in seconds."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.waiting = Gauges("ssegw_queue_waiting", "Streams that wait for their turn", "priority")
        text = "Time that streams waited for their turn"
        self.waited = Tallies("ssegw_queue_wait_seconds", text, ("priority",), bounds)
        self.outcomes = Counts("ssegw_queue_outcomes_total", "How waiting ended", "outcome")

    def series(self) -> list[Series]:
        """All of them."""
        return [self.waiting, self.waited, self.outcomes]


class WebhookSeries:
    """Of messages to other systems."""

    def __init__(self) -> None:
        self.outcomes = Counts("ssegw_webhooks_total", "Messages to receivers, by what became of them", "outcome")
        self.attempts = Counts("ssegw_webhook_attempts_total", "Attempts to hand one over", "result")
        self.waiting = Gauges("ssegw_webhooks_waiting", "Messages that no receiver has taken yet")

    def series(self) -> list[Series]:
        """All of them."""
        return [self.outcomes, self.attempts, self.waiting]
