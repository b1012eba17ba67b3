"""Hostile parameters, headers, ids, bodies, paths and methods: a clear 4xx in the caller's own dialect."""

import logging

import pytest

from gateway.app.house import Gateway
from tests.journeys.wire import CHAT, SECRET, SID, STREAM, assert_refused, bare, body_of, post


def in_query(parameters: str) -> bytes:
    """A good GET, but for these parameters."""
    return bare(f"GET /stream?query=hi&{parameters}")


def with_header(header: str, path: str = STREAM) -> bytes:
    """A good POST, but for this header."""
    return post(path, body_of(path), header)


REQUESTS = {
    "no question": (bare("GET /stream"), 400, "INVALID_REQUEST"),
    "unknown parameter": (in_query(f"{SECRET}=1"), 400, "INVALID_REQUEST"),
    "JSON in a parameter": (in_query(f"metadata=[{SECRET}"), 400, "INVALID_JSON"),
    "broken percent in a parameter": (in_query("metadata=[%ff%zz"), 400, "INVALID_JSON"),
    "deep JSON in a parameter": (in_query("metadata=" + "[" * 3000), 400, "INVALID_JSON"),
    "line break in a parameter": (in_query("session_id=a%0d%0aevent:x"), 400, "INVALID_REQUEST"),
    "NaN in a parameter": (in_query("grace_s=nan"), 400, "INVALID_REQUEST"),
    "5,000 digits in a parameter": (in_query("max_tokens=" + "9" * 5000), 400, "INVALID_REQUEST"),
    "unknown dialect": (post(f"/stream?dialect={SECRET}", body_of(STREAM)), 400, "UNKNOWN_DIALECT"),
    "line break in dialect": (in_query("dialect=%0d%0adata:x"), 400, "UNKNOWN_DIALECT"),
    "unknown events": (post(f"/stream?events={SECRET}", body_of(STREAM)), 400, "INVALID_REQUEST"),
    "line break in events": (in_query("events=named%0d%0adata:x"), 400, "INVALID_REQUEST"),
    "long Idempotency-Key": (with_header("Idempotency-Key: " + "k" * 256), 400, "INVALID_REQUEST"),
    "odd Idempotency-Key": (with_header("Idempotency-Key: \xff\xfe"), 400, "INVALID_REQUEST"),
    "Idempotency-Key with a break": (in_query("idempotency_key=a%0d%0ab"), 400, "INVALID_REQUEST"),
    "odd user": (with_header("X-User-Id: \xff"), 400, "INVALID_REQUEST"),
    "long session": (with_header("X-Session-Id: " + "s" * 201), 400, "INVALID_REQUEST"),
    "forged id": (with_header(f"Last-Event-ID: {SECRET}"), 400, "INVALID_EVENT_ID"),
    "id not ASCII": (with_header("Last-Event-ID: \xff"), 400, "INVALID_EVENT_ID"),
    "id of 8 KB": (with_header("Last-Event-ID: " + "9" * 8000), 400, "INVALID_EVENT_ID"),
    "id negative": (with_header(f"Last-Event-ID: {SID}-1--5"), 400, "INVALID_EVENT_ID"),
    "id huge": (with_header(f"Last-Event-ID: {SID}-1-{'9' * 16}"), 400, "INVALID_EVENT_ID"),
    "id in other digits": (with_header(f"Last-Event-ID: {SID}-1-\u00b2"), 400, "INVALID_EVENT_ID"),
    "id with NUL": (in_query("last_event_id=%00"), 400, "INVALID_EVENT_ID"),
    "id of no stream": (with_header(f"Last-Event-ID: {SID}-1-5"), 404, "STREAM_NOT_FOUND"),
    "id beside another stream": (
        bare(f"GET /stream/{SID}", f"Last-Event-ID: {SID[:-1]}1-1-1"),
        400,
        "INVALID_EVENT_ID",
    ),
    "no stream": (bare(f"GET /stream/{SID}"), 404, "STREAM_NOT_FOUND"),
    "no stream to cancel": (bare(f"DELETE /stream/{SID}"), 404, "STREAM_NOT_FOUND"),
    "no stream id": (bare(f"GET /stream/{SECRET}"), 400, "INVALID_EVENT_ID"),
    "no stream id, NUL": (bare("GET /stream/%00"), 400, "INVALID_EVENT_ID"),
    "no stream id, 7 KB": (bare("DELETE /stream/" + "x" * 7000), 400, "INVALID_EVENT_ID"),
    "wrong content type": (post(STREAM, body_of(STREAM), kind="text/plain"), 415, "UNSUPPORTED_MEDIA_TYPE"),
    "no content type at all": (post(STREAM, body_of(STREAM), kind=SECRET), 415, "UNSUPPORTED_MEDIA_TYPE"),
    "compressed body": (with_header("Content-Encoding: gzip"), 415, "UNSUPPORTED_MEDIA_TYPE"),
    "body too large": (post(STREAM, b" " * 300_001), 413, "BODY_TOO_LARGE"),
    "body that never comes": (post(STREAM, b"{", length=10**12), 408, "REQUEST_TIMEOUT"),
    "unknown path": (bare(f"GET /{SECRET}"), 404, "NOT_FOUND"),
    "path outside": (bare("GET /static/..%2f..%2fetc%2fpasswd"), 404, "NOT_FOUND"),
    "unknown method": (bare("PATCH /stream"), 405, "METHOD_NOT_ALLOWED"),
    "TRACE": (bare("TRACE /", f"Cookie: {SECRET}"), 405, "METHOD_NOT_ALLOWED"),
    "unknown expectation": (with_header(f"Expect: {SECRET}"), 417, "BAD_HTTP"),
}
CHAT_REQUESTS = {
    "resume": (with_header(f"Last-Event-ID: {SID}-1-5", CHAT), 400, "INVALID_EVENT_ID"),
    "forged id": (with_header(f"Last-Event-ID: {SECRET}", CHAT), 400, "INVALID_EVENT_ID"),
    "odd Idempotency-Key": (with_header("Idempotency-Key: \xff", CHAT), 400, "INVALID_REQUEST"),
    "odd user": (with_header(f"X-User-Id: {SECRET}\x80", CHAT), 400, "INVALID_REQUEST"),
    "wrong content type": (post(CHAT, b"x", kind="multipart/form-data"), 415, "UNSUPPORTED_MEDIA_TYPE"),
    "compressed body": (with_header(f"Content-Encoding: {SECRET}", CHAT), 415, "UNSUPPORTED_MEDIA_TYPE"),
    "body too large": (post(CHAT, b" " * 300_001), 413, "BODY_TOO_LARGE"),
    "body that never comes": (post(CHAT, b"{", length=9), 408, "REQUEST_TIMEOUT"),
    "unknown path": (bare(f"GET /v1/{SECRET}"), 404, "NOT_FOUND"),
    "unknown method": (bare("GET /v1/chat/completions"), 405, "METHOD_NOT_ALLOWED"),
    "unknown expectation": (with_header(f"Expect: {SECRET}", CHAT), 417, "BAD_HTTP"),
    "dialect asked for": (post("/stream?dialect=openai", b"{"), 400, "INVALID_JSON"),
}
ALL = [(STREAM, name, *case) for name, case in REQUESTS.items()] + [
    (CHAT, name, *case) for name, case in CHAT_REQUESTS.items()
]


@pytest.mark.parametrize(
    ("dialect", "request_bytes", "status", "code"),
    [(dialect, *case) for dialect, _, *case in ALL],
    ids=[f"{dialect} {name}" for dialect, name, *_ in ALL],
)
async def test_a_request_that_cannot_be_meant_so_is_refused_in_its_own_dialect(
    gateway: Gateway, dialect: str, request_bytes: bytes, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Parameters, headers, ids, bodies, paths and methods."""
    caplog.set_level(logging.INFO)
    await assert_refused(gateway, request_bytes, status, code, dialect, caplog)
