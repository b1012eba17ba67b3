"""The native dialect: what it lets a client ask, in a body or in a query string."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from gateway.dialects.native import NativeDialect
from gateway.errors import Code, GatewayError
from gateway.events import Opened, Record
from gateway.request import OnDisconnect, Preferences, StreamRequest, Voice
from gateway.sse import Frame
from tests.doubles import stream_of

NATIVE = NativeDialect(default_model="house", grace_s=30, grace_max_s=60)


def asked(**fields: Any) -> StreamRequest:
    """What a body with these fields asks."""
    return NATIVE.parse(orjson.dumps(fields))


def refused(**fields: Any) -> GatewayError:
    """How it is refused."""
    with pytest.raises(GatewayError) as raised:
        asked(**fields)
    return raised.value


def data_of(frame: Frame) -> Any:
    """What a frame says."""
    return orjson.loads(frame.data)


def test_the_least_that_can_be_asked_is_a_query() -> None:
    """Everything else has its default."""
    assert asked(query="hi") == StreamRequest(
        messages=({"role": "user", "content": "hi"},), model="house", on_disconnect=OnDisconnect.GRACE, grace_s=30
    )


def test_everything_that_can_be_asked_is_heard() -> None:
    """Each field at its place."""
    fields: dict[str, Any] = {
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": [{"text": "hi"}], "n": 1}],
        "model": "m",
        "session_id": "s",
        "message_id": "i",
        "user_id": "u",
        "language": "de",
        "voice": {"language": "de", "name": "v", "rate": 1.5, "format": "mp3"},
        "max_tokens": 5,
        "temperature": 1,
        "full_text": True,
        "on_disconnect": "detach",
        "grace_s": 5,
        "metadata": {"k": [1]},
    }
    context = {"filters": {"a": 1}, "limit": 3, "attachments": [{"b": 2}]}
    preferences = {"updates": "batched", "response": "concise", "metadata": False}
    assert asked(**fields, preferences=preferences, **context) == StreamRequest(
        messages=tuple(fields["messages"]),
        model="m",
        on_disconnect=OnDisconnect.DETACH,
        grace_s=5,
        session_id="s",
        message_id="i",
        user_id="u",
        language="de",
        voice=Voice("de", "v", 1.5, "mp3"),
        max_tokens=5,
        temperature=1,
        full_text=True,
        metadata={"k": [1]},
        context=context,
        preferences=Preferences("batched", "concise", False),
    )


@pytest.mark.parametrize(
    "fields", [{}, {"query": "a", "messages": [{"role": "user", "content": "b"}]}, {"query": None}]
)
def test_a_question_is_a_query_or_messages_and_never_both(fields: dict[str, Any]) -> None:
    """Which of them would be meant is not for us to guess."""
    error = refused(**fields)
    assert error.code is Code.INVALID_REQUEST
    assert error.message == "request: exactly one of query and messages is needed"


def test_an_unknown_field_is_answered_with_all_that_are_known() -> None:
    """The promise of the documentation; the unknown name itself is not repeated."""
    error = refused(query="hi", kanarienvogel=1)
    assert error.allowed is not None
    assert {"query", "messages", "on_disconnect", "grace_s", "metadata", "voice"} < set(error.allowed)
    assert "kanarienvogel" not in error.message


@pytest.mark.parametrize(("given", "granted"), [(0, 0), (5.5, 5.5), (60, 60), (61, 60), (1e300, 60)])
def test_grace_is_granted_up_to_a_cap(given: float, granted: float) -> None:
    """A client cannot make its stream live for ever."""
    assert asked(query="hi", grace_s=given).grace_s == granted


@pytest.mark.parametrize(
    ("voice", "meant"),
    [
        (False, None),
        (True, Voice()),
        ({}, Voice()),
        ({"enabled": True, "rate": 0.25}, Voice(rate=0.25)),
        ({"enabled": False, "name": "v"}, None),
    ],
)
def test_voice_is_a_switch_or_says_how(voice: Any, meant: Voice | None) -> None:
    """An object may be switched off too."""
    assert asked(query="hi", voice=voice).voice == meant


@pytest.mark.parametrize(
    "fields",
    [
        {"on_disconnect": "kanarienvogel"},
        {"on_disconnect": "GRACE"},
        {"grace_s": -1},
        {"grace_s": True},
        {"limit": 0},
        {"limit": 1001},
        {"limit": 5.0},
        {"max_tokens": 1_000_001},
        {"full_text": 1},
        {"full_text": "true"},
        {"voice": "true"},
        {"voice": {"rate": 4.1}},
        {"voice": {"name": "a\nkanarienvogel"}},
        {"filters": []},
        {"metadata": "kanarienvogel"},
        {"attachments": ["kanarienvogel"]},
        {"attachments": [{}] * 101},
        {"session_id": "a\rkanarienvogel"},
        {"message_id": ""},
        {"user_id": 5},
        {"language": None, "query": ""},
    ],
    ids=str,
)
def test_a_field_out_of_bounds_is_refused_by_name(fields: dict[str, Any]) -> None:
    """Strictly typed, bounded, and never repeated."""
    error = refused(**{"query": "hi", **fields})
    assert error.code is Code.INVALID_REQUEST
    assert str(error.param).split("[")[0] == list(fields)[-1]
    assert "kanarienvogel" not in error.message


def test_a_role_that_nobody_has_is_refused() -> None:
    """The known ones are named."""
    error = refused(messages=[{"role": "user", "content": "x"}, {"role": "kanarienvogel", "content": "x"}])
    assert error.param == "messages[1]"
    assert "'assistant'" in error.message
    assert "kanarienvogel" not in error.message


@pytest.mark.parametrize(
    ("query", "meant"),
    [
        ({"limit": "5"}, {"context": {"limit": 5}}),
        ({"max_tokens": "7", "temperature": "0.5"}, {"max_tokens": 7, "temperature": 0.5}),
        ({"full_text": "true", "voice": "1"}, {"full_text": True, "voice": Voice()}),
        ({"voice": '{"language":"de","rate":2}'}, {"voice": Voice("de", rate=2)}),
        ({"metadata": '{"k":[1]}'}, {"metadata": {"k": [1]}}),
        ({"filters": "{}", "attachments": '[{"a":1}]'}, {"context": {"filters": {}, "attachments": [{"a": 1}]}}),
        ({"grace_s": "inf"}, {"grace_s": 60}),
        ({"on_disconnect": "cancel"}, {"on_disconnect": OnDisconnect.CANCEL}),
        ({"session_id": "[not JSON]", "model": "{m}"}, {"session_id": "[not JSON]", "model": "{m}"}),
    ],
    ids=str,
)
def test_a_query_string_asks_the_same(query: Mapping[str, str], meant: dict[str, Any]) -> None:
    """Types from their text, structured fields as JSON, and text that looks like JSON as text."""
    heard = NATIVE.parse_query({"query": "hi", **query})
    assert {name: getattr(heard, name) for name in meant} == meant
    assert heard.question() == "hi"


def test_a_query_string_may_hold_messages() -> None:
    """As JSON."""
    assert NATIVE.parse_query({"messages": '[{"role":"user","content":"hi"}]'}).question() == "hi"


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("metadata", "[", Code.INVALID_JSON),
        ("metadata", '{"a":1},"b":2', Code.INVALID_JSON),
        ("metadata", "{" + "[" * 500, Code.INVALID_JSON),
        ("filters", "{\ud800}", Code.INVALID_JSON),
        ("filters", "kanarienvogel", Code.INVALID_REQUEST),
        ("attachments", "", Code.INVALID_REQUEST),
        ("voice", "", Code.INVALID_REQUEST),
        ("voice", "kanarienvogel", Code.INVALID_REQUEST),
        ("grace_s", "nan", Code.INVALID_REQUEST),
        ("temperature", "nan", Code.INVALID_REQUEST),
        ("temperature", "inf", Code.INVALID_REQUEST),
        ("limit", "9" * 5000, Code.INVALID_REQUEST),
        ("limit", "kanarienvogel", Code.INVALID_REQUEST),
        ("language", "\ud800", Code.INVALID_REQUEST),
        ("session_id", "kanarienvogel\r\nx", Code.INVALID_REQUEST),
        ("kanarienvogel", "1", Code.INVALID_REQUEST),
    ],
)
def test_a_wrong_query_string_is_refused_like_a_wrong_body(name: str, text: str, code: Code) -> None:
    """Never an exception that nobody expects, never an echo."""
    with pytest.raises(GatewayError) as raised:
        NATIVE.parse_query({"query": "hi", name: text})
    assert raised.value.code is code
    assert "kanarienvogel" not in raised.value.message


@pytest.mark.parametrize("number", [b"1" + b"0" * 29, b"-9223372036854775809", b"18446744073709551616", b"1e308"])
def test_metadata_with_huge_numbers_is_echoed_and_harms_nobody(number: bytes) -> None:
    """Whatever came in can go out again."""
    request = NATIVE.parse(b'{"query":"hi","metadata":{"n":' + number + b"}}")
    request.fingerprint()
    stream = stream_of(metadata=request.metadata)
    [frame] = NATIVE.encoder(stream, unnamed=False).encode(Record(1, Opened("m", request.metadata)))
    assert data_of(frame)["metadata"] == {"n": pytest.approx(float(number))}
