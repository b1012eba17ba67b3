"""The plain twin: every way to ask for a stream also gives the answer as one JSON object, by the same door."""

import asyncio
from typing import Any

import aiohttp
import pytest

from gateway.delivery.collector import Collector
from gateway.errors import Code, GatewayError
from gateway.events import Audio, Metadata, Text
from tests.doubles import DONE, stream_of
from tests.house import eventually, house, see
from tests.upstream import END, HEAD, Step, answer, chunked, streamed, upstream

PLAIN = {"Accept": "application/json"}
WORDS = ["Hello", " wide", " world"]
QUESTION = {"query": "hi", "model": "up-1"}
BEGUN = HEAD + b"".join(map(chunked, answer(WORDS)[:2]))
REST = b"".join(map(chunked, answer(WORDS)[2:])) + END
ROUTES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "post": ("POST", "/stream", {"json": QUESTION}),
    "get": ("GET", "/stream", {"params": QUESTION}),
    "post openai": ("POST", "/stream?dialect=openai", {"json": QUESTION}),
    "chat": (
        "POST",
        "/v1/chat/completions",
        {"json": {"model": "up-1", "messages": [{"role": "user", "content": "hi"}]}},
    ),
}
routes = pytest.mark.parametrize("route", ROUTES)


def text_of(body: dict[str, Any]) -> str:
    """The text of an answer in either dialect."""
    return str(body["text"] if "text" in body else body["choices"][0]["message"]["content"])


@routes
async def test_every_route_answers_plainly_who_asks_for_it(route: str) -> None:
    """200, JSON, the whole text, and a stream that can be found again; one question to the upstream."""
    method, path, options = ROUTES[route]
    async with (
        upstream(streamed(answer(WORDS))) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0], headers=PLAIN) as session,
    ):
        seen = await see(session, method, path, **options)
        assert (seen.status, seen.headers["Content-Type"]) == (200, "application/json")
        assert text_of(seen.json()) == "".join(WORDS)
        again = await see(session, "GET", seen.headers["Location"])
        assert again.json()["text"] == "".join(WORDS)
        assert again.json()["stream_id"] == seen.headers["X-Stream-Id"]
        assert len(service.calls) == 1
        dialect = "openai" if "openai" in path or path.startswith("/v1") else "native"
        counted = gateway.metrics.registry.get_sample_value
        assert counted("ssegw_answers_total", {"dialect": dialect, "kind": "plain"}) == 1


async def test_the_plain_answer_says_what_the_stream_said() -> None:
    """Text, ending, usage and counts; while it is made a reader of each kind waits for it."""
    async with (
        upstream([BEGUN, 0.1, REST]) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        opened = await session.post("/stream", json={**QUESTION, "metadata": {"k": 1}})
        where = opened.headers["Location"]
        streamed_, plain = await asyncio.gather(see(session, "GET", where), see(session, "GET", where, headers=PLAIN))
        opened.close()
    body, end = plain.json(), streamed_.data("complete")[0]
    assert body["text"] == streamed_.text
    assert {name: body[name] for name in end} == end
    assert (body["echo"], body["model"], body["warnings"]) == ({"k": 1}, "up-1", [])
    assert body["metadata"] == {name: value for data in streamed_.data("metadata") for name, value in data.items()}


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json", "application/json"),
        ("application/json, text/plain", "application/json"),
        ("application/json, text/plain, */*", "text/event-stream"),
        ("application/json, text/event-stream", "text/event-stream"),
        ("text/event-stream", "text/event-stream"),
        ("*/*", "text/event-stream"),
        ("", "text/event-stream"),
    ],
)
async def test_who_can_take_events_gets_them(accept: str, kind: str) -> None:
    """Only who asks for JSON and takes no events wants the plain answer."""
    async with house() as gateway, aiohttp.ClientSession(gateway.urls[0], headers={"Accept": accept}) as session:
        seen = await see(session, "POST", "/stream", json={"query": "hi"})
    assert (seen.status, seen.headers["Content-Type"].partition(";")[0]) == (200, kind)


@routes
@pytest.mark.parametrize("begun", [b"", BEGUN], ids=["before content", "after content"])
async def test_a_failure_is_a_real_status(route: str, begun: bytes) -> None:
    """Half an answer is none; asking again is the user's decision."""
    method, path, options = ROUTES[route]
    script: list[Step] = [begun, "rst"] if begun else ["rst"]
    async with (
        upstream(script) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0], headers=PLAIN) as session,
    ):
        seen = await see(session, method, path, **options)
    body = seen.json()
    assert (seen.status, seen.headers["x-should-retry"]) == (502, "false")
    assert body.get("code") or body["error"]["code"] in ("UPSTREAM_TRUNCATED", "UPSTREAM_UNAVAILABLE")


async def test_a_cancelled_answer_is_told_so() -> None:
    """409, to whoever waits for it and to whoever comes later."""
    async with (
        upstream([BEGUN, "hang"]) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0], headers=PLAIN) as session,
    ):
        waiting = asyncio.create_task(see(session, "POST", "/stream", json=QUESTION))
        await eventually(lambda: gateway.hub.running == 1)
        (stream, _), *_ = gateway.hub.making()
        await see(session, "DELETE", f"/stream/{stream.sid}")
        later = await see(session, "GET", f"/stream/{stream.sid}")
        seen = await waiting
    assert [(one.status, one.json()["code"]) for one in (seen, later)] == [(409, "CANCELLED")] * 2


@routes
async def test_a_client_that_leaves_ends_its_upstream(route: str) -> None:
    """Within a second: it could not come back, for it knows no name to come back to."""
    method, path, options = ROUTES[route]
    async with (
        upstream([BEGUN, "hang"]) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0], headers=PLAIN) as session,
    ):
        waiting = asyncio.create_task(see(session, method, path, **options))
        await eventually(lambda: bool(service.calls))
        waiting.cancel()
        await eventually(lambda: service.calls[0].gone.is_set(), 1)
        await eventually(lambda: not gateway.hub.running, 1)


async def test_who_says_so_finds_it_again() -> None:
    """With `on_disconnect` and a key it goes on, for the same question asked in either way."""
    key = {"Idempotency-Key": "k"}
    async with (
        upstream([BEGUN, 0.3, REST]) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        await see(session, "POST", "/stream", json=QUESTION, headers=key, upto=3)
        seen = await see(session, "POST", "/stream", json=QUESTION, headers={**key, **PLAIN})
        assert seen.status == 200, seen.body
        assert seen.json()["text"] == "".join(WORDS)
        assert len(service.calls) == 1


async def test_switched_off_streams_leave_the_plain_answer() -> None:
    """The refusal says so, and it holds for streams alone."""
    async with house(STREAMING_ENABLED="false") as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        refused = await see(session, "POST", "/stream", json={"query": "hi"})
        plain = await see(session, "POST", "/stream", json={"query": "hi"}, headers=PLAIN)
        detached = await see(session, "POST", "/stream?detach", json={"query": "hi"}, headers=PLAIN)
    assert (refused.status, refused.json()["code"]) == (503, "STREAMING_DISABLED")
    assert "application/json" in refused.json()["message"]
    assert (plain.status, bool(plain.json()["text"])) == (200, True)
    assert detached.status == 503


async def test_who_does_not_wait_is_not_made_to() -> None:
    """`detach` is 202 at once, whatever kind of answer is wanted later."""
    async with house() as gateway, aiohttp.ClientSession(gateway.urls[0], headers=PLAIN) as session:
        seen = await see(session, "POST", "/stream?detach", json={"query": "hi"})
        whole = await see(session, "GET", seen.headers["Location"])
    assert (seen.status, whole.status, whole.json()["status"]) == (202, 200, "completed")


async def test_no_more_is_collected_than_can_be_told() -> None:
    """Neither of content nor of facts beside it; speech is not collected at all."""
    for event in (Text("x" * 300), Metadata({"x": "y" * 300})):
        stream = stream_of()
        collector = Collector(stream, max_bytes=1000)
        for _ in range(10):
            stream.append([Audio(b"x" * 500, "mp3", 24_000, "", 0, True, 1)])
        assert not collector.events
        for _ in range(5):
            stream.append([event])
        with pytest.raises(GatewayError) as raised:
            await collector.whole()
        assert raised.value.code is Code.OUTPUT_LIMIT
        assert not collector.events
        collector.close()
        assert not stream.readers


async def test_a_finished_stream_is_collected_at_once() -> None:
    """Nobody waits for what is there."""
    stream = stream_of(Text("a"))
    stream.finish(DONE)
    assert await Collector(stream).whole() == [Text("a"), DONE]
