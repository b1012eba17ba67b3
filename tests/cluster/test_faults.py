"""Two supervised processes, and something breaks in mid-stream: no reader loses a word, and none waits for long."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from fleet.readers import History
from tests.cluster.play import Seen, busy, faultless, play
from tests.cluster.stage import Stage, stage
from tests.house import eventually
from tests.load import FULL, at_scale

pytestmark = pytest.mark.asyncio(loop_scope="module")
WATCHDOG_S = 2.0
FROZEN_S = at_scale(1, 3)
TABS = at_scale(20, 100)
"""Streams that are read at both processes as well, past nginx."""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Two processes for all journeys of this file."""
    async with stage(tmp_path_factory.mktemp("faults"), settings={"GATEWAY_DRAIN__LIMIT_S": "0.5"}) as here:
        yield here


@pytest_asyncio.fixture(loop_scope="module", autouse=True)
async def whole(house: Stage) -> None:
    """Each journey begins with all processes serving."""
    await house.cluster.supervisor.until_ready()


async def test_a_process_is_killed(house: Stage) -> None:
    """kill -9 of one of two: the other one goes on with all of its streams, and soon."""
    async with play(house) as on:
        await on.opened()
        on.watch(1)
        house.signal(0, signal.SIGKILL)
        seen = await on.seen()
    faultless("kill -9", seen)
    assert len(seen.moved) >= len(seen.cut) >= seen.all.streams // 4
    if FULL and not busy():
        assert seen.silence_s(0.5) < 1.0
        assert seen.silence_s(1.0) < 2.5


async def test_a_process_hangs_until_its_watchdog_ends_it(house: Stage) -> None:
    """SIGSTOP: the supervisor kills it after 2 s, and nobody waits for more than a second after that."""
    async with play(house) as on:
        await on.opened()
        on.watch(1)
        house.signal(0, signal.SIGSTOP)
        seen = await on.seen()
    faultless("SIGSTOP, supervised", seen)
    assert len(seen.moved) >= len(seen.cut) >= seen.all.streams // 4
    if FULL and not busy():
        assert seen.silence_s(1.0) <= WATCHDOG_S + 1.0


async def test_a_process_is_told_to_go_before_its_answers_end(house: Stage) -> None:
    """SIGTERM with a drain limit shorter than the answers: what is left is taken over, and the exit status is 0."""
    async with play(house) as on:
        await on.opened()
        on.watch(1)
        began = len(house.said)
        house.signal(0, signal.SIGTERM)
        seen = await on.seen()
    faultless("SIGTERM, drain of 0.5 s", seen)
    assert len(seen.moved) >= seen.all.streams // 4
    assert any("has ended (exit status 0" in line for line in house.said[began:]), house.said[began:]


async def test_nginx_is_reloaded(house: Stage) -> None:
    """Old workers serve to their end whom they have: nobody is cut off."""
    async with play(house) as on:
        await on.opened()
        house.cluster.edge.reload()
        seen = await on.seen()
    faultless("nginx reloaded", seen)
    assert (seen.cut, seen.moved) == ([], [])


async def test_redis_dies_and_comes_back(house: Stage) -> None:
    """kill -9 and back after a second: who reads at the producer notices nothing, who reads elsewhere catches up."""

    def kill() -> None:
        house.store.signal(signal.SIGKILL)
        house.store.stop()

    faultless("Redis dead for 1 s", await _undisturbed(house, kill, 1.0, house.store.start))


async def test_redis_freezes(house: Stage) -> None:
    """SIGSTOP for seconds, longer than any command is waited for: the same."""
    stop, go_on = partial(house.store.signal, signal.SIGSTOP), partial(house.store.signal, signal.SIGCONT)
    faultless(f"Redis frozen for {FROZEN_S} s", await _undisturbed(house, stop, FROZEN_S, go_on))


async def test_redis_loses_all_its_data(house: Stage) -> None:
    """FLUSHALL: what is written again is the same text, also for those who come to the other process just then."""
    async with play(house) as on:
        await on.opened()
        with house.redis() as client:
            client.flushall()
        on.read_at(0, on.histories[:TABS])
        on.read_at(1, on.histories[:TABS])
        await asyncio.sleep(0.7)
        on.read_at(0, on.histories[:TABS])
        on.read_at(1, on.histories[:TABS])
        seen = await on.seen()
    faultless("FLUSHALL", seen)
    assert seen.moved == []


async def test_redis_takes_no_more_data(house: Stage) -> None:
    """Out of memory for a second: streams go on, and are written when there is room again."""
    with house.redis() as client:
        fill, empty = partial(client.config_set, "maxmemory", "1mb"), partial(client.config_set, "maxmemory", "0")
        faultless("Redis full for 1 s", await _undisturbed(house, fill, 1.0, empty))


async def test_redis_becomes_a_replica(house: Stage) -> None:
    """Read-only for a second, as in a failover: the same."""
    with house.redis() as client:
        demote, promote = partial(client.replicaof, "127.0.0.1", 1), partial(client.replicaof, "NO", "ONE")
        faultless("Redis read-only for 1 s", await _undisturbed(house, demote, 1.0, promote))


async def _undisturbed(house: Stage, damage: Callable[[], Any], lasting_s: float, mend: Callable[[], Any]) -> Seen:
    """What readers see of this; some streams are read at both processes all the time. Everybody is warned."""
    async with play(house) as on:
        await on.opened()
        on.read_at(0, on.histories[:TABS])
        on.read_at(1, on.histories[:TABS])
        await asyncio.sleep(0.3)
        damage()
        try:
            await asyncio.sleep(lasting_s)
            await eventually(lambda: all(map(_warned_or_finished, on.histories)))
        finally:
            mend()
        seen = await on.seen()
    # Of a machine that is slow some answers may be over before Redis is noticed.
    assert sum(map(_warned, on.histories)) >= len(on.histories) // 2
    assert seen.cut == []
    assert seen.moved == []
    return seen


def _warned(history: History) -> bool:
    return any(seen.data.get("code") == "NOT_DURABLE" for seen in history.events if seen.name == "warning")


def _warned_or_finished(history: History) -> bool:
    return history.finished or _warned(history)
