"""The table of refusals: every code that can be an HTTP answer, provoked for real, in both dialects."""

from typing import NamedTuple

import aiohttp
import pytest

from gateway.app.house import Gateway
from gateway.errors import Code, GatewayError
from tests.house import Seen
from tests.journeys import refusing
from tests.journeys.refusing import (
    BY_KEY,
    NATIVE,
    OPENAI,
    PATHS,
    PUBLIC,
    Provoke,
    asked,
    at_the_shop,
    by_upstream,
    ended,
    fetched,
    full,
    headed,
    is_of,
    sent,
)
from tests.journeys.test_upstream_faults import FAULTS
from tests.test_openapi import DOCUMENT, codes_of

BOTH = (NATIVE, OPENAI)
LIMITED = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "RateLimit-Policy", "RateLimit")
ELSEWHERE = {"X-Tenant-Hash": PUBLIC, "Origin": "https://evil.example"}
TIMES = {"GATEWAY_STREAM__FIRST_TOKEN_S": "0.3", "GATEWAY_STREAM__SILENCE_S": "0.3"}


class Row(NamedTuple):
    """How a code is provoked, in which dialects, whether it says when to ask again, and what headers it has besides."""

    provoke: Provoke
    retry_after: bool = False
    headers: tuple[str, ...] = ()
    dialects: tuple[str, ...] = BOTH
    again: bool = True
    """Whether a client library may ask again by itself."""
    status: int | None = None
    """Where it is not the code's own."""
    at: str = ""
    """The operation that was asked, where it is not the POST that opens a stream; `-` for none that is described."""


def by_fault(name: str) -> Row:
    """Provoked by an upstream's fault; the answer in one piece, where a failure is a status."""
    return Row(by_upstream(*FAULTS[name].steps, **TIMES), again=False, status=FAULTS[name].status)


async def lose(gateway: Gateway, _: aiohttp.ClientSession) -> None:
    """What a process says that finds a stream of another one, which died, and cannot go on with it."""
    gateway.hub.fail_where(lambda *_: True, GatewayError(Code.PRODUCER_LOST))


ROWS: dict[Code, Row] = {
    Code.INVALID_JSON: Row(asked(data=b"{", headers={"Content-Type": "application/json"})),
    Code.INVALID_REQUEST: Row(asked(change={"temperature": "hot"})),
    Code.INVALID_EVENT_ID: Row(asked(headers={"Last-Event-ID": "x"})),
    Code.UNKNOWN_DIALECT: Row(asked(params={"dialect": "klingon"}), dialects=(NATIVE,)),
    Code.CREDENTIAL_IN_QUERY: Row(asked(params={"api_key": "x"})),
    Code.UNAUTHENTICATED: Row(at_the_shop(), headers=("WWW-Authenticate",)),
    Code.FORBIDDEN: Row(asked(headers={"X-Forwarded-For": "203.0.113.9"})),
    Code.ORIGIN_NOT_ALLOWED: Row(at_the_shop(headers=ELSEWHERE)),
    Code.FEATURE_NOT_ALLOWED: Row(at_the_shop(tables={"features": 'dialects = ["none"]'}, headers=BY_KEY)),
    Code.MODEL_NOT_ALLOWED: Row(at_the_shop(tables={"features": 'models = ["other"]'}, headers=BY_KEY)),
    Code.UNKNOWN_MODEL: Row(asked(change={"model": "none"})),
    Code.NOT_FOUND: Row(fetched("GET", "/nothing", "/v1/nothing"), at="-"),
    Code.STREAM_NOT_FOUND: Row(
        fetched("GET", refusing.UNKNOWN, f"{refusing.UNKNOWN}?dialect=openai"), at="get /stream/{sid}"
    ),
    Code.SESSION_NOT_FOUND: Row(
        fetched("GET", "/sessions/s-1?user_id=u", ""), dialects=(NATIVE,), at="get /sessions/{session}"
    ),
    Code.METHOD_NOT_ALLOWED: Row(fetched("PATCH", "/stream", "/v1/chat/completions"), headers=("Allow",), at="-"),
    Code.REQUEST_TIMEOUT: Row(sent(refusing.unsent, GATEWAY_SERVER__BODY_S="0.1")),
    Code.CANCELLED: Row(ended(refusing.cancel), again=False),
    Code.STREAM_EXPIRED: Row(refusing.expired, at="get /stream/{sid}"),
    Code.BODY_TOO_LARGE: Row(asked(settings={"GATEWAY_SERVER__MAX_BODY_BYTES": "1024"}, change={"model": "x" * 2000})),
    Code.INPUT_TOO_LARGE: Row(asked(settings={"GATEWAY_INPUT__MAX_CHARS": "1"})),
    Code.UNSUPPORTED_MEDIA_TYPE: Row(asked(data=b"hi", headers={"Content-Type": "text/plain"})),
    Code.IDEMPOTENCY_MISMATCH: Row(refusing.mismatched, again=False),
    Code.HEADERS_TOO_LARGE: Row(
        headed("GET /stream?query=hi", "X: " + "x" * 20_000), dialects=(NATIVE,), at="get /stream"
    ),
    Code.BAD_HTTP: Row(headed("GET /stream HTTP/7"), dialects=(NATIVE,), at="get /stream"),
    Code.RATE_LIMITED: Row(
        at_the_shop(attempts=2, tables={"limits": "requests = 1"}, headers=BY_KEY), retry_after=True, headers=LIMITED
    ),
    Code.TOO_MANY_STREAMS: Row(refusing.crowded, retry_after=True),
    Code.BUDGET_EXCEEDED: Row(refusing.spent, retry_after=True),
    Code.OVERLOADED: Row(full(GATEWAY_STREAM__MAX_STREAMS="1"), retry_after=True),
    Code.QUEUE_FULL: Row(full(GATEWAY_QUEUE__SLOTS="1", GATEWAY_QUEUE__MAX_WAITING="0"), retry_after=True),
    Code.QUEUE_TIMEOUT: Row(
        full(waits=True, GATEWAY_QUEUE__SLOTS="1", GATEWAY_QUEUE__PATIENCE_S="0.1"), retry_after=True
    ),
    Code.STORE_FULL: Row(full(GATEWAY_STREAM__STORE_MAX_BYTES="6500"), retry_after=True),
    Code.STORE_AWAY: Row(asked(settings=refusing.away()), retry_after=True),
    Code.DRAINING: Row(refusing.draining, retry_after=True),
    Code.STREAMING_DISABLED: Row(asked(settings={"STREAMING_ENABLED": "false"}), again=False),
    Code.INTERNAL: Row(refusing.broken),
    Code.UPSTREAM_UNAVAILABLE: by_fault("reset before headers"),
    Code.UPSTREAM_TLS: Row(refusing.untrusted, again=False),
    Code.UPSTREAM_AUTH: by_fault("status 401"),
    Code.UPSTREAM_REJECTED: by_fault("status 400"),
    Code.UPSTREAM_RATE_LIMITED: by_fault("status 429"),
    Code.UPSTREAM_ERROR: by_fault("status 502"),
    Code.UPSTREAM_TIMEOUT: by_fault("stall before headers"),
    Code.UPSTREAM_TRUNCATED: by_fault("empty stream"),
    Code.UPSTREAM_PROTOCOL: by_fault("no HTTP"),
    Code.PRODUCER_LOST: Row(ended(lose), again=False),
    Code.OUTPUT_LIMIT: Row(by_upstream(*refusing.BEGUN, GATEWAY_STREAM__MAX_OUTPUT_BYTES="1024"), again=False),
}

CASES = [(code, dialect) for code, row in ROWS.items() for dialect in row.dialects]


@pytest.mark.parametrize(("code", "dialect"), CASES, ids=[f"{code.name}-{dialect}" for code, dialect in CASES])
async def test_a_refusal_is_what_its_table_says(code: Code, dialect: str) -> None:
    """Status, code, the dialect's own shape, and the headers that help: no more of them, and no fewer."""
    row = ROWS[code]
    seen = await row.provoke(dialect)
    error = is_of(dialect, seen)
    assert (error["code"], seen.status) == (code.name, row.status or code.status), seen.body
    if dialect == NATIVE:
        assert (error["status"], error["error"], error["retryable"]) == (seen.status, code.meaning, code.retryable)
    assert_headers(seen, code, row)


@pytest.mark.parametrize("code", ROWS, ids=lambda code: code.name)
def test_each_of_them_is_described(code: Code) -> None:
    """In `/openapi.json`, at the operation that gives it, under its status."""
    row = ROWS[code]
    for dialect in row.dialects if row.at != "-" else ():
        method, path = (row.at or f"post {PATHS[dialect]}").split(" ")
        responses = DOCUMENT["paths"][path][method]["responses"]
        status = str(row.status or code.status)
        assert code.name in codes_of(responses.get(status, responses.get(f"{status[0]}XX"))), (path, status)


def assert_headers(seen: Seen, code: Code, row: Row) -> None:
    """`Retry-After` exactly where it helps, `x-should-retry` where asking again would cost twice."""
    assert ("Retry-After" in seen.headers) is row.retry_after, dict(seen.headers)
    if row.retry_after:
        assert code.retryable
        assert 1 <= int(seen.headers["Retry-After"]) <= 86_400
    assert (seen.headers.get("x-should-retry") == "false") is not row.again, dict(seen.headers)
    missing = [name for name in row.headers if not seen.headers.get(name)]
    assert not missing, dict(seen.headers)


def test_the_table_holds_every_code() -> None:
    """None is left out."""
    assert set(ROWS) == set(Code)
