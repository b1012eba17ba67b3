"""Stage: changes events in line and never waits. Follower: reads the stream as it grows and appends what it makes."""

from collections.abc import Sequence
from typing import Protocol

from gateway.events import Event
from gateway.streams.stream import Stream


class Stage(Protocol):
    """One step between source and log; made afresh for every stream, so it may remember."""

    def feed(self, events: Sequence[Event]) -> Sequence[Event]:
        """What becomes of `events`. Raises `GatewayError` to end the stream as failed."""

    def last(self) -> Sequence[Event]:
        """What it still holds, where no end of the text comes any more: the source failed. Asked once, must not raise.

        The end of the text (`TextComplete`) passes through `feed`, and what is held goes out before it. Whoever holds
        nothing inherits this.
        """
        return ()


class Follower(Protocol):
    """Works beside the source; may wait. Its failure is a warning in the stream, not the stream's end."""

    name: str

    async def follow(self, stream: Stream) -> None:
        """Read `stream` and append to it until its text has ended and all that follows from it is appended."""


class Chain(Stage):
    """Stages in order, as one stage."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = stages

    def feed(self, events: Sequence[Event]) -> Sequence[Event]:
        """Each stage gets what the one before it made of `events`."""
        for stage in self._stages:
            events = stage.feed(events)
        return events

    def last(self) -> Sequence[Event]:
        """What each stage makes of the last words of those before it, and its own behind them."""
        events: Sequence[Event] = ()
        for stage in self._stages:
            events = [*(stage.feed(events) if events else ()), *stage.last()]
        return events
