"""Remembering: what a source hears of a conversation, and what of an answer becomes part of it."""

import asyncio
from typing import Any

import pytest

from gateway.errors import Code, GatewayError
from gateway.events import Completed, Event, Failed, Text, ToolCall, Warned
from gateway.request import Caller, Preferences, StreamRequest
from gateway.resilience.remembering import SESSION_UNAVAILABLE, Remembering, newest, recalled, remembers
from gateway.sessions import Exchange, SessionBounds
from gateway.stores.sessions_memory import MemorySessions
from gateway.streams.stream import Stream
from gateway.telemetry.metrics import Account
from tests.doubles import ALICE, DONE, END, ScriptedSource, question, stream_of

BOUNDS = SessionBounds(max_sessions=10, max_turns=10, max_bytes=10_000, ttl_s=60)
ACCOUNT = Account("native", "scripted", "ok", "", 1.0, 0, 0, True)
CANCELLED = Completed("cancelled", "cancelled", None, 1, 1)
FAILED = Failed("UPSTREAM_ERROR", "", True, 502, 0)
USER = {"role": "user", "content": "now"}
SYSTEM, DEVELOPER = {"role": "system", "content": "be kind"}, {"role": "developer", "content": "be brief"}


class Away(MemorySessions):
    """Knows only what waits to be written."""

    async def read(self, owner: Caller, session: str) -> list[Exchange]:
        raise GatewayError(Code.STORE_AWAY)

    def unwritten(self, owner: Caller, session: str) -> list[Exchange]:
        return [turn("here")]


def turn(text: str, size: int = 0) -> Exchange:
    """A turn whose question and answer are that text, and `size` characters together."""
    return Exchange(text, text, text + "!" * max(0, size - 2 * len(text)), 1, 2)


def memory(kind: type[MemorySessions] = MemorySessions) -> MemorySessions:
    """An empty one."""
    return kind(BOUNDS, memory_bytes=1 << 20)


def heard(request: StreamRequest) -> list[str]:
    """What is said in it, in order."""
    return [message["content"] for message in request.messages]


async def end(
    store: MemorySessions, *events: Event, terminal: Completed | Failed | None = DONE, **asked: Any
) -> Stream:
    """A stream of these events that has ended so, and was told to the memory."""
    stream = stream_of(*events, **{"session_id": "s", **asked})
    if terminal is not None:
        stream.finish(terminal)
    Remembering(store, context_tokens=100, clock=lambda: 5000.7).ended(stream, ACCOUNT)
    return stream


# What a source hears.


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([USER], ["a", "a", "b", "b", "now"]),
        ([SYSTEM, USER], ["be kind", "a", "a", "b", "b", "now"]),
        ([SYSTEM, DEVELOPER, USER, SYSTEM], ["be kind", "be brief", "a", "a", "b", "b", "now", "be kind"]),
        ([SYSTEM], ["be kind", "a", "a", "b", "b"]),
    ],
)
def test_what_was_said_stands_behind_instructions_and_before_the_question(
    messages: list[dict[str, str]], expected: list[str]
) -> None:
    """As turns of a user and an assistant; the request itself stays as it was asked."""
    asked = question(messages=tuple(messages), session_id="s")
    before = asked.fingerprint()
    told = recalled(asked, [turn("a"), turn("b")])
    assert heard(told) == expected
    assert asked.fingerprint() == before
    assert [message["role"] for message in told.messages if message["content"] in "ab"] == ["user", "assistant"] * 2


@pytest.mark.parametrize(
    ("sizes", "tokens", "kept"),
    [
        ([4, 4, 4], 1000, "abc"),
        ([4, 4, 4], 27, "abc"),
        ([4, 4, 4], 26, "bc"),
        ([4, 400, 4], 100, "c"),
        ([4, 4, 4000], 100, ""),
        ([4, 4, 4], 0, ""),
    ],
)
def test_the_newest_whole_turns_that_fit_are_said(sizes: list[int], tokens: int, kept: str) -> None:
    """A turn that does not fit ends it: what lies before it would stand there without its sequel."""
    turns = [turn(name, size) for name, size in zip("abc", sizes, strict=True)]
    assert [each.question for each in newest(turns, tokens)] == list(kept)


def test_only_a_question_in_a_session_without_its_own_history_remembers() -> None:
    """Half an answer of the caller's own to be gone on with is history too."""
    own = ({"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}, USER)
    assert remembers(question(session_id="s"))
    assert not remembers(question())
    assert not remembers(question(session_id="s", messages=own))
    assert not remembers(question(session_id="s", messages=own[:2]))


def test_a_pipeline_is_briefed_only_where_there_is_something_to_say() -> None:
    """And never of an exact source: the same request is to give the same events."""
    remembering, source = Remembering(memory(), context_tokens=100), ScriptedSource()
    concise, batched = Preferences(response="concise"), Preferences("batched")
    assert remembering.brief_for(source, question(session_id="s"))
    assert remembering.brief_for(source, question(preferences=concise))
    assert remembering.brief_for(source, question(preferences=batched)) is None
    assert remembering.brief_for(source, question()) is None
    source.exact = True
    assert remembering.brief_for(source, question(session_id="s", preferences=concise)) is None


async def test_the_owner_is_the_streams() -> None:
    """Whatever the request says of users."""
    store = memory()
    store.write(Caller("acme", "alice"), "s", turn("hers"))
    remembering = Remembering(store, context_tokens=100)
    hers = Stream("1", question("now", session_id="s", user_id="bob"), ALICE)
    his = Stream("2", question("now", session_id="s", user_id="alice"), Caller("acme", "bob"))
    assert heard(await remembering.brief(hers)) == ["hers", "hers", "now"]
    assert heard(await remembering.brief(his)) == ["now"]


async def test_a_memory_that_is_away_is_said_once_and_beside_the_answer() -> None:
    """The source hears what this process knows; an exact answer's events keep their places."""
    stream = stream_of(session_id="s")
    poured = stream.poured
    told = await Remembering(memory(Away), context_tokens=100).brief(stream)
    assert heard(told) == ["here", "here", "hi"]
    assert stream.events() == [SESSION_UNAVAILABLE]
    assert isinstance(SESSION_UNAVAILABLE, Warned)
    assert stream.poured == poured


# What is remembered.


async def test_a_turn_is_the_last_question_and_the_whole_answer() -> None:
    """With its stream and its times, in seconds."""
    store = memory()
    messages = (SYSTEM, {"role": "user", "content": "first"}, {"role": "user", "content": [{"text": "last"}]})
    stream = await end(store, Text("one "), Text("two"), END, messages=messages)
    expected = [Exchange(stream.sid, "last", "one two", stream.created_s, 5000)]
    assert await store.read(Caller("acme", "alice"), "s") == expected


@pytest.mark.parametrize(
    ("events", "terminal", "kept"),
    [
        ([Text("a"), END], DONE, True),
        ([Text("a")], CANCELLED, True),
        ([], CANCELLED, False),
        ([Text("a")], FAILED, False),
        ([Text("a")], None, False),
        ([ToolCall(0, "{}", "i", "f"), END], DONE, False),
    ],
)
async def test_what_somebody_could_read_as_an_answer_is_kept(
    events: list[Event], terminal: Completed | Failed | None, kept: bool
) -> None:
    """Whole or cancelled with some text; not what failed, and not what another process goes on with."""
    store = memory()
    await end(store, *events, terminal=terminal)
    assert bool(await store.read(ALICE, "s")) is kept


@pytest.mark.parametrize("asked", [{"session_id": None}, {"messages": ()}, {"messages": (SYSTEM,)}])
async def test_without_session_or_question_nothing_is_kept(asked: dict[str, Any]) -> None:
    """There is nothing to come back to."""
    store = memory()
    await end(store, Text("a"), END, **asked)
    assert store.bytes == 0


async def test_half_a_character_is_not_kept() -> None:
    """Upstreams may say half of a surrogate pair; no JSON could tell it to the next one."""
    store = memory()
    await end(store, Text("a\ud83c"), END)
    (kept,) = await store.read(ALICE, "s")
    assert kept.answer == "a?"


async def test_ten_thousand_hostile_sessions_take_what_they_may() -> None:
    """A megabyte each; the memory's bound holds, half of it for one tenant, and the newest are there."""
    store = MemorySessions(BOUNDS._replace(max_sessions=10_000), memory_bytes=1_000_000)
    large = "x" * 1_000_000
    for number in range(10_000):
        store.write(Caller(f"tenant-{number % 2}"), f"s{number}", Exchange(str(number), large, large, 1, 2))
        if number % 1000 == 0:
            await asyncio.sleep(0)
    assert 900_000 < store.bytes <= 1_000_000
    assert [turn.sid for turn in await store.read(Caller("tenant-1"), "s9999")] == ["9999"]
    assert await store.read(Caller("tenant-0"), "s0") == []
    for number in range(1000):
        store.write(Caller("tenant-0"), f"more-{number}", Exchange(str(number), large, large, 1, 2))
    assert [turn.sid for turn in await store.read(Caller("tenant-1"), "s9999")] == ["9999"]
    assert 900_000 < store.bytes <= 1_000_000
