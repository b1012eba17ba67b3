"""RedisLimiter over a real Redis: one count for several processes, leases, and what happens while Redis is away."""

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager

import pytest

from gateway.stores.limits_redis import RedisLimiter
from tests.contracts.limiters import KEYS, budget, redis_limiter, settled, slots, taken, window
from tests.contracts.shared import soon
from tests.documents import ROOT
from tests.doubles import RecordingMetrics
from tests.load import FULL
from tests.redis_server import RedisServer

LEASE_S = 20.0 if FULL else 2.5


@pytest.fixture
async def three(redis_server: RedisServer) -> AsyncIterator[list[RedisLimiter]]:
    """Three processes that share a Redis."""
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(redis_limiter(redis_server, instance=name)) for name in "abc"]


async def test_fifty_racing_clients_of_three_processes_never_have_a_slot_too_many(three: list[RedisLimiter]) -> None:
    """Taken and left at all times, seven of them at once and no eighth."""
    running = most = 0

    async def client(number: int) -> None:
        nonlocal running, most
        limiter = three[number % 3]
        for turn in range(8):
            sid = f"{number}.{turn}"
            if await taken(limiter, sid, slots(7), window(10**6)):
                running += 1
                most = max(most, running)
                await asyncio.sleep(0.001 * (number % 4))
                running -= 1
                limiter.leave(sid)

    await asyncio.gather(*[client(number) for number in range(50)])
    assert most == 7
    assert all(limiter.shared for limiter in three)


async def test_windows_are_counted_among_processes(three: list[RedisLimiter]) -> None:
    """The limit is that of all of them together."""
    asked = await asyncio.gather(*[taken(three[n % 3], f"s{n}", window(10)) for n in range(30)])
    assert sum(asked) == 10


async def test_a_charge_is_one_round_trip(redis_server: RedisServer) -> None:
    """One EVALSHA, however much it is counted against."""
    async with redis_limiter(redis_server, running=False) as limiter:
        await taken(limiter, "first", window(9))
        redis_server.command("CONFIG", "RESETSTAT")
        parts = (window(9), window(9, "u", "user"), slots(5), slots(5, "b", "client"), budget(100))
        assert await taken(limiter, "s", *parts)
    said = redis_server.command("INFO", "commandstats")
    assert said["cmdstat_evalsha"]["calls"] == 1
    assert "cmdstat_eval" not in said


async def test_nothing_of_a_name_stands_in_redis_and_everything_ends_by_itself(redis_server: RedisServer) -> None:
    """Keys have a fixed form and a time to live, whatever a client calls itself."""
    async with redis_limiter(redis_server) as limiter:
        for who in ("alice", "x" * 1_000_000, "*", "a\nb", "limits-test:{limits}:window:*"):
            assert await taken(limiter, "s", window(5, who), slots(5, who), budget(5, who))
            limiter.spent((budget(5, who),), 1)
        await settled(limiter)
        keys = [key for key in redis_server.command("KEYS", "*") if key != KEYS.probe]
        assert len(keys) == 15
        for key in keys:
            assert len(key) < 80
            assert not any(who in key for who in ("alice", "*", "\n", "xx"))
            assert 0 < redis_server.command("TTL", key) <= 2 * 86_400
            assert redis_server.command("MEMORY", "USAGE", key) < 300


async def test_slots_that_a_process_holds_are_renewed(redis_server: RedisServer) -> None:
    """A stream may run for many leases."""
    async with redis_limiter(redis_server, lease_s=0.6) as limiter:
        assert await taken(limiter, "s", slots(1))
        async with redis_limiter(redis_server, lease_s=0.6, instance="other") as other:
            for _ in range(5):
                await asyncio.sleep(0.25)
                assert not await taken(other, "t", slots(1))


async def test_what_is_forgotten_is_not_renewed_but_kept_for_a_lease(redis_server: RedisServer) -> None:
    """The process that goes on with a stream finds its slot, and renews it; if none does it comes back."""
    asked = slots(2)
    async with redis_limiter(redis_server, lease_s=0.6) as limiter, redis_limiter(redis_server, lease_s=0.6) as heir:
        assert await taken(limiter, "adopted", asked)
        assert await taken(limiter, "lost", asked)
        limiter.forget("adopted")
        limiter.forget("lost")
        heir.adopt("adopted", (asked,))
        await settled(heir)
        assert not await taken(limiter, "x", asked)
        await asyncio.sleep(0.8)
        assert await taken(limiter, "y", asked)
        assert not await taken(limiter, "z", asked)


async def test_slots_are_written_again_after_redis_has_lost_everything(redis_server: RedisServer) -> None:
    """With the next renewal; and so are the tokens of the day."""
    async with redis_limiter(redis_server, lease_s=0.8) as limiter, redis_limiter(redis_server, instance="b") as other:
        assert await taken(limiter, "s", slots(1))
        limiter.spent((budget(100),), 100)
        await settled(limiter)
        redis_server.command("FLUSHALL")
        await soon(lambda: redis_server.command("EXISTS", KEYS.slots("tenant", "acme")), 1.0)
        await soon(lambda: len(redis_server.command("KEYS", "*:budget:*")), 1.0)
        assert not await taken(other, "t", slots(1))
        assert not await taken(other, "t", budget(100))


async def test_tokens_are_summed_among_processes_and_no_batch_counts_twice(three: list[RedisLimiter]) -> None:
    """Each tells all that it made in the day, so that what is told again adds nothing; the answer says the others'."""
    asked = budget(100)
    for limiter in three:
        limiter.spent((asked,), 30)
        for _ in range(3):
            await settled(limiter)
            limiter._unsaid[asked] = None
    assert await taken(three[0], "a", asked)
    three[1].spent((asked,), 10)
    await settled(three[1])
    assert not await taken(three[0], "b", asked)
    assert three[1].exhausted((asked,))
    three[0].spent((asked,), 0)
    await settled(three[0])
    assert three[0].exhausted((asked,))
    three[2].spent((asked,), -5)
    await settled(three[2])
    assert await taken(three[0], "b", asked)


async def test_a_charge_that_is_given_up_leaves_no_slot_behind(redis_server: RedisServer) -> None:
    """Its client left while Redis was asked."""
    async with redis_limiter(redis_server) as limiter:
        asking = asyncio.create_task(taken(limiter, "gone", slots(1)))
        redis_server.freeze()
        await asyncio.sleep(0.02)
        asking.cancel()
        await asyncio.wait([asking])
        redis_server.thaw()

        async def free() -> bool:
            return await taken(limiter, "s", slots(1))

        await soon(free)


async def test_while_redis_is_away_each_process_counts_for_itself(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """At once, with the slots that run here; said once in the log and in a metric; shared again when it is back."""
    metrics, asked, each = RecordingMetrics(), slots(3), window(10)
    with RedisServer() as server:
        async with (
            redis_limiter(server, metrics=metrics) as one,
            redis_limiter(server, instance="b", metrics=RecordingMetrics()) as two,
        ):
            assert await taken(one, "a", asked, each)
            assert await taken(two, "b", asked, each)
            server.kill()
            with caplog.at_level(logging.WARNING):
                begun = time.monotonic()
                here = [await taken(one, f"one{n}", asked, each) for n in range(4)]
                there = [await taken(two, f"two{n}", asked, each) for n in range(4)]
                assert time.monotonic() - begun < 2.0
                assert here == there == [True, True, False, False]
                assert [one.shared, two.shared] == [False, False]
                one.leave("a")
                server.start()
                await soon(lambda: one.shared and two.shared, 4.0)
            assert not await taken(one, "c", asked), "five run still"
            for limiter, sid in ((one, "one0"), (one, "one1"), (two, "two0")):
                limiter.leave(sid)
                await settled(limiter)
            assert await taken(one, "d", asked)
            assert not await taken(two, "e", asked)
            assert metrics.of("limits_shared") == [(True,), (False,), (True,)]
    said = [record.message for record in caplog.records if record.name == "gateway.stores.limits_redis"]
    assert sorted(said) == sorted(
        2
        * [
            "Redis is away; each process counts limits for itself",
            "limits are counted among all processes again",
        ]
    )


async def test_while_redis_stands_still_only_the_first_requests_wait_for_it() -> None:
    """Those wait as long as a command may take, all others not at all."""
    with RedisServer() as server:
        async with redis_limiter(server, command_s=1.0) as limiter:
            assert await taken(limiter, "a", slots(50))
            server.freeze()
            begun = time.monotonic()
            first = await asyncio.gather(*[taken(limiter, f"f{n}", slots(50)) for n in range(10)])
            assert time.monotonic() - begun < 1.8
            assert all(first)
            end = time.monotonic() + 1.0
            while time.monotonic() < end:
                begun = time.monotonic()
                assert await taken(limiter, f"s{begun}", window(10**6))
                assert time.monotonic() - begun < 0.5
                await asyncio.sleep(0.01)
            server.thaw()
            await soon(lambda: limiter.shared, 4.0)
            assert server.command("ZCARD", KEYS.slots("tenant", "acme")) == 11


async def test_a_key_that_is_not_what_it_should_be_breaks_no_request(redis_server: RedisServer) -> None:
    """Somebody wrote something else there: this process counts for itself, and is not cut off from the rest."""
    async with redis_limiter(redis_server) as limiter:
        await soon(lambda: redis_server.command("EXISTS", KEYS.probe))
        redis_server.command("LPUSH", KEYS.window("ip", "1.2.3.4", 3600.0), "what?")
        assert [await taken(limiter, f"s{n}", window(1)) for n in range(2)] == [True, False]
        assert limiter.shared


# Real processes.


class Racer:
    """A process with a limiter of its own."""

    def __init__(self, url: str, limit: int, name: str) -> None:
        words = [sys.executable, "-m", "tests.stores.limited_process", url, str(LEASE_S), str(limit), "50", name]
        self._process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def read(self) -> str:
        """What it says next."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def go(self) -> None:
        """Let it race."""
        assert self._process.stdin is not None
        self._process.stdin.write("race\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def racers(url: str, limit: int) -> Iterator[list[Racer]]:
    """Three of them, ready."""
    made = [Racer(url, limit, name) for name in ("one", "two", "three")]
    try:
        for racer in made:
            assert racer.read() == "ready"
        yield made
    finally:
        for racer in made:
            racer.kill()


async def test_slots_are_exact_among_real_processes_and_those_of_a_killed_one_come_back(
    redis_server: RedisServer,
) -> None:
    """150 clients of three processes race for 60 slots: 60 have one. Within 30 s of a SIGKILL those are free."""
    with racers(redis_server.url, 60) as processes:
        for process in processes:
            process.go()
        won = [int(process.read()) for process in processes]
        assert sum(won) == 60
        async with redis_limiter(redis_server, lease_s=LEASE_S, instance="four") as limiter:
            assert not await taken(limiter, "early", slots(60))
            lost = max(won)
            processes[won.index(lost)].kill()
            killed, back = time.monotonic(), 0
            while back < lost:
                assert time.monotonic() - killed < max(1.5 * LEASE_S, 6.0), "the slots of a killed process stay away"
                if await taken(limiter, f"s{back}", slots(60)):
                    back += 1
                else:
                    await asyncio.sleep(0.02)
            assert not await taken(limiter, "late", slots(60)), "those of living processes were taken too"
