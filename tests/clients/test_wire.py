"""The bytes themselves: what real clients stumble over never leaves the house."""

import asyncio
import re

import aiohttp
import pytest

from tests.clients.listeners import ASKED, QUESTION
from tests.house import Seen, eventually, house, see
from tests.upstream import END, Step, answer, chunked, upstream

SILENCE: list[Step] = [0.3]
QUICK = {
    "GATEWAY_DELIVERY__HEARTBEAT_S": "0.03",
    "GATEWAY_DELIVERY__HOLD_S": "0.05",
    "GATEWAY_DELIVERY__AWAY_RETRY_MAX_MS": "500",
}


def silent(*last: Step) -> list[Step]:
    """An answer with a silence before its first token and one behind it."""
    events = [chunked(event) for event in answer(["one"])]
    return ["headers", events[0], *SILENCE, events[1], *SILENCE, *(last or (*events[2:], END))]


def assert_safe(body: bytes) -> None:
    """Comments are lines, never blocks; every block has data; every line is one that the standard knows; no CR."""
    assert body.endswith(b"\n\n")
    assert b"\r" not in body
    assert re.search(rb": hb\n(\n|:? ?\n)", body) is None, "an empty line behind a heartbeat dispatches an event"
    for block in body.removesuffix(b"\n\n").split(b"\n\n"):
        lines = [line for line in block.split(b"\n") if line != b": hb"]
        assert sum(line.startswith(b"data: ") for line in lines) == 1, block
        assert all(re.match(rb"(data|id|event|retry): \S", line) for line in lines), block


ASKING = {
    "native": ("POST", "/stream", QUESTION),
    "unnamed": ("POST", "/stream?events=unnamed", QUESTION),
    "browser": ("GET", "/stream?query=hi", None),
    "openai": ("POST", "/v1/chat/completions", ASKED),
}
ENDINGS: dict[str, tuple[Step, ...]] = {"whole": (), "truncated": (END,), "reset": ("rst",)}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_heartbeats_have_one_newline_and_no_block_is_without_data(ending: str) -> None:
    """In each dialect, through silence, to a good end and to a bad one."""
    async with (
        upstream(silent(*ENDINGS[ending])) as service,
        house(OPENAI_BASE_URL=service.url, **QUICK) as gateway,
        aiohttp.ClientSession(gateway.urls[0], headers={"Accept": "text/event-stream"}) as session,
    ):
        asked = (see(session, method, path, json=body) for method, path, body in ASKING.values())
        found = dict(zip(ASKING, await asyncio.gather(*asked), strict=True))
    for way, seen in found.items():
        assert_safe(seen.body)
        before, _, behind = seen.body.partition(b'"one"')
        assert min(before.count(b": hb\n"), behind.count(b": hb\n")) >= 3, way
    of_openai = found["openai"].body
    assert re.search(rb"^(id|event|retry):", of_openai, re.MULTILINE) is None
    assert of_openai.endswith(b"data: [DONE]\n\n") is (ending == "whole")


async def test_what_is_said_to_viewers_who_are_sent_away_is_safe_too() -> None:
    """`retry:` stands in a block with data: when the process drains, and when it is full."""
    limits = {**QUICK, "GATEWAY_STREAM__MAX_STREAMS": "1", "GATEWAY_DRAIN__LIMIT_S": "0"}
    async with (
        upstream(silent("hang")) as service,
        aiohttp.ClientSession(headers={"Accept": "text/event-stream"}) as session,
    ):
        async with house(OPENAI_BASE_URL=service.url, **limits) as gateway:
            url = f"{gateway.urls[0]}/stream?query=hi"
            drained: asyncio.Task[Seen] = asyncio.create_task(see(session, "GET", url))
            await eventually(lambda: service.calls)
            full = await see(session, "GET", url)
        seen = await drained
    for body in (seen.body, full.body):
        assert_safe(body)
        assert re.search(rb"retry: \d+\nevent: status\ndata: ", body)
    assert not seen.cut
