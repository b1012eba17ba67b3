"""A waiting room with what it needs, in a loop whose time is moved by hand."""

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.admission.permit import HeldPermit
from gateway.admission.waiting import WaitingRoom
from gateway.events import Status
from gateway.limits import Charge, Slots
from gateway.streams.stream import Stream
from tests.admission.limiter import CountingLimiter
from tests.doubles import ManualLoop, RecordingMetrics, stream_of

NOTHING = Charge()


def tenant(name: str, limit: int) -> Slots:
    """Slots that a tenant's streams wait for."""
    return Slots("tenant", name, limit, True)


def client(name: str, limit: int) -> Slots:
    """Slots that nobody waits for."""
    return Slots("client", name, limit, False)


class Guest:
    """One who was given a permit, and the task that waits for its turn."""

    def __init__(self, permit: HeldPermit, loop: ManualLoop) -> None:
        self.permit = permit
        self.stream: Stream = stream_of()
        self.task = loop.create_task(permit.turn(self.stream))

    @property
    def goes_in(self) -> bool:
        """Whether its turn has come."""
        return self.task.done() and not self.task.cancelled() and self.task.exception() is None

    @property
    def told(self) -> list[tuple[Any, Any]]:
        """Positions and estimates, as its stream was told."""
        return [
            (event.details["position"], event.details["estimated_s"])
            for event in self.stream.events()
            if isinstance(event, Status) and event.state == "queued"
        ]

    @property
    def positions(self) -> list[int]:
        """The positions alone."""
        return [position for position, _ in self.told]


class Bench:
    """A room, its limiter and its guests."""

    def __init__(self, **settings: Any) -> None:
        self.loop = ManualLoop()
        self.limiter = CountingLimiter()
        self.metrics = RecordingMetrics()
        values = {"slots": 1, "max_waiting": 100, "patience_s": 30.0, "premium_run": 4, **settings}
        self.room = WaitingRoom(self.limiter, clock=self.loop.clock, metrics=self.metrics, **values)
        self._count = 0

    def admit(self, charge: Charge = NOTHING, priority: str = "standard", of: str = "") -> HeldPermit:
        """Ask for leave, and get it or the refusal."""
        self._count += 1
        return self.loop.run(self.room.admit(f"s{self._count}", charge, priority, tenant=of))

    def asking(self, charge: Charge = NOTHING, priority: str = "standard", of: str = "") -> "asyncio.Task[HeldPermit]":
        """Ask for leave, and go on before there is an answer."""
        self._count += 1
        return self.loop.create_task(self.room.admit(f"s{self._count}", charge, priority, tenant=of))

    def guest(self, *slots: Slots, priority: str = "standard") -> Guest:
        """Somebody who was let in, or waits."""
        guest = Guest(self.admit(Charge(slots=slots), priority), self.loop)
        self.loop.turn()
        return guest

    def leave(self, guest: Guest) -> None:
        """Its client is gone, or its stream is over."""
        guest.task.cancel()
        self.loop.turn()
        self.release(guest.permit)

    def release(self, permit: HeldPermit) -> None:
        """Its stream has ended."""
        self.call(permit.release)
        self.loop.turn()

    def call(self, function: Callable[[], object]) -> None:
        """Call it as all is called: in the loop."""
        self.loop.call_soon(function)

    def outcomes(self) -> list[str]:
        """How waiting ended, in order."""
        return [outcome for _, outcome, _ in self.metrics.of("queue_left")]

    def close(self) -> None:
        """End what is left."""
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.turn()
        self.loop.close()
