"""One golden answer, cut off at every byte and split at every byte: never a false success, never another text."""

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import Any

import aiohttp
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.app.house import Gateway
from gateway.errors import GatewayError
from gateway.events import Event
from gateway.sources.openai_chunks import ChunkReader
from gateway.sse import Parser
from tests.house import Seen, house
from tests.journeys.asking import ask_native, ask_openai, choices, openai_text, succeeded
from tests.upstream import END, HEAD, Call, Step, chunked, upstream

GOLDEN = (
    'data: {"choices":[{"index":0,"delta":{"content":"Hé"}}]}\n\n'
    'data: {"choices":[{"delta":{"content":" 🎈"},"finish_reason":"stop"}]}\n\n'
    'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\n'
    "data: [DONE]\n\n"
).encode()
TEXT = "Hé 🎈"
PREFIXES = ("", "Hé", TEXT)
UNDELIMITED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
"""Ended by closing: no layer below the protocol can tell whether that was the end."""

AT_ONCE = 40

Ask = Callable[[aiohttp.ClientSession, Gateway, str], Any]


def cut_as_told(call: Call) -> list[Step]:
    """The caller's model says where to cut, how to break off, and in which framing."""
    offset, end, framing = call.body["model"].split(":")
    body = GOLDEN[: int(offset)]
    if framing == "chunked":
        # The chunk is announced as whole, so that what is missing is missing inside it.
        return [HEAD, b"%x\r\n%b" % (len(GOLDEN), body), end]
    return [UNDELIMITED, body, end]


async def ask_everywhere(url: str, models: Iterable[str], ask: Ask) -> list[tuple[str, Seen]]:
    """Each of these models asked once, some at a time."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def once(model: str) -> tuple[str, Seen]:
        async with turns:
            return model, await ask(session, gateway, model)

    async with house(OPENAI_BASE_URL=url) as gateway, aiohttp.ClientSession() as session:
        return await asyncio.gather(*map(once, models))


async def natively(session: aiohttp.ClientSession, gateway: Gateway, model: str) -> Seen:
    """`POST /stream`."""
    return await ask_native(session, gateway, model=model)


async def as_openai(session: aiohttp.ClientSession, gateway: Gateway, model: str) -> Seen:
    """An OpenAI stream."""
    return await ask_openai(session, gateway, model=model)


async def as_a_whole(session: aiohttp.ClientSession, gateway: Gateway, model: str) -> Seen:
    """An OpenAI completion without `stream`."""
    return await ask_openai(session, gateway, stream=False, model=model)


def assert_no_success(seen: Seen) -> None:
    """The last word is a failure, told as the dialect tells it, and nothing before it was an ending."""
    assert not succeeded(seen)
    if "connected" in seen.names:
        assert (seen.logged[-1].event, seen.text in PREFIXES) == ("error", True)
        assert orjson.loads(seen.logged[-1].data)["code"] == "UPSTREAM_TRUNCATED"
        assert all(data["state"] == "opened" for data in seen.data("status"))
    elif seen.events:
        assert (seen.status, openai_text(seen) in PREFIXES[1:]) == (200, True)
        assert orjson.loads(seen.events[-1].data)["error"]["code"] == "UPSTREAM_TRUNCATED"
        assert not any(choice["finish_reason"] for choice in choices(seen))
    else:
        assert (seen.status, seen.json()["error"]["code"]) == (502, "UPSTREAM_TRUNCATED")


@pytest.mark.parametrize("framing", ["undelimited", "chunked"])
@pytest.mark.parametrize("end", ["fin", "rst"])
@pytest.mark.parametrize("ask", [natively, as_openai, as_a_whole])
async def test_an_answer_cut_at_any_byte_is_never_a_success(ask: Ask, end: str, framing: str) -> None:
    """Whole is only what has come through to the blank line behind [DONE]."""
    models = [f"{offset}:{end}:{framing}" for offset in range(len(GOLDEN))]
    async with upstream(cut_as_told) as service:
        for model, seen in await ask_everywhere(service.url, models, ask):
            try:
                assert_no_success(seen)
            except AssertionError as error:
                error.add_note(f"cut at {model}: {seen.body!r}")
                raise


@pytest.mark.parametrize("framing", ["undelimited", "chunked"])
async def test_an_answer_cut_behind_its_end_is_whole(framing: str) -> None:
    """[DONE] has been said: that the connection then breaks off takes nothing away."""
    model = f"{len(GOLDEN)}:fin:{framing}"
    async with upstream(cut_as_told) as service:
        asked = [await ask_everywhere(service.url, [model], ask) for ask in (natively, as_openai, as_a_whole)]
    native, openai, whole = (seen for ((_, seen),) in asked)
    assert all(map(succeeded, (native, openai, whole)))
    assert native.text == openai_text(openai) == whole.json()["choices"][0]["message"]["content"] == TEXT


def story(seen: Seen) -> list[tuple[str, Any]]:
    """What was said, without what differs from stream to stream."""
    told = []
    for event in seen.events:
        data = orjson.loads(event.data) if event.data != "[DONE]" else {}
        told.append((event.event, {k: v for k, v in data.items() if k not in VARYING}))
    return told


VARYING = ("stream_id", "duration", "id", "created", "model", "retry")


def split_as_told(call: Call) -> list[Step]:
    """In two pieces at the offset that the model names, or byte for byte; a moment between the pieces."""
    offset, framing = call.body["model"].split(":")
    pieces = (
        [GOLDEN[: int(offset)], GOLDEN[int(offset) :]] if offset else [GOLDEN[i : i + 1] for i in range(len(GOLDEN))]
    )
    steps: list[Step] = [HEAD if framing == "chunked" else UNDELIMITED]
    for piece in pieces:
        if piece:
            steps += [chunked(piece) if framing == "chunked" else piece, 0.002]
    return [*steps, END if framing == "chunked" else "fin"]


@pytest.mark.parametrize("framing", ["undelimited", "chunked"])
@pytest.mark.parametrize("ask", [natively, as_openai])
async def test_a_split_at_any_byte_changes_nothing_downstream(ask: Ask, framing: str) -> None:
    """Two packets or a packet for each byte: the client is told the same."""
    models = [f"{offset}:{framing}" for offset in ("", *range(len(GOLDEN)))]
    async with upstream(split_as_told) as service:
        seen = await ask_everywhere(service.url, models, ask)
    whole = story(seen[1][1])
    assert succeeded(seen[1][1])
    for model, other in seen:
        assert story(other) == whole, model


CORPUS = (
    GOLDEN,
    GOLDEN.replace(b"\n", b"\r\n"),
    GOLDEN.replace(b"\n", b"\r"),
    b"\xef\xbb\xbf: hi\n\n" + GOLDEN.replace(b"data: ", b"id: 1\ndata:"),
    GOLDEN[:-1],
    GOLDEN.replace(b" \xf0", b" \xff"),
    GOLDEN.replace(b"stop", b""),
    GOLDEN.replace(b'data: {"choices":[],', b'data: {"error":1,'),
)


def read(pieces: Iterable[bytes]) -> tuple[list[Event], str]:
    """All events up to the end or the first fault, and that fault's code."""
    parser, reader, events = Parser(), ChunkReader(), list[Event]()

    def take(name: bytes, data: bytes) -> None:
        events.extend(reader.read(name, data))

    try:
        for piece in pieces:
            parser.push(piece, take)
    except GatewayError as error:
        return events, error.code.name
    return events, "" if reader.done else "cut"


@given(st.sampled_from(CORPUS), st.lists(st.integers(0, len(GOLDEN) * 2), max_size=12))
def test_any_split_gives_the_same_events_and_then_the_same_fault(body: bytes, cuts: list[int]) -> None:
    """What arrived before a fault is never lost with it, however the bytes were cut."""
    places = [0, *sorted(cuts), len(body)]
    pieces = [body[start:end] for start, end in itertools.pairwise(places)]
    assert read(pieces) == read([body]) == read(body[i : i + 1] for i in range(len(body)))
