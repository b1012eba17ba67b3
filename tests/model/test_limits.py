"""Limiters of both kinds do what the plain model does, whatever comes in whatever order."""

import asyncio
import hashlib
from contextlib import AsyncExitStack
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.limits import Charge, Limiter, Slots, Window
from gateway.stores.limits_memory import MemoryLimiter
from gateway.stores.limits_redis import RedisLimiter
from gateway.stores.scripts import Script
from tests.contracts.limiters import redis_limiter, settled
from tests.doubles import ManualClock
from tests.model.limits import PlainLimits
from tests.redis_server import RedisServer

# Lengths and steps are halves of halves of a second: sums of them are exact, and so is the model.
WINDOWS = [
    Window("ip", "a", 3, 8.0),
    Window("ip", "b", 5, 8.0),
    Window("user", "a", 4, 16.0),
    Window("ip", "a", 1, 2.0),
]
SLOTS = [Slots("client", "a", 2, False), Slots("tenant", "t", 3, True), Slots("global", "", 4, True)]
STEP_S = 1 / 16
EVEN_S = 1e-4


class Asked(NamedTuple):
    """A charge."""

    sid: int
    charge: Charge
    may_wait: bool
    take: bool


class Waited(NamedTuple):
    """A stream that waited asks for its slots."""

    sid: int
    slots: tuple[Slots, ...]


class Left(NamedTuple):
    """A stream is over."""

    sid: int


SIDS = st.integers(0, 9)
SOME_WINDOWS = st.lists(st.sampled_from(WINDOWS), unique=True, max_size=3).map(tuple)
SOME_SLOTS = st.lists(st.sampled_from(SLOTS), unique=True, max_size=3).map(tuple)
ASKED = st.builds(Asked, SIDS, st.builds(Charge, SOME_WINDOWS, SOME_SLOTS, st.just(())), st.booleans(), st.booleans())
STEPS = st.lists(
    st.one_of(
        ASKED,
        ASKED,
        st.builds(Waited, SIDS, SOME_SLOTS),
        st.builds(Left, SIDS),
        st.integers(1, 200).map(lambda sixteenths: sixteenths * STEP_S),
    ),
    max_size=60,
)


@given(steps=STEPS)
def test_in_memory_as_in_the_model(steps: list[Asked | Waited | Left | float]) -> None:
    """Who is taken, who has slots, when to come again; and no slot too many."""
    clock = ManualClock(1_000_000.0)
    asyncio.run(play(MemoryLimiter(clock=clock), clock, steps))


class ClockedScript(Script):
    """The script as it is, but for the clock, which the test moves."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        assert b"redis.call('TIME')" in self.text
        self.text = self.text.replace(b"redis.call('TIME')", b"redis.call('LRANGE', 'clock', 0, 1)")
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()


@pytest.mark.timeout(300)
def test_in_redis_as_in_the_model(shared_redis: RedisServer) -> None:
    """The same, by the script."""
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        limiter = runner.run(stack.enter_async_context(redis_limiter(shared_redis, lease_s=10**6, running=False)))
        limiter._charge, limiter._renew = ClockedScript("charge"), ClockedScript("renew")

        @given(steps=STEPS)
        def search(steps: list[Asked | Waited | Left | float]) -> None:
            shared_redis.command("FLUSHDB")
            runner.run(play(limiter, RedisClock(shared_redis), steps))

        search()
        assert limiter.shared
        runner.run(stack.aclose())


class RedisClock(ManualClock):
    """A clock that the scripts see."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__(1_000_000.0)
        self._server = server
        self.advance(0.0)

    def advance(self, seconds: float) -> None:
        super().advance(seconds)
        self._server.command("DEL", "clock")
        self._server.command("RPUSH", "clock", int(self.now), round(self.now % 1 * 1_000_000))


async def play(limiter: Limiter, clock: ManualClock, steps: list[Asked | Waited | Left | float]) -> None:
    """Do it all, and compare."""
    model = PlainLimits()
    for step in steps:
        if isinstance(step, float):
            clock.advance(step)
        elif isinstance(step, Left):
            limiter.leave(str(step.sid))
            await settled(limiter)
            model.leave(str(step.sid))
        elif isinstance(step, Waited):
            assert await limiter.take(str(step.sid), step.slots) == model.take(str(step.sid), step.slots)
        else:
            await ask(limiter, model, clock.now, step)
        assert all(len(holders) <= slots.limit for slots, holders in model.holders.items())
    for window in WINDOWS:
        assert model.most_in_any(window) < 2 * window.limit
    if isinstance(limiter, RedisLimiter):
        for sid in range(10):
            limiter.leave(str(sid))
        await settled(limiter)


async def ask(limiter: Limiter, model: PlainLimits, now: float, step: Asked) -> None:
    """One charge: as the model says, and with the exact time to come again."""
    sid, charge = str(step.sid), step.charge
    expected = model.charge(sid, charge, now, may_wait=step.may_wait, take=step.take)
    verdict = await limiter.charge(sid, charge, may_wait=step.may_wait, take=step.take)
    assert (verdict.refused is None, verdict.has_slots) == expected
    if isinstance(verdict.refused, Window):
        again = now + verdict.retry_after_s
        assert all(model.has_room(window, again + EVEN_S) for window in charge.windows)
        assert not model.has_room(verdict.refused, again - EVEN_S)
    elif verdict.refused is not None:
        assert verdict.retry_after_s == 2.0
        assert all(model.has_room(window, now + 2.0) for window in charge.windows)
    if charge.windows:
        assert verdict.standing is not None
        if isinstance(verdict.refused, Window):
            nearest = verdict.refused
        else:
            nearest = min(charge.windows, key=lambda window: window.limit - model.used(window, now))
        assert verdict.standing[0] == nearest.limit
        assert verdict.standing.remaining == max(0, int(nearest.limit - model.used(nearest, now) + 1e-6))
