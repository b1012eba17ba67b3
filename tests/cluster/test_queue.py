"""The queue of several processes: whoever waits anywhere gets the slot that becomes free anywhere, in its turn."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio

from gateway.admission.keys import digest_of, new_key, written
from gateway.sse import Parser, ServerEvent
from tests.cluster.stage import ALONE, TOKENS_PER_S, Stage, stage
from tests.house import eventually
from tests.tenancy import bearer

pytestmark = pytest.mark.asyncio(loop_scope="module")

SLOTS = 2
"""Of each process."""

SOON_S = 1.0
"""From a free slot to the first word of who waited for it in another process."""

A_WHILE_S = 0.6
"""More than twice as long as anybody takes to ask again."""

NARROW, GOLD, PLAIN = new_key(), new_key(), new_key()
TENANTS = f"""
[tenants.narrow]
keys = ["{written(digest_of(NARROW))}"]
limits = {{ concurrent = 1, concurrent_per_client = 0, requests_per_ip = 0 }}
[tenants.gold]
keys = ["{written(digest_of(GOLD))}"]
priority = "premium"
[tenants.plain]
keys = ["{written(digest_of(PLAIN))}"]
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def two(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Two processes of few slots, one Redis, and answers that outlast the tests."""
    folder = tmp_path_factory.mktemp("queue")
    (folder / "tenants.toml").write_text(TENANTS)
    settings = {
        "GATEWAY_TENANTS__FILE": str(folder / "tenants.toml"),
        "GATEWAY_QUEUE__SLOTS": str(SLOTS),
        "GATEWAY_REDIS__LEASE_S": "0.5",
    }
    async with stage(folder, processes=2, words=60 * TOKENS_PER_S, settings=settings, times=ALONE) as here:
        yield here


class Heard:
    """What a client has heard of a stream so far."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.sid = response.headers["X-Stream-Id"]
        self.events: list[ServerEvent] = []

    @property
    def goes_on(self) -> bool:
        """Whether anything was said of the answer."""
        return any(event.event == "text" for event in self.events)

    @property
    def positions(self) -> list[int]:
        """Its places in line, in the order in which they were told."""
        return [data["position"] for data in self._told() if data["state"] == "queued"]

    @property
    def continued(self) -> bool:
        """Whether another process makes it than the one that began it."""
        return any(data["state"] == "continued" for data in self._told())

    def _told(self) -> list[dict[str, Any]]:
        return [orjson.loads(event.data) for event in self.events if event.event == "status"]


class Clients:
    """Of any tenant, at any process. All that they opened is cancelled in the end."""

    def __init__(self, stage: Stage, session: aiohttp.ClientSession) -> None:
        self._stage = stage
        self._session = session
        self._opened: dict[str, str] = {}
        self._readers: list[asyncio.Task[None]] = []

    async def opening(self, process: int, key: str) -> Heard:
        """Open a stream, and hear where it stands."""
        question = {"query": self._stage.document.question(0), "on_disconnect": "detach"}
        url = f"{self._stage.url(process)}/stream"
        return self._listen(await self._session.post(url, json=question, headers=bearer(key)), key)

    async def reading(self, process: int, other: Heard) -> Heard:
        """Read a stream that is made in another process, as soon as that has written it down."""
        url, key = f"{self._stage.url(process)}/stream/{other.sid}", self._opened[other.sid]
        async with asyncio.timeout(5):
            while (response := await self._session.get(url, headers=bearer(key))).status == 404:
                await response.read()
                await asyncio.sleep(0.02)
        heard = self._listen(response, key)
        await eventually(lambda: heard.positions)
        return heard

    def _listen(self, response: aiohttp.ClientResponse, key: str) -> Heard:
        assert response.status == 200
        heard = Heard(response)
        self._opened[heard.sid] = key
        self._readers.append(asyncio.create_task(_read(response, heard)))
        return heard

    async def running(self, process: int, key: str) -> Heard:
        """A stream that is being made."""
        heard = await self.opening(process, key)
        await eventually(lambda: heard.goes_on)
        return heard

    async def waiting(self, process: int, key: str) -> Heard:
        """A stream that waits for its turn."""
        heard = await self.opening(process, key)
        await eventually(lambda: heard.positions)
        assert not heard.goes_on
        return heard

    async def cancel(self, process: int, heard: Heard) -> None:
        """End it."""
        url, headers = f"{self._stage.url(process)}/stream/{heard.sid}", bearer(self._opened.pop(heard.sid))
        async with self._session.delete(url, headers=headers) as response:
            assert response.status == 200

    async def leave(self) -> None:
        """Read nothing more, and leave nothing running."""
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        for sid, key in self._opened.items():
            await self._session.delete(f"{self._stage.url(0)}/stream/{sid}", headers=bearer(key))


async def _read(response: aiohttp.ClientResponse, heard: Heard) -> None:
    parser = Parser()
    with contextlib.closing(response):
        async for chunk in response.content.iter_any():
            heard.events += parser.feed(chunk)


@pytest_asyncio.fixture(loop_scope="module")
async def clients(two: Stage) -> AsyncIterator[Clients]:
    """They all leave at the end."""
    async with aiohttp.ClientSession() as session:
        clients = Clients(two, session)
        yield clients
        await clients.leave()


async def test_who_waits_in_one_process_gets_the_slot_that_is_left_in_another(clients: Clients) -> None:
    """Told its place at once, not made before its time, and made within a second of it."""
    running = await clients.running(0, NARROW)
    waiting = await clients.waiting(1, NARROW)
    assert waiting.positions == [1]
    await asyncio.sleep(A_WHILE_S)
    assert not waiting.goes_on
    await clients.cancel(0, running)
    freed = time.monotonic()
    await eventually(lambda: waiting.goes_on)
    assert time.monotonic() - freed < SOON_S
    assert waiting.positions == [1, 0]


async def test_a_premium_tenant_goes_before_one_that_waited_longer(clients: Clients) -> None:
    """With the next slot of the process; the other one has the one after that."""
    running = [await clients.running(0, PLAIN) for _ in range(SLOTS)]
    plain = await clients.waiting(0, PLAIN)
    gold = await clients.waiting(0, GOLD)
    assert gold.positions == [1]
    await eventually(lambda: plain.positions == [1, 2])
    await clients.cancel(0, running[0])
    await eventually(lambda: gold.goes_on)
    await asyncio.sleep(A_WHILE_S)
    assert not plain.goes_on
    await clients.cancel(1, running[1])
    await eventually(lambda: plain.goes_on)


async def test_who_waits_in_a_process_that_is_killed_gets_its_turn_in_another(clients: Clients, two: Stage) -> None:
    """The last test: one process less. It waits on there, not above its tenant's limit, and is made in its turn."""
    running = await clients.running(0, NARROW)
    waiting = await clients.waiting(1, NARROW)
    elsewhere = await clients.reading(0, waiting)
    assert elsewhere.positions == [1]
    two.signal(1, signal.SIGKILL)
    await eventually(lambda: elsewhere.continued, 10)
    await asyncio.sleep(A_WHILE_S)
    assert not elsewhere.goes_on
    await clients.cancel(0, running)
    await eventually(lambda: elsewhere.goes_on)
    assert elsewhere.positions[-1] == 0
