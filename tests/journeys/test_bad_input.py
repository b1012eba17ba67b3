"""Hostile questions: a clear 4xx in the caller's own dialect, and nothing of what was sent comes back."""

import logging
from typing import Any

import pytest

from gateway.app.house import Gateway
from tests.journeys.wire import CHAT, SECRET, STREAM, assert_refused, body_of, post

NOT_JSON = {
    "malformed": b'{"query":',
    "empty": b"",
    "null": b"null",
    "a list": b"[]",
    "a string": f'"{SECRET}"'.encode(),
    "NaN": b'{"query":NaN}',
    "200,000 deep": b'{"query":' + b"[" * 200_000,
    "65 deep": b'{"metadata":' + b"[" * 65 + b"]" * 65 + b"}",
    "5,000 digits": b'{"max_tokens":' + b"9" * 5000 + b"}",
    "a huge exponent": b'{"temperature":1e999}',
    "a lone surrogate": b'{"query":"\\ud800"}',
    "a surrogate in UTF-8": b'{"query":"\xed\xa0\x80"}',
    "not UTF-8": b'{"query":"\xff\xfe"}',
    "UTF-16": '{"query":"x"}'.encode("utf-16"),
    "a raw NUL": b'{"query":"a\0b"}',
    "a raw line break": b'{"query":"a\nb"}',
}


@pytest.mark.parametrize("path", [STREAM, CHAT])
@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
async def test_what_is_not_json_is_refused(
    gateway: Gateway, path: str, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """However malformed, deep or large a number is: 400 INVALID_JSON, never a 500."""
    caplog.set_level(logging.INFO)
    await assert_refused(gateway, post(path, body), 400, "INVALID_JSON", path, caplog)


BREAKS = [
    f"{SECRET}\r\nevent: x",
    f"{SECRET}\nid: 1",
    f"{SECRET}\0",
    f"{SECRET}\x7f",
    f"{SECRET}\x85",
    f"{SECRET}\u2028",
]
FIELDS = [
    *(
        (STREAM, {name: text})
        for name in ("model", "session_id", "user_id", "message_id", "language")
        for text in BREAKS
    ),
    *((CHAT, {name: text}) for name in ("model", "user") for text in BREAKS),
    (CHAT, {"messages": [{"role": f"a\n{SECRET}", "content": "x"}]}),
    (STREAM, {"voice": {"enabled": True, "name": f"a\n{SECRET}"}}),
    (STREAM, {SECRET: 1}),
    (STREAM, {"query": 5}),
    (STREAM, {"query": ""}),
    (STREAM, {"messages": [{"role": "user", "content": SECRET}]}),
    (STREAM, {"session_id": [SECRET]}),
    (STREAM, {"session_id": SECRET * 100}),
    (STREAM, {"on_disconnect": SECRET}),
    (STREAM, {"max_tokens": True}),
    (STREAM, {"max_tokens": 2**63}),
    (STREAM, {"max_tokens": "5"}),
    (STREAM, {"grace_s": -1}),
    (STREAM, {"voice": SECRET}),
    (STREAM, {"metadata": [SECRET]}),
    (CHAT, {"messages": []}),
    (CHAT, {"messages": [{"role": "user", "content": 5}]}),
    (CHAT, {"messages": {SECRET: 1}}),
    (CHAT, {"n": 2}),
    (CHAT, {"stream": SECRET}),
    (CHAT, {"stream_options": SECRET}),
    (CHAT, {"temperature": 3}),
]


@pytest.mark.parametrize(("path", "fields"), FIELDS)
async def test_a_wrong_field_is_named_and_its_value_is_not_repeated(
    gateway: Gateway, path: str, fields: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """400 INVALID_REQUEST; a field that is not known is answered with those that are."""
    caplog.set_level(logging.INFO)
    await assert_refused(gateway, post(path, body_of(path, **fields)), 400, "INVALID_REQUEST", path, caplog)


@pytest.mark.parametrize("path", [STREAM, CHAT])
async def test_a_model_that_nobody_serves_is_not_found(
    gateway: Gateway, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    """404 UNKNOWN_MODEL."""
    await assert_refused(gateway, post(path, body_of(path, model=SECRET)), 404, "UNKNOWN_MODEL", path, caplog)
