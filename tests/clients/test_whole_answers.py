"""Real clients on a good day: the whole answer, in order, its end at once, and silence that hurts nobody."""

import asyncio
import re
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.clients.conftest import NATIVE, EventSourceListener, listener
from tests.clients.heard import HEARTBEAT_S, SILENCE_S, Heard
from tests.clients.listeners import OPENAI
from tests.cutter import Cutter, cutter, unchunked
from tests.house import house
from tests.upstream import END, Step, answer, chunked, streamed, upstream

TOKENS = [f"word {number} " for number in range(12)]
TEXT = "".join(TOKENS)
PROMPTLY_MS = 1000


async def test_every_native_client_gets_all_events_in_order_and_ends_promptly(native: EventSourceListener) -> None:
    """Names and text as they were sent, nothing twice, and no waiting behind `complete`."""
    async with upstream(streamed(answer(TOKENS))) as service, house(OPENAI_BASE_URL=service.url) as gateway:
        heard = await native(gateway.urls[0])
    assert heard.failure is None
    assert heard.text == TEXT
    assert [name for name in heard.names if name != "close"] == [
        *("connected", "status", "metadata"),
        *["text"] * len(TOKENS),
        *("status", "complete"),
    ]
    assert heard.seqs == list(range(1, len(heard.seqs) + 1))
    assert heard.ending_ms < PROMPTLY_MS
    assert heard.opens == len(service.calls) == 1


async def test_every_openai_sdk_gets_the_whole_answer_and_ends_at_done(openai_sdk: EventSourceListener) -> None:
    """Text, finish reason, and the end at once behind [DONE], though the upstream keeps its own body open."""
    lingering: list[Step] = ["headers", *(chunked(event) for event in answer(TOKENS)), 3.0, END]
    async with upstream(lingering) as service, house(OPENAI_BASE_URL=service.url) as gateway:
        heard = await openai_sdk(gateway.urls[0])
    assert heard.failure is None
    assert heard.text == TEXT
    chunks = heard.data("chunk")
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert heard.ending_ms < PROMPTLY_MS
    assert len(service.calls) == 1


def silent_answer() -> list[Step]:
    """Silence before the first token, and between the tokens."""
    events = [chunked(event) for event in answer(["before ", "after"])]
    return ["headers", events[0], SILENCE_S, events[1], SILENCE_S, *events[2:], END]


@pytest.mark.timeout(60 + 3 * SILENCE_S)
async def test_heartbeats_through_a_long_silence_are_seen_by_no_application(request: pytest.FixtureRequest) -> None:
    """All clients at once: each sees the answer's events and no others, on one connection, with heartbeats in it."""
    listen = {name: listener(name, request) for name in [*OPENAI, *NATIVE]}
    environment = {
        "GATEWAY_DELIVERY__HEARTBEAT_S": str(HEARTBEAT_S),
        "GATEWAY_DELIVERY__HOLD_S": str(SILENCE_S / 8),
        "GATEWAY_STREAM__FIRST_TOKEN_S": str(SILENCE_S * 3),
        "GATEWAY_STREAM__SILENCE_S": str(SILENCE_S * 3),
    }
    async with upstream(silent_answer()) as service, house(OPENAI_BASE_URL=service.url, **environment) as gateway:

        async def through_a_line(client: Callable[[str], Coroutine[Any, Any, Heard]]) -> tuple[Heard, Cutter]:
            async with cutter(gateway.urls[0]) as line:
                return await client(line.url), line

        found = dict(zip(listen, await asyncio.gather(*map(through_a_line, listen.values())), strict=True))
    for name, (heard, line) in found.items():
        assert heard.failure is None, name
        assert heard.text == "before after", name
        assert not heard.saw("lost"), name
        assert len(line.streams) == len(line.bodies) == 1, name
        body = unchunked(bytes(line.bodies[0]))
        before, between, _ = re.split(rb"before |after", body)
        assert min(before.count(b": hb\n"), between.count(b": hb\n")) >= 2, (name, before, between)
        if name in NATIVE:
            expected = ["connected", "status", "metadata", "text", "text", "status", "complete"]
            assert [event for event in heard.names if event != "close"] == expected, name
        else:
            assert len(heard.names) == 4, name
    assert len(service.calls) == len(listen)
