"""What an upstream may do inside its stream (spelling, slowness, bytes behind the end), and what it may not."""

import asyncio
import zlib
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic, process_time

import aiohttp
import orjson
import pytest

from tests.house import eventually, house, see
from tests.journeys.asking import QUESTION, ask_all, ask_native, assert_all_failed, openai_text, succeeded
from tests.upstream import DONE, HEAD, Call, Step, answer, chunk, chunked, streamed, upstream

TEXT = "Hello wörld 🎈"
GOOD = b"".join(answer([TEXT]))
ONE = chunk({"content": TEXT})

SPELLINGS = {
    "LF": GOOD,
    "CRLF": GOOD.replace(b"\n", b"\r\n"),
    "CR only": GOOD.replace(b"\n", b"\r"),
    "BOM": b"\xef\xbb\xbf" + ONE + chunk({}, "stop") + DONE,
    "no space": GOOD.replace(b"data: ", b"data:"),
    "comments": b":\n: x\n\n" + GOOD.replace(b"\n\n", b"\n: hb\n\n: hb\n"),
    "data of several lines": GOOD.replace(b', "', b',\ndata:  "'),
    "ids, one with NUL": GOOD.replace(b"data: ", b"id: 7\nid: a\0b\nretry: 1\nretry: x\ndata: "),
    "fields nobody knows": GOOD.replace(b"data: ", b"x\nfoo: bar\ndata: "),
    "blank lines": b"\n\n" + GOOD.replace(b"\n\n", b"\n\n\n\n"),
    "an event cut off behind [DONE]": GOOD + b'data: {"cho',
    "two [DONE]": GOOD + DONE,
    "bytes behind [DONE]": GOOD + ONE + b"garbage" * 9999,
    "an error behind [DONE]": GOOD + b'data: {"error":"late"}\n\n',
    "choices null": b'data: {"choices":null}\n\n' + GOOD,
    "no choices": b'data: {"usage":null}\n\n' + GOOD,
    "no role, no ids": ONE + chunk({}, "stop") + DONE,
    "finish_reason beside content": chunk({"content": TEXT}, "stop") + DONE,
    "everything null": chunk({"content": None, "tool_calls": None, "refusal": None}) + GOOD,
}


@pytest.mark.parametrize("body", SPELLINGS.values(), ids=SPELLINGS)
async def test_every_spelling_of_a_whole_answer_is_a_whole_answer(body: bytes) -> None:
    """The same text and exactly one good ending, whatever the standard or a sloppy server allows itself."""
    async with upstream(["headers", chunked(body), "fin"]) as service, house(OPENAI_BASE_URL=service.url) as gateway:
        native, openai, whole = await ask_all(gateway)
    assert (native.text, native.names.count("complete"), native.names.count("error")) == (TEXT, 1, 0)
    assert (openai_text(openai), [event.data for event in openai.events].count("[DONE]")) == (TEXT, 1)
    assert openai.events[-1].data == "[DONE]"
    assert whole.json()["choices"][0]["message"]["content"] == TEXT


async def test_an_answer_slower_than_the_silence_in_all_is_only_slow() -> None:
    """The time runs from token to token; eight of them may take twice as long as one may."""
    times = {"GATEWAY_STREAM__FIRST_TOKEN_S": "0.4", "GATEWAY_STREAM__SILENCE_S": "0.4"}
    steps = streamed(answer(list("abcdefgh")), gap_s=0.1)
    async with upstream(steps) as service, house(OPENAI_BASE_URL=service.url, **times) as gateway:
        native, openai, whole = await ask_all(gateway)
    assert native.text == openai_text(openai) == whole.json()["choices"][0]["message"]["content"] == "abcdefgh"


async def test_chunks_without_content_are_no_progress() -> None:
    """An upstream that only says that it is still there has to begin in time all the same."""
    beat: list[Step] = [chunked(chunk({"odd": 1})), 0.05]
    times = {"GATEWAY_STREAM__FIRST_TOKEN_S": "0.3", "GATEWAY_STREAM__SILENCE_S": "0.3"}
    async with upstream(["headers", *beat * 100]) as service, house(OPENAI_BASE_URL=service.url, **times) as gateway:
        began = monotonic()
        answers = await ask_all(gateway)
        assert monotonic() - began < 3
    assert_all_failed(answers, "UPSTREAM_TIMEOUT", 504)


async def test_an_answer_that_drips_for_ever_ends_at_the_total_time() -> None:
    """Tokens in time are no excuse: `stream.total_s` is over all."""
    drip: list[Step] = [chunked(ONE), 0.05]
    async with (
        upstream(["headers", *drip * 100]) as service,
        house(OPENAI_BASE_URL=service.url, STREAMING_TIMEOUT="300") as gateway,
    ):
        native, openai, whole = await ask_all(gateway)
        ended = monotonic()
        assert all([await call.wait_closed() - ended < 1 for call in service.calls])
    for error in (native.data("error")[0], orjson.loads(openai.events[-1].data)["error"], whole.json()["error"]):
        assert error["code"] == "UPSTREAM_TIMEOUT"


async def test_a_stream_without_end_is_stopped_at_its_limit() -> None:
    """OUTPUT_LIMIT is a failure and no success, and the upstream's connection is closed within a second."""

    def endless(_call: Call) -> Iterator[Step]:
        yield "headers"
        while True:
            yield chunked(ONE)

    limit = {"GATEWAY_STREAM__MAX_OUTPUT_BYTES": "20000"}
    async with upstream(endless) as service, house(OPENAI_BASE_URL=service.url, **limit) as gateway:
        native, openai, whole = await ask_all(gateway)
        ended = monotonic()
        assert all([await call.wait_closed() - ended < 1 for call in service.calls])
        await eventually(lambda: gateway.hub.running == 0)
    assert native.data("error")[0]["code"] == "OUTPUT_LIMIT"
    assert orjson.loads(openai.events[-1].data)["error"]["code"] == "OUTPUT_LIMIT"
    assert (whole.status, whole.json()["error"]["code"]) == (502, "OUTPUT_LIMIT")
    assert not any(succeeded(seen) for seen in (native, openai, whole))
    assert max(len(native.text), len(openai_text(openai))) <= 20_000


async def test_a_gzip_bomb_is_never_unpacked() -> None:
    """An encoding that was not asked for is refused by its header: cheap, however large it would become."""
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1_000_000)) for _ in range(50)) + packer.flush()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n"
    async with upstream([head, bomb, "hang"]) as service, house(OPENAI_BASE_URL=service.url) as gateway:
        await ask_all(gateway)
        began = process_time()
        answers = await ask_all(gateway)
        assert process_time() - began < 0.3
        ended = monotonic()
        assert all([await call.wait_closed() - ended < 1 for call in service.calls])
    assert_all_failed(answers, "UPSTREAM_PROTOCOL", 502)


async def test_an_upstream_that_does_not_listen_is_hung_up_on() -> None:
    """It never reads and goes on sending: its next bytes meet a closed connection, and nothing of it stays here."""
    refused_at = asyncio.get_running_loop().create_future()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # of a socket's transport
        writer.write(HEAD + chunked(ONE))
        with suppress(ConnectionError):
            while True:
                writer.write(chunked(b": still here\n\n"))
                await writer.drain()
                await asyncio.sleep(0.005)
        refused_at.set_result(monotonic())
        writer.close()

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, house(OPENAI_BASE_URL=url) as gateway, aiohttp.ClientSession() as session:
        leaving = {**QUESTION, "on_disconnect": "cancel"}
        await see(session, "POST", f"{gateway.urls[0]}/stream", json=leaving, upto=4)
        left = monotonic()
        async with asyncio.timeout(5):
            assert await refused_at - left < 1
        await eventually(lambda: gateway.hub.running == 0)


async def test_a_retry_by_the_caller_meets_a_healthy_upstream() -> None:
    """500, then fine: nothing of the failure sticks to the next question."""
    scripts: list[list[Step]] = [[b"HTTP/1.1 500 no\r\nContent-Length: 0\r\n\r\n"], streamed(answer([TEXT]))]
    async with (
        upstream(lambda _call: scripts.pop(0)) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession() as session,
    ):
        assert not succeeded(await ask_native(session, gateway))
        assert (await ask_native(session, gateway)).text == TEXT
        assert len(service.calls) == 2
