"""Real clients when it goes wrong: an error where the application looks for it, and never a silent end."""

import asyncio
from collections.abc import Awaitable, Callable

import aiohttp
import openai
import pytest

from gateway.streams.ids import SID_LENGTH
from tests.clients.conftest import EventSourceListener
from tests.clients.listeners import ASKED
from tests.clients.node import hear
from tests.cutter import cutter
from tests.house import eventually, house
from tests.upstream import END, Step, answer, chunk, chunked, upstream

TOKENS = ["one ", "two "]
BEGUN: list[Step] = ["headers", *(chunked(event) for event in answer(TOKENS)[:3])]
ERROR_FRAME = b'data: {"error":{"message":"boom","type":"server_error","code":"x"}}\n\n'

MID_STREAM: dict[str, tuple[list[Step], str]] = {
    "reset": ([*BEGUN, "rst"], "UPSTREAM_TRUNCATED"),
    "ended without a marker": ([*BEGUN, END], "UPSTREAM_TRUNCATED"),
    "error frame": ([*BEGUN, chunked(ERROR_FRAME), END], "UPSTREAM_ERROR"),
    "no JSON": ([*BEGUN, chunked(b"data: {oops\n\n"), END], "UPSTREAM_PROTOCOL"),
}
CLASSES = {
    400: ("BadRequestError", "UPSTREAM_REJECTED"),
    401: ("AuthenticationError", "UPSTREAM_AUTH"),
    409: ("ConflictError", "UPSTREAM_REJECTED"),
    429: ("RateLimitError", "UPSTREAM_RATE_LIMITED"),
    500: ("InternalServerError", "UPSTREAM_ERROR"),
    503: ("InternalServerError", "UPSTREAM_ERROR"),
}


def refused(status: int) -> list[Step]:
    """An upstream's answer before any content."""
    body = b'{"error":{"message":"no","type":"x"}}'
    head = b"HTTP/1.1 %d No\r\nContent-Type: application/json\r\nRetry-After: 1\r\nContent-Length: %d\r\n\r\n"
    return [head % (status, len(body)) + body]


async def test_a_refusal_before_content_raises_the_sdks_own_class_and_is_not_repeated(
    openai_sdk: EventSourceListener,
) -> None:
    """Each status of the upstream becomes the exception that its users catch; the upstream is asked exactly once."""
    statuses = iter(CLASSES)
    async with (
        upstream(lambda _call: refused(next(statuses))) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
    ):
        for asked, (status, (name, code)) in enumerate(CLASSES.items(), 1):
            heard = await openai_sdk(gateway.urls[0])
            assert heard.failure is not None, status
            assert heard.failure["name"] == name
            assert (heard.failure["status"], heard.failure["code"]) == (status, code)
            assert heard.opens == 0
            assert len(service.calls) == asked, "the SDK repeated it"


@pytest.mark.parametrize("how", MID_STREAM)
async def test_a_failure_in_mid_answer_is_raised_by_every_openai_sdk(openai_sdk: EventSourceListener, how: str) -> None:
    """What came stays, then APIError with our code: half an answer is never taken for a whole one."""
    script, code = MID_STREAM[how]
    async with upstream(script) as service, house(OPENAI_BASE_URL=service.url) as gateway:
        heard = await openai_sdk(gateway.urls[0])
    assert heard.text == "one two "
    assert heard.failure is not None
    assert (heard.failure["name"], heard.failure["code"]) == ("APIError", code)
    assert not any(data["choices"][0]["finish_reason"] for data in heard.data("chunk"))
    assert len(service.calls) == 1


async def test_a_failure_after_the_headers_were_let_go_is_raised_too(openai_sdk: EventSourceListener) -> None:
    """The status could not wait for the first content: the error comes inside the stream instead."""
    script: list[Step] = ["headers", chunked(chunk({"role": "assistant"})), 0.3, "rst"]
    async with (
        upstream(script) as service,
        house(OPENAI_BASE_URL=service.url, GATEWAY_DELIVERY__HOLD_S="0.1") as gateway,
    ):
        heard = await openai_sdk(gateway.urls[0])
    assert heard.opens == 1
    assert heard.failure is not None
    assert (heard.failure["name"], heard.failure["code"]) == ("APIError", "UPSTREAM_TRUNCATED")
    assert len(service.calls) == 1


async def test_every_native_client_is_told_of_a_failure_in_mid_answer(native: EventSourceListener) -> None:
    """The `error` event reaches the application with its code, behind the text that came."""
    async with upstream(MID_STREAM["reset"][0]) as service, house(OPENAI_BASE_URL=service.url) as gateway:
        heard = await native(gateway.urls[0])
    assert heard.failure is None
    assert heard.text == "one two "
    assert [name for name in heard.names if name != "close"][-1] == "error"
    assert heard.data("error")[0]["code"] == "UPSTREAM_TRUNCATED"
    assert heard.data("error")[0]["retryable"] is True
    assert len(service.calls) == 1


async def test_every_native_client_is_told_of_a_failure_before_content(native: EventSourceListener) -> None:
    """A 200 and an `error` event, which a browser can read, not a status that it cannot."""
    async with upstream(refused(429)) as service, house(OPENAI_BASE_URL=service.url) as gateway:
        heard = await native(gateway.urls[0])
    assert heard.opens == 1
    assert heard.data("error")[0]["code"] == "UPSTREAM_RATE_LIMITED"
    assert len(service.calls) == 1


async def test_an_event_source_left_to_itself_stops_after_a_failure(event_source: EventSourceListener) -> None:
    """The application closes on nothing: the reconnect finds the end already read (204), and that is the end."""
    async with (
        upstream(MID_STREAM["reset"][0]) as service,
        house(OPENAI_BASE_URL=service.url, GATEWAY_DELIVERY__RETRY_MS="100") as gateway,
    ):
        heard = await event_source(gateway.urls[0], close_on="")
    assert heard.names.count("error") == 1
    assert heard.seqs == sorted(set(heard.seqs))
    assert heard.saw("end")[0]["readyState"] == 2
    assert len(service.calls) == 1


async def test_a_cancel_from_elsewhere_is_an_error_to_every_openai_sdk(openai_sdk: EventSourceListener) -> None:
    """Ended by another, an answer is not said to have stopped by itself."""
    async with (
        upstream([*BEGUN, "hang"]) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        cutter(gateway.urls[0]) as line,
        aiohttp.ClientSession(gateway.urls[0]) as other,
    ):
        reading = asyncio.create_task(openai_sdk(line.url))
        await eventually(lambda: line.bodies and b"two" in line.bodies[0])
        sid = line.bodies[0].partition(b"chatcmpl-")[2][:SID_LENGTH].decode()
        async with other.delete(f"/stream/{sid}") as cancelled:
            assert cancelled.status == 200
        heard = await reading
    assert heard.failure is not None
    assert (heard.failure["name"], heard.failure["code"]) == ("APIError", "CANCELLED")
    assert heard.text == "one two "


async def leave_python(base: str) -> str:
    """One piece of the answer, then out of the block."""
    async with (
        openai.AsyncOpenAI(base_url=base, api_key="not-needed") as client,
        await client.chat.completions.create(**ASKED) as stream,
    ):
        async for chunk in stream:
            if chunk.choices[0].delta.content:
                return str(chunk.choices[0].delta.content)
    raise AssertionError("no content")


async def leave_npm(base: str) -> str:
    """One piece of the answer, then out of the loop."""
    return (await hear("openai.mjs", base, "1")).text


@pytest.mark.parametrize("leave", [leave_python, leave_npm])
async def test_leaving_the_loop_of_an_sdk_stops_the_upstream(leave: Callable[[str], Awaitable[str]]) -> None:
    """The upstream's connection is closed within a second: nobody pays for what nobody reads."""
    async with upstream([*BEGUN, "hang"]) as service, house(OPENAI_BASE_URL=service.url) as gateway:
        assert await leave(f"{gateway.urls[0]}/v1") == "one "
        await service.calls[0].wait_closed(1.0)
