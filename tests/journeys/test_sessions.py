"""Conversations: a question hears what was said before it, from any process, and only its owner's."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.house import Seen, eventually, gateway_process, house, see
from tests.journeys.asking import COMPLETION, QUESTION
from tests.redis_server import RedisServer
from tests.tenancy import ACME_HASH, ACME_KEY, ACME_PAGE, RIVAL_KEY, SESSION, bearer, write
from tests.upstream import Upstream, answer, streamed, upstream

ALICE = {"X-User-Id": "alice"}
S1 = "/sessions/s1"


@contextlib.asynccontextmanager
async def asking(**environment: str) -> AsyncIterator[tuple[Upstream, aiohttp.ClientSession]]:
    """A gateway with an upstream that says `Hello world`, and a client of it."""
    async with (
        upstream() as service,
        house(OPENAI_BASE_URL=service.url, **environment) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        yield service, session


async def say(session: aiohttp.ClientSession, query: str | None, url: str = "/stream", **fields: Any) -> Seen:
    """One question of Alice's in her session, read to its end."""
    body = {"model": "up-1", "query": query, "session_id": "s1", "user_id": "alice", **fields}
    seen = await see(session, "POST", url, json={name: value for name, value in body.items() if value is not None})
    assert seen.status == 200, seen.body
    return seen


def heard(service: Upstream) -> list[tuple[str, Any]]:
    """What the upstream was told last."""
    return [(message["role"], message["content"]) for message in service.calls[-1].body["messages"]]


async def remembered(session: aiohttp.ClientSession, url: str = S1, **headers: str) -> list[tuple[str, str]]:
    """The messages of a session; none where it is unknown."""
    seen = await see(session, "GET", url, headers=headers or ALICE)
    if seen.status == 404:
        assert seen.json()["code"] == "SESSION_NOT_FOUND"
        return []
    assert seen.status == 200, seen.body
    return [(message["role"], message["content"]) for message in seen.json()["messages"]]


FIRST = [("user", "one"), ("assistant", "Hello world")]


async def test_the_second_question_hears_the_first() -> None:
    """And its answer; the third hears both, the caller's instructions stand before them."""
    async with asking() as (service, session):
        await say(session, "one")
        assert heard(service) == [("user", "one")]
        await say(session, "two")
        assert heard(service) == [*FIRST, ("user", "two")]
        messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "three"}]
        await say(session, None, messages=messages)
        said = [*FIRST, ("user", "two"), FIRST[1]]
        assert heard(service) == [("system", "Be kind."), *said, ("user", "three")]
        assert await remembered(session) == [*said, ("user", "three"), FIRST[1]]


async def test_without_a_session_nothing_is_remembered() -> None:
    """Neither where a question names none, nor of what another session of the same user says."""
    async with asking() as (service, session):
        await say(session, "one", session_id=None)
        await say(session, "two", session_id=None)
        await say(session, "three", session_id="s2")
        assert heard(service) == [("user", "three")]
        assert await remembered(session) == []


async def test_a_client_that_brings_its_own_history_is_left_alone() -> None:
    """What it says was said is what the upstream hears; the turn is kept all the same."""
    async with asking() as (service, session):
        await say(session, "one")
        own = [
            {"role": "user", "content": "mine"},
            {"role": "assistant", "content": "yours"},
            {"role": "user", "content": "two"},
        ]
        await say(session, None, messages=own)
        assert heard(service) == [("user", "mine"), ("assistant", "yours"), ("user", "two")]
        assert (await remembered(session))[2:] == [("user", "two"), FIRST[1]]


async def test_only_as_much_as_the_context_takes_is_put_before_a_question() -> None:
    """Whole turns, the newest; all of them are remembered."""
    async with asking(GATEWAY_SESSIONS__CONTEXT_TOKENS="30") as (service, session):
        for query in ("one", "two", "three", "four"):
            await say(session, query)
        assert heard(service) == [("user", "two"), FIRST[1], ("user", "three"), FIRST[1], ("user", "four")]
        assert len(await remembered(session)) == 8


async def test_the_same_question_under_a_key_is_the_same_whatever_was_said_meanwhile() -> None:
    """What is put before a question is no part of it: its fingerprint stays, and nothing is asked twice."""
    async with asking() as (service, session):
        body = {**QUESTION, "session_id": "s1", "user_id": "alice"}
        keyed = {"Idempotency-Key": "k"}
        first = await see(session, "POST", "/stream", json=body, headers=keyed)
        await say(session, "two")
        again = await see(session, "POST", "/stream", json=body, headers=keyed)
        assert (again.status, again.headers["X-Stream-Id"]) == (200, first.headers["X-Stream-Id"])
        assert len(service.calls) == 2


STRANGERS = [{"X-User-Id": "bob"}, {"X-Session-Id": "s1"}, {}, {"X-User-Id": "s1"}]


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_somebody_elses_session_is_as_unknown_as_one_that_never_was(method: str) -> None:
    """Same status, same body; and what a stranger asks in a session of that name hears nothing of it."""
    async with asking() as (service, session):
        await say(session, "one")
        unknown = await see(session, method, "/sessions/never", headers=ALICE)
        assert (unknown.status, unknown.json()["code"]) == (404, "SESSION_NOT_FOUND")
        for stranger in STRANGERS:
            seen = await see(session, method, S1, headers=stranger)
            assert (seen.status, without_time(seen)) == (404, without_time(unknown)), stranger
        await say(session, "mine?", user_id="bob")
        assert heard(service) == [("user", "mine?")]
        await say(session, "mine?", user_id=None)
        assert heard(service) == [("user", "mine?")]
        assert await remembered(session) == FIRST


def without_time(seen: Seen) -> dict[str, Any]:
    """A refusal but for its time."""
    return {name: value for name, value in seen.json().items() if name != "timestamp"}


async def test_another_tenants_user_of_that_name_is_another_user(tmp_path: Path) -> None:
    """Two customers may call their users and sessions alike; a stranger with the public hash sees neither's."""
    async with asking(GATEWAY_TENANTS__FILE=str(write(tmp_path))) as (service, session):
        acme, rival = bearer(ACME_KEY), bearer(RIVAL_KEY)
        body = {"model": "up-1", "query": "one", "session_id": SESSION, "user_id": "alice"}
        path = f"/sessions/{SESSION}"
        assert (await see(session, "POST", "/stream", json=body, headers=acme)).status == 200
        assert (await see(session, "POST", "/stream", json={**body, "query": "two"}, headers=rival)).status == 200
        assert heard(service) == [("user", "two")]
        assert (await remembered(session, path, **acme, **ALICE))[0] == ("user", "one")
        assert (await remembered(session, path, **rival, **ALICE))[0] == ("user", "two")
        page = {"X-Tenant-Hash": ACME_HASH, "Origin": ACME_PAGE, "X-Session-Id": SESSION, **ALICE}
        assert await remembered(session, path, **page) == []
        assert (await see(session, "GET", path, headers=ALICE)).status == 401


async def test_a_session_without_a_user_is_whoever_names_it() -> None:
    """In the path or the header; who comes as another session does not see it."""
    async with asking() as (_, session):
        await say(session, "one", user_id=None)
        assert await remembered(session, **{"X-Session-Id": "s1"}) == FIRST
        assert await remembered(session, **{"X-Other": ""}) == FIRST
        assert await remembered(session, **{"X-Session-Id": "s2"}) == []


async def test_what_is_deleted_is_forgotten() -> None:
    """For its owner and for the model; a second time there is nothing to delete."""
    async with asking() as (service, session):
        await say(session, "one")
        assert (await see(session, "DELETE", S1, headers=ALICE)).status == 204
        assert await remembered(session) == []
        assert (await see(session, "DELETE", S1, headers=ALICE)).status == 404
        await say(session, "two")
        assert heard(service) == [("user", "two")]


@pytest.mark.parametrize("name", ["a/b", "ü ?#", "{}", "%2F", "x" * 200])
async def test_a_session_may_have_any_name(name: str) -> None:
    """That a question may give it."""
    async with house() as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        await say(session, "one", session_id=name, model="local")
        url = URL(f"{gateway.urls[0]}/sessions/{quoted(name)}", encoded=True)
        async with session.get(url, headers=ALICE) as response:
            assert (response.status, (await response.json())["session_id"]) == (200, name)


def quoted(name: str) -> str:
    """For a path."""
    return "".join(f"%{byte:02X}" for byte in name.encode())


async def test_what_failed_is_not_remembered_and_what_was_seen_is() -> None:
    """Half of an answer that somebody cancelled was read by somebody; an answer that failed was none."""
    hanging = [*streamed(answer(["Half"]))[:3], "hang"]
    async with asking() as (service, session):
        service.script = lambda _call: hanging
        asked = asyncio.create_task(say(session, "cancelled"))
        await eventually(lambda: service.calls)
        (listed,) = (await see(session, "GET", "/streams", headers=ALICE)).json()["streams"]
        await until_said(session, listed["stream_id"])
        await see(session, "DELETE", f"/stream/{listed['stream_id']}", headers=ALICE)
        assert (await asked).text == "Half"
        assert await remembered(session) == [("user", "cancelled"), ("assistant", "Half")]
        service.script = lambda _call: [*streamed(answer(["Half"]))[:3], "rst"]
        assert (await say(session, "failed")).names[-2] == "error"
        assert await remembered(session) == [("user", "cancelled"), ("assistant", "Half")]


async def until_said(session: aiohttp.ClientSession, sid: str) -> None:
    """The stream has begun to speak."""
    seen = await see(session, "GET", f"/stream/{sid}", headers=ALICE, upto=4)
    assert seen.text == "Half", seen.names


async def test_an_openai_client_without_history_is_not_helped_to_one() -> None:
    """That protocol has no session: its clients bring what was said themselves."""
    async with asking() as (service, session):
        for _ in range(2):
            await see(session, "POST", "/v1/chat/completions", json=COMPLETION, headers={"X-Session-Id": "s1"})
        assert heard(service) == [("user", "hi")]


async def test_two_processes_share_what_was_said(redis_server: RedisServer) -> None:
    """A question in one hears what was answered in the other, and is deleted in either."""
    async with upstream() as service, aiohttp.ClientSession() as session:
        make = partial(house, REDIS_URL=redis_server.url, OPENAI_BASE_URL=service.url)
        async with make() as first, make() as second:
            one, two = first.urls[0], second.urls[0]
            await say(session, "one", f"{one}/stream")
            await eventually_remembered(session, 2, two + S1)
            await say(session, "two", f"{two}/stream")
            assert heard(service) == [*FIRST, ("user", "two")]
            await eventually_remembered(session, 4, one + S1)
            await say(session, "three", f"{one}/stream")
            assert len(heard(service)) == 5
            await eventually_remembered(session, 6, two + S1)
            assert (await see(session, "DELETE", two + S1, headers=ALICE)).status == 204
            assert await remembered(session, one + S1) == []


async def test_without_redis_an_answer_is_made_without_memory_and_says_so(redis_server: RedisServer) -> None:
    """But for what was said here since; `GET /sessions` says 503, and nothing is lost when Redis is back."""
    shared = {"REDIS_URL": redis_server.url, "GATEWAY_REDIS__COMMAND_S": "0.2"}
    async with asking(**shared) as (service, session):
        await say(session, "one")
        await eventually_remembered(session, 2)
        redis_server.freeze()
        try:
            seen = await say(session, "two")
            assert [warning["code"] for warning in seen.data("warning")].count("SESSION_UNAVAILABLE") == 1
            assert (seen.text, heard(service)) == ("Hello world", [("user", "two")])
            await say(session, "three")
            assert heard(service) == [("user", "two"), FIRST[1], ("user", "three")]
            for method in ("GET", "DELETE"):
                refused = await see(session, method, S1 + "0", headers=ALICE)
                assert (refused.status, refused.json()["code"]) == (503, "STORE_AWAY")
                assert refused.headers["Retry-After"] == "1"
        finally:
            redis_server.thaw()
        await eventually_remembered(session, 6)


async def eventually_remembered(session: aiohttp.ClientSession, messages: int, url: str = S1) -> None:
    """Written down by now."""
    async with asyncio.timeout(5):
        while True:
            seen = await see(session, "GET", url, headers=ALICE)
            if seen.status == 200 and len(seen.json()["messages"]) == messages:
                return
            await asyncio.sleep(0.02)


async def test_a_taken_over_answer_is_remembered_once(redis_server: RedisServer) -> None:
    """By the process that ended it, with all of its text."""
    settings = {"REDIS_URL": redis_server.url, "GATEWAY_LOCAL__TOKENS_PER_S": "200"}
    body = {"query": "How does resume work?", "session_id": "s1", "user_id": "alice", "max_tokens": 200}
    with gateway_process(port=None, **settings) as one:
        async with house(**settings) as two, aiohttp.ClientSession(two.urls[0]) as session:
            seen = await see(session, "POST", f"{one.base}/stream", json=body, upto=12)
            one.kill()
            whole = await see(session, "GET", f"/stream/{seen.headers['X-Stream-Id']}", headers=ALICE)
            assert (whole.names.count("complete"), "continued" in str(whole.data("status"))) == (1, True)
            assert await remembered(session) == [("user", body["query"]), ("assistant", whole.text)]


async def test_a_session_that_only_a_header_names_is_remembered_too() -> None:
    """As is one that a ticket or a token names: what is asked in it belongs to it."""
    async with asking() as (service, session):
        for query in ("one", "two"):
            body = {"model": "up-1", "query": query}
            assert (await see(session, "POST", "/stream", json=body, headers={"X-Session-Id": "s1"})).status == 200
        assert heard(service) == [*FIRST, ("user", "two")]
