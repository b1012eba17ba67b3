"""Permit: leave to make one stream. It belongs to the work, and is given back when the work ends."""

import asyncio
from typing import Protocol

from gateway.limits import Charge, Slots, Standing
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


class Keeper(Protocol):
    """Whoever gave a permit, and takes it back."""

    async def wait(self, permit: "HeldPermit", stream: Stream) -> None:
        """Return when it is its turn."""

    def take_back(self, permit: "HeldPermit", *, kept: bool) -> None:
        """Its stream is over here; `kept` says that it goes on in another process."""


class Place:
    """What somebody has who waits in line: since when, and what was said of it. Times are the keeper's clock's."""

    __slots__ = ("patience", "since_s", "stream", "told", "told_s", "turn")

    def __init__(self, since_s: float, patience: asyncio.TimerHandle, turn: "asyncio.Future[None]") -> None:
        self.since_s = since_s
        self.patience = patience
        self.turn = turn
        """Done when it is its turn, or never will be; exactly one of granting, failing and leaving does it."""
        self.stream: Stream | None = None
        self.told = 0
        """The position that was told last; 0 where none was."""
        self.told_s = 0.0


class HeldPermit:
    """A permit for which something is counted: slots of this process, shared ones, or a place in line for them."""

    __slots__ = (
        "_keeper",
        "began_s",
        "charge",
        "credential",
        "over",
        "place",
        "priority",
        "sid",
        "standing",
        "tenant",
    )

    def __init__(self, keeper: Keeper, sid: str, charge: Charge, priority: str, credential: str, tenant: str) -> None:
        self._keeper = keeper
        self.sid = sid
        self.charge = charge
        self.priority = priority
        self.credential = credential
        self.tenant = tenant
        self.standing: Standing | None = None
        self.place: Place | None = None
        """Its place in line, until its turn has come; kept where that never came."""
        self.began_s: float | None = None
        """When it got its slots, by the keeper's clock."""
        self.over = False

    @property
    def waits(self) -> bool:
        """Whether its turn is yet to come."""
        return self.place is not None

    @property
    def shared(self) -> tuple[Slots, ...]:
        """The slots that it may have to wait for; made anew each time, for most never have to."""
        return tuple([slots for slots in self.charge.slots if slots.waits])

    async def turn(self, stream: Stream) -> None:
        """Wait in line. Raises `QUEUE_TIMEOUT`, or what went wrong while `stream` was told how it stands."""
        if self.place is not None:
            await self._keeper.wait(self, stream)

    def release(self) -> None:
        """Give back the slots, or the place in line."""
        self._keeper.take_back(self, kept=False)

    def hand_over(self) -> None:
        """Leave the shared slots to the process that goes on."""
        self._keeper.take_back(self, kept=True)
