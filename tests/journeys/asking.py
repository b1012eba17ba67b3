"""Asking one question in every way the gateway can be asked, and what an honest failure looks like in each."""

import asyncio
from typing import Any, NamedTuple

import aiohttp
import orjson

from gateway.app.house import Gateway
from tests.house import Seen, see

QUESTION = {"query": "hi", "model": "up-1"}
COMPLETION = {"model": "up-1", "messages": [{"role": "user", "content": "hi"}]}


async def ask_native(session: aiohttp.ClientSession, gateway: Gateway, **fields: Any) -> Seen:
    """`POST /stream`, read to its end."""
    return await see(session, "POST", f"{gateway.urls[0]}/stream", json={**QUESTION, **fields})


async def ask_openai(session: aiohttp.ClientSession, gateway: Gateway, *, stream: bool = True, **fields: Any) -> Seen:
    """`POST /v1/chat/completions`, streamed or not, read to its end."""
    body = {**COMPLETION, "stream": stream, **fields}
    return await see(session, "POST", f"{gateway.urls[0]}/v1/chat/completions", json=body)


class Answers(NamedTuple):
    """One question asked three times: natively, as an OpenAI stream, and as a completion without `stream`."""

    native: Seen
    openai: Seen
    whole: Seen


async def ask_all(gateway: Gateway) -> Answers:
    """All three at once."""
    async with aiohttp.ClientSession() as session:
        asked = ask_native(session, gateway), ask_openai(session, gateway), ask_openai(session, gateway, stream=False)
        return Answers(*await asyncio.gather(*asked))


def seqs(seen: Seen) -> list[int]:
    """The places in the log of what was seen."""
    return [int(event.id.rsplit("-", 1)[1]) for event in seen.logged]


def choices(seen: Seen) -> list[dict[str, Any]]:
    """All choices of an OpenAI stream."""
    chunks = [orjson.loads(event.data) for event in seen.events if event.data != "[DONE]"]
    return [choice for chunk in chunks for choice in chunk.get("choices", [])]


def openai_text(seen: Seen) -> str:
    """The text that an OpenAI client would show."""
    return "".join(choice["delta"].get("content") or "" for choice in choices(seen))


def succeeded(seen: Seen) -> bool:
    """Whether anything in a stream of either dialect says that the answer is whole."""
    done = any(event.data == "[DONE]" for event in seen.events)
    return done or "complete" in seen.names or (not seen.events and seen.status == 200)


def assert_native_failure(seen: Seen, code: str, text: str = "") -> dict[str, Any]:
    """The text that came, then exactly one terminal event: an `error` of that code, last in a log without gaps."""
    assert (seen.status, seen.cut, seen.text) == (200, False, text)
    last = seen.logged[-1]
    data: dict[str, Any] = orjson.loads(last.data)
    assert (last.event, data.get("code")) == ("error", code), data
    assert seen.names.count("error") == 1
    assert not succeeded(seen)
    assert set(data) == {"message", "error", "code", "retryable", "timestamp"}
    assert seqs(seen) == list(range(1, len(seen.logged) + 1))
    return data


def assert_openai_failure(seen: Seen, code: str, status: int, text: str = "") -> dict[str, Any]:
    """Before content a real HTTP status that is not retried unasked; after it an error frame and nothing more."""
    if text:
        assert (seen.status, seen.cut, openai_text(seen)) == (200, False, text)
        assert not succeeded(seen)
        body = orjson.loads(seen.events[-1].data)
    else:
        assert (seen.status, seen.headers.get("x-should-retry")) == (status, "false"), seen.body
        body = seen.json()
    error: dict[str, Any] = body["error"]
    assert error["code"] == code, error
    assert set(error) == {"message", "type", "param", "code"}
    return error


def assert_all_failed(answers: Answers, code: str, status: int, text: str = "") -> None:
    """The same failure in every way of asking; an answer that is not streamed is an error whatever had come."""
    assert_native_failure(answers.native, code, text)
    assert_openai_failure(answers.openai, code, status, text)
    assert_openai_failure(answers.whole, code, status)
