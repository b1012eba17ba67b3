"""Not now: a process that is full or going away says so, to each kind of client in the way that brings it back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest

from gateway.app.house import Gateway
from gateway.sse import Parser
from tests.house import Seen, eventually, house, see
from tests.journeys.asking import COMPLETION, ask_native
from tests.upstream import Step, chunk, chunked, upstream

EVENT_SOURCE = {"Accept": "text/event-stream"}
QUESTION = {"query": "hi"}
UNFINISHED: list[Step] = ["headers", chunked(chunk({"content": "x" * 5000})), "hang"]


@asynccontextmanager
async def full_house(code: str) -> AsyncIterator[tuple[Gateway, aiohttp.ClientSession]]:
    """A gateway that must refuse with `code`, and a client of it."""
    limits = {
        "OVERLOADED": {"GATEWAY_STREAM__MAX_STREAMS": "1"},
        "STORE_FULL": {"GATEWAY_STREAM__STORE_MAX_BYTES": "6500"},
        "DRAINING": {},
    }[code]
    async with (
        upstream(UNFINISHED) as service,
        house(OPENAI_BASE_URL=service.url, **limits) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        await see(session, "POST", "/stream", json=QUESTION, upto=4)
        gateway.hub.draining = code == "DRAINING"
        yield gateway, session


def assert_told_to_come_back(seen: Seen, code: str, least_ms: int = 500) -> None:
    """An EventSource reads a 200 with one status event that says when, not before `least_ms`, and the end."""
    assert (seen.status, seen.names, seen.cut) == (200, ["status"], False)
    data = seen.data("status")[0]
    assert (data["state"], data["code"]) == ("retry", code)
    parser = Parser()
    parser.feed(seen.body)
    assert parser.retry_ms == data["retry"]
    assert least_ms <= data["retry"] <= least_ms + 4500
    assert not seen.logged


@pytest.mark.parametrize("code", ["OVERLOADED", "STORE_FULL", "DRAINING"])
async def test_whoever_cannot_be_served_now_is_told_when(code: str) -> None:
    """503 with Retry-After and a code; only an EventSource, which never asks again after a 503, is told in a 200."""
    async with full_house(code) as (gateway, session):
        posted = await see(session, "POST", "/stream", json=QUESTION)
        fetched = await see(session, "GET", "/stream", params=QUESTION)
        body = {**COMPLETION, "stream": True}
        completed = await see(session, "POST", "/v1/chat/completions", json=body)
        browser = await see(session, "GET", "/stream", params=QUESTION, headers=EVENT_SOURCE)
        assert gateway.hub.running == 1
    for seen in (posted, fetched, completed):
        assert (seen.status, 1 <= int(seen.headers["Retry-After"]) <= 60) == (503, True)
        assert "x-should-retry" not in seen.headers
    for seen in (posted, fetched):
        assert (seen.json()["code"], seen.json()["retryable"]) == (code, True)
    assert completed.json()["error"] == {
        "message": completed.json()["error"]["message"],
        "type": "server_error",
        "param": None,
        "code": code,
    }
    assert_told_to_come_back(browser, code)


async def test_a_reader_of_a_running_stream_is_not_refused_while_the_house_is_full() -> None:
    """Coming back is not a new stream."""
    async with full_house("OVERLOADED") as (gateway, session):
        (sid,) = gateway.hub._running
        assert (await see(session, "GET", f"/stream/{sid}", upto=2)).names == ["connected", "status"]


async def test_there_is_room_again_when_a_stream_has_ended() -> None:
    """A refusal costs nothing that lasts."""
    async with full_house("OVERLOADED") as (gateway, session):
        assert (await ask_native(session, gateway)).status == 503
        (sid,) = gateway.hub._running
        await session.delete(f"/stream/{sid}")
        await eventually(lambda: gateway.hub.running == 0)
        assert (await see(session, "POST", "/stream", json=QUESTION, upto=4)).status == 200


async def test_streaming_that_is_switched_off_says_so() -> None:
    """503 and not worth a retry, in both dialects."""
    async with house(STREAMING_ENABLED="false") as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        native = await see(session, "POST", "/stream", json=QUESTION)
        completed = await see(
            session, "POST", "/v1/chat/completions", json={**COMPLETION, "model": "local", "stream": True}
        )
    assert (native.status, native.json()["code"], native.json()["retryable"]) == (503, "STREAMING_DISABLED", False)
    assert (completed.status, completed.json()["error"]["code"]) == (503, "STREAMING_DISABLED")


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_deploy_is_not_told_as_the_caller_s_mistake(streamed: bool) -> None:
    """Whoever was told nothing yet when the process goes away may ask the next one: 503, and when."""
    async with (
        upstream(["headers", "hang"]) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        asking = asyncio.create_task(
            see(session, "POST", "/v1/chat/completions", json={**COMPLETION, "stream": streamed})
        )
        await eventually(lambda: service.calls)
        await gateway.hub.drain(0)
        seen = await asking
    assert (seen.status, seen.headers["Retry-After"]) == (503, "2")
    assert seen.json()["error"]["code"] == "DRAINING"
    assert "x-should-retry" not in seen.headers


async def test_who_hears_only_unnamed_events_hears_when_to_come_back() -> None:
    """The name stands inside the data, as in the stream itself."""
    async with full_house("OVERLOADED") as (_, session):
        seen = await see(session, "GET", "/stream", params={**QUESTION, "events": "unnamed"}, headers=EVENT_SOURCE)
        plain = await see(session, "GET", "/stream", params={**QUESTION, "dialect": "openai"}, headers=EVENT_SOURCE)
    assert seen.names == ["message"]
    assert seen.data("message")[0]["event"] == "status"
    assert plain.status == 503
    assert plain.json()["error"]["code"] == "OVERLOADED"
