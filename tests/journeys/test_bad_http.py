"""What is hardly HTTP: garbage, contradictions, excess, bodies that break off, and breaks smuggled into good values."""

import asyncio
import logging
import re

import aiohttp
import orjson
import pytest

from gateway.app.house import Gateway
from tests.house import eventually, house, see
from tests.journeys.asking import ask_all, openai_text
from tests.journeys.wire import CHAT, SECRET, STREAM, answer_to, assert_refused, bare, body_of, post
from tests.upstream import answer, streamed, upstream

GOOD = body_of(STREAM)
CHUNKED = ("Content-Type: application/json", "Transfer-Encoding: chunked")
NOT_HTTP = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + SECRET.encode() + b"\r\n\r\n",
    "words": f"{SECRET} {SECRET} {SECRET} {SECRET}\r\n\r\n".encode(),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no such version": b"GET /stream HTTP/9.9\r\nHost: x\r\n\r\n",
    "no such method": bare(f"{SECRET} /stream"),
    "no Host": b"GET /stream HTTP/1.1\r\n\r\n",
    "two lengths": post(STREAM, GOOD, "Content-Length: 3"),
    "two framings": post(STREAM, GOOD, "Transfer-Encoding: chunked"),
    "negative length": post(STREAM, GOOD, length=-1),
    "length in words": post(STREAM, GOOD, length=SECRET),
    "unknown framing": bare("POST /stream", f"Transfer-Encoding: {SECRET}"),
    "bad chunk size": bare("POST /stream", *CHUNKED) + f"{SECRET}\r\n".encode(),
    "NUL in a header": bare("GET /stream", f"X-A: a\0{SECRET}"),
    "CR in a header": bare("GET /stream", f"Idempotency-Key: a\r{SECRET}"),
    "break in a header": bare("GET /stream", f"Last-Event-ID: a\r\n {SECRET}"),
    "control in a header": bare("GET /stream", f"Idempotency-Key: a\x01{SECRET}"),
    "space before a colon": bare("GET /stream", f"X-A : {SECRET}"),
    "2,000 headers": bare("GET /stream", *(f"X-{number}: {SECRET}" for number in range(2000))),
}
TOO_LARGE = {
    "request line": bare("GET /stream?query=" + SECRET * 2000),
    "header": bare("GET /stream", "Cookie: " + SECRET * 2000),
    "header name": bare("GET /stream", SECRET * 2000 + ": x"),
}


@pytest.mark.parametrize("request_bytes", NOT_HTTP.values(), ids=NOT_HTTP)
async def test_what_is_not_http_is_refused_and_hung_up_on(
    gateway: Gateway, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """400 BAD_HTTP in our own words: not a word of it is repeated or logged."""
    caplog.set_level(logging.INFO)
    await assert_refused(gateway, request_bytes, 400, "BAD_HTTP", STREAM, caplog)


@pytest.mark.parametrize("request_bytes", TOO_LARGE.values(), ids=TOO_LARGE)
async def test_a_header_beyond_all_measure_is_refused(
    gateway: Gateway, request_bytes: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """431: cookies and keys are in headers, so none of it is echoed."""
    caplog.set_level(logging.INFO)
    await assert_refused(gateway, request_bytes, 431, "HEADERS_TOO_LARGE", STREAM, caplog)


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
@pytest.mark.parametrize("path", [STREAM, CHAT])
async def test_a_body_that_breaks_off_is_nobody_s_question(
    gateway: Gateway, path: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The client went away in the middle: no stream, no line in the log, whether or not it had an answer already."""
    caplog.set_level(logging.INFO)
    _, writer = await asyncio.open_connection("127.0.0.1", int(gateway.urls[0].rsplit(":", 1)[1]))
    writer.write(post(path, body_of(path), kind=kind, length=5000))
    await eventually(lambda: gateway.metrics.registry.get_sample_value("ssegw_connections_open") == 1)
    await asyncio.sleep(0.02)  # the handler is at the body
    writer.close()
    await eventually(lambda: gateway.metrics.registry.get_sample_value("ssegw_connections_open") == 0)
    assert not caplog.records


async def test_a_body_in_drips_has_no_longer_than_a_body_may_take(gateway: Gateway) -> None:
    """A byte now and then does not buy more time."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.urls[0].rsplit(":", 1)[1]))
    writer.write(post(STREAM, b"{", length=500))
    began = asyncio.get_running_loop().time()
    while not reader._buffer:  # type: ignore[attr-defined]  # peeking: StreamReader has no public way to
        writer.write(b" ")
        await asyncio.sleep(0.01)
    assert 0.15 < asyncio.get_running_loop().time() - began < 1.5
    assert b"REQUEST_TIMEOUT" in await reader.read(4096)
    writer.close()


@pytest.mark.parametrize("path", [STREAM, f"{STREAM}?events=named", CHAT])
@pytest.mark.parametrize("body", [b"{", b'{"kanarienvogel":1}', b"x" * 300_001])
async def test_every_refusal_is_signed(gateway: Gateway, path: str, body: bytes) -> None:
    """With the id that was given and our name, whichever way the request takes through the server."""
    _, head, _ = await answer_to(gateway, post(path, body, "X-Request-Id: good.id-12345"))
    assert head.count(b"\r\nX-Request-Id: good.id-12345\r\n") == head.count(b"\r\nServer: sse-gateway\r\n") == 1


@pytest.mark.parametrize("given", [f"{SECRET} {SECRET}", "short", "x" * 65, "caf\u00e9-caf\u00e9"])
async def test_a_request_id_that_is_not_one_is_replaced(gateway: Gateway, given: str) -> None:
    """It goes into every line of the log, so only plain ones are taken over; each answer carries one."""
    _, head, _ = await answer_to(gateway, bare("GET /stream", f"X-Request-Id: {given}"))
    assert re.search(rb"\r\nX-Request-Id: [0-9a-f]{16}\r\n", head)
    _, head, _ = await answer_to(gateway, bare("GET /stream", "X-Request-Id: good.id-12345"))
    assert b"\r\nX-Request-Id: good.id-12345\r\n" in head


EVIL = 'a\r\nevent: complete\r\ndata: {"x":1}\r\n\r\nid: 1\n\ndata: [DONE]\n\n\r\r\0\u2028\x85'


async def test_no_value_can_become_an_event() -> None:
    """Line breaks in what a model says arrive as text, whatever they imitate."""
    async with upstream(streamed(answer([EVIL]))) as service, house(OPENAI_BASE_URL=service.url) as gateway:
        native, openai, whole = await ask_all(gateway)
    assert native.text == openai_text(openai) == whole.json()["choices"][0]["message"]["content"] == EVIL
    assert native.names == ["connected", "status", "metadata", "text", "status", "complete", "close"]
    assert [event.data for event in openai.events].count("[DONE]") == 1


@pytest.mark.parametrize("way", ["", "?events=unnamed"])
async def test_metadata_is_echoed_as_data_and_nothing_else(gateway: Gateway, way: str) -> None:
    """Names and values with line breaks stay inside one event."""
    metadata = {EVIL: EVIL}
    async with aiohttp.ClientSession(gateway.urls[0]) as session:
        seen = await see(session, "POST", f"/stream{way}", json={"query": EVIL, "metadata": metadata})
    assert orjson.loads(seen.events[1].data)["metadata"] == metadata
    seqs = [int(event.id.rsplit("-", 1)[1]) for event in seen.events[1:-1]]
    assert seqs == list(range(1, len(seqs) + 1))
