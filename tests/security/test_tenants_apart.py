"""Two tenants of one gateway, with the same names for everything: on no route does one find what is the other's."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import pytest

from tests.house import Seen, house, see
from tests.tenancy import ACME_KEY, RIVAL_KEY, bearer, write
from tests.test_openapi import DOCUMENT, OPERATIONS

MARK = "only-acme-may-read-this"
NAMES = {"X-User-Id": "alice", "X-Session-Id": "s-of-both"}
QUESTION = {"query": f"How does resume work? {MARK}", "metadata": {"mark": MARK}, "session_id": "s-of-both"}
KEYED = {"Idempotency-Key": "k-of-both"}


class Both(NamedTuple):
    """What acme has left in the house, and the two as clients."""

    acme: aiohttp.ClientSession
    rival: aiohttp.ClientSession
    sid: str
    last_id: str


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Both]:
    """Acme's user has asked, is remembered, and has said how to be answered."""
    settings: dict[str, Any] = {"GATEWAY_TENANTS__FILE": str(write(tmp_path))}
    async with (
        house(**settings) as gateway,
        aiohttp.ClientSession(gateway.urls[0], headers={**bearer(ACME_KEY), **NAMES}) as acme,
        aiohttp.ClientSession(gateway.urls[0], headers={**bearer(RIVAL_KEY), **NAMES}) as rival,
    ):
        asked = await see(acme, "POST", "/stream", json=QUESTION, headers=KEYED)
        await see(acme, "PUT", "/preferences", json={"updates": "batched"})
        yield Both(acme, rival, asked.headers["X-Stream-Id"], asked.logged[-2].id)


async def visit(client: aiohttp.ClientSession, both: Both, path: str, method: str, **options: Any) -> Seen:
    """A described operation, with acme's ids where it wants some and the body of its example."""
    said = DOCUMENT["paths"][path][method]
    if "requestBody" in said:
        options["json"] = said["requestBody"]["content"]["application/json"]["example"]
    elif path == "/stream":
        options["params"] = {"query": "hi", **options.get("params", {})}
    where = path.format(sid=both.sid, session="s-of-both", name="docs.js")
    return await see(client, method.upper(), where, **options)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
async def test_one_tenant_finds_nothing_of_another_on_any_route(both: Both, path: str, method: str) -> None:
    """However the path, the place, the key or the names are those of the other: 404, or an answer of its own."""
    for options in (
        {},
        {"headers": KEYED},
        {"headers": {"Last-Event-ID": both.last_id}},
        {"params": {"dialect": "openai"}},
    ):
        seen = await visit(both.rival, both, path, method, **options)
        assert MARK.encode() not in seen.body
        assert seen.headers.get("X-Stream-Id") != both.sid
        if path != "/static/{name}":
            assert both.sid.encode() not in seen.body
        if "{s" in path and path != "/static/{name}":
            assert seen.status == 404, (path, options)
        if "Last-Event-ID" in options.get("headers", {}) and path == "/stream":
            assert seen.status == 404


async def test_the_same_question_under_the_same_key_is_another_stream(both: Both) -> None:
    """Keys belong to who made them."""
    theirs = await see(both.rival, "POST", "/stream", json=QUESTION, headers=KEYED)
    assert theirs.status == 200
    assert theirs.headers["X-Stream-Id"] != both.sid


async def test_what_the_other_tried_has_changed_nothing(both: Both) -> None:
    """Its stream is not cancelled, its conversation not forgotten, its preferences are its own."""
    for path, method in OPERATIONS:
        await visit(both.rival, both, path, method)
    again = await see(both.acme, "GET", f"/stream/{both.sid}")
    assert (again.status, again.data("complete")[0]["status"]) == (200, "completed")
    kept = await see(both.acme, "GET", "/sessions/s-of-both")
    assert MARK in str(kept.json())
    assert (await see(both.acme, "GET", "/preferences")).json()["updates"] == "batched"
    joined = await see(both.acme, "POST", "/stream", json=QUESTION, headers=KEYED)
    assert joined.headers["X-Stream-Id"] == both.sid
