"""Rows of the security matrix that are about who asks, at the gateway's own sockets."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.admission.attempts import FAILURES_MAX
from gateway.admission.keys import digest_of, new_key, written
from gateway.app.house import Gateway
from gateway.stores.memory import MemoryStore
from tests.feed import feed, question
from tests.house import Seen, eventually, house, see
from tests.redis_server import RedisServer
from tests.tenancy import (
    ACME_HASH,
    ACME_KEY,
    ACME_PAGE,
    RIVAL_HASH,
    RIVAL_KEY,
    RIVAL_PAGE,
    SECOND_KEY,
    SESSION,
    TWO,
    bearer,
    token,
    write,
)

QUESTION = {"query": "hi"}
PLAIN_KEY = new_key()
PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
READABLE = "Access-Control-Allow-Origin"
FOREIGN = [
    "https://evil.example",
    "null",
    "https://evil-www.acme.example",
    "https://www.acme.example.evil.org",
    "https://acme.example",
    "http://www.acme.example",
    "https://www.acme.example:8443",
    "https://www.acme.example/",
    "*",
]


@pytest.fixture
async def visit(tmp_path: Path) -> AsyncIterator[tuple[Gateway, aiohttp.ClientSession]]:
    """A house with two tenants, and a client."""
    path = str(write(tmp_path))
    async with house(GATEWAY_TENANTS__FILE=path) as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        yield gateway, session


Visit = tuple[Gateway, aiohttp.ClientSession]


async def test_row_3_no_endpoint_gives_a_stream_to_another_tenant(visit: Visit) -> None:
    """With its id, its user and its session in hand: to read, to resume, to cancel, to rate."""
    _, session = visit
    names = {"user_id": "alice", "session_id": SESSION}
    mine = await see(session, "POST", "/stream", headers=bearer(ACME_KEY), json={**QUESTION, **names})
    sid = mine.headers["X-Stream-Id"]
    rival = {**bearer(RIVAL_KEY), "X-User-Id": "alice", "X-Session-Id": SESSION}
    page = {"X-Tenant-Hash": RIVAL_HASH, "Origin": RIVAL_PAGE, "X-Session-Id": SESSION}
    place = {"Last-Event-ID": mine.logged[0].id}
    ticket = (await see(session, "POST", "/stream/tickets", headers=rival, json=names)).json()["ticket"]
    asked: list[tuple[str, str, dict[str, str], Any]] = [
        (method, path, headers, body)
        for headers in (rival, page, {"Authorization": f"Ticket {ticket}"})
        for method, path, body in (
            ("GET", f"/stream/{sid}", None),
            ("DELETE", f"/stream/{sid}", None),
            ("POST", f"/stream/{sid}/feedback", {"rating": 1}),
        )
    ]
    asked += [("POST", "/stream", {**rival, **place}, QUESTION), ("GET", "/stream?query=hi", {**rival, **place}, None)]
    for method, path, headers, body in asked:
        seen = await see(session, method, path, headers=headers, json=body)
        assert (seen.status, seen.json()["code"]) == (404, "STREAM_NOT_FOUND"), (method, path)
    mine_again = await see(session, "GET", f"/stream/{sid}", headers={**bearer(ACME_KEY), "X-User-Id": "alice"})
    assert mine_again.text == mine.text


async def test_row_4_and_14_nor_are_conversations_and_preferences(visit: Visit) -> None:
    """Of another tenant, of another user, of another session of the same page."""
    _, session = visit
    alice = {**bearer(ACME_KEY), "X-User-Id": "alice"}
    await see(session, "POST", "/stream", headers=alice, json={**QUESTION, "session_id": SESSION})
    await see(session, "PUT", "/preferences", headers=alice, json={"response": "concise"})
    kept = f"/sessions/{SESSION}"
    assert (await see(session, "GET", kept, headers=alice)).status == 200
    strangers = [
        {**bearer(RIVAL_KEY), "X-User-Id": "alice"},
        {**bearer(ACME_KEY), "X-User-Id": "bob"},
        bearer(token(sub="bob")),
        {"X-Tenant-Hash": ACME_HASH, "Origin": ACME_PAGE, "X-Session-Id": SESSION},
    ]
    for headers in strangers:
        for method in ("GET", "DELETE"):
            assert (await see(session, method, kept, headers=headers)).status == 404
    for headers in strangers[:3]:
        assert (await see(session, "GET", "/preferences", headers=headers)).json()["response"] is None
    assert (await see(session, "GET", kept, headers=bearer(token()))).status == 200
    assert (await see(session, "GET", "/preferences", headers=alice)).json()["response"] == "concise"


@pytest.mark.parametrize("kept_in", ["memory", "redis"])
async def test_row_6_a_withdrawn_key_ends_its_streams_and_reads_none(
    tmp_path: Path, request: pytest.FixtureRequest, kept_in: str
) -> None:
    """Live ones within five seconds, as `UNAUTHENTICATED`; others of the tenant go on; finished ones answer 401."""
    environment = {"GATEWAY_TENANTS__FILE": str(write(tmp_path))}
    if kept_in == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        environment["REDIS_URL"] = server.url
    async with (
        feed() as service,
        house(OPENAI_BASE_URL=service.url, **environment) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        body = {"query": question(1_000, 20)}
        reading = [
            asyncio.create_task(see(session, "POST", "/stream", headers=headers, json={**body, "message_id": name}))
            for name, headers in (
                ("first", bearer(ACME_KEY)),
                ("token", bearer(token())),
                ("second", bearer(SECOND_KEY)),
            )
        ]
        ticket = (await see(session, "POST", "/stream/tickets", headers=bearer(ACME_KEY), json={})).json()["ticket"]
        finished = await see(session, "POST", "/stream", headers=bearer(ACME_KEY), json={"query": question(2)})
        await eventually(lambda: service.answering == 3)
        write(tmp_path, _without_first_key_and_tokens())
        assert await gateway.tenants.reload() == ""
        async with asyncio.timeout(5):
            ended = await asyncio.gather(*reading[:2])
        for seen in ended:
            assert seen.data("error")[0]["code"] == "UNAUTHENTICATED"
        assert not reading[2].done()
        assert service.answering == 1
        sid = finished.headers["X-Stream-Id"]
        for headers, query in ((bearer(ACME_KEY), ""), (bearer(token()), ""), ({}, f"?ticket={ticket}")):
            assert (await see(session, "GET", f"/stream/{sid}{query}", headers=headers)).status == 401
        reading[2].cancel()


def _without_first_key_and_tokens() -> str:
    text, _, rest = TWO.partition("[tenants.acme.jwt]")
    first = text.index('"sha256:')
    return text[:first] + text[text.index("{", first) :] + "[tenants.rival]" + rest.partition("[tenants.rival]")[2]


@pytest.mark.parametrize("path", ["/stream?query=hi&{}", "/streams?{}", "/v1/models?{}", "/stream/tickets?{}"])
async def test_row_7_a_key_in_a_query_is_refused_and_stands_nowhere(
    visit: Visit, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    """Neither in an answer, nor in the log, nor in the metrics."""
    _, session = visit
    with caplog.at_level(logging.DEBUG):
        for name in ("api_key", "key", "access_token", "token", "authorization"):
            method = "POST" if "tickets" in path else "GET"
            seen = await see(session, method, path.format(f"{name}={ACME_KEY}"), headers=bearer(ACME_KEY))
            error = seen.json()["error"] if path.startswith("/v1/") else seen.json()
            assert (seen.status, error["code"]) == (400, "CREDENTIAL_IN_QUERY")
            assert ACME_KEY.encode() not in seen.body
        metrics = await see(session, "GET", "/metrics")
    assert ACME_KEY.encode() not in metrics.body
    # The test's own client logs nothing; whatever stands here is the gateway's.
    assert ACME_KEY not in caplog.text


async def test_no_credential_stands_in_the_log_or_in_what_is_kept(
    visit: Visit, caplog: pytest.LogCaptureFixture
) -> None:
    """Whichever was shown, whether it was good or not."""
    gateway, session = visit
    shown = [ACME_KEY, new_key(), token(), token(exp=1)]
    with caplog.at_level(logging.DEBUG):
        made = (await see(session, "POST", "/stream/tickets", headers=bearer(ACME_KEY), json={})).json()["ticket"]
        for secret in shown:
            await see(session, "POST", "/stream", headers=bearer(secret), json=QUESTION)
        await see(session, "GET", f"/stream?query=hi&ticket={made}")
    assert isinstance(gateway._store, MemoryStore)
    kept = repr([(stream.owner, stream.request) for stream in gateway._store.all()])
    for secret in (*shown, made):
        assert secret not in caplog.text
        assert secret not in kept


async def test_row_12_guessing_keys_is_stopped_by_address(visit: Visit) -> None:
    """The same 401 so many times, then 429 with a time to wait; a good key is let in all the same."""
    _, session = visit
    answers = [
        await see(session, "POST", "/stream", headers=bearer(new_key()), json=QUESTION) for _ in range(FAILURES_MAX)
    ]
    assert {seen.status for seen in answers} == {401}
    assert len({seen.json()["message"] for seen in answers}) == 1
    assert (await see(session, "POST", "/stream", headers=bearer(ACME_KEY), json=QUESTION)).status == 200
    last = await see(session, "POST", "/stream", headers=bearer(new_key()), json=QUESTION)
    assert (last.status, last.json()["code"], last.json()["error"]) == (
        429,
        "RATE_LIMITED",
        "Streaming rate limit exceeded",
    )
    assert 1 <= int(last.headers["Retry-After"]) <= 60


# Row 15: CORS.


def may_read(seen: Seen) -> str | None:
    """The page that may read an answer."""
    page = seen.headers.get(READABLE)
    return None if page is None else str(page)


@pytest.mark.parametrize(
    "path", ["/stream", "/stream/tickets", "/v1/chat/completions", "/streams", "/sessions/s", "/any"]
)
async def test_row_15_a_preflight_is_answered_for_listed_origins(visit: Visit, path: str) -> None:
    """On every path, with exactly that origin and what the gateway reads."""
    _, session = visit
    for origin in (ACME_PAGE, RIVAL_PAGE):
        seen = await see(session, "OPTIONS", path, headers={"Origin": origin, **PREFLIGHT})
        assert (seen.status, seen.body) == (204, b"")
        assert may_read(seen) == origin
        assert seen.headers["Vary"] == "Origin"
        assert seen.headers["Access-Control-Max-Age"] == "600"
        allowed = {name.strip().lower() for name in seen.headers["Access-Control-Allow-Headers"].split(",")}
        assert {
            "authorization", "content-type", "idempotency-key", "last-event-id", "x-api-key", "x-session-id",
            "x-tenant-hash", "x-user-id",
        } <= allowed  # fmt: skip
        assert "*" not in seen.headers["Access-Control-Allow-Methods"]
        assert "Access-Control-Allow-Credentials" not in seen.headers


@pytest.mark.parametrize("origin", FOREIGN)
async def test_row_15_a_foreign_page_gets_nothing(visit: Visit, origin: str) -> None:
    """No preflight, no stream by hash or key, and no header that would let it read even the refusal."""
    _, session = visit
    hashed = {"X-Tenant-Hash": ACME_HASH, "X-Session-Id": SESSION}
    for method, headers in (
        ("OPTIONS", PREFLIGHT),
        ("POST", hashed),
        ("POST", bearer(ACME_KEY)),
        ("POST", bearer(token())),
    ):
        seen = await see(session, method, "/stream", headers={"Origin": origin, **headers}, json=QUESTION)
        assert (seen.status, seen.json()["code"]) == (403, "ORIGIN_NOT_ALLOWED")
        assert may_read(seen) is None
        assert seen.headers["Vary"] == "Origin"


async def test_row_15_a_page_reads_answers_of_its_own_tenant_only(visit: Visit) -> None:
    """Streams, refusals and JSON alike; of another tenant's key not even with the origin of a tenant."""
    _, session = visit
    page = {"X-Tenant-Hash": ACME_HASH, "Origin": ACME_PAGE, "X-Session-Id": SESSION}
    stream = await see(session, "POST", "/stream", headers=page, json=QUESTION)
    wrong = await see(session, "POST", "/stream", headers=page, json={"colour": "red"})
    listed = await see(session, "GET", "/streams", headers=page)
    unknown = await see(
        session, "POST", "/stream", headers={"Origin": ACME_PAGE, **bearer(token(exp=1))}, json=QUESTION
    )
    assert [seen.status for seen in (stream, wrong, listed, unknown)] == [200, 400, 200, 401]
    for seen in (stream, wrong, listed, unknown):
        assert may_read(seen) == ACME_PAGE
        assert seen.headers["Vary"] == "Origin"
        assert {"X-Stream-Id", "X-Variant"} <= set(seen.headers["Access-Control-Expose-Headers"].split(", "))
    foreign = await see(session, "POST", "/stream", headers={"Origin": ACME_PAGE, **bearer(RIVAL_KEY)}, json=QUESTION)
    assert (foreign.status, may_read(foreign)) == (403, None)
    program = await see(session, "POST", "/stream", headers=bearer(ACME_KEY), json=QUESTION)
    assert (program.status, may_read(program), program.headers["Vary"]) == (200, None, "Origin")


async def test_row_15_a_tenant_without_pages_lets_none_read_its_answers(tmp_path: Path) -> None:
    """Though a program of its own may send an origin, and other tenants have pages."""
    text = f"{TWO}\n[tenants.plain]\nkeys = ['{written(digest_of(PLAIN_KEY))}']\n"
    path = str(write(tmp_path, text))
    async with house(GATEWAY_TENANTS__FILE=path) as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        for origin in (ACME_PAGE, "https://evil.example"):
            seen = await see(session, "POST", "/stream", headers={"Origin": origin, **bearer(PLAIN_KEY)}, json=QUESTION)
            assert (seen.status, may_read(seen), seen.headers["Vary"]) == (200, None, "Origin")


async def test_without_tenants_no_page_of_another_server_may_ask() -> None:
    """And the gateway's own may, and programs."""
    async with house() as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        foreign = await see(session, "POST", "/stream", headers={"Origin": "https://evil.example"}, json=QUESTION)
        preflight = await see(session, "OPTIONS", "/stream", headers={"Origin": "https://evil.example", **PREFLIGHT})
        assert {(seen.status, seen.json()["code"]) for seen in (foreign, preflight)} == {(403, "ORIGIN_NOT_ALLOWED")}
        own = await see(session, "POST", "/stream", headers={"Origin": gateway.urls[0]}, json=QUESTION)
        assert (own.status, may_read(own), "Vary" in own.headers) == (200, None, False)
        plain_options = await see(session, "OPTIONS", "/stream")
        assert plain_options.status == 405


# Rows 22 and 23: headers that a client made up.


async def test_row_22_headers_of_other_houses_say_nothing(visit: Visit) -> None:
    """Whatever a client writes into them, it is who its credential says."""
    _, session = visit
    claims = dict.fromkeys(
        ("X-Tenant", "X-Tenant-Id", "X-Tenant-Name", "X_Tenant_Hash", "X_API_Key", "X-User"), "rival"
    )
    seen = await see(session, "POST", "/stream", headers={**claims, **bearer(token())}, json=QUESTION)
    path = f"/stream/{seen.headers['X-Stream-Id']}"
    assert (await see(session, "GET", path, headers={**bearer(ACME_KEY), "X-User-Id": "alice"})).status == 200
    assert (await see(session, "POST", "/stream", headers=claims, json=QUESTION)).status == 401


async def test_row_23_nobody_escapes_a_limit_by_a_forged_address(visit: Visit) -> None:
    """The socket's peer counts where no proxy is trusted, whatever is forwarded."""
    _, session = visit
    for number in range(FAILURES_MAX):
        forged = {"X-Forwarded-For": f"198.51.100.{number}", **bearer(new_key())}
        assert (await see(session, "POST", "/stream", headers=forged, json=QUESTION)).status == 401
    forged = {"X-Forwarded-For": "198.51.100.99", **bearer(new_key())}
    assert (await see(session, "POST", "/stream", headers=forged, json=QUESTION)).status == 429


async def test_row_23_only_the_trusted_proxys_own_entry_counts(tmp_path: Path) -> None:
    """What stands left of it is the client's own claim; several headers are one list."""
    environment = {"GATEWAY_TENANTS__FILE": str(write(tmp_path)), "GATEWAY_SERVER__TRUSTED_PROXIES": "127.0.0.1"}
    async with house(**environment) as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:

        async def status(key: str, *forwarded: str) -> int:
            headers = [("Authorization", f"Bearer {key}"), *(("X-Forwarded-For", one) for one in forwarded)]
            return (await see(session, "POST", "/stream", headers=headers, json=QUESTION)).status

        for number in range(FAILURES_MAX):
            assert await status(new_key(), f"203.0.113.{number}", "198.51.100.1") == 401
        assert await status(new_key(), "203.0.113.250, 198.51.100.1") == 429
        assert await status(new_key(), "198.51.100.1, 198.51.100.2") == 401


async def test_a_name_that_somebody_lets_point_here_opens_nothing() -> None:
    """Its pages are of the gateway's own origin for a browser (DNS rebinding); what is only looked at is shown."""
    async with house() as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        port = gateway.urls[0].rpartition(":")[2]
        rebound = {"Host": f"evil.example:{port}", "Sec-Fetch-Site": "same-origin"}
        posted = {**rebound, "Origin": f"http://evil.example:{port}"}
        for headers, method, path in (
            (posted, "POST", "/stream"),
            (rebound, "GET", "/sessions/x"),
            (rebound, "GET", "/stream?query=hi"),
            (rebound, "GET", "/v1/models"),
        ):
            seen = await see(session, method, path, headers=headers, json=QUESTION if method == "POST" else None)
            code = seen.json()["error"]["code"] if path.startswith("/v1/") else seen.json()["code"]
            assert (seen.status, code) == (403, "FORBIDDEN")
        crossing = {"Sec-Fetch-Site": "cross-site"}
        planted = await see(session, "GET", "/stream?query=hi&session_id=mine", headers=crossing)
        assert (planted.status, planted.json()["code"]) == (403, "ORIGIN_NOT_ALLOWED")
        for page in ("/", "/docs"):
            assert (await see(session, "GET", page, headers=crossing)).status == 200


async def test_the_open_tenant_is_not_open_to_those_behind_a_proxy() -> None:
    """A gateway that somebody put behind nginx without configuring tenants serves nobody but this machine."""
    async with house() as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        seen = await see(session, "POST", "/stream", headers={"X-Forwarded-For": "203.0.113.7"}, json=QUESTION)
        assert (seen.status, seen.json()["code"]) == (403, "FORBIDDEN")
        assert "tenants" in seen.json()["message"]
        own = await see(session, "POST", "/stream", headers={"X-Forwarded-For": "127.0.0.1"}, json=QUESTION)
        assert own.status == 200


@pytest.mark.parametrize("kept_in", ["memory", "redis"])
async def test_a_stranger_finds_nothing_of_a_backends_session_of_the_same_name(
    tmp_path: Path, request: pytest.FixtureRequest, kept_in: str
) -> None:
    """Neither the conversation nor the streams nor the list, with or without a ticket; it has one of its own."""
    environment = {"GATEWAY_TENANTS__FILE": str(write(tmp_path))}
    if kept_in == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        environment["REDIS_URL"] = server.url
    name = "customer-number-000042"
    backend, page = bearer(ACME_KEY), {"X-Tenant-Hash": ACME_HASH, "Origin": ACME_PAGE}
    named = {**page, "X-Session-Id": name}
    async with house(**environment) as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        asked = await see(session, "POST", "/stream", headers=backend, json={**QUESTION, "session_id": name})
        path = f"/stream/{asked.headers['X-Stream-Id']}"
        made = (await see(session, "POST", "/stream/tickets", headers=named, json={})).json()
        assert made["session_id"] == name
        ticket = {"Authorization": f"Ticket {made['ticket']}", "Origin": ACME_PAGE}
        for method in ("GET", "DELETE"):
            for headers in (page, named):
                assert (await see(session, method, f"/sessions/{name}", headers=headers)).status == 404
            for headers in (named, ticket):
                assert (await see(session, method, path, headers=headers)).status == 404
        assert (await see(session, "GET", "/streams", headers=named)).json()["streams"] == []
        own = await see(session, "POST", "/stream", headers=page, json={"query": "mine", "session_id": name})
        assert (await see(session, "GET", f"/stream/{own.headers['X-Stream-Id']}", headers=named)).status == 200
        async with asyncio.timeout(5):
            # Redis hears of it a moment later.
            while not (listed := (await see(session, "GET", "/streams", headers=named)).json()["streams"]):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert [stream["session_id"] for stream in listed] == [name]
        again = await see(session, "GET", "/stream?query=more", headers=ticket)
        assert again.status == 200
        mine = (await see(session, "GET", f"/sessions/{name}", headers=page)).json()
        assert [line["content"] for line in mine["messages"] if line["role"] == "user"] == ["mine", "more"]
        theirs = (await see(session, "GET", f"/sessions/{name}", headers=backend)).json()
        assert [line["content"] for line in theirs["messages"] if line["role"] == "user"] == ["hi"]
        assert (await see(session, "DELETE", f"/sessions/{name}", headers=page)).status == 204
        assert (await see(session, "GET", f"/sessions/{name}", headers=backend)).status == 200
