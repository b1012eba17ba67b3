"""The queue, from outside: who waits sees where it stands, who leaves is gone, who cannot wait is told when to come."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import pytest

from gateway.app.house import Gateway
from tests.house import Seen, eventually, house, see
from tests.journeys.asking import COMPLETION, openai_text
from tests.journeys.test_not_now import EVENT_SOURCE, QUESTION, assert_told_to_come_back
from tests.upstream import Step, Upstream, answer, chunk, chunked, streamed, upstream

UNFINISHED: list[Step] = ["headers", chunked(chunk({"content": "x" * 5000})), "hang"]


class Busy(NamedTuple):
    """A gateway whose one slot is taken by a stream that never ends; every other question is answered."""

    gateway: Gateway
    service: Upstream
    session: aiohttp.ClientSession

    def asking(self, method: str = "POST", path: str = "/stream", **options: Any) -> "asyncio.Task[Seen]":
        """Ask, and read to the end."""
        if method == "POST":
            options.setdefault("json", QUESTION)
        return asyncio.create_task(see(self.session, method, path, **options))

    def completing(self, *, stream: bool) -> "asyncio.Task[Seen]":
        """Ask as an OpenAI client."""
        return self.asking(path="/v1/chat/completions", json={**COMPLETION, "stream": stream})

    async def waiting(self, count: int) -> None:
        """Until so many streams have been opened beside the one that runs."""
        await eventually(lambda: self.gateway.hub.running == count + 1)
        await asyncio.sleep(0)

    async def free(self) -> None:
        """The stream that runs is cancelled."""
        sid = next(iter(self.gateway.hub._running))
        await self.session.delete(f"/stream/{sid}")


@asynccontextmanager
async def busy(**settings: str) -> AsyncIterator[Busy]:
    """One of them."""
    environment = {"GATEWAY_QUEUE__SLOTS": "1", **{f"GATEWAY_{name}": value for name, value in settings.items()}}
    async with (
        upstream(
            lambda call: UNFINISHED if len(service.calls) == 1 else streamed(answer(["Hello", " world"]))
        ) as service,
        house(OPENAI_BASE_URL=service.url, **environment) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        await see(session, "POST", "/stream", json={**QUESTION, "on_disconnect": "detach"}, upto=4)
        yield Busy(gateway, service, session)


async def test_a_native_client_sees_where_it_stands_and_then_its_answer() -> None:
    """`queued` with position and estimate, once more when its turn has come; the upstream is called only then."""
    async with busy() as it:
        asking = it.asking()
        await it.waiting(1)
        await asyncio.sleep(0.05)
        assert len(it.service.calls) == 1
        await it.free()
        seen = await asking
        assert len(it.service.calls) == 2
    assert (seen.status, seen.text) == (200, "Hello world")
    queued = [data for data in seen.data("status") if data["state"] == "queued"]
    assert [(data["position"], data["estimated_s"]) for data in queued] == [(1, 10), (0, 0)]
    assert all(data["message"] for data in queued)
    assert seen.names[1:4] == ["status"] * 3


@pytest.mark.parametrize("stream", [True, False])
async def test_an_openai_client_waits_for_its_headers(stream: bool) -> None:
    """And sees nothing but the answer."""
    async with busy() as it:
        asking = it.completing(stream=stream)
        await it.waiting(1)
        await it.free()
        seen = await asking
    assert seen.status == 200
    text = openai_text(seen) if stream else seen.json()["choices"][0]["message"]["content"]
    assert text == "Hello world"


@pytest.mark.parametrize("stream", [True, False])
async def test_impatience_before_the_headers_is_a_status(stream: bool) -> None:
    """503, when to come again, and nothing that keeps a client library from it; the upstream was never called."""
    async with busy(QUEUE__PATIENCE_S="0.05") as it:
        seen = await it.completing(stream=stream)
        assert len(it.service.calls) == 1
    assert (seen.status, seen.headers["Retry-After"]) == (503, "10")
    assert seen.json()["error"]["code"] == "QUEUE_TIMEOUT"
    assert "x-should-retry" not in seen.headers


async def test_headers_are_held_no_longer_than_proxies_wait() -> None:
    """The answer comes behind them, when its turn has come."""
    async with busy(DELIVERY__HOLD_S="0.05") as it:
        body = {**COMPLETION, "stream": True}
        async with it.session.post("/v1/chat/completions", json=body) as response:
            assert response.status == 200
            assert it.gateway.hub.running == 2
            await it.free()
            assert b"Hello" in await response.read()


async def test_impatience_inside_a_native_stream_is_its_terminal_error() -> None:
    """Which may be tried again."""
    async with busy(QUEUE__PATIENCE_S="0.05") as it:
        seen = await it.asking()
    assert seen.status == 200
    (error,) = seen.data("error")
    assert (error["code"], error["retryable"]) == ("QUEUE_TIMEOUT", True)


async def test_a_full_queue_is_told_to_each_client_in_its_own_way() -> None:
    """503 with an estimate; to an EventSource 200 and when to come back, which is not before the estimate."""
    async with busy(QUEUE__MAX_WAITING="1") as it:
        it_waits = it.asking()
        await it.waiting(1)
        native, completed = await it.asking(), await it.completing(stream=True)
        browser = await it.asking("GET", params=QUESTION, headers=EVENT_SOURCE)
        await it.free()
        assert (await it_waits).text == "Hello world"
    for seen, code in ((native, native.json()["code"]), (completed, completed.json()["error"]["code"])):
        assert (seen.status, seen.headers["Retry-After"], code) == (503, "20", "QUEUE_FULL")
    assert_told_to_come_back(browser, "QUEUE_FULL", 20_000)


async def test_no_browser_is_sent_away_from_a_full_queue_for_longer_than_its_user_waits() -> None:
    """However long the line: half a minute, and a little by chance; `Retry-After` says the truth."""
    async with busy(QUEUE__MAX_WAITING="3") as it:
        in_line = [it.asking() for _ in range(3)]
        await it.waiting(3)
        browser = await it.asking("GET", params=QUESTION, headers=EVENT_SOURCE)
        for asking in in_line:
            asking.cancel()
    assert browser.headers["Retry-After"] == "40"
    assert_told_to_come_back(browser, "QUEUE_FULL", 30_000)


async def test_who_hangs_up_in_the_queue_frees_the_place_at_once() -> None:
    """With grace too; its upstream is never called, and who was behind it is next."""
    async with busy(QUEUE__MAX_WAITING="2") as it:
        leaving = it.asking()
        await it.waiting(1)
        staying = it.asking()
        await it.waiting(2)
        leaving.cancel()
        await eventually(lambda: it.gateway.hub.running == 2)
        await it.free()
        seen = await staying
        assert len(it.service.calls) == 2
    assert seen.text == "Hello world"
