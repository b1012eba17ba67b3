"""What every dialect owes: words for every event, frames nobody can break out of, questions refused without an echo."""

import contextlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery.packing import PLAIN
from gateway.dialects.base import JSON_NESTING_MAX, Dialect, Encoder
from gateway.dialects.fields import MESSAGES_MAX
from gateway.dialects.native import NativeDialect
from gateway.dialects.openai import OpenAIDialect
from gateway.errors import Code, GatewayError
from gateway.events import Event, Record, Warned
from gateway.request import StreamRequest
from gateway.sse import Frame, Parser
from tests.dialects.examples import EXAMPLES, KINDS
from tests.doubles import stream_of

CANARY = "kanarienvogel"
NATIVE = NativeDialect(default_model="m", grace_s=30, grace_max_s=60)
OPENAI = OpenAIDialect()
ASKED: dict[Any, dict[str, Any]] = {
    NATIVE: {"query": "hi"},
    OPENAI: {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
}

every_dialect = pytest.mark.parametrize("dialect", [NATIVE, OPENAI], ids=lambda dialect: dialect.name)
every_event = pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type(event).__name__)
named_or_not = pytest.mark.parametrize("unnamed", [False, True], ids=["named", "unnamed"])


def last_words(encoder: Encoder) -> list[Frame]:
    """Everything that is said beside the log."""
    warning = Warned("GAP", "m")
    return [
        *encoder.hello(resumed=True, retry_ms=1500),
        *encoder.notice(warning),
        *encoder.lost(warning),
        *encoder.farewell("complete"),
        *encoder.farewell("rotate", retry_ms=1500),
    ]


def test_there_is_an_example_of_every_kind_of_event() -> None:
    """Add one for a new kind: the dialects must have been thought of."""
    assert {type(event) for event in EXAMPLES} == KINDS


@every_dialect
@every_event
@named_or_not
def test_every_event_can_be_told_and_stays_one_event(dialect: Dialect, event: Event, unnamed: bool) -> None:
    """As many events arrive as frames were made, each of one line of JSON, none with a name or an id from within."""
    stream = stream_of(event)
    frames = dialect.encoder(stream, unnamed=unnamed).encode(Record(7, event))
    arrived = Parser().feed(PLAIN.pack(frames)) if frames else []
    assert len(arrived) == len(frames)
    for frame, heard in zip(frames, arrived, strict=True):
        assert b"\n" not in frame.data
        assert b"\r" not in frame.data
        assert heard.data == frame.data.decode()
        assert heard.data == "[DONE]" or isinstance(orjson.loads(heard.data), dict)
        assert heard.event == (frame.event.decode() or "message")
        assert "forged" not in heard.event
        assert heard.id in ("", f"{stream.sid}-1-7")


@every_dialect
@every_event
@named_or_not
def test_only_the_last_frame_of_a_logged_event_has_an_id(dialect: Dialect, event: Event, unnamed: bool) -> None:
    """And in a dialect that cannot resume none has."""
    stream = stream_of(event)
    encoder = dialect.encoder(stream, unnamed=unnamed)
    ids = [frame.id for frame in encoder.encode(Record(7, event))]
    if dialect.resumable:
        assert ids == [*[b""] * (len(ids) - 1), f"{stream.sid}-1-7".encode()]
    else:
        assert not any(ids)
    assert not any(frame.id for frame in last_words(encoder))


@every_dialect
def test_when_to_come_back_is_only_told_where_one_can(dialect: Dialect) -> None:
    """`retry:` makes official clients of other dialects stumble."""
    frames = last_words(dialect.encoder(stream_of(), unnamed=False))
    assert any(frame.retry_ms for frame in frames) == dialect.resumable


@every_dialect
@every_event
def test_equal_keys_make_equal_frames(dialect: Dialect, event: Event) -> None:
    """So that readers of one stream can share them."""
    stream = stream_of(event)
    one, other = dialect.encoder(stream, unnamed=False), dialect.encoder(stream, unnamed=False)
    assert one.key == other.key
    assert list(one.encode(Record(1, event))) == list(other.encode(Record(1, event)))
    changed = dialect.encoder(stream, unnamed=True)
    assert changed.key != one.key or list(changed.encode(Record(1, event))) == list(one.encode(Record(1, event)))


@every_dialect
@pytest.mark.parametrize("code", Code)
def test_every_error_has_a_body_that_names_its_code(dialect: Dialect, code: Code) -> None:
    """As JSON, with the message for people."""
    said = orjson.dumps(dialect.refusal(GatewayError(code, "in words", param="field", allowed=["a"])))
    assert code.name.encode() in said
    assert b"in words" in said
    assert b"field" in said


def deep(levels: int) -> bytes:
    """An object with lists in it, so many levels in all."""
    return b'{"metadata":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


NO_JSON = {
    "nothing": b"",
    "blank": b" \n",
    "cut off": f'{{"query":"{CANARY}'.encode(),
    "two values": f'{{"query":"{CANARY}"}} {{}}'.encode(),
    "comment": b'{"query":"hi"} // kanarienvogel',
    "single quotes": b"{'query':'kanarienvogel'}",
    "not an object": f'["{CANARY}"]'.encode(),
    "text": f'"{CANARY}"'.encode(),
    "null": b"null",
    "number": b"5",
    "NaN": b'{"temperature":NaN}',
    "Infinity": b'{"temperature":-Infinity}',
    "too large a float": b'{"temperature":1e999}',
    "5,000 digits": b'{"max_tokens":' + b"9" * 5000 + b"}",
    "5,000 digits of nothing": b'{"temperature":0.' + b"0" * 5000 + b"x}",
    "lone surrogate": b'{"query":"kanarienvogel\\ud800"}',
    "surrogate in UTF-8": b'{"query":"kanarienvogel\xed\xa0\x80"}',
    "not UTF-8": b'{"query":"kanarienvogel\xff"}',
    "UTF-16": '{"query":"kanarienvogel"}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"query":"kanarienvogel"}',
    "raw line end": b'{"query":"kanarienvogel\n"}',
    "too deep": deep(JSON_NESTING_MAX + 2),
    "far too deep": b'{"a":' * 200_000,
    "deep lists": b"[" * 500_000,
}


@every_dialect
@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON)
def test_what_is_no_json_object_is_refused_as_such(dialect: Dialect, body: bytes) -> None:
    """One code for all of it, and nothing of it in the message."""
    with pytest.raises(GatewayError) as raised:
        dialect.parse(body)
    assert raised.value.code is Code.INVALID_JSON
    assert CANARY not in raised.value.message


WRONG: dict[str, dict[str, Any]] = {
    "model: number": {"model": 5},
    "model: empty": {"model": ""},
    "model: long": {"model": CANARY * 20},
    "model: line end": {"model": f"{CANARY}\n"},
    "model: NUL": {"model": f"{CANARY}\0"},
    "model: C1": {"model": f"{CANARY}\x85"},
    "model: DEL": {"model": f"{CANARY}\x7f"},
    "model: line separator": {"model": f"{CANARY}\u2028"},
    "model: list": {"model": [CANARY]},
    "max_tokens: text": {"max_tokens": CANARY},
    "max_tokens: digits": {"max_tokens": "5"},
    "max_tokens: bool": {"max_tokens": True},
    "max_tokens: fraction": {"max_tokens": 5.5},
    "max_tokens: zero": {"max_tokens": 0},
    "max_tokens: negative": {"max_tokens": -1},
    "temperature: text": {"temperature": CANARY},
    "temperature: hot": {"temperature": 2.1},
    "temperature: cold": {"temperature": -0.1},
    "messages: object": {"messages": {"role": CANARY}},
    "messages: none": {"messages": []},
    "messages: text": {"messages": [CANARY]},
    "messages: content": {"messages": [{"role": "user", "content": {"text": CANARY}}]},
    "messages: parts": {"messages": [{"role": "user", "content": [CANARY]}]},
    "messages: role": {"messages": [{"role": f"{CANARY}\n", "content": "x"}]},
    "messages: no role": {"messages": [{"content": CANARY}]},
    "messages: no such role": {"messages": [{"role": CANARY, "content": "x"}]},
}


@every_dialect
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_wrong_field_is_named_and_its_value_is_not(dialect: Dialect, wrong: dict[str, Any]) -> None:
    """The name says where to look; the value may be a secret, or an attack on whoever reads the log."""
    asked = {**ASKED[dialect], **wrong}
    if "messages" in wrong:
        asked.pop("query", None)
    with pytest.raises(GatewayError) as raised:
        dialect.parse(orjson.dumps(asked))
    error = raised.value
    assert error.code is Code.INVALID_REQUEST
    assert error.param is not None
    assert error.param.startswith(next(iter(wrong)))
    assert error.message.startswith(f"{error.param}: ")
    assert CANARY not in error.message + str(error.allowed) + str(orjson.dumps(dialect.refusal(error)))


@every_dialect
def test_more_messages_than_anybody_means_are_too_much(dialect: Dialect) -> None:
    """Not one of them is looked at; fewer are counted at the door."""
    asked = {**ASKED[dialect], "messages": [CANARY] * (MESSAGES_MAX + 1)}
    asked.pop("query", None)
    with pytest.raises(GatewayError) as raised:
        dialect.parse(orjson.dumps(asked))
    assert (raised.value.code, raised.value.param) == (Code.INPUT_TOO_LARGE, "messages")
    assert str(MESSAGES_MAX) in raised.value.message


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["query", "messages", "model", "voice", "stream", "stream_options", "n", "metadata", "grace_s", "limit", "x"]
)


@every_dialect
@given(st.one_of(st.binary(), st.dictionaries(FIELDS, VALUES).map(orjson.dumps)))
def test_no_body_at_all_crashes_the_parser(dialect: Dialect, body: bytes) -> None:
    """A question that can be told apart from others, or a refusal; nothing else."""
    with contextlib.suppress(GatewayError):
        asked = dialect.parse(body)
        assert isinstance(asked, StreamRequest)
        assert asked.fingerprint() == dialect.parse(body).fingerprint()


@every_dialect
def test_a_good_question_is_the_same_however_it_is_spelled(dialect: Dialect) -> None:
    """The order of its fields and its white space are no part of it."""
    asked = ASKED[dialect] | {"temperature": 0.5, "model": "m"}
    turned = orjson.dumps(dict(reversed(asked.items())), option=orjson.OPT_INDENT_2)
    assert dialect.parse(orjson.dumps(asked)).fingerprint() == dialect.parse(turned).fingerprint()
    assert dialect.parse(orjson.dumps(asked)).question() == "hi"
