"""What a ticket is good for: to open one stream and to read, cancel and rate that; and for nothing else."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.admission.tenant import OPEN
from gateway.admission.visitor import Trust, Visitor
from gateway.request import Caller
from tests.house import house, see
from tests.tenancy import ACME_HASH, ACME_KEY, ACME_PAGE, SESSION, bearer, token, write
from tests.test_openapi import DOCUMENT, OPERATIONS

ALICE = {**bearer(ACME_KEY), "X-User-Id": "alice"}
QUESTION = {"query": "hi"}
NEEDS_NONE = ("/docs", "/openapi.json", "/static/", "/health/", "/metrics")
GOOD_FOR = {
    ("/stream", "post"),
    ("/stream", "get"),
    ("/stream/{sid}", "get"),
    ("/stream/{sid}", "delete"),
    ("/stream/{sid}/feedback", "post"),
    ("/v1/chat/completions", "post"),
}
"""Whatever is not written here, and needs a credential, takes no ticket."""

REFUSED = [
    (path, method)
    for path, method in OPERATIONS
    if (path, method) not in GOOD_FOR and path != "/" and not path.startswith(NEEDS_NONE)
]


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    """Of a house with two tenants, in which Alice has a conversation."""
    settings: dict[str, Any] = {"GATEWAY_TENANTS__FILE": str(write(tmp_path))}
    async with house(**settings) as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        await see(session, "POST", "/stream", headers=ALICE, json={**QUESTION, "session_id": "conv-1"})
        yield session


async def ticket_of(session: aiohttp.ClientSession, headers: dict[str, str], **names: str) -> str:
    """A new ticket for who shows these."""
    made = await see(session, "POST", "/stream/tickets", headers=headers, json=names)
    return str(made.json()["ticket"])


def test_there_are_routes_that_take_no_ticket() -> None:
    """The table below is not empty, and holds what is worth most."""
    assert {("/sessions/{session}", "delete"), ("/preferences", "put"), ("/streams", "get")} <= set(REFUSED)


@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
@pytest.mark.parametrize(("path", "method"), REFUSED)
async def test_a_ticket_is_good_for_streams_and_nothing_else(
    client: aiohttp.ClientSession, path: str, method: str, used: bool
) -> None:
    """On every described route that asks for a credential, whether the ticket has opened its stream or not."""
    ticket = await ticket_of(client, ALICE, session_id="other")
    if used:
        assert (await see(client, "GET", f"/stream?query=hi&ticket={ticket}")).status == 200
    said = DOCUMENT["paths"][path][method]
    body = said["requestBody"]["content"]["application/json"]["example"] if "requestBody" in said else None
    where = path.format(session="conv-1")
    for headers, query in (({"Authorization": f"Ticket {ticket}"}, ""), ({}, f"?ticket={ticket}")):
        seen = await see(client, method.upper(), where + query, headers=headers, json=body)
        refusal = seen.json()
        code = refusal["error"]["code"] if path.startswith("/v1/") else refusal["code"]
        assert (seen.status, code) == (403, "FORBIDDEN"), seen.body
    assert (await see(client, "GET", "/sessions/conv-1", headers=ALICE)).status == 200


STRANGER = {"X-Tenant-Hash": ACME_HASH, "Origin": ACME_PAGE, "X-Session-Id": SESSION}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("credential", [STRANGER, bearer(token())], ids=["a public hash", "a token"])
async def test_nobody_reads_more_by_a_ticket_than_without(
    client: aiohttp.ClientSession, credential: dict[str, str], method: str
) -> None:
    """What a backend opened for nobody in particular is unknown to others, and to the tickets that they make."""
    opened = await see(client, "POST", "/stream", headers=bearer(ACME_KEY), json=QUESTION)
    path = f"/stream/{opened.headers['X-Stream-Id']}"
    assert (await see(client, method, path, headers=credential)).status == 404
    ticket = await ticket_of(client, credential)
    assert (await see(client, method, f"{path}?ticket={ticket}")).status == 404
    backends = await ticket_of(client, bearer(ACME_KEY))
    assert (await see(client, method, f"{path}?ticket={backends}")).status == 200


@pytest.mark.parametrize(
    ("credential", "reads"), [("key:acme:0", True), ("public:acme:x", False), ("jwt:acme:1", False), ("", False)]
)
def test_only_a_backends_ticket_reads_what_nobody_in_particular_opened(credential: str, reads: bool) -> None:
    """By what made it, which the ticket keeps."""
    ticket = Visitor(OPEN, Caller("acme", "alice", "s"), "", credential, "digest", "", Trust.PROVED)
    assert ticket.may_read_what(Caller("acme")) is reads
    assert ticket.may_read_what(Caller("acme", "alice"))
    assert not ticket.may_read_what(Caller("acme", "bob"))


COMPLETION = {"model": "local", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_used_ticket_completes_nothing_more(client: aiohttp.ClientSession, streamed: bool) -> None:
    """The OpenAI dialect cannot come back to a stream: 403 in its own words, and never a fault of ours."""
    shows = {"Authorization": f"Ticket {await ticket_of(client, ALICE)}"}
    body = {**COMPLETION, "stream": streamed}
    assert (await see(client, "POST", "/v1/chat/completions", headers=shows, json=body)).status == 200
    again = await see(client, "POST", "/v1/chat/completions", headers=shows, json=body)
    assert (again.status, again.json()["error"]["code"]) == (403, "FORBIDDEN")


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/chat/completions", COMPLETION), ("/stream", QUESTION)], ids=["openai", "native"]
)
async def test_a_ticket_that_joins_by_a_key_is_used_for_that_stream(
    client: aiohttp.ClientSession, path: str, body: dict[str, Any]
) -> None:
    """And opens no other from then on; whoever asked with the ticket joins its own stream again by its own key."""
    names = {**ALICE, "X-Session-Id": "conv-2", "Idempotency-Key": "k1"}
    first = await see(client, "POST", path, headers=names, json=body)
    ticket = await ticket_of(client, ALICE, session_id="conv-2")
    keyed = {"Authorization": f"Ticket {ticket}", "Idempotency-Key": "k1"}
    for _ in range(2):
        joined = await see(client, "POST", path, headers=keyed, json=body)
        assert (joined.status, joined.headers["X-Stream-Id"]) == (200, first.headers["X-Stream-Id"])
    other = await see(client, "GET", f"/stream?query=other&ticket={ticket}")
    assert other.headers["X-Stream-Id"] == first.headers["X-Stream-Id"]
    spent = {"Authorization": f"Ticket {await ticket_of(client, ALICE, session_id='conv-2')}"}
    assert (await see(client, "POST", "/stream", headers=spent, json=QUESTION)).status == 200
    foreign = await see(client, "POST", path, headers={**spent, "Idempotency-Key": "k1"}, json=body)
    assert foreign.headers.get("X-Stream-Id") != first.headers["X-Stream-Id"]
