"""The table of refusals: every code that can be an HTTP answer, provoked for real, in both dialects."""

from typing import NamedTuple

from gateway.errors import Code
from tests.journeys.refusing import (
    NATIVE,
    OPENAI,
    PUBLIC,
    UNKNOWN,
    Provoke,
    asked,
    away,
    broken,
    by_tenants,
    by_upstream,
    cancelled,
    draining,
    expired,
    fetched,
    full,
    headed,
    mismatched,
    sent,
    unsent,
)
from tests.journeys.test_upstream_faults import FAULTS

BOTH = (NATIVE, OPENAI)
SHOP = f'[tenants.shop]\npublic_hash = "{PUBLIC}"\norigins = ["https://shop.example"]\n'
ELSEWHERE = {"Origin": "https://evil.example"}
PLAINLY = {"Accept": "application/json"}
BAD_KEY = {"X-API-Key": "sk-of-nobody"}


class Row(NamedTuple):
    """How a code is provoked, in which dialects, whether it says when to ask again, and what headers it has besides."""

    provoke: Provoke
    retry_after: bool = False
    headers: tuple[str, ...] = ()
    dialects: tuple[str, ...] = BOTH
    again: bool = True
    """Whether a client library may ask again by itself."""


def by_fault(name: str) -> Row:
    """Provoked by an upstream's fault; the answer in one piece, where a failure is a status."""
    times = {"GATEWAY_STREAM__FIRST_TOKEN_S": "0.3", "GATEWAY_STREAM__SILENCE_S": "0.3"}
    return Row(by_upstream(*FAULTS[name].steps, **times), again=False)


ROWS: dict[Code, Row] = {
    Code.INVALID_JSON: Row(asked(data=b"{", headers={"Content-Type": "application/json"})),
    Code.INVALID_REQUEST: Row(asked(change={"temperature": "hot"})),
    Code.INVALID_EVENT_ID: Row(asked(headers={"Last-Event-ID": "x"})),
    Code.UNKNOWN_DIALECT: Row(asked(params={"dialect": "klingon"}), dialects=(NATIVE,)),
    Code.CREDENTIAL_IN_QUERY: Row(asked(params={"api_key": "x"})),
    Code.UNAUTHENTICATED: Row(by_tenants(SHOP), headers=("WWW-Authenticate",)),
    Code.FORBIDDEN: Row(asked(headers={"X-Forwarded-For": "203.0.113.9"})),
    Code.ORIGIN_NOT_ALLOWED: Row(by_tenants(SHOP, headers={"X-Tenant-Hash": PUBLIC, **ELSEWHERE})),
    Code.UNKNOWN_MODEL: Row(asked(change={"model": "none"})),
    Code.NOT_FOUND: Row(fetched("GET", "/nothing", "/v1/nothing")),
    Code.STREAM_NOT_FOUND: Row(fetched("GET", UNKNOWN, f"{UNKNOWN}?dialect=openai")),
    Code.SESSION_NOT_FOUND: Row(fetched("GET", "/sessions/s-1?user_id=u", ""), dialects=(NATIVE,)),
    Code.METHOD_NOT_ALLOWED: Row(fetched("PATCH", "/stream", "/v1/chat/completions"), headers=("Allow",)),
    Code.REQUEST_TIMEOUT: Row(sent(unsent, GATEWAY_SERVER__BODY_S="0.1")),
    Code.CANCELLED: Row(cancelled, again=False),
    Code.STREAM_EXPIRED: Row(expired),
    Code.BODY_TOO_LARGE: Row(
        asked(settings={"GATEWAY_SERVER__MAX_BODY_BYTES": "1024"}, change={"language": "x" * 2000})
    ),
    Code.UNSUPPORTED_MEDIA_TYPE: Row(asked(data=b"hi", headers={"Content-Type": "text/plain"})),
    Code.IDEMPOTENCY_MISMATCH: Row(mismatched, again=False),
    Code.HEADERS_TOO_LARGE: Row(headed("GET /stream?query=hi", "X: " + "x" * 20_000), dialects=(NATIVE,)),
    Code.BAD_HTTP: Row(headed("GET /stream HTTP/7"), dialects=(NATIVE,)),
    Code.RATE_LIMITED: Row(by_tenants(SHOP, attempts=21, headers=BAD_KEY), retry_after=True),
    Code.OVERLOADED: Row(full(GATEWAY_STREAM__MAX_STREAMS="1"), retry_after=True),
    Code.STORE_FULL: Row(full(GATEWAY_STREAM__STORE_MAX_BYTES="6500"), retry_after=True),
    Code.STORE_AWAY: Row(asked(settings=away()), retry_after=True),
    Code.DRAINING: Row(draining, retry_after=True),
    Code.STREAMING_DISABLED: Row(asked(settings={"STREAMING_ENABLED": "false"}, change={"stream": True})),
    Code.INTERNAL: Row(broken),
    Code.UPSTREAM_UNAVAILABLE: Row(asked(settings=nowhere(), headers=PLAINLY), again=False),
    Code.UPSTREAM_AUTH: by_fault("status 401"),
    Code.UPSTREAM_REJECTED: by_fault("status 400"),
    Code.UPSTREAM_RATE_LIMITED: by_fault("status 429"),
    Code.UPSTREAM_ERROR: by_fault("status 502"),
    Code.UPSTREAM_TIMEOUT: by_fault("stall before headers"),
    Code.UPSTREAM_TRUNCATED: by_fault("empty stream"),
    Code.UPSTREAM_PROTOCOL: by_fault("no HTTP"),
}
PENDING: dict[Code, str] = {
    Code.PRODUCER_LOST: "needs a process that dies: tests/cluster/test_upstreams.py",
}
"""Codes that no row provokes, and where they are."""

CASES = [(code, dialect) for code, row in ROWS.items() for dialect in row.dialects]


@pytest.mark.parametrize(("code", "dialect"), CASES, ids=[f"{code.name}-{dialect}" for code, dialect in CASES])
async def test_a_refusal_is_what_its_table_says(code: Code, dialect: str) -> None:
    """Status, code, the dialect's own shape, and the headers that help: no more of them, and no fewer."""
    row = ROWS[code]
    seen = await row.provoke(dialect)
    error = is_of(dialect, seen)
    assert (error["code"], seen.status) == (code.name, error.get("status", code.status)), seen.body
    if dialect == NATIVE:
        assert (error["error"], error["retryable"]) == (code.meaning, code.retryable)
    assert_headers(seen, code, row)


def assert_headers(seen: Seen, code: Code, row: Row) -> None:
    """`Retry-After` exactly where it helps, and nothing that a cache may keep."""
    assert ("Retry-After" in seen.headers) is row.retry_after
    if row.retry_after:
        assert code.retryable
        assert 1 <= int(seen.headers["Retry-After"]) <= 3600
    assert (seen.headers.get("x-should-retry") == "false") is not row.again
    missing = [name for name in row.headers if not seen.headers.get(name)]
    assert not missing, dict(seen.headers)


def test_the_table_holds_every_code() -> None:
    """But for those that are named, with where they are."""
    assert set(ROWS) | set(PENDING) == set(Code)
    assert not set(ROWS) & set(PENDING)
