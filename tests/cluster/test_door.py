"""The door of several processes: a limit holds for all of them together, and survives any of them."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator

import aiohttp
import orjson
import pytest
import pytest_asyncio

from gateway.admission.keys import digest_of, new_key, written
from tests.cluster.stage import ALONE, TOKENS_PER_S, Stage, stage
from tests.house import Seen, see

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = 7
CLIENTS = 50
GO_ON = 4
BACK_S = 30
"""For the slots of a process that was killed to come back."""

KEY = new_key()
TENANTS = f"""
[tenants.acme]
keys = ["{written(digest_of(KEY))}"]
[tenants.acme.limits]
concurrent = {LIMIT}
concurrent_per_client = 0
requests_per_ip = 0
"""
AUTHORIZED = {"Authorization": f"Bearer {KEY}"}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def three(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Three processes, one Redis, and a tenant that may have a few streams at once; nobody waits for one."""
    folder = tmp_path_factory.mktemp("door")
    (folder / "tenants.toml").write_text(TENANTS)
    settings = {
        "GATEWAY_TENANTS__FILE": str(folder / "tenants.toml"),
        "GATEWAY_QUEUE__MAX_WAITING": "0",
    }
    async with stage(folder, processes=3, words=60 * TOKENS_PER_S, settings=settings, times=ALONE) as here:
        yield here


class Asking:
    """Clients that each hold a stream open, at one process after the other."""

    def __init__(self, stage: Stage, session: aiohttp.ClientSession) -> None:
        self.stage = stage
        self.session = session
        self.sids: dict[str, str] = {}
        """Streams that run, each with its session."""
        self.reading: list[aiohttp.ClientResponse] = []

    async def ask(self, client: int, process: int) -> int:
        """Open a stream that nobody waits for; the status of the answer."""
        url = f"{self.stage.url(process)}/stream?detach"
        name = f"session-{client}"
        question = {"query": self.stage.document.question(client), "session_id": name}
        async with self.session.post(url, json=question) as response:
            body = await response.read()
            if response.status == 202:
                self.sids[orjson.loads(body)["stream_id"]] = name
            return response.status

    async def begin(self, client: int, process: int) -> None:
        """Open a stream that ends when its reader leaves, and read its beginning; hang up with the process."""
        question = {"query": self.stage.document.question(client), "on_disconnect": "cancel"}
        response = await self.session.post(f"{self.stage.url(process)}/stream", json=question)
        assert response.status == 200
        self.reading.append(response)

    async def race(self, processes: tuple[int, ...] = (0, 1, 2)) -> list[int]:
        """All clients at once, spread over the processes."""
        asked = [self.ask(client, processes[client % len(processes)]) for client in range(CLIENTS)]
        return await asyncio.gather(*asked)

    async def cancel_all(self, process: int) -> None:
        """By way of one process, whichever makes them."""
        for sid, name in list(self.sids.items()):
            async with asyncio.timeout(5):
                while await self.cancel(sid, name, process) != 200:  # noqa: ASYNC110  # it is being written down
                    await asyncio.sleep(0.01)
            del self.sids[sid]

    async def cancel(self, sid: str, session: str, process: int) -> int:
        """The status of the answer; 404 where that process cannot know the stream yet."""
        url = f"{self.stage.url(process)}/stream/{sid}"
        async with self.session.delete(url, headers={"X-Session-Id": session}) as response:
            return response.status


@pytest_asyncio.fixture(loop_scope="module")
async def asking(three: Stage) -> AsyncIterator[Asking]:
    """With the tenant's key; what is left over is cancelled."""
    async with aiohttp.ClientSession(headers=AUTHORIZED) as session:
        asking = Asking(three, session)
        yield asking
        for response in asking.reading:
            response.close()
        await asking.cancel_all(1)


async def until_admitted(asking: Asking, process: int, count: int, limit_s: float) -> float:
    """Ask until so many more streams have been opened; the seconds that took."""
    began, opened = time.monotonic(), 0
    while opened < count:
        assert time.monotonic() - began < limit_s, f"{opened} of {count} after {limit_s} s"
        if await asking.ask(1000 + opened, process) == 202:
            opened += 1
        else:
            await asyncio.sleep(0.1)  # a slot comes back when a lease ends, and nobody tells
    return time.monotonic() - began


async def test_of_fifty_racing_clients_exactly_as_many_get_in_as_may(asking: Asking) -> None:
    """Three times over; those who do not are told 503 and when to come again, and given-back slots are free at once."""
    for _ in range(3):
        statuses = await asking.race()
        assert sorted(statuses) == [202] * LIMIT + [503] * (CLIENTS - LIMIT)
        await asking.cancel_all(0)
        await until_admitted(asking, 2, LIMIT, 5)
        assert await asking.ask(2000, 1) == 503
        await asking.cancel_all(0)
        await until_admitted(asking, 2, 1, 5)
        await asking.cancel_all(0)


async def test_an_outage_of_redis_leaves_each_process_its_own_count(asking: Asking, three: Stage) -> None:
    """Limits go on by the process, which says so in its metrics; and are one again when Redis is back."""
    three.store.signal(signal.SIGSTOP)
    try:
        statuses = await asking.race()
        assert statuses.count(202) == 3 * LIMIT
        assert await shared(three, 0) == 0
    finally:
        three.store.signal(signal.SIGCONT)
    await eventually_shared(three)
    assert await asking.ask(3000, 1) == 503
    await asking.cancel_all(0)
    await until_admitted(asking, 2, 1, 10)


async def shared(stage: Stage, process: int) -> float:
    """What a process says of whose count its limits are."""
    async with aiohttp.ClientSession() as session, session.get(f"{stage.url(process)}/metrics") as response:
        lines = (await response.text()).splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("ssegw_limits_shared "))


async def eventually_shared(stage: Stage) -> None:
    """Wait for all of them to count together again."""
    async with asyncio.timeout(10):
        while [await shared(stage, process) for process in range(3)] != [1, 1, 1]:  # noqa: ASYNC110  # they ask again
            await asyncio.sleep(0.05)


async def test_the_slots_of_a_killed_process_come_back_and_a_stream_that_goes_on_keeps_its_own(
    asking: Asking, three: Stage
) -> None:
    """The last test: one process less. What is asked for to the end goes on elsewhere and counts; the rest is free."""
    for client in range(GO_ON):
        assert await asking.ask(client, 2) == 202
    for client in range(GO_ON, LIMIT):
        await asking.begin(client, 2)
    read_on = next(iter(asking.sids))
    before = await read_some(asking, three.url(2), read_on, 12)
    three.signal(2, signal.SIGKILL)
    killed = time.monotonic()
    after = await read_some(asking, three.url(0), read_on, 60, before.events[-1].id)
    assert after.logged[-1].id.split("-")[1] == "2"
    assert await asking.ask(4000, 1) == 503
    await until_admitted(asking, 0, LIMIT - GO_ON, BACK_S)
    assert time.monotonic() - killed < BACK_S
    # All others are made and counted elsewhere since.
    assert [await asking.ask(4001 + number, number % 2) for number in range(10)] == [503] * 10


async def read_some(asking: Asking, base: str, sid: str, count: int, place: str = "") -> Seen:
    """So many events of a stream."""
    headers = {"X-Session-Id": asking.sids[sid], **({"Last-Event-ID": place} if place else {})}
    return await see(asking.session, "GET", f"{base}/stream/{sid}", headers=headers, upto=count)
