"""StoreSeries: what is told of the store that processes share, read from its own counters when somebody asks."""

from collections.abc import Callable

from gateway.telemetry.metrics import StoreFigures
from gateway.telemetry.series import Counts, Gauges, Series, Tallies

FLUSH = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class StoreSeries:
    """Seven series and a histogram; where no store is shared, none of them says whether it is well."""

    def __init__(self) -> None:
        self.commands = Counts("ssegw_store_commands_total", "Commands that wrote streams to the shared store")
        self.written = Counts("ssegw_store_written_bytes_total", "Bytes of these commands")
        self.flush = Tallies("ssegw_store_flush_seconds", "Time to write down what was new", (), FLUSH)
        self.exposed = Gauges("ssegw_store_exposed_events", "Events that would be lost with this process")
        self.durable = Gauges("ssegw_store_durable", "Whether the shared store takes what is written")
        self.durable.clear()
        self.limits = Gauges("ssegw_limits_shared", "Whether limits are counted among all processes")
        self.limits.clear()
        self.mirrors = Gauges("ssegw_store_mirrors", "Streams of other processes that are copied here")
        self.freezes = Counts("ssegw_store_freezes_total", "Times that the process stood still too long")
        self.look: Callable[[], StoreFigures] | None = None

    def figures(self) -> StoreFigures | None:
        """What the store says of itself now; None where no store is shared."""
        return None if self.look is None else self.look()

    def update(self) -> None:
        """Take its figures over, before they are told."""
        figures = self.figures()
        if figures is not None:
            self.commands[()] = figures.commands
            self.written[()] = figures.written_bytes
            self.exposed[()] = figures.exposed_events
            self.durable[()] = figures.durable
            self.mirrors[()] = figures.mirrors

    def series(self) -> list[Series]:
        """All of them."""
        return [found for found in vars(self).values() if isinstance(found, Series)]
