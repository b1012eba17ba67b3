"""Permit: leave to make one stream. It belongs to the work, and is given back when the work ends."""

from typing import Protocol

from gateway.limits import Charge, Standing
from gateway.streams.stream import Stream


class Permit(Protocol):
    """Given by the door for one stream."""

    standing: Standing | None
    """How the caller stands now; none where nothing is counted."""
    charge: Charge
    """What the stream is counted against."""
    credential: str
    """What the caller showed at the door: a stream ends when that is good no more."""

    @property
    def waits(self) -> bool:
        """Whether its turn is yet to come: the stream is open, and nothing may be made of it."""

    async def turn(self, stream: Stream) -> None:
        """Return when it is its turn; `stream` is told meanwhile how it stands. Raises `QUEUE_TIMEOUT`."""

    def release(self) -> None:
        """Give back what was taken; nothing the second time."""

    def hand_over(self) -> None:
        """Another process goes on with the stream, which keeps what was taken."""


class FreePermit:
    """For whom nothing is counted."""

    standing: Standing | None = None
    charge = Charge()
    credential = ""
    waits = False

    async def turn(self, stream: Stream) -> None:
        """At once."""

    def release(self) -> None:
        """Nothing was taken."""

    def hand_over(self) -> None:
        """Nothing was taken."""


FREE = FreePermit()
