"""Whatever comes, leaves and ends in whatever order: no slot too many, none too few, nobody lost, and fair."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.admission.line import CLASSES
from gateway.errors import GatewayError
from tests.admission.room import Bench, Guest, tenant

RUN = 3
TENANTS = {"a": tenant("a", 1), "b": tenant("b", 2)}

comes = st.tuples(st.just("comes"), st.sampled_from(CLASSES), st.sampled_from(["", *TENANTS]))
steps = st.one_of(
    comes,
    comes,
    st.tuples(st.sampled_from(["ends", "leaves", "hands over"]), st.integers(0, 30)),
    st.tuples(st.just("passes"), st.sampled_from([0.0, 0.3, 1.0, 12.0])),
    st.tuples(st.sampled_from(["fills", "frees"]), st.sampled_from(list(TENANTS))),
)


class World:
    """A room and all who ever came."""

    def __init__(self, slots: int, latency: int) -> None:
        self.slots = slots
        self.bench = Bench(slots=slots, max_waiting=8, patience_s=20.0, premium_run=RUN)
        self.bench.limiter.latency = latency
        self.guests: list[Guest] = []

    def waiting(self) -> list[Guest]:
        """Those whose turn is yet to come."""
        return [guest for guest in self.guests if not guest.task.done()]

    def running(self) -> list[Guest]:
        """Those whose turn has come, and who have not ended."""
        return [guest for guest in self.guests if guest.goes_in and not guest.permit.over]

    def step(self, what: str, *how: Any) -> None:
        """One thing happens, and a little or nothing of what follows from it."""
        bench = self.bench
        if what == "comes":
            priority, name = how
            try:
                guest = bench.guest(*([TENANTS[name]] if name else []), priority=priority)
            except GatewayError:
                assert len(self.waiting()) >= 8 or bench.room._promised
            else:
                self.guests.append(guest)
        elif what == "ends" and self.running():
            bench.call(self._one(self.running(), how[0]).permit.release)
        elif what == "hands over" and self.running():
            bench.call(self._one(self.running(), how[0]).permit.hand_over)
        elif what == "leaves" and self.waiting():
            guest = self._one(self.waiting(), how[0])
            bench.call(guest.task.cancel)
            bench.call(guest.permit.release)
        elif what == "passes":
            bench.loop.advance(how[0])
        elif what == "fills":
            bench.limiter.full.add(TENANTS[how[0]])
        elif what == "frees":
            bench.limiter.full.discard(TENANTS[how[0]])
        bench.loop.turn(1)
        self.end_those_who_lost_patience()
        self.check()

    def _one(self, guests: list[Guest], index: int) -> Guest:
        return guests[index % len(guests)]

    def end_those_who_lost_patience(self) -> None:
        """As the hub does it."""
        for guest in self.guests:
            if guest.task.done() and not guest.goes_in:
                self.bench.call(guest.permit.release)

    def check(self) -> None:
        """At any time."""
        running = self.running()
        assert len(running) <= self.slots
        for slots in TENANTS.values():
            assert len([guest for guest in running if slots in guest.permit.shared]) <= slots.limit

    def settle(self) -> None:
        """Let everything follow; then no slot is free that somebody waits for."""
        self.bench.loop.advance(0.5, step_s=0.25)
        self.bench.loop.turn(20)
        self.end_those_who_lost_patience()
        self.bench.loop.turn(20)
        self.check()
        running = self.running()
        held = Counter(slots for guest in running for slots in guest.permit.shared)
        for guest in self.waiting():
            full = [s for s in guest.permit.shared if held[s] >= s.limit or s in self.bench.limiter.full]
            assert full or len(running) == self.slots
        assert self.bench.limiter.running == {guest.permit.sid for guest in running if guest.permit.shared}

    def run_dry(self) -> None:
        """Everybody ends when it was its turn: nobody is left over."""
        self.bench.limiter.full.clear()
        self.settle()
        while self.running():
            for guest in self.running():
                self.bench.call(guest.permit.release)
            self.settle()
        assert not self.waiting()
        assert not self.bench.limiter.running
        assert not self.bench.room._line
        assert not self.bench.room._turns._held


@contextmanager
def world(slots: int, latency: int = 0) -> Iterator[World]:
    """One that is closed behind its use."""
    made = World(slots, latency)
    try:
        yield made
    finally:
        made.bench.close()


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 3), st.integers(0, 2), st.lists(steps, max_size=40))
def test_no_slot_too_many_none_too_few_and_nobody_lost(slots: int, latency: int, script: list[tuple[Any, ...]]) -> None:
    """Whoever did not leave, and had patience, was let in."""
    with world(slots, latency) as one:
        for what, *how in script:
            one.step(what, *how)
        one.settle()
        one.run_dry()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(comes.map(lambda step: step[1]), st.just("ends")), min_size=10, max_size=80))
def test_premium_goes_first_and_nobody_starves(script: list[str]) -> None:
    """A lower class goes before a higher one that waits only after a whole run of it, and never later than that."""
    with world(1) as one:
        for word in script:
            one.step(*(("ends", 0) if word == "ends" else ("comes", word, "")))
            one.bench.loop.turn()
        waiting, passed, row = Counter[str](), Counter[str](), 0
        for verb, values in one.bench.metrics.said:
            if verb == "queue_waiting":
                waiting[values[0]] = values[1]
            elif verb == "queue_left" and values[1] == "granted":
                granted = CLASSES.index(values[0])
                if granted and waiting["premium"]:
                    assert row == RUN
                for lower in CLASSES[granted + 1 :]:
                    passed[lower] = passed[lower] + 1 if waiting[lower] else 0
                passed[values[0]] = 0
                overtakes = any(waiting[lower] for lower in CLASSES[1:])
                row = row + 1 if not granted and overtakes else 0
                assert passed["standard"] <= RUN
                assert passed["background"] <= RUN * (RUN + 1) + RUN
