"""Heirs: a stream whose process died keeps its slots here, and one that waited there waits here."""

from collections.abc import Iterator
from typing import Any

import pytest

from gateway.admission.permit import HeldPermit
from gateway.admission.waiting import WaitingRoom
from gateway.events import Status, Text
from gateway.limits import Charge
from gateway.streams.stream import Stream
from gateway.succession import AWAITED_S
from tests.admission.limiter import CountingLimiter
from tests.admission.room import tenant
from tests.bench import ending
from tests.doubles import HANG
from tests.test_succession import Process

CHARGE = Charge(slots=(tenant("a", 1),))
QUEUED = Status("queued", "", {"position": 2, "estimated_s": 9})


class Heirs(Process):
    """A process with one slot, which takes streams over."""

    def __init__(self) -> None:
        super().__init__(adopt=self.adopt)
        self.limiter = CountingLimiter()
        self.room = WaitingRoom(
            self.limiter,
            slots=1,
            max_waiting=0,
            patience_s=30.0,
            premium_run=4,
            clock=self.loop.clock,
            metrics=self.metrics,
        )

    def queued(self, **asked: Any) -> Stream:
        """A stream that waited for its turn in a process that is dead."""
        stream = self.orphan(**asked)
        stream.receive([QUEUED], stream.poured)
        return stream

    def adopt(self, stream: Stream) -> HeldPermit:
        """As the door does."""
        return self.room.adopt(stream, CHARGE, "standard")


@pytest.fixture
def heirs() -> Iterator[Heirs]:
    """Nothing runs on behind a test."""
    process = Heirs()
    yield process
    process.succession.close()
    process.loop.run(process.hub.drain(0))
    process.loop.turn()
    assert not process.limiter.running
    process.loop.close()


def test_what_is_taken_over_goes_on_at_once_with_its_slots(heirs: Heirs) -> None:
    """Above the limits of this process and of the tenant, and gives them back when it ends."""
    heirs.script = ([Text("a")], HANG)
    first, second = heirs.find(heirs.orphan(Text("a"))), heirs.find(heirs.orphan(Text("a")))
    heirs.loop.turn()
    assert heirs.limiter.running == {first.sid, second.sid}
    assert [source.calls for source in heirs.sources] == [1, 1]
    heirs.hub.cancel_here(first.sid)
    heirs.loop.turn()
    assert heirs.limiter.running == {second.sid}


def test_what_waited_there_waits_here_and_is_then_made(heirs: Heirs) -> None:
    """Its upstream is called once, when there is a slot."""
    heirs.script = ([Text("a")], HANG)
    running = heirs.find(heirs.orphan(Text("a")))
    heir = heirs.find(heirs.queued())
    with heirs.reading(heir):
        heirs.loop.advance(10.0, step_s=0.25)
        assert not heir.begun
        assert heirs.sources[-1].calls == 0
        heirs.hub.cancel_here(running.sid)
        heirs.loop.turn(10)
        assert heir.content_events
        assert heirs.sources[-1].calls == 1
        told = [e.details["position"] for e in heir.events() if isinstance(e, Status) and e.state == "queued"]
        assert told == [2, 1, 0]


def test_a_queued_heir_for_whom_nobody_comes_back_is_ended(heirs: Heirs) -> None:
    """Its reader was cut off and has a while to come; then the place is another's."""
    heirs.script = ([Text("a")], HANG)
    heirs.find(heirs.orphan(Text("a")))
    heir = heirs.find(heirs.queued(grace_s=0.0))
    heirs.loop.advance(AWAITED_S - 0.5)
    assert not heir.ended
    heirs.loop.advance(1.0)
    assert ending(heir) == ("cancelled", "orphaned")
    assert heirs.sources[-1].calls == 0


def test_who_comes_back_and_leaves_again_leaves_the_queue(heirs: Heirs) -> None:
    """As everywhere: no grace in line."""
    heirs.script = ([Text("a")], HANG)
    heirs.find(heirs.orphan(Text("a")))
    heir = heirs.find(heirs.queued(grace_s=30.0))
    with heirs.reading(heir):
        pass
    heirs.loop.turn()
    assert ending(heir) == ("cancelled", "orphaned")
