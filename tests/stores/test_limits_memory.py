"""MemoryLimiter: what it keeps, for how long, and that nobody can make it keep more."""

import tracemalloc

from gateway.limits import Charge
from gateway.stores.limits_memory import MemoryLimiter
from gateway.stores.windows import WINDOWS_MAX
from tests.contracts.limiters import budget, charge, slots, taken, window
from tests.doubles import ManualClock
from tests.load import FULL

CLIENTS, CAP = (1_000_000, WINDOWS_MAX) if FULL else (10_000, 1000)
MINUTE_S = 60.0


async def test_a_spray_of_addresses_takes_bounded_memory_and_no_slot_from_a_running_stream() -> None:
    """However many come in one window: the oldest counts go, the memory stays, slots are never forgotten."""
    limiter = MemoryLimiter(clock=ManualClock(), windows_max=CAP)
    assert await taken(limiter, "running", slots(1))
    tracemalloc.start()
    for number in range(CLIENTS):
        assert await taken(limiter, "s", window(30, f"2001:db8::{number:x}"))
    kept, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(limiter._windows) == CAP
    assert kept < CAP * 600
    assert not await taken(limiter, "another", slots(1))


async def test_the_oldest_counts_go_first_and_who_is_refused_is_not_old() -> None:
    """Whoever still comes is remembered, taken or not, while others spray."""
    limiter, patient = MemoryLimiter(clock=ManualClock(), windows_max=100), window(1, "patient")
    assert await taken(limiter, "s", patient)
    for number in range(1000):
        await taken(limiter, "s", window(30, str(number)))
        if number % 50 == 0:
            assert not await taken(limiter, "s", patient)


async def test_counts_that_are_over_are_swept_as_new_ones_come() -> None:
    """Two old ones for each new one: nobody walks through all of them at once."""
    clock = ManualClock(1000 * MINUTE_S)
    limiter = MemoryLimiter(clock=clock)
    for number in range(1000):
        await taken(limiter, "s", window(30, str(number), window_s=MINUTE_S))
    clock.advance(2 * MINUTE_S)
    sizes = []
    for number in range(1000):
        await taken(limiter, "s", window(30, f"new {number}", window_s=MINUTE_S))
        sizes.append(len(limiter._windows))
    assert sizes == [*range(999, 499, -1), *range(501, 1001)]


async def test_a_name_of_a_megabyte_is_not_kept() -> None:
    """Only its digest is, in windows, slots and budgets."""
    limiter = MemoryLimiter(clock=ManualClock())
    tracemalloc.start()
    for number in range(50):
        who = f"{number}" + "x" * 1_000_000
        assert await taken(limiter, f"s{number}", window(5, who), slots(5, who), budget(5, who))
        limiter.spent((budget(5, who),), 1)
    kept, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 3_000_000


async def test_nothing_is_kept_of_streams_that_have_ended_and_days_that_are_over() -> None:
    """Slots and budgets are gone with the last that needed them."""
    clock = ManualClock()
    limiter = MemoryLimiter(clock=clock)
    for number in range(100):
        assert await taken(limiter, f"s{number}", slots(1, str(number)), slots(1000))
        limiter.spent((budget(5, str(number)),), 1)
    for number in range(100):
        limiter.leave(f"s{number}")
    clock.advance(86_400)
    limiter.spent((budget(5),), 1)
    assert not limiter._slots
    assert not limiter._places
    assert len(limiter._spent) == 1


async def test_a_clock_that_is_set_back_frees_nobody_and_locks_nobody_out() -> None:
    """By a little, what was counted stands; by a lot, it is forgotten rather than kept for ever."""
    clock, asked = ManualClock(1000 * MINUTE_S), window(2, window_s=MINUTE_S)
    limiter = MemoryLimiter(clock=clock)
    assert [await taken(limiter, "s", asked) for _ in range(3)] == [True, True, False]
    clock.advance(-1.0)
    verdict = await limiter.charge("s", charge(asked), may_wait=False)
    assert verdict.refused == asked
    assert 0 < verdict.retry_after_s <= 2 * MINUTE_S
    clock.advance(-1000.0)
    assert await taken(limiter, "s", asked)


async def test_a_charge_of_nothing_is_taken() -> None:
    """With all of no slots."""
    verdict = await MemoryLimiter().charge("s", Charge(), may_wait=False)
    assert (verdict.refused, verdict.standing, verdict.has_slots) == (None, None, True)
