"""OutputLimit: an answer that never ends is ended by us, as a failure and not as a success."""

from collections.abc import Sequence

from gateway.errors import Code, GatewayError
from gateway.events import Event, Text
from gateway.stages.base import Stage


class OutputLimit(Stage):
    """Lets through `max_bytes` of content, then ends the stream with `OUTPUT_LIMIT`."""

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes

    def feed(self, events: Sequence[Event]) -> Sequence[Event]:
        """The same events, as long as they fit."""
        for event in events:
            if type(event) is Text:
                self._left -= len(event)
            elif event.is_content:
                self._left -= event.size
        if self._left < 0:
            raise GatewayError(Code.OUTPUT_LIMIT)
        return events
