"""Hostile input by the row: too large, too deep, too many, tricks with paths, headers, names and log lines."""

import logging
import re
import time

import aiohttp
import orjson
import pytest

from gateway.app.house import Gateway
from gateway.telemetry.jsonlines import JsonLines
from tests.house import house, see
from tests.journeys.wire import CHAT, SECRET, STREAM, answer_to, assert_refused, bare, post

CPU_S = 0.5
"""What a refusal may cost: the house has no more than one core for all its streams."""

MEGABYTE = 1024 * 1024
TOO_MUCH = {
    "10^6 tokens": {"messages": [{"role": "user", "content": "word" * 1_000_000}]},
    "10^6 tokens in many messages": {"messages": [{"role": "user", "content": "word " * 1000}] * 400},
    "10^5 messages": {"messages": [{"role": "user"}] * 100_000},
    "10,001 messages": {"messages": [{"role": "user", "content": "x"}] * 10_001},
    "1,001 messages": {"messages": [{"role": "user", "content": "x"}] * 1001},
    "10^6 characters in a tool call": {
        "messages": [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "x" * MEGABYTE}}]}]
    },
}
MODEL = {"model": "local"}


def asked(path: str, **fields: object) -> bytes:
    """A question of these messages in the dialect of that path."""
    return post(path, orjson.dumps({**MODEL, **fields}))


@pytest.fixture(name="gateway")
async def _gateway() -> object:
    """With room for bodies that are too much in other ways than their bytes."""
    async with house(GATEWAY_SERVER__MAX_BODY_BYTES=str(8 * MEGABYTE)) as gateway:
        yield gateway


@pytest.mark.parametrize("path", [STREAM, CHAT])
@pytest.mark.parametrize("fields", TOO_MUCH.values(), ids=TOO_MUCH)
async def test_too_much_is_refused_before_anybody_is_asked(
    gateway: Gateway, path: str, fields: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """413 and the limit; no stream, and hardly any work."""
    caplog.set_level(logging.INFO)
    request = asked(path, **fields)
    began = time.process_time()
    await assert_refused(gateway, request, 413, "INPUT_TOO_LARGE", path, caplog)
    assert time.process_time() - began < 2 * CPU_S  # the client's own part included
    assert not [series for series in _series(gateway) if series[0] == "ssegw_answers_total"]


NO_TEXT = {
    "a list": ["x"],
    "a list of what is unclean": [{"text": "\0"}],
    "an object": {"text": "x"},
    "a number": 1,
    "a truth": True,
}


@pytest.mark.parametrize("path", [STREAM, CHAT])
@pytest.mark.parametrize("text", NO_TEXT.values(), ids=NO_TEXT)
async def test_the_text_of_a_part_is_a_string(
    gateway: Gateway, path: str, text: object, caplog: pytest.LogCaptureFixture
) -> None:
    """400 and the field, before anybody reads it as one."""
    caplog.set_level(logging.INFO)
    request = asked(path, messages=[{"role": "user", "content": [{"type": "text", "text": text}]}])
    await assert_refused(gateway, request, 400, "INVALID_REQUEST", path, caplog)


@pytest.mark.parametrize("path", [STREAM, CHAT])
async def test_a_part_without_text_is_a_part(gateway: Gateway, path: str) -> None:
    """Be there none, or null as some clients write it."""
    parts = [{"type": "text", "text": "hi"}, {"type": "image_url", "text": None}, {"type": "file"}]
    status, _, _ = await answer_to(gateway, asked(path, messages=[{"role": "user", "content": parts}]))
    assert status == 200


BOMBS = {
    "deep lists": b"[" * 200_000,
    "deep objects": b'{"a":' * 200_000,
    "deep and closed": b'{"metadata":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deep inside a message": b'{"messages":[{"role":"user","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}]}",
    "a long number": b'{"max_tokens":' + b"9" * 5000 + b"}",
    "a million-digit number": b'{"max_tokens":' + b"9" * MEGABYTE + b"}",
    "a long fraction": b'{"temperature":0.' + b"9" * MEGABYTE + b"x}",
    "NaN": b'{"temperature":NaN}',
    "Infinity": b'{"temperature":-Infinity}',
    "lone surrogates": b'{"query":"' + b"\\ud800" * 10_000 + b'"}',
}


@pytest.mark.parametrize("path", [STREAM, CHAT])
@pytest.mark.parametrize("body", BOMBS.values(), ids=BOMBS)
async def test_a_bomb_costs_little_and_is_no_fault_of_ours(
    gateway: Gateway, path: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """400, in a moment."""
    caplog.set_level(logging.INFO)
    began = time.process_time()
    await assert_refused(gateway, post(path, body), 400, "INVALID_JSON", path, caplog)
    assert time.process_time() - began < 2 * CPU_S


async def test_of_two_fields_of_one_name_the_last_is_meant(gateway: Gateway) -> None:
    """As in every JSON parser of our clients; whatever checks the body checks the one that is used."""
    body = b'{"query":"first","model":"local","query":"second","model":"%b"}' % SECRET.encode()
    status, _, said = await answer_to(gateway, post(STREAM, body))
    assert (status, orjson.loads(said)["code"]) == (404, "UNKNOWN_MODEL")


TRICKS = {
    "two slashes": ("GET //stream?query=hi", 404),
    "slashes at the end": ("GET /stream//", 404),
    "a slash at the end": ("POST /stream/", 404),
    "dots": ("GET /health/../metrics", 404),
    "dots, encoded": ("GET /health/%2e%2e/metrics", 404),
    "a dot, encoded": ("GET /%2e/metrics", 404),
    "a slash, encoded": ("GET /health%2flive", 404),
    "encoded twice": ("GET /%252e%252e/metrics", 404),
    "a backslash": ("GET /health\\live", 404),
    "NUL": ("GET /stream%00", 404),
    "capitals": ("GET /STREAM?query=hi", 404),
    "parameters of a segment": ("GET /stream;a=b?query=hi", 404),
    "TRACE": ("TRACE /stream", 405),
    "CONNECT": ("CONNECT gateway:80", 404),
    "PUT": ("PUT /stream", 405),
    "PATCH": ("PATCH /v1/chat/completions", 405),
    "another method in a header": ("GET /v1/chat/completions", 405),
    "an unknown method": ("BREW /stream", 400),
}


@pytest.mark.parametrize(("line", "status"), TRICKS.values(), ids=TRICKS)
async def test_a_path_is_what_it_says(gateway: Gateway, line: str, status: int) -> None:
    """No other spelling of a path leads to it, and no method but its own; nothing is opened."""
    got, _, body = await answer_to(gateway, bare(line, "X-HTTP-Method-Override: POST"))
    assert got in {status, 400}
    assert not gateway.hub.running
    assert b"Traceback" not in body


@pytest.mark.parametrize("version", ["HTTP/2.0", "HTTP/3.0", "HTTP/0.9", "HTTP/1.1.1", "http/1.1", "ICY/1.1"])
async def test_another_version_of_http_is_none_of_ours(gateway: Gateway, version: str) -> None:
    """400, and hung up."""
    got, _, body = await answer_to(gateway, f"GET /health/live {version}\r\nHost: x\r\n\r\n".encode())
    assert (got, orjson.loads(body)["code"]) == (400, "BAD_HTTP")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([f"Cookie: {SECRET}{'x' * 7000}"], 200),
        ([f"Cookie: {SECRET}{'x' * 70_000}"], 431),
        ([f"Authorization: Bearer {SECRET}{'x' * 70_000}"], 431),
        ([f"X-{number}: {SECRET}" for number in range(200)], 400),
        ([f"X-{number}: {SECRET}{'x' * 1000}" for number in range(200)], 400),
    ],
    ids=["a large cookie", "too large a cookie", "too large a key", "200 headers", "200 large headers"],
)
async def test_large_and_many_headers_are_neither_echoed_nor_logged(
    gateway: Gateway, headers: list[str], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Keys and cookies are in them: refused in our own words."""
    caplog.set_level(logging.DEBUG)
    got, head, body = await answer_to(gateway, bare("GET /health/live", *headers))
    assert got == status
    assert SECRET.encode() not in head + body
    assert SECRET not in caplog.text


EVIL = f'{SECRET}\n{{"level":"ERROR","message":"forged"}}\r\n\x1b[31m\x1b]0;owned\x07 " \\ \u2028 \x85 \0'


async def test_no_line_of_the_log_can_be_forged(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a name, question or path holds: one JSON object a line, controls escaped, and no question in it."""
    caplog.set_level(logging.DEBUG)
    async with house() as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        for fields in ({"query": EVIL, "metadata": {EVIL: EVIL}}, {"query": "x", "model": EVIL}, {EVIL: 1}):
            await see(session, "POST", "/stream", json=fields)
        await see(session, "POST", "/stream", json={"query": "x", "user_id": SECRET, "session_id": SECRET})
        await answer_to(gateway, bare("GET /%0d%0a%1b[31mforged"))
        await answer_to(gateway, bare("GET /stream?query=x", 'X-Request-Id: a"b{}', f"User-Agent: {SECRET}"))
    formatter = JsonLines()
    for record in caplog.records:
        line = formatter.format(record)
        assert isinstance(orjson.loads(line), dict)
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", line)
        assert SECRET not in line


async def test_series_do_not_grow_with_what_strangers_make_up() -> None:
    """A thousand paths, models, tenants, users and agents later there are as many as before."""
    async with house() as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        await _bombard(session, 0, 30)
        before = _series(gateway)
        await _bombard(session, 30, 200)
        assert _series(gateway) == before


def _series(gateway: Gateway) -> set[tuple[str, tuple[tuple[str, str], ...]]]:
    return {
        (sample.name, tuple(sorted(sample.labels.items())))
        for family in gateway.metrics.registry.collect()
        for sample in family.samples
    }


async def _bombard(session: aiohttp.ClientSession, first: int, end: int) -> None:
    for number in range(first, end):
        name = f"n{number}"
        headers = {"User-Agent": name, "X-User-Id": name, "X-Tenant": name, "X-Tenant-Hash": "", name: name}
        for path, fields in (
            (f"/{name}", {}),
            (f"/stream/{name}", {}),
            (f"/stream?dialect={name}", {"query": "x"}),
            ("/stream", {"query": "x", "model": name}),
            (CHAT, {"model": name, "messages": [{"role": "user", "content": "x"}]}),
            (f"/health/{name}", {}),
        ):
            async with session.post(path, json=fields, headers=headers) as response:
                assert response.status < 500
                await response.read()
