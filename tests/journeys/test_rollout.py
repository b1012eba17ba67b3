"""Rolling out in two real processes over a real Redis: a step, a switch and a rollback are seen by both at once."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import aiohttp
import pytest

from gateway.flags import BUCKETS, STREAMING, Subject, bucket_of
from tests.house import FAST, free_port, gateway_process, see
from tests.operators import Operator, admin
from tests.redis_server import RedisServer
from tests.upstream import Call, Step, Upstream, answer, streamed

SEEN_S = 1.0
"""For a change at one process to be in force at all."""

WINDOW_S = 9.0
BROKEN: list[Step] = [b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"]


def by_question(call: Call) -> Iterable[Step]:
    """Slow, broken or quick, as the question asks."""
    asked = call.body["messages"][-1]["content"]
    if asked == "slow":
        return streamed(answer(f"t{number} " for number in range(25)), gap_s=0.1)
    return BROKEN if asked == "broken" else streamed(answer(["Hello"]))


class Fleet(NamedTuple):
    """Two processes, and an operator at the first one's admin listener."""

    web: aiohttp.ClientSession
    a: str
    b: str
    operator: Operator

    async def status(self, base: str, user: str = "alice", question: str = "quick") -> int:
        """What a new question of that user is answered with."""
        seen = await see(self.web, "POST", f"{base}/stream", json={"query": question}, headers={"X-User-Id": user})
        return seen.status

    async def refused_from(self, base: str) -> float:
        """When (monotonic) a new question was refused there, asked again and again."""
        async with asyncio.timeout(5):
            while await self.status(base) != 503:  # noqa: ASYNC110  # nobody tells a client
                await asyncio.sleep(0.02)
        return time.monotonic()


class Bases(NamedTuple):
    """Where two processes and their upstream are to be found, and the admin listener of the first one."""

    a: str
    b: str
    upstream: int
    admin: int


@pytest.fixture(scope="module")
def bases(shared_redis: RedisServer) -> Iterator[Bases]:
    """They take seconds to start, and serve all tests here."""
    shared_redis.command("FLUSHALL")
    port, listener = admin()
    upstream = free_port()
    common = {
        **FAST,
        "REDIS_URL": shared_redis.url,
        "OPENAI_BASE_URL": f"http://127.0.0.1:{upstream}/v1",
        "GATEWAY_FLAGS__MIN_STREAMS": "10",
        "GATEWAY_FLAGS__WINDOW_S": str(WINDOW_S),
    }
    with ExitStack() as processes:
        a = processes.enter_context(gateway_process(port=None, **common, **listener))
        b = processes.enter_context(gateway_process(port=None, **common))
        yield Bases(a.base, b.base, upstream, port)


@pytest.fixture
async def fleet(bases: Bases) -> AsyncIterator[Fleet]:
    """Both, with everybody let in by a person's decision of a second ago."""
    upstream = Upstream(by_question)
    await upstream.start(bases.upstream)
    async with aiohttp.ClientSession() as web:
        operator = Operator(web, bases.admin)
        await operator.change(percent=0)
        await operator.change(percent=100)
        await asyncio.sleep(SEEN_S)
        yield Fleet(web, bases.a, bases.b, operator)
    await upstream.stop()


async def test_a_step_is_in_force_everywhere_within_a_second_and_running_streams_finish(fleet: Fleet) -> None:
    """A schedule that is set at one process moves both; nobody who reads is cut off when it goes to 0."""
    running = [
        asyncio.create_task(see(fleet.web, "POST", f"{base}/stream", json={"query": "slow"}))
        for base in (fleet.a, fleet.b)
    ]
    await asyncio.sleep(0.3)
    await fleet.operator.change(percent=100, steps=[{"at": "+1s", "percent": 0}])
    began = time.monotonic()
    assert await fleet.status(fleet.b) == 200
    seen = [await fleet.refused_from(base) - began for base in (fleet.a, fleet.b)]
    assert 0.9 < min(seen) <= max(seen) < 1.0 + SEEN_S
    for task in running:
        whole = await task
        assert whole.status == 200
        assert "complete" in whole.names
        assert whole.text.split() == [f"t{number}" for number in range(25)]


async def test_both_processes_let_the_same_users_in(fleet: Fleet) -> None:
    """At a quarter: those whose bucket is below it, at whichever process they ask."""
    await fleet.operator.change(percent=25)
    await asyncio.sleep(SEEN_S)
    users = [f"user{number}" for number in range(24)]
    inside = {user for user in users if bucket_of(STREAMING, Subject("local", user)) < BUCKETS / 4}
    assert 0 < len(inside) < len(users)
    for base in (fleet.a, fleet.b):
        assert {user for user in users if await fleet.status(base, user) == 200} == inside


async def test_a_rollback_of_one_process_is_in_force_in_the_other_and_running_streams_finish(fleet: Fleet) -> None:
    """Neither alone has seen enough failures; both together have, and it happens once."""
    running = asyncio.create_task(see(fleet.web, "POST", f"{fleet.b}/stream", json={"query": "slow"}))
    for _ in range(6):
        await asyncio.gather(*(fleet.status(base, question="broken") for base in (fleet.a, fleet.b)))
    began = time.monotonic()
    seen = [await fleet.refused_from(base) - began for base in (fleet.a, fleet.b)]
    # The failures are told twice a second.
    assert max(seen) < 0.5 + SEEN_S
    flag = await fleet.operator.flag()
    assert flag["percent_now"] == 0
    assert "streams failed" in flag["rolled_back"]["reason"]
    changes = (await fleet.operator.ask("GET", "/admin/flags/streaming/audit")).json()["changes"]
    assert [change["actor"] for change in changes][:2] == ["rollback", "anna"]
    metrics = [(await see(fleet.web, "GET", f"{base}/metrics")).body.decode() for base in (fleet.a, fleet.b)]
    assert sum(text.count('\nssegw_rollbacks_total{trigger="error_rate"} 1.0') for text in metrics) == 1
    whole = await running
    assert "complete" in whole.names
    plain = await see(
        fleet.web, "POST", f"{fleet.b}/v1/chat/completions", json={"model": "m", "messages": [_SAID], "stream": False}
    )
    assert plain.status == 200


_SAID = {"role": "user", "content": "quick"}
