"""Collector: hears all of an answer, for clients that want it as a whole and not as a stream."""

from collections.abc import Sequence

from gateway.errors import Code, GatewayError
from gateway.events import Event
from gateway.streams.stream import Stream


class Collector:
    """A reader that keeps what it is told, so that it needs nothing of the log, which may forget.

    Raises `STREAM_EXPIRED` where the beginning of the stream is gone already. Close it, or it goes on being told.
    """

    def __init__(self, stream: Stream) -> None:
        if stream.lost:
            raise GatewayError(Code.STREAM_EXPIRED, "the beginning of this answer is no longer kept")
        self._stream = stream
        self.events: list[Event] = stream.events()
        stream.attach(self)

    def appended(self, first: int, events: Sequence[Event]) -> None:
        """More of the answer."""
        self.events += events

    def superseded(self) -> None:
        """No more of it will come here."""

    def close(self) -> None:
        """Be told no more."""
        self._stream.detach(self)
