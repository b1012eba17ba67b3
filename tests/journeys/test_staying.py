"""Not leaving for good: what is answered while nobody reads, for how long, and what is there for those who return."""

import time

import aiohttp
import orjson
import pytest

from gateway.admission.tenant import OPEN_NAME
from gateway.app.house import Gateway
from gateway.events import Completed
from gateway.request import Caller
from gateway.streams.stream import Stream
from tests.house import Seen, eventually, house, see
from tests.journeys.asking import QUESTION, seqs
from tests.upstream import Step, Upstream, answer, chunk, chunked, streamed, upstream

TOKENS = [f"token {number} " for number in range(12)]
PACED = streamed(answer(TOKENS), gap_s=0.02)
FOREVER: list[Step] = ["headers", chunked(chunk({"content": "Hello"})), "hang"]


async def begin(session: aiohttp.ClientSession, upto: int = 5, **fields: object) -> Seen:
    """Ask, read a few events, and hang up."""
    return await see(session, "POST", "/stream", json={**QUESTION, **fields}, upto=upto)


async def come_back(session: aiohttp.ClientSession, seen: Seen) -> Seen:
    """To the stream and the place where it was left."""
    where = {"Last-Event-ID": seen.logged[-1].id}
    return await see(session, "GET", seen.headers["Location"], headers=where)


async def stream_of(gateway: Gateway, seen: Seen, session_id: str | None = None) -> Stream:
    """The log that was read."""
    return await gateway.hub.find(seen.headers["X-Stream-Id"], Caller(OPEN_NAME, session=session_id))


def ending(stream: Stream) -> str:
    """How it ended, once it has."""
    last = stream.terminal
    return f"{last.status} {last.finish_reason}" if isinstance(last, Completed) else ""


@pytest.mark.parametrize("way", ["grace", "detach"])
async def test_an_answer_goes_on_while_its_reader_is_away(way: str) -> None:
    """Whoever returns gets the identical rest, and the upstream was asked once."""
    async with (
        upstream(PACED) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        before = await begin(session, on_disconnect=way)
        await eventually(lambda: gateway.hub.running == 0)
        after = await come_back(session, before)
        assert ending(await stream_of(gateway, before)) == "completed stop"
    assert before.text + after.text == "".join(TOKENS)
    assert seqs(before) + seqs(after) == list(range(1, seqs(after)[-1] + 1))
    assert after.data("connected")[0]["resumed"] is True
    assert after.names.count("complete") == 1
    assert len(service.calls) == 1


async def test_an_orphan_ends_when_its_grace_is_over_and_not_before() -> None:
    """Nobody came back: cancelled as orphaned, the upstream closed, all that was said still there to read."""
    async with (
        upstream(FOREVER) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        before = await begin(session, 4, grace_s=0.3)
        left = time.monotonic()
        assert 0.28 < await service.calls[0].wait_closed() - left < 1.3
        await eventually(lambda: gateway.hub.running == 0)
        assert ending(await stream_of(gateway, before)) == "cancelled orphaned"
        after = await come_back(session, before)
    assert (after.names, after.data("complete")[0]["finish_reason"]) == (["connected", "complete", "close"], "orphaned")


async def test_who_returns_in_time_stops_the_clock() -> None:
    """While somebody reads it there is no orphan; leaving again starts a whole grace anew."""
    async with (
        upstream(FOREVER) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        before = await begin(session, 4, grace_s=0.3)
        reading = await session.get(before.headers["Location"])
        with pytest.raises(TimeoutError):
            await service.calls[0].wait_closed(0.5)
        reading.close()
        left = time.monotonic()
        assert 0.28 < await service.calls[0].wait_closed() - left < 1.3


async def test_grace_is_capped_by_the_house() -> None:
    """A client may ask for less than `stream.grace_max_s`, never for more."""
    async with (
        upstream(FOREVER) as service,
        house(OPENAI_BASE_URL=service.url, GATEWAY_STREAM__GRACE_MAX_S="0.1") as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        await begin(session, 4, grace_s=1e300)
        left = time.monotonic()
        assert await service.calls[0].wait_closed() - left < 1.1


async def test_a_new_question_of_the_session_ends_its_orphan() -> None:
    """The user asks something else: what was left behind unread is superseded at once, and nobody else's."""
    async with (
        upstream(FOREVER) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        left_behind = await begin(session, 4, session_id="one")
        others = await begin(session, 4, session_id="two")
        asked = time.monotonic()
        await begin(session, 4, session_id="one")
        assert await service.calls[0].wait_closed() - asked < 1
        orphan, other = await stream_of(gateway, left_behind, "one"), await stream_of(gateway, others, "two")
        await eventually(lambda: orphan.ended)
        assert (ending(orphan), ending(other), service.calls[1].closed) == ("cancelled superseded", "", None)


async def open_detached(session: aiohttp.ClientSession, service: Upstream) -> str:
    """A stream that nobody has ever read, and where it is."""
    began = time.monotonic()
    seen = await see(session, "POST", "/stream?detach", json=QUESTION)
    assert time.monotonic() - began < 0.5
    assert (seen.status, seen.json()["state"]) == (202, "open")
    assert seen.headers["Location"] == f"/stream/{seen.json()['stream_id']}"
    await eventually(lambda: len(service.calls) == 1)
    return str(seen.headers["Location"])


async def test_a_detached_stream_is_answered_at_once_and_runs_without_a_reader() -> None:
    """202 and where to find it; it runs to its end, and is there from its beginning."""
    async with (
        upstream(streamed(answer(TOKENS), gap_s=0.04)) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        where = await open_detached(session, service)
        assert gateway.hub.running == 1
        await eventually(lambda: gateway.hub.running == 0)
        seen = await see(session, "GET", where)
    assert seen.text == "".join(TOKENS)
    assert orjson.loads(seen.logged[0].data)["state"] == "opened"
    assert seen.data("complete")[0]["status"] == "completed"


async def test_a_detached_stream_can_be_cancelled_without_ever_being_read() -> None:
    """DELETE is the only thing that ends it early."""
    async with (
        upstream(FOREVER) as service,
        house(OPENAI_BASE_URL=service.url, GATEWAY_STREAM__GRACE_S="0") as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        where = await open_detached(session, service)
        await see(session, "GET", where, upto=3)
        assert service.calls[0].closed is None
        asked = time.monotonic()
        await session.delete(where)
        assert await service.calls[0].wait_closed() - asked < 1
