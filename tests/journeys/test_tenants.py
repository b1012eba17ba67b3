"""Tenants over real sockets: each sees its own, keys come and go without a restart, tickets open one stream."""

import asyncio
from argparse import Namespace
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.app.house import Gateway
from gateway.cli import EXIT_CONFIG, main
from gateway.tail import KEY_VARIABLE, tail
from tests.feed import feed, question
from tests.house import FAST, Seen, eventually, gateway_process, house, see
from tests.journeys.asking import COMPLETION, openai_text
from tests.redis_server import RedisServer
from tests.tenancy import (
    ACME_HASH,
    ACME_KEY,
    ACME_PAGE,
    OTHER_SESSION,
    RIVAL,
    RIVAL_KEY,
    SECOND_KEY,
    SESSION,
    TWO,
    bearer,
    token,
    write,
)
from tests.upstream import upstream

QUESTION = {"query": "hi"}


class Visit:
    """A client of a gateway with two tenants."""

    def __init__(self, gateway: Gateway, session: aiohttp.ClientSession, path: Path) -> None:
        self.gateway = gateway
        self.session = session
        self.path = path

    async def ask(self, method: str, path: str, headers: dict[str, str] | None = None, **options: Any) -> Seen:
        """One request, read to its end."""
        return await see(self.session, method, path, headers=headers or {}, **options)

    async def ticket(self, headers: dict[str, str], **body: Any) -> dict[str, Any]:
        """A new ticket, and what is said with it."""
        seen = await self.ask("POST", "/stream/tickets", headers, json=body)
        assert seen.status == 200, seen.body
        assert seen.headers["Cache-Control"] == "no-store"
        return dict(seen.json())


@pytest.fixture
async def visit(tmp_path: Path) -> AsyncIterator[Visit]:
    """A house with two tenants."""
    path = write(tmp_path)
    async with house(GATEWAY_TENANTS__FILE=str(path)) as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        yield Visit(gateway, session, path)


async def test_both_dialects_answer_who_shows_a_key_and_nobody_else(visit: Visit) -> None:
    """With a real status and a challenge, each in its own words."""
    native = await visit.ask("POST", "/stream", bearer(ACME_KEY), json=QUESTION)
    completed = await visit.ask(
        "POST", "/v1/chat/completions", bearer(ACME_KEY), json={**COMPLETION, "model": "local", "stream": True}
    )
    assert native.names[-1] == "close"
    assert openai_text(completed)
    assert (await visit.ask("GET", "/v1/models", {"X-API-Key": ACME_KEY})).status == 200
    for method, path, body in (
        ("POST", "/stream", QUESTION),
        ("POST", "/v1/chat/completions", COMPLETION),
        ("GET", "/v1/models", None),
        ("GET", "/stream?query=hi", None),
        ("GET", "/streams?user_id=alice", None),
        ("GET", f"/stream/{'0' * 22}", None),
        ("GET", "/stream/malformed", None),
        ("DELETE", f"/stream/{'0' * 22}", None),
        ("POST", "/stream/tickets", {}),
        ("GET", "/sessions/s1", None),
        ("DELETE", "/sessions/s1", None),
        ("GET", "/preferences", None),
    ):
        seen = await visit.ask(method, path, json=body)
        error = seen.json().get("error") if path.startswith("/v1/") else seen.json()
        assert (seen.status, error["code"]) == (401, "UNAUTHENTICATED"), path
        assert seen.headers["WWW-Authenticate"] == "Bearer"


async def test_who_is_not_let_in_need_not_be_read(visit: Visit) -> None:
    """401 before the body: neither its size nor its errors are anybody's business."""
    seen = await visit.ask("POST", "/stream", data=b"{" * 1000, skip_auto_headers=["Content-Type"])
    assert seen.status == 401


async def test_what_watches_the_process_needs_no_key(visit: Visit) -> None:
    """Nor does the page; nothing of tenants is told there."""
    for path in ("/health/live", "/health/ready", "/metrics", "/"):
        seen = await visit.ask("GET", path)
        assert seen.status == 200
        assert b"acme" not in seen.body


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_stream_is_unknown_to_another_tenant_with_the_same_user(visit: Visit, method: str) -> None:
    """404, as for one that never was; and it runs on."""
    mine = await visit.ask("POST", "/stream", bearer(ACME_KEY), json={**QUESTION, "user_id": "alice"})
    path = f"/stream/{mine.headers['X-Stream-Id']}"
    alice = {"X-User-Id": "alice"}
    foreign = await visit.ask(method, path, {**bearer(RIVAL_KEY), **alice})
    never = await visit.ask(method, f"/stream/{'0' * 22}", {**bearer(RIVAL_KEY), **alice})
    assert (foreign.status, foreign.json()["code"]) == (404, "STREAM_NOT_FOUND")
    assert {**foreign.json(), "timestamp": 0} == {**never.json(), "timestamp": 0}
    assert (await visit.ask("GET", path, {**bearer(ACME_KEY), **alice})).status == 200
    listed = await visit.ask("GET", "/streams", {**bearer(RIVAL_KEY), **alice})
    assert listed.json() == {"streams": []}


async def test_a_user_by_token_is_apart_from_others_of_its_tenant(visit: Visit) -> None:
    """Bob, and whoever has a key but names nobody, cannot read what Alice asked; nor she what a backend asked."""
    alice, bob = bearer(token()), bearer(token(sub="bob"))
    mine = await visit.ask("POST", "/stream", alice, json=QUESTION)
    path = f"/stream/{mine.headers['X-Stream-Id']}"
    backend = await visit.ask("POST", "/stream", bearer(ACME_KEY), json=QUESTION)
    assert (await visit.ask("GET", path, alice)).text == mine.text
    assert (await visit.ask("GET", path, {**bearer(ACME_KEY), "X-User-Id": "alice"})).status == 200
    assert (await visit.ask("GET", path, bob)).status == 404
    assert (await visit.ask("GET", path, bearer(ACME_KEY))).status == 404
    of_backend = f"/stream/{backend.headers['X-Stream-Id']}"
    assert (await visit.ask("GET", of_backend, alice)).status == 404
    assert (await visit.ask("DELETE", of_backend, alice)).status == 404
    listed = await visit.ask("GET", "/streams", alice)
    assert [one["stream_id"] for one in listed.json()["streams"]] == [mine.headers["X-Stream-Id"]]
    for path, body in (
        ("/stream", {**QUESTION, "user_id": "bob"}),
        ("/v1/chat/completions", {**COMPLETION, "user": "bob"}),
    ):
        assert (await visit.ask("POST", path, alice, json=body)).status == 403


async def test_strangers_of_one_page_are_kept_apart_by_their_sessions(visit: Visit) -> None:
    """And no user that one of them names is believed."""
    page = {"X-Tenant-Hash": ACME_HASH, "Origin": ACME_PAGE}
    asked = {**QUESTION, "session_id": SESSION, "user_id": "alice"}
    mine = await visit.ask("POST", "/stream", page, json=asked)
    assert mine.status == 200
    path = f"/stream/{mine.headers['X-Stream-Id']}"
    assert (await visit.ask("GET", path, {**page, "X-Session-Id": SESSION})).status == 200
    for headers in ({**page, "X-Session-Id": OTHER_SESSION}, {**bearer(token()), "Origin": ACME_PAGE}):
        assert (await visit.ask("GET", path, headers)).status == 404
    missing = await visit.ask("GET", path, page)
    assert (missing.status, missing.json()["message"][:10]) == (400, "session_id")
    short = await visit.ask("POST", "/stream", page, json={**QUESTION, "session_id": "short"})
    assert (short.status, short.json()["code"]) == (400, "INVALID_REQUEST")


async def test_what_a_stranger_says_of_its_user_goes_no_further(tmp_path: Path) -> None:
    """Neither to the model, nor into the log."""
    page = {"X-Tenant-Hash": ACME_HASH, "Origin": ACME_PAGE, "X-Session-Id": SESSION}
    async with (
        upstream() as service,
        house(OPENAI_BASE_URL=service.url, GATEWAY_TENANTS__FILE=str(write(tmp_path))) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        seen = await see(
            session, "POST", "/v1/chat/completions", headers=page, json={**COMPLETION, "stream": True, "user": "alice"}
        )
        believed = await see(
            session, "POST", "/v1/chat/completions", headers=bearer(ACME_KEY), json={**COMPLETION, "user": "alice"}
        )
    assert seen.status == believed.status == 200
    assert "user" not in service.calls[0].body
    assert service.calls[1].body["user"] == "alice"


# Reloading.


async def test_keys_are_renewed_without_a_word_to_anybody(visit: Visit) -> None:
    """Add one, go over to it, remove the other: at no moment is a good one refused."""
    assert (await visit.ask("POST", "/stream", bearer(ACME_KEY), json=QUESTION)).status == 200
    write(visit.path.parent, TWO.replace(f'"{_line(ACME_KEY)}",', ""))
    assert await visit.gateway.tenants.reload() == ""
    assert (await visit.ask("POST", "/stream", bearer(ACME_KEY), json=QUESTION)).status == 401
    assert (await visit.ask("POST", "/stream", bearer(SECOND_KEY), json=QUESTION)).status == 200


async def test_the_file_is_read_again_on_sighup_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    """And the log says where it is broken."""
    path = write(tmp_path)
    with gateway_process(port=None, **FAST, GATEWAY_TENANTS__FILE=str(path)) as process:
        async with aiohttp.ClientSession(process.base) as session:

            async def status(key: str) -> int:
                return (await see(session, "POST", "/stream", headers=bearer(key), json=QUESTION)).status

            assert (await status(ACME_KEY), await status(RIVAL_KEY)) == (200, 200)
            path.write_text("[tenants.acme]\nkeys = ['S3CR3T']\n")
            process.hang_up()
            await asyncio.sleep(0.3)
            assert (await status(ACME_KEY), await status(RIVAL_KEY)) == (200, 200)
            write(tmp_path, TWO.partition("[tenants.rival]")[0])
            process.hang_up()
            for _ in range(50):
                if await status(RIVAL_KEY) == 401:
                    break
                await asyncio.sleep(0.1)
            assert (await status(ACME_KEY), await status(RIVAL_KEY)) == (200, 401)
        process.terminate()
        process.wait()
    assert b"tenants.acme.keys.0" in process.stderr
    assert b"S3CR3T" not in process.stderr


def _line(key: str) -> str:
    from gateway.admission.keys import digest_of, written

    return written(digest_of(key))


# Tickets.


async def test_a_ticket_opens_one_stream_and_then_reads_that_one(visit: Visit) -> None:
    """A browser's EventSource repeats its URL as it is: it comes to the same answer, not to another one."""
    made = await visit.ticket(bearer(ACME_KEY), user_id="alice")
    assert made["expires_in_s"] == 30
    assert len(made["session_id"]) >= 16
    url = f"/stream?query=hi&ticket={made['ticket']}"
    first = await visit.ask("GET", url)
    sid = first.headers["X-Stream-Id"]
    again = await visit.ask("GET", url)
    rest = await visit.ask("GET", url, {"Last-Event-ID": first.logged[2].id})
    by_sid = await visit.ask("GET", f"/stream/{sid}?ticket={made['ticket']}")
    assert [seen.headers["X-Stream-Id"] for seen in (again, rest, by_sid)] == [sid] * 3
    assert first.text == again.text == by_sid.text != ""
    assert [event.id for event in rest.logged] == [event.id for event in first.logged[3:]]
    listed = await visit.ask("GET", "/streams", {**bearer(ACME_KEY), "X-User-Id": "alice"})
    assert len(listed.json()["streams"]) == 1


async def test_coming_back_with_a_used_ticket_costs_nothing(tmp_path: Path) -> None:
    """While the stream runs and when it has ended: its tenant has one request and one stream, and both are used."""
    limited = TWO.replace(RIVAL, f"[tenants.acme.limits]\nrequests = 1\nconcurrent = 1\n{RIVAL}")
    environment = {"GATEWAY_TENANTS__FILE": str(write(tmp_path, limited)), "GATEWAY_QUEUE__MAX_WAITING": "0"}
    async with (
        feed() as service,
        house(OPENAI_BASE_URL=service.url, **environment) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        visit = Visit(gateway, session, tmp_path)
        made = await visit.ticket(bearer(ACME_KEY), user_id="alice")
        query = {"query": question(10, 10), "ticket": made["ticket"]}
        first = asyncio.create_task(visit.ask("GET", "/stream", params=query))
        await eventually(lambda: service.answering)
        along = await visit.ask("GET", "/stream", params=query)
        again = await visit.ask("GET", "/stream", params=query)
        assert (await visit.ask("POST", "/stream", bearer(ACME_KEY), json=QUESTION)).status == 429
        assert [seen.status for seen in (await first, along, again)] == [200] * 3
        assert len({seen.headers["X-Stream-Id"] for seen in (await first, along, again)}) == 1
        assert along.text == again.text == (await first).text != ""
        assert service.asked == 1
        # Neither has any of them given back, or taken, what the stream itself was charged.
        assert "X-RateLimit-Limit" not in again.headers


async def test_a_used_ticket_is_good_for_no_other_stream(visit: Visit) -> None:
    """Not for one of the same user, not for a list, not for cancelling another, not for further tickets."""
    alice = {**bearer(ACME_KEY), "X-User-Id": "alice"}
    other = (await visit.ask("POST", "/stream", alice, json=QUESTION)).headers["X-Stream-Id"]
    made = await visit.ticket(bearer(ACME_KEY), user_id="alice")
    query = f"ticket={made['ticket']}"
    mine = (await visit.ask("GET", f"/stream?query=hi&{query}")).headers["X-Stream-Id"]
    assert (await visit.ask("GET", f"/stream/{other}?{query}")).status == 404
    assert (await visit.ask("DELETE", f"/stream/{other}?{query}")).status == 404
    assert (await visit.ask("GET", f"/streams?{query}")).status == 403
    assert (await visit.ask("POST", f"/stream/tickets?{query}", json={})).status == 403
    assert (await visit.ask("DELETE", f"/stream/{mine}?{query}")).status == 200


async def test_of_racing_openings_with_one_ticket_one_stream_comes(visit: Visit) -> None:
    """All of them read it."""
    made = await visit.ticket(bearer(ACME_KEY), user_id="alice")
    asked = (visit.ask("GET", f"/stream?query=hi&ticket={made['ticket']}") for _ in range(20))
    seen = await asyncio.gather(*asked)
    assert {one.status for one in seen} == {200}
    assert len({one.headers["X-Stream-Id"] for one in seen}) == 1
    assert len({one.text for one in seen}) == 1


async def test_a_ticket_made_by_a_page_is_that_pages_stranger(visit: Visit) -> None:
    """With the session that it names, or one that is made for it; never with a user."""
    page = {"X-Tenant-Hash": ACME_HASH, "Origin": ACME_PAGE}
    made = await visit.ticket(page, user_id="alice")
    again = await visit.ticket(page, session_id=SESSION)
    assert again["session_id"] == SESSION
    assert made["session_id"] != again["session_id"]
    opened = await visit.ask("GET", f"/stream?query=hi&ticket={made['ticket']}", {"Origin": ACME_PAGE})
    assert opened.status == 200
    path = f"/stream/{opened.headers['X-Stream-Id']}"
    assert (await visit.ask("GET", path, {**page, "X-Session-Id": made["session_id"]})).status == 200
    assert (await visit.ask("GET", path, {**bearer(ACME_KEY), "X-User-Id": "alice"})).status == 404
    refused = await visit.ask("POST", "/stream/tickets", page, json={"session_id": "short"})
    assert (refused.status, refused.json()["code"]) == (400, "INVALID_REQUEST")


async def test_a_user_by_token_has_tickets_for_itself_only(visit: Visit) -> None:
    """Naming another is refused as everywhere."""
    made = await visit.ticket(bearer(token()), user_id="alice")
    opened = await visit.ask("GET", f"/stream?query=hi&ticket={made['ticket']}")
    assert (await visit.ask("GET", f"/stream/{opened.headers['X-Stream-Id']}", bearer(token()))).status == 200
    refused = await visit.ask("POST", "/stream/tickets", bearer(token()), json={"user_id": "bob"})
    assert (refused.status, refused.json()["code"]) == (403, "FORBIDDEN")
    wrong = await visit.ask("POST", "/stream/tickets", bearer(token()), json={"colour": "red"})
    assert (wrong.status, wrong.json()["code"]) == (400, "INVALID_REQUEST")


async def test_a_refused_opening_leaves_the_ticket_unused(tmp_path: Path) -> None:
    """Told to come back later, a browser comes back with the same URL."""
    environment = {"GATEWAY_TENANTS__FILE": str(write(tmp_path)), "GATEWAY_STREAM__STORE_MAX_BYTES": "4096"}
    async with (
        feed() as service,
        house(OPENAI_BASE_URL=service.url, **environment) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        visit = Visit(gateway, session, tmp_path)
        made = await visit.ticket(bearer(ACME_KEY), user_id="alice")
        async with session.post(
            "/stream", headers=bearer(ACME_KEY), json={"query": question(4_000, 100, 100), "on_disconnect": "cancel"}
        ) as filling:
            await filling.content.readany()
            await eventually(lambda: gateway._store.bytes_kept > 4096)
            url = f"/stream?query=hi&ticket={made['ticket']}"
            full = await visit.ask("GET", url, {"Accept": "text/event-stream"})
            assert full.data("status")[0]["code"] == "STORE_FULL"
        await eventually(lambda: not gateway.hub.running)
        later = await see(session, "GET", url, upto=2)
        assert later.headers["X-Stream-Id"]


async def test_tickets_are_known_to_all_processes(tmp_path: Path, redis_server: RedisServer) -> None:
    """Made by one, used at another, come back to at the first."""
    environment = {"GATEWAY_TENANTS__FILE": str(write(tmp_path)), "REDIS_URL": redis_server.url}
    async with (
        house(**environment) as here,
        house(**environment) as there,
        aiohttp.ClientSession() as session,
    ):
        headers = bearer(ACME_KEY)
        made = (await see(session, "POST", f"{here.urls[0]}/stream/tickets", headers=headers, json={})).json()
        first, again = [
            await see(session, "GET", f"{gateway.urls[0]}/stream?query=hi&ticket={made['ticket']}")
            for gateway in (there, here)
        ]
    assert first.status == again.status == 200
    assert first.headers["X-Stream-Id"] == again.headers["X-Stream-Id"]
    assert first.text == again.text != ""


# Starting.


@pytest.mark.usefixtures("logging_undone")
@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.1", "::", "gateway.example"])
def test_without_tenants_only_this_machine_is_listened_to(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A gateway that anybody may use has to be asked for, by configuring who may."""
    assert main(["serve", "--host", host, "--port", "0"]) == EXIT_CONFIG
    assert "tenants" in capsys.readouterr().err


@pytest.mark.usefixtures("logging_undone")
@pytest.mark.parametrize("command", ["check", "serve"])
def test_a_wrong_tenants_file_is_a_wrong_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """Exit status 78, and the place in the file."""
    monkeypatch.setenv("GATEWAY_TENANTS__FILE", str(write(tmp_path, "[tenants.a]\npriority = 'S3CR3T'\n")))
    assert main([command]) == EXIT_CONFIG
    said = capsys.readouterr().err
    assert "tenants.a.priority" in said
    assert "S3CR3T" not in said


async def test_tail_shows_the_key_that_stands_in_its_environment(
    visit: Visit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And says why, where that is not good."""
    options = Namespace(what="hi", url=visit.gateway.urls[0], session=None, user="alice", text=True)
    monkeypatch.setenv(KEY_VARIABLE, ACME_KEY)
    assert await tail(options) == 0
    assert capsys.readouterr().out.strip()
    monkeypatch.delenv(KEY_VARIABLE)
    assert await tail(options) != 0
    assert "UNAUTHENTICATED" in capsys.readouterr().err
