"""Preferences: said in a question, or once for a user, each with an effect that a client can see."""

import asyncio
import re
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.resilience.instructed import INSTRUCTIONS
from tests.house import Seen, gateway_process, house, see
from tests.journeys.test_sessions import asking, heard
from tests.redis_server import RedisServer
from tests.tenancy import RIVAL, RIVAL_KEY, bearer, write
from tests.upstream import answer, streamed

ALICE, BOB = {"X-User-Id": "alice"}, {"X-User-Id": "bob"}
WORDS = ["One ", "sentence", ". ", "Pi is ", "3", ".", "14", ".", " Half", " of a"]
SENTENCES = ["One sentence. ", "Pi is 3.14. ", "Half of a"]


async def ask(session: aiohttp.ClientSession, **fields: Any) -> Seen:
    """One question, read to its end."""
    return await see(session, "POST", "/stream", json={"query": "How does resume work?", **fields})


def tokens(seen: Seen) -> list[str]:
    """The pieces of the text."""
    return [data["token"] for data in seen.data("text")]


async def test_batched_text_comes_a_sentence_at_a_time() -> None:
    """All of it, the same as in real time; what is beside it stays where it was."""
    async with asking() as (service, session):
        service.script = lambda _call: streamed(answer(WORDS))
        live = await ask(session, model="up-1", preferences={"updates": "realtime"})
        batched = await ask(session, model="up-1", preferences={"updates": "batched"})
        assert (tokens(live), tokens(batched)) == (WORDS, SENTENCES)
        assert [name for name in batched.names if name != "text"] == [name for name in live.names if name != "text"]
        compatible = await see(
            session,
            "POST",
            "/stream?dialect=openai",
            json={"query": "hi", "model": "up-1", "preferences": {"updates": "batched"}},
        )
        assert b'"content":"One sentence. "' in compatible.body


@pytest.mark.parametrize("broken", ["rst", "fin"])
async def test_what_a_batch_held_is_said_before_a_failure(broken: str) -> None:
    """Nothing that the model said is lost because it waited for its sentence to end."""
    async with asking() as (service, session):
        service.script = lambda _call: [*streamed(answer(["One. ", "Two is cut"]))[:4], 0.05, broken]
        seen = await ask(session, model="up-1", preferences={"updates": "batched"})
        assert tokens(seen) == ["One. ", "Two is cut"]
        assert seen.names[-3:] == ["text", "error", "close"]


async def test_metadata_can_be_left_out() -> None:
    """And only that."""
    async with house() as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        told, untold = await ask(session), await ask(session, preferences={"metadata": False})
        assert "metadata" in told.names
        assert [name for name in told.names if name != "metadata"] == untold.names


@pytest.mark.parametrize("response", ["concise", "detailed"])
async def test_the_model_is_told_how_to_answer(response: str) -> None:
    """In the first system message; the caller's own words stay behind it."""
    async with asking() as (service, session):
        await ask(session, model="up-1", preferences={"response": response})
        assert heard(service) == [("system", INSTRUCTIONS[response]), ("user", "How does resume work?")]
        own = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}]
        body = {"model": "up-1", "messages": own, "preferences": {"response": response}}
        await see(session, "POST", "/stream", json=body)
        assert heard(service) == [("system", INSTRUCTIONS[response] + "\n\nBe kind."), ("user", "hi")]
        await ask(session, model="up-1")
        assert heard(service) == [("user", "How does resume work?")]


async def test_a_concise_answer_is_a_short_one() -> None:
    """Where the model does not hear on what it is told: it ends with its sentence, and says so."""
    async with asking() as (service, session):
        service.script = lambda _call: streamed(answer(["Five words make one sentence. "] * 60))
        whole, concise = [
            await ask(session, model="up-1", preferences={"response": response}) for response in ("detailed", "concise")
        ]
        assert (len(whole.text.split()), len(concise.text.split())) == (300, 150)
        assert [warning["code"] for warning in concise.data("warning")] == ["TRUNCATED"]
        assert concise.text.endswith("sentence. ") or concise.text.endswith("sentence.")


async def test_a_tenants_preferences_hold_where_nobody_says_otherwise(tmp_path: Path) -> None:
    """Of its users and its questions, one by one."""
    liked = '[tenants.rival.preferences]\nupdates = "batched"\nmetadata = false\n'
    tenants = write(tmp_path, RIVAL + liked)
    async with house(GATEWAY_TENANTS__FILE=str(tenants)) as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        key = bearer(RIVAL_KEY)
        body = {"query": "How does resume work?"}
        plain = await see(session, "POST", "/stream", json=body, headers=key)
        assert ("metadata" in plain.names, len(tokens(plain)[0].split()) > 3) == (False, True)
        await see(session, "PUT", "/preferences", json={"metadata": True}, headers={**key, **ALICE})
        hers = await see(session, "POST", "/stream", json=body, headers={**key, **ALICE})
        assert ("metadata" in hers.names, tokens(hers)) == (True, tokens(plain))


async def test_what_a_user_likes_holds_for_all_questions_that_do_not_say_otherwise() -> None:
    """Of that user, in every dialect; a question's own preference goes before, one by one."""
    async with asking() as (service, session):
        service.script = lambda _call: streamed(answer(WORDS))
        liked = {"updates": "batched", "response": "concise", "metadata": None}
        kept = await see(session, "PUT", "/preferences", json=liked, headers=ALICE)
        assert (kept.status, kept.json()) == (200, liked)
        assert (await see(session, "GET", "/preferences", headers=ALICE)).json() == liked
        assert tokens(await ask(session, model="up-1", user_id="alice")) == SENTENCES
        assert tokens(await ask(session, model="up-1", user_id="bob")) == WORDS
        assert tokens(await ask(session, model="up-1")) == WORDS
        otherwise = await ask(session, model="up-1", user_id="alice", preferences={"updates": "realtime"})
        assert tokens(otherwise) == WORDS
        assert heard(service)[0] == ("system", INSTRUCTIONS["concise"])
        completion = {"model": "up-1", "messages": [{"role": "user", "content": "hi"}], "user": "alice", "stream": True}
        seen = await see(session, "POST", "/v1/chat/completions", json=completion)
        assert b'"content":"One sentence. "' in seen.body


async def test_preferences_are_set_as_a_whole_and_nobody_has_some_to_begin_with() -> None:
    """What is not said in a PUT is not liked any more."""
    nothing = {"updates": None, "response": None, "metadata": None}
    async with house() as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        assert (await see(session, "GET", "/preferences", headers=ALICE)).json() == nothing
        await see(session, "PUT", "/preferences", json={"metadata": False}, headers=ALICE)
        await see(session, "PUT", "/preferences", json={"updates": "batched"}, headers=ALICE)
        kept = await see(session, "GET", "/preferences", headers=ALICE)
        assert kept.json() == {**nothing, "updates": "batched"}
        assert (await see(session, "GET", "/preferences", headers=BOB)).json() == nothing
        cleared = await see(session, "PUT", "/preferences", json={}, headers=ALICE)
        assert cleared.json() == nothing
        assert "metadata" in (await ask(session, user_id="alice")).names


BAD: list[tuple[Any, str]] = [
    ({"updates": "often"}, "updates: "),
    ({"updates": True}, "updates: "),
    ({"response": "rude"}, "response: "),
    ({"metadata": "no"}, "metadata: "),
    ({"metadata": 1}, "metadata: "),
    ({"colour": "red"}, "unknown field; allowed are: metadata, response, updates"),
]


@pytest.mark.parametrize(("preferences", "reason"), BAD)
async def test_what_is_no_preference_is_refused_by_name(preferences: Any, reason: str) -> None:
    """With the field that is wrong or a list of those there are; never with what was sent."""
    async with house() as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        seen = await see(session, "PUT", "/preferences", json=preferences, headers=ALICE)
        asked = await ask(session, preferences=preferences)
        for refused in (seen, asked):
            assert (refused.status, refused.json()["code"]) == (400, "INVALID_REQUEST")
            assert reason in refused.json()["message"]
            assert not re.search("often|rude|colour|red\\b", refused.body.decode())


async def test_preferences_need_a_user() -> None:
    """Those of nobody in particular would be everybody's."""
    async with house() as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        for method in ("GET", "PUT"):
            seen = await see(session, method, "/preferences", json={}, headers={"X-Session-Id": "s"})
            assert (seen.status, seen.json()["message"]) == (400, "user_id is needed")


async def test_another_process_goes_by_them_too(redis_server: RedisServer) -> None:
    """What is said in one holds in the other, for a user that it has not seen before."""
    make = partial(house, REDIS_URL=redis_server.url)
    async with make() as one, make() as two, aiohttp.ClientSession() as session:
        await see(session, "PUT", f"{one.urls[0]}/preferences", json={"metadata": False}, headers=ALICE)
        seen = await see(session, "POST", f"{two.urls[0]}/stream", json={"query": "hi", "user_id": "alice"})
        assert "metadata" not in seen.names
        assert not [name for name in redis_server.command("KEYS", "*") if "alice" in name]


async def test_without_redis_preferences_cannot_be_told_and_questions_are_answered(redis_server: RedisServer) -> None:
    """503 for those who ask for them; an answer comes as if nothing had been liked."""
    settings = {"REDIS_URL": redis_server.url, "GATEWAY_REDIS__COMMAND_S": "0.2"}
    async with house(**settings) as gateway, aiohttp.ClientSession(gateway.urls[0]) as session:
        await see(session, "PUT", "/preferences", json={"metadata": False}, headers=BOB)
        redis_server.freeze()
        try:
            for method in ("GET", "PUT"):
                seen = await see(session, method, "/preferences", json={}, headers=ALICE)
                assert (seen.status, seen.json()["code"]) == (503, "STORE_AWAY")
            assert "complete" in (await ask(session, user_id="alice")).names
            assert "metadata" not in (await ask(session, user_id="bob")).names
        finally:
            redis_server.thaw()


async def test_a_batched_answer_of_an_exact_source_goes_on_where_it_was(redis_server: RedisServer) -> None:
    """In another process, cut at the same places: not a word twice, not one left out."""
    settings = {"REDIS_URL": redis_server.url, "GATEWAY_LOCAL__TOKENS_PER_S": "200"}
    body = {
        "query": "How does resume work?",
        "max_tokens": 250,
        "user_id": "alice",
        "preferences": {"updates": "batched"},
    }
    with gateway_process(port=None, **settings) as one:
        async with house(**settings) as two, aiohttp.ClientSession(two.urls[0]) as session:
            whole = await see(session, "POST", "/stream", json=body)
            seen = await see(session, "POST", f"{one.base}/stream", json=body, upto=6)
            await asyncio.sleep(0.3)
            one.kill()
            again = await see(session, "GET", f"/stream/{seen.headers['X-Stream-Id']}", headers=ALICE)
            # What was said before may come in larger pieces.
            assert again.text == whole.text
            assert tokens(again)[-1] == tokens(whole)[-1]
            assert len(tokens(whole)) > 5
            assert "continued" in str(again.data("status"))


async def test_a_batch_waits_no_longer_than_its_bound() -> None:
    """Text without an end of a sentence leaves all the same, before the answer ends."""
    async with asking() as (service, session):
        steps = streamed(answer(["word " * 41]))
        service.script = lambda _call: [*steps[:3], "hang"]
        body = {"query": "hi", "model": "up-1", "preferences": {"updates": "batched"}}
        async with session.post("/stream", json=body) as response:
            said = b""
            async with asyncio.timeout(3):
                async for chunk in response.content.iter_any():
                    said += chunk
                    if b"word word" in said:
                        break
