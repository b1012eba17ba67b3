"""What every Limiter promises, whatever it keeps its counts in."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from gateway.limits import Charge, Limiter
from gateway.stores.limits_memory import MemoryLimiter
from tests.contracts.limiters import budget, charge, redis_limiter, settled, slots, taken, window

HOSTILE = [":", "*", "a\nb", "a\0b", "acme:*", "{limits}", "x" * 1_000_000, "\udcff", "", "ä€𝄞", "[a-z]?", " "]
"""Names that would be others, or break something, where keys are joined or patterns matched."""


@pytest.fixture(params=["memory", "redis"])
async def limiter(request: pytest.FixtureRequest) -> AsyncIterator[Limiter]:
    """One of each kind."""
    if request.param == "memory":
        yield MemoryLimiter()
    else:
        async with redis_limiter(request.getfixturevalue("redis_server")) as limiter:
            yield limiter


async def test_a_window_takes_as_many_as_its_limit_says(limiter: Limiter) -> None:
    """The next one is refused by that window, with the time until it would not be."""
    asked = window(3)
    assert [await taken(limiter, f"s{n}", asked) for n in range(4)] == [True, True, True, False]
    verdict = await limiter.charge("s5", charge(asked), may_wait=True)
    assert verdict.refused == asked
    assert 0 < verdict.retry_after_s <= 2 * asked.window_s
    assert not verdict.has_slots
    assert await taken(limiter, "s6", window(3, "5.6.7.8"))
    assert await taken(limiter, "s7", window(3, scope="session"))


async def test_the_time_to_come_again_is_exact(limiter: Limiter) -> None:
    """Who comes a moment earlier is refused once more, who comes then is taken."""
    asked = window(4, window_s=0.5)
    while await taken(limiter, "s", asked):
        pass
    before = time.monotonic()
    verdict = await limiter.charge("s", charge(asked), may_wait=False)
    after, refused_at = time.monotonic(), 0.0
    async with asyncio.timeout(5):
        asked_at = time.monotonic()
        while not await taken(limiter, "s", asked):
            refused_at = asked_at
            await asyncio.sleep(0.001)
            asked_at = time.monotonic()
    assert refused_at <= after + verdict.retry_after_s + 0.001
    assert time.monotonic() >= before + verdict.retry_after_s - 0.001


async def test_the_standing_is_that_of_the_window_nearest_to_its_limit(limiter: Limiter) -> None:
    """What is left counts this request already; all of the window is free again within two of its lengths."""
    wide, near = window(100, "all", "global"), window(5)
    for left in (4, 3):
        standing = (await limiter.charge("s", charge(wide, near), may_wait=False)).standing
        assert standing is not None
        assert standing[:2] == (5, left)
        assert standing.window_s == near.window_s
        assert near.window_s < standing.reset_s - time.time() <= 2 * near.window_s
        assert standing.reset_s % near.window_s == pytest.approx(0, abs=1e-3)
    assert (await limiter.charge("s", Charge(), may_wait=False)).standing is None


async def test_who_is_refused_hears_of_the_window_that_refused(limiter: Limiter) -> None:
    """Nothing is left in it."""
    asked, wide = window(2), window(100, "all", "global")
    for _ in range(3):
        verdict = await limiter.charge("s", charge(wide, asked), may_wait=False)
    assert verdict.refused == asked
    assert verdict.standing is not None
    assert verdict.standing[:2] == (2, 0)


async def test_a_refusal_counts_nothing(limiter: Limiter) -> None:
    """Neither in the windows that had room, nor in the slots, whatever it was that refused."""
    narrow, wide, one, many = window(1), window(2, "all", "global"), slots(1), slots(2, "bob", "client")
    assert await taken(limiter, "a", narrow, one)
    for refusing in (narrow, one, budget(0)):
        for n in range(3):
            assert not await taken(limiter, f"b{n}", refusing, wide, many)
    assert [await taken(limiter, f"c{n}", wide, many) for n in range(3)] == [True, True, False]


async def test_of_several_refusals_the_longest_is_told(limiter: Limiter) -> None:
    """Whoever came again after the shorter one would be refused by the other."""
    short, long = window(1, window_s=60.0), window(1, "all", "global")
    assert await taken(limiter, "a", short, long, slots(1))
    verdict = await limiter.charge("b", charge(short, long, slots(1)), may_wait=False)
    assert verdict.refused == long


async def test_slots_are_as_many_as_their_limit_and_come_back(limiter: Limiter) -> None:
    """A stream that leaves makes room for exactly one; to leave twice, or without having any, is harmless."""
    assert [await taken(limiter, f"s{n}", slots(2)) for n in range(3)] == [True, True, False]
    verdict = await limiter.charge("s3", charge(slots(2)), may_wait=False)
    assert verdict.refused == slots(2)
    assert verdict.retry_after_s > 0
    for sid in ("s0", "s0", "never"):
        limiter.leave(sid)
    await settled(limiter)
    assert [await taken(limiter, f"t{n}", slots(2)) for n in range(2)] == [True, False]


async def test_a_stream_may_wait_for_slots_that_streams_wait_for(limiter: Limiter) -> None:
    """It is counted, has what nobody waits for, and takes the rest when there is room."""
    shared, own = slots(1, waits=True), slots(2, "bob", "client")
    first = await limiter.charge("a", charge(window(9), shared, own), may_wait=True)
    second = await limiter.charge("b", charge(window(9), shared, own), may_wait=True)
    assert (first.refused, first.has_slots) == (None, True)
    assert (second.refused, second.has_slots) == (None, False)
    assert second.standing is not None
    assert second.standing.remaining == 7
    assert not await limiter.take("b", (shared, own))
    third = await limiter.charge("c", charge(shared, own), may_wait=True)
    assert third.refused == own, "a client fills the room where streams wait"
    limiter.leave("a")
    await settled(limiter)
    assert await limiter.take("b", (shared, own))
    assert await limiter.take("b", (shared, own)), "it has them already"
    limiter.leave("b")
    await settled(limiter)
    assert await taken(limiter, "d", shared, slots(1, "bob", "client"))


async def test_nobody_waits_where_nobody_may(limiter: Limiter) -> None:
    """Where the room to wait is full, a slot that streams wait for refuses like any other."""
    asked = slots(1, waits=True)
    assert await taken(limiter, "a", asked)
    assert (await limiter.charge("b", charge(asked), may_wait=False)).refused == asked


async def test_a_process_that_has_no_place_takes_no_slot_to_wait_with(limiter: Limiter) -> None:
    """Other processes may have one; what nobody waits for is taken and refused all the same."""
    shared, own = slots(1, waits=True), slots(1, "bob", "client")
    verdict = await limiter.charge("a", charge(shared, own), may_wait=True, take=False)
    assert (verdict.refused, verdict.has_slots) == (None, False)
    assert (await limiter.charge("b", charge(own), may_wait=True, take=False)).refused == own
    assert await taken(limiter, "c", shared)


async def test_a_stream_that_was_begun_elsewhere_keeps_its_slots_whatever_the_count(limiter: Limiter) -> None:
    """There may be one too many for a while; there is room again when it is not."""
    assert await taken(limiter, "a", slots(1))
    limiter.adopt("b", (slots(1),))
    await settled(limiter)
    limiter.leave("a")
    await settled(limiter)
    assert not await taken(limiter, "c", slots(1))
    limiter.leave("b")
    await settled(limiter)
    assert await taken(limiter, "c", slots(1))


async def test_a_budget_refuses_when_it_is_used_up(limiter: Limiter) -> None:
    """Until midnight of UTC; a correction may open it again."""
    asked = budget(100)
    assert await taken(limiter, "a", asked)
    limiter.spent((asked,), 99)
    await settled(limiter)
    assert await taken(limiter, "b", asked)
    assert not limiter.exhausted((asked,))
    limiter.spent((asked,), 1)
    assert limiter.exhausted((budget(1000, "other"), asked))
    await settled(limiter)
    verdict = await limiter.charge("c", charge(asked), may_wait=True)
    assert verdict.refused == asked
    assert (time.time() + verdict.retry_after_s) % 86_400 == pytest.approx(0, abs=1) or pytest.approx(86_400, abs=1)
    limiter.spent((asked,), -1)
    await settled(limiter)
    assert await taken(limiter, "d", asked)


@pytest.mark.parametrize("who", HOSTILE, ids=lambda who: repr(who[:10]))
async def test_a_name_is_nothing_but_itself(limiter: Limiter, who: str) -> None:
    """Whatever characters a client puts into its name, it counts for that name and for no other."""
    parts = (window(1, who), slots(1, who), budget(5, who))
    assert await taken(limiter, "a", *parts)
    assert not await taken(limiter, "b", window(1, who))
    assert not await taken(limiter, "c", slots(1, who))
    for other in {*HOSTILE, who + "x", f"{who}:", f"{who}\n{who}"} - {who}:
        assert await taken(limiter, f"d{other[:9]!r}", window(1, other), slots(1, other))
    limiter.spent((budget(5, who),), 5)
    await settled(limiter)
    assert not await taken(limiter, "e", budget(5, who))
    assert await taken(limiter, "f", budget(5, who + "x"))


async def test_of_racing_clients_no_more_are_taken_than_there_are_slots(limiter: Limiter) -> None:
    """However they come in between each other, and while others leave."""
    running = most = 0

    async def client(number: int) -> None:
        nonlocal running, most
        for turn in range(6):
            sid = f"s{number}.{turn}"
            if await taken(limiter, sid, slots(5)):
                running += 1
                most = max(most, running)
                await asyncio.sleep(0.001 * (number % 3))
                running -= 1
                limiter.leave(sid)

    await asyncio.gather(*[client(number) for number in range(50)])
    assert most == 5
