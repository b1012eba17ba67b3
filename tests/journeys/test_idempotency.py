"""Asking the same again: one key, one generation, however many ask at once; a key that failed is free again."""

import asyncio
from typing import Any

import aiohttp
import orjson
import pytest

from tests.house import Seen, eventually, house, see
from tests.journeys.asking import COMPLETION, QUESTION, assert_native_failure, openai_text, seqs, succeeded
from tests.upstream import Step, answer, chunk, chunked, streamed, upstream

TOKENS = ["Hello", " ", "world"]
TEXT = "".join(TOKENS)
SLOW = streamed(answer(TOKENS), gap_s=0.02)
FAULT: list[Step] = [b"HTTP/1.1 500 no\r\nContent-Length: 0\r\n\r\n"]
HALF: list[Step] = ["headers", chunked(chunk({"content": "Hel"})), "fin"]
KEY = {"Idempotency-Key": "k-1"}
MESSAGE = {"session_id": "s", "message_id": "m"}

ASKING: dict[str, tuple[str, dict[str, Any]]] = {
    "header": ("/stream", {"json": QUESTION, "headers": KEY}),
    "query": ("/stream?idempotency_key=k-1", {"json": QUESTION}),
    "message": ("/stream", {"json": {**QUESTION, **MESSAGE}}),
    "openai": ("/v1/chat/completions", {"json": {**COMPLETION, "stream": True}, "headers": KEY}),
    "whole": ("/v1/chat/completions", {"json": COMPLETION, "headers": KEY}),
}


def said(seen: Seen) -> str:
    """The text, whichever way it was asked for."""
    if not seen.events:
        return str(seen.json()["choices"][0]["message"]["content"])
    return seen.text if "connected" in seen.names else openai_text(seen)


@pytest.mark.parametrize("asking", ASKING)
async def test_fifty_at_once_reach_the_upstream_once(asking: str) -> None:
    """All hear the one answer, whole."""
    path, options = ASKING[asking]
    async with (
        upstream(SLOW) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        seen = await asyncio.gather(*(see(session, "POST", path, **options) for _ in range(50)))
        seen.append(await see(session, "POST", path, **options))
        assert len(service.calls) == 1
    assert len({one.headers["X-Stream-Id"] for one in seen}) == 1
    assert {said(one) for one in seen} == {TEXT}
    assert all(map(succeeded, seen))


async def test_attaching_by_key_and_place_reads_on() -> None:
    """The key finds the stream, the id the place in it."""
    async with (
        upstream(SLOW) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        before = await see(session, "POST", "/stream", json=QUESTION, headers=KEY, upto=4)
        where = {**KEY, "Last-Event-ID": before.logged[-1].id}
        after = await see(session, "POST", "/stream", json=QUESTION, headers=where)
    assert before.text + after.text == TEXT
    assert seqs(before) + seqs(after) == list(range(1, seqs(after)[-1] + 1))
    assert len(service.calls) == 1


@pytest.mark.parametrize("asking", ["header", "message", "openai"])
async def test_the_same_key_for_another_question_is_refused(asking: str) -> None:
    """422, not to be retried unasked, and the first stream is untouched."""
    path, options = ASKING[asking]
    other = {**options, "json": {**options["json"], "temperature": 0.5}}
    async with (
        upstream(SLOW) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        first, second = await asyncio.gather(see(session, "POST", path, **options), see(session, "POST", path, **other))
        assert (second.status, second.headers["x-should-retry"]) == (422, "false")
        code = second.json()["error"]["code"] if path.startswith("/v1") else second.json()["code"]
        assert code == "IDEMPOTENCY_MISMATCH"
        assert said(first) == TEXT
        assert len(service.calls) == 1


async def test_the_spelling_of_the_body_makes_no_other_question() -> None:
    """The same fields in another order, with other white space, are the same."""
    bodies = [b'{"query":"hi","temperature":1,"limit":5}', b'{ "limit": 5, "temperature": 1.0, "query": "h\\u0069" }']
    kind = {"Content-Type": "application/json", **KEY}
    async with house() as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        seen = [await see(session, "POST", "/stream", data=body, headers=kind) for body in bodies]
    assert [one.status for one in seen] == [200, 200]
    assert len({one.headers["X-Stream-Id"] for one in seen}) == 1


async def test_a_key_belongs_to_its_owner() -> None:
    """Another user's equal key is another key."""
    async with (
        upstream() as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        for user in ("alice", "bob", "alice"):
            assert (
                await see(session, "POST", "/stream", json={**QUESTION, "user_id": user}, headers=KEY)
            ).status == 200
        assert len(service.calls) == 2


@pytest.mark.parametrize("asking", ASKING)
async def test_a_key_is_free_again_when_nothing_came_of_it(asking: str) -> None:
    """Failed before any content: the retry asks the upstream anew, at once."""
    path, options = ASKING[asking]
    scripts = [FAULT, FAULT, SLOW]
    async with (
        upstream(lambda _call: scripts.pop(0)) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        for _ in range(2):
            assert not succeeded(await see(session, "POST", path, **options))
        assert said(await see(session, "POST", path, **options)) == TEXT
        assert len(service.calls) == 3


async def test_a_key_is_kept_when_half_an_answer_came_of_it() -> None:
    """What was paid for is not paid again: the same failure is told again, until its stream is no longer kept."""
    async with (
        upstream(HALF) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        first, second = [await see(session, "POST", "/stream", json=QUESTION, headers=KEY) for _ in range(2)]
        for seen in (first, second):
            assert orjson.loads(seen.logged[-1].data)["code"] == "UPSTREAM_TRUNCATED"
        assert_native_failure(first, "UPSTREAM_TRUNCATED", "Hel")
        assert first.headers["X-Stream-Id"] == second.headers["X-Stream-Id"]
        assert len(service.calls) == 1


async def test_a_key_of_a_refused_question_is_free_again() -> None:
    """Refused because the house was full: nothing was reserved for later."""
    async with (
        upstream(SLOW) as service,
        house(OPENAI_BASE_URL=service.url, GATEWAY_STREAM__MAX_STREAMS="1") as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        await see(session, "POST", "/stream", json=QUESTION, upto=2)
        assert (await see(session, "POST", "/stream", json=QUESTION, headers=KEY)).status == 503
        await eventually(lambda: gateway.hub.running == 0)
        assert said(await see(session, "POST", "/stream", json=QUESTION, headers=KEY)) == TEXT


async def test_a_message_without_a_session_is_no_key() -> None:
    """Numbers of messages repeat from session to session."""
    async with (
        upstream() as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        for fields in ({"message_id": "m"}, {"message_id": "m"}, MESSAGE, {**MESSAGE, "session_id": "t"}):
            assert (await see(session, "POST", "/stream", json={**QUESTION, **fields})).status == 200
        assert len(service.calls) == 4


async def test_a_key_knows_a_question_whether_somebody_waits_for_its_answer_or_not() -> None:
    """`?detach` says how to be answered, not what is asked."""
    body = {"query": "hi"}
    headers = {"Idempotency-Key": "k"}
    async with upstream() as service, house(OPENAI_BASE_URL=service.url) as gateway, aiohttp.ClientSession() as session:
        url = f"{gateway.urls[0]}/stream"
        detached = await see(session, "POST", f"{url}?detach", json=body, headers=headers)
        waited = await see(session, "POST", url, json=body, headers=headers)
    assert (detached.status, waited.status) == (202, 200)
    assert detached.headers["X-Stream-Id"] == waited.headers["X-Stream-Id"]
    assert waited.text == "Hello world"
    assert len(service.calls) == 1
