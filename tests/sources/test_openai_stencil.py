"""The stencil says of a chunk what reading it as JSON would say, or nothing; and it is used where it can be."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import GatewayError
from gateway.events import Event, Metadata, Text
from gateway.sources.openai_answer import Answer
from gateway.sources.openai_chunks import ChunkReader
from gateway.sources.openai_stencil import TRIES_MAX, Stencil
from tests.doubles import ManualLoop
from tests.upstream import DONE, chunk

MAX_BYTES = 400
HEADERS = {b"content-type": b"text/event-stream"}

Said = tuple[list[Event], str]
Read = list[bytes]
"""What one read of the socket brings, as the pieces in which the connection hands it on."""


def said_of(reads: list[Read]) -> Said:
    """All that an answer pours when it is told so, and how it ended."""
    loop, poured = ManualLoop(), list[Event]()

    async def listen() -> str:
        answer = Answer(poured.extend, MAX_BYTES)
        answer.began(200, HEADERS)
        for read in reads:
            for piece in read:
                answer.body(piece)
            answer.rested()
        answer.ended()
        try:
            await answer.over
        except GatewayError as error:
            return str(error)
        return "whole"

    try:
        return poured, loop.run(listen())
    finally:
        loop.close()


def the_same_without_a_stencil(reads: list[Read]) -> bool:
    """Whether an answer says the same, to the type of each event, as one that reads all of it as JSON."""
    events, end = said_of(reads)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stencil, "token", lambda self, event: None)
        plain, plain_end = said_of(reads)
    assert [(type(event), event) for event in events] == [(type(event), event) for event in plain]
    assert end == plain_end
    return True


# What upstreams say, plainly or not.

WORDS = [
    "Hello",
    " world",
    "",
    '"',
    "\\",
    "\n",
    "\t",
    "\0",
    "\x7f",
    "é",
    "日本",
    "👩‍👩‍👧",
    "\u2028",
    "\u00a0",
    "\ufeff",
    "{",
    "#",
]
ODD = ['"#"', '"}}]}', 'a","finish_reason":"stop', "data: ", "[DONE]", "content", "x" * 100, "x" * 380, "null", "b"]
TOKENS = st.sampled_from(WORDS + ODD) | st.text(max_size=8)
EXTRAS: list[dict[str, Any]] = [
    {},
    {"id": "chatcmpl-other"},
    {"created": 2},
    {"usage": None},
    {"usage": {"prompt_tokens": 1, "completion_tokens": 2}},
    {"usage": {}},
    {"obfuscation": "Qx7"},
    {"obfuscation": "Hello"},
    {"model": "b"},
    {"error": {"message": "#"}},
    {"system_fingerprint": "fp"},
]
BESIDE: list[dict[str, Any]] = [
    {},
    {},
    {"role": "assistant"},
    {"role": "b"},
    {"reasoning_content": "Hello"},
    {"refusal": None},
    {"refusal": "no"},
    {"tool_calls": [{"index": 0, "function": {"arguments": '"#"'}}]},
    {"unknown": 1},
]
IN_CHOICE: list[dict[str, Any]] = [
    {},
    {},
    {"finish_reason": None},
    {"finish_reason": "stop"},
    {"finish_reason": ""},
    {"logprobs": None},
    {"logprobs": {"content": [{"token": "Hello"}]}},
    {"index": 1},
]


@st.composite
def events(draw: st.DrawFn) -> bytes:
    """One SSE event: nearly always a chunk with a token, in one of several hands."""
    beside, in_choice = draw(st.sampled_from(BESIDE)), draw(st.sampled_from(IN_CHOICE))
    delta = {"content": draw(TOKENS), **beside}
    choice = {"index": 0, "delta": delta, "finish_reason": None, **in_choice}
    choices = draw(st.sampled_from([[choice], [choice], [choice], [choice, choice], []]))
    body = {**BASE, "choices": choices, **draw(st.sampled_from(EXTRAS))}
    way: Callable[[bytes], bytes] = draw(WAYS)
    return way(json.dumps(body, **draw(HANDS)).encode())


BASE: dict[str, Any] = {"id": "chatcmpl-up", "object": "chat.completion.chunk", "created": 1, "model": "up-1"}
"""As in `chunk`, so that what is odd stands beside what is plain."""

PLAIN_HAND: dict[str, Any] = {"ensure_ascii": False}
HANDS = st.sampled_from([*[PLAIN_HAND] * 6, {"ensure_ascii": True}, {"separators": (",", ":")}])
ODD_WAYS: list[Callable[[bytes], bytes]] = [
    lambda data: b"data:%b\n\n" % data,
    lambda data: b"data: %b\r\n\r\n" % data,
    lambda data: b"event: message\ndata: %b\n\n" % data,
    lambda data: b"data: %b\nid: 7\n\n" % data,
    lambda data: b"data: %b\n\n\n" % data,
    lambda data: b": hello\n\ndata: %b\n\n" % data,
    lambda data: b"data: %b\n\n" % data.replace(b'"choices"', b'\ndata: "choices"'),
    lambda data: b"data: %b\n\n" % data.replace(b"Hello", b"\xff"),
    lambda data: b"data: %b\n\n" % data.replace(b"Hello", b"\xed\xa0\x80"),
    lambda data: b"data: %b\n\n" % data.replace(b"Hello", b"\\u00e9"),
    lambda data: b"data: %b\n\n" % data.replace(b"Hello", b"a\tb"),
    lambda data: b"data: %b\n\n" % data.replace(b"Hello", b"a\0b"),
    lambda data: b"event: error\n",
    lambda data: b"data: ",
    lambda data: b"data: %b\n\n" % data.replace(b'"content":"', b'"content":"first","content":"'),
    lambda data: b"data: %b\n\n" % data[:-1],
    lambda data: b"event: error\ndata: %b\n\n" % data,
    lambda data: b"data: [DONE]\n\n",
]
WAYS = st.sampled_from([lambda data: b"data: %b\n\n" % data] * 30 + ODD_WAYS)
PLAIN = st.sampled_from(WORDS + ODD).map(lambda token: chunk({"content": token}))
"""Chunks that differ in nothing but their token."""


@st.composite
def answers(draw: st.DrawFn) -> list[Read]:
    """The reads that bring one answer, cut and joined as networks and upstreams do."""
    stream = draw(st.lists(PLAIN | events() | events(), max_size=12)) + draw(st.sampled_from([[], [DONE]]))
    if draw(st.booleans()):
        stream.insert(0, chunk({"content": "Hello"}))
    pieces: list[bytes] = []
    for event in stream:
        if draw(st.integers(0, 7)) == 0:
            cut = draw(st.integers(0, len(event)))
            pieces += [event[:cut], event[cut:]]
        elif draw(st.integers(0, 7)) == 0 and pieces:
            pieces[-1] += event
        else:
            pieces.append(event)
    reads: list[Read] = []
    for piece in pieces:
        if reads and draw(st.integers(0, 3)) == 0:
            reads[-1].append(piece)
        else:
            reads.append([piece])
    return reads


def tokens(*contents: str, **top: Any) -> list[bytes]:
    """Chunks that say these."""
    return [chunk({"content": content}, **top) for content in contents]


@settings(max_examples=400)
@given(answers())
@example([tokens("a"), tokens("b"), [chunk({"content": "c", "refusal": "no"})]])
@example([tokens("a"), tokens("b"), [b"".join(tokens("c", "d"))]])
@example([tokens("a"), tokens("b"), [tokens("c\t")[0].replace(b"\\t", b"\t")]])
@example([tokens("a"), tokens("b"), [b"event: error\n"], tokens("c")])
@example([tokens("a"), tokens("b"), [tokens("x" * 150)[0][:-80]], [tokens("x" * 150)[0][-80:]]])
@example([tokens("Hello", obfuscation="Hello"), tokens("Hello", obfuscation="Qx7")] * 2)
@example([[chunk({"content": "a"}, "stop")] * 2, [chunk({}, "length")], [chunk({"content": "b"}, "stop"), DONE]])
@example([tokens("Hello", "b", '"}}]}', "", "\\", "é", "x" * 300, "x" * 380)])
@example([[*tokens("Hello"), b"data: " + chunk({"content": "a"})[6:-2] + b"\n\n"], [DONE]])
@example([tokens("a"), tokens("b"), [chunk({"content": "c"}, "stop"), DONE, *tokens("late")], tokens("later")])
@example([[chunk({"content": "a"}, usage={"prompt_tokens": 1, "completion_tokens": n})] for n in range(4)])
def test_it_makes_no_difference(reads: list[Read]) -> None:
    """Whatever an upstream says, however it is cut: the same events and the same end as without it."""
    assert the_same_without_a_stencil(reads)


@given(st.lists(st.sampled_from(WORDS + ODD), min_size=1, max_size=12), st.booleans())
def test_it_makes_no_difference_in_the_plain_case(words: list[str], together: bool) -> None:
    """Where nothing but the token changes, which is where it is used."""
    events = [*tokens("Hello", *words), chunk({}, "stop"), DONE]
    assert the_same_without_a_stencil([events] if together else [[event] for event in events])


def test_nothing_is_said_behind_the_end() -> None:
    """Though it came in the same read, and looks like any other token."""
    events = [*tokens("a", "b"), chunk({}, "stop"), DONE, *tokens("late")]
    poured, end = said_of([events])
    assert [event for event in poured if isinstance(event, Text)] == [Text("a"), Text("b")]
    assert end == "whole"


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What was read as JSON."""
    seen: list[bytes] = []
    read = ChunkReader.read

    def reading(self: ChunkReader, name: bytes, data: bytes) -> list[Event]:
        seen.append(data)
        return read(self, name, data)

    monkeypatch.setattr(ChunkReader, "read", reading)
    return seen


PLAIN_WORDS = [f" word{n}" for n in range(50)] + ["é", "日本", "👍", "{", "'"]


@pytest.mark.parametrize("top", [{}, {"usage": None}, {"obfuscation": "Qx7"}], ids=["plain", "usage null", "more"])
@pytest.mark.parametrize("together", [False, True], ids=["read by read", "all at once"])
def test_it_is_used(parsed: list[bytes], top: dict[str, Any], together: bool) -> None:
    """Two chunks teach it: the first says which model answers too. From then on only what is no token is read."""
    events = [*tokens(" first", " second", *PLAIN_WORDS, **top), chunk({}, "stop"), DONE]
    poured, end = said_of([events] if together else [[event] for event in events])
    assert poured[0] == Metadata({"model": "up-1"})
    assert [event for event in poured if isinstance(event, Text)] == [" first", " second", *PLAIN_WORDS]
    assert end == "whole"
    assert len(parsed) == 4


def test_what_is_not_plainly_written_is_read(parsed: list[bytes]) -> None:
    """And what was known is not forgotten over it."""
    events = tokens("a", "b", "c", "\n", "d", '"', "e", "\\", "f")
    said_of([[event] for event in events])
    assert len(parsed) == 5


def test_a_chunk_that_changed_is_learned_anew(parsed: list[bytes]) -> None:
    """An upstream may say something once, or from now on."""
    events = [*tokens("a", "b", "c", created=1), *tokens("d", "e", "f", created=2)]
    said_of([[event] for event in events])
    assert len(parsed) == 3


def test_an_upstream_that_changes_all_the_time_is_left_alone(
    parsed: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Learning costs more than reading."""
    learned: list[bytes] = []

    def known(event: bytes) -> bool:
        learned.append(event)
        return True

    monkeypatch.setattr("gateway.sources.openai_stencil._is_one_line", known)
    said_of([[event] for number in range(50) for event in tokens("a", created=number)])
    assert len(parsed) == 50
    assert len(learned) == TRIES_MAX


def test_an_event_that_is_too_long_is_refused_as_ever() -> None:
    """The stencil lets nothing through that the parser would not."""
    reads = [tokens("a"), tokens("b"), tokens("x" * MAX_BYTES)]
    assert the_same_without_a_stencil(reads)
    assert said_of(reads)[1].startswith("UPSTREAM_PROTOCOL")
