"""Discreet: leaves out the facts beside an answer, for callers who do not want them."""

from collections.abc import Sequence

from gateway.events import Event, Metadata
from gateway.stages.base import Stage


class Discreet(Stage):
    """Lets everything through but `metadata`."""

    def feed(self, events: Sequence[Event]) -> Sequence[Event]:
        """Without facts."""
        return [event for event in events if type(event) is not Metadata]
