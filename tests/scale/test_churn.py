"""Clients that come and go, in every stage of a request, leave nothing behind."""

import asyncio
import gc
import random
from collections import Counter
from pathlib import Path

from gateway.delivery.connection import Connection
from gateway.delivery.http import SseSink
from gateway.delivery.server import GatewayProtocol
from gateway.hub import Work
from gateway.pipeline import Pipeline
from gateway.streams.cursor import Cursor
from gateway.streams.stream import Stream
from tests.feed import feed, question
from tests.house import eventually, house
from tests.load import Address, ask, at_scale, get, post
from tests.scale.edges import DIRECT, edge
from tests.scale.figures import KIB, rss_bytes, total, until

CYCLES = at_scale(1500, 10_000)
AT_ONCE = 50
SHORT_LIVED = {"GATEWAY_STREAM__RETENTION_S": "0.2", "GATEWAY_OPENAI__KEEPALIVE_S": "0.5"}

# Kinds of requests: the first two belong to streams that end with their reader, the third goes on for a moment.
ASKED = question(12, 200)
REQUESTS = (
    post("/v1/chat/completions", {"model": "m", "stream": True, "messages": [{"role": "user", "content": ASKED}]}),
    post("/stream", {"query": ASKED, "on_disconnect": "cancel"}),
    post("/stream", {"query": ASKED, "grace_s": 0.05}),
    get("/stream?grace_s=0&query=" + ASKED.replace(" ", "").replace('"', "%22")),
)


STAGES = (0, 1, 5, 1000)
"""After how many reads a client leaves: before the headers, at the first event, in the middle, when it has all."""


async def come_and_go(address: Address, cycles: int, dice: random.Random) -> None:
    """So many cycles, some at the same time, of every kind."""

    async def worker(share: int) -> None:
        for _ in range(share):
            asked = dice.choice(REQUESTS)
            if dice.random() < 0.15:
                asked = b""
            elif dice.random() < 0.15:
                asked = asked[: -dice.randint(1, 40)]
            client = await ask(address, asked)
            if asked in REQUESTS:
                async with asyncio.timeout(30):
                    await client.reads(dice.choice(STAGES))
            client.reset() if dice.random() < 0.5 else client.close()

    await asyncio.gather(*(worker(cycles // AT_ONCE) for _ in range(AT_ONCE)))


async def test_a_process_is_after_the_storm_what_it_was_before(tmp_path: Path) -> None:
    """Streams, readers, connections, descriptors and, from half-time on, memory; and it had nothing to complain of."""
    dice = random.Random(7)
    async with feed() as service:
        settings = {"OPENAI_BASE_URL": service.url, "GATEWAY_LOGS__LEVEL": "warning", **SHORT_LIVED}
        with edge(DIRECT, tmp_path, **settings) as at:
            await come_and_go(at.address, CYCLES // 2, dice)
            await _calm(at.address, kept=True)
            descriptors, memory = at.gateway.descriptors, rss_bytes(at.gateway.pid)
            await come_and_go(at.address, CYCLES // 2, dice)
            found = await _calm(at.address)
            grown = rss_bytes(at.gateway.pid) - memory
            outcomes = {key: value for key, value in found.items() if key.startswith("ssegw_stream_outcomes_total")}
            print(f"churn: {CYCLES} cycles, {grown / KIB:.0f} KiB grown, {outcomes}")
            await eventually(lambda: at.gateway.descriptors <= descriptors)
            # Names of forgotten streams are remembered (410, not 404), some 300 bytes each; a leak would be kilobytes.
            assert grown < 3072 * KIB + 512 * CYCLES
            assert (service.open, service.answering) == (0, 0)
    assert at.gateway.stderr == b""


async def _calm(address: Address, kept: bool = False) -> dict[str, float]:
    """Until nothing runs and nothing is kept but the connection that asks."""

    def is_calm(found: dict[str, float]) -> bool:
        if found["ssegw_connections_open"] > 1 or (found["ssegw_buffer_bytes"] and not kept):
            return False
        return not total(found, "ssegw_streams_active") and not total(found, "ssegw_readers_active")

    return await until(address, is_calm)


KINDS = (Stream, Cursor, Connection, SseSink, GatewayProtocol, Work, Pipeline)


def _alive() -> Counter[str]:
    """How many of each kind live, after a collection."""
    gc.collect()
    return Counter(type(thing).__name__ for thing in gc.get_objects() if isinstance(thing, KINDS))


async def test_no_object_and_no_task_is_left_behind() -> None:
    """The same in this process, where they can be counted after a collection."""
    before = _alive()  # what other tests in this process still hold is theirs
    async with feed() as service, house(OPENAI_BASE_URL=service.url, **SHORT_LIVED) as gateway:
        address = ("127.0.0.1", int(gateway.urls[0].rpartition(":")[2]))
        tasks = len(asyncio.all_tasks())
        await come_and_go(address, at_scale(200, 1000), random.Random(11))
        await eventually(lambda: gateway.hub.running == 0 and service.open == 0, 20)
        await eventually(lambda: len(asyncio.all_tasks()) <= tasks, 20)
        await asyncio.sleep(0.25)  # the retention
        gateway._store.sweep()
        assert not _alive() - before
        assert not gateway.hub._readership._orphans
