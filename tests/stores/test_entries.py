"""The codec of the shared log: what is written down is read again the same, and what is not ours is refused."""

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import events
from gateway.events import Audio, AudioEvicted, Event, JsonObject, Metadata, Record, Text, Usage, WholeText
from gateway.request import Caller, Caps, OnDisconnect, Preferences, StreamRequest, Voice
from gateway.stores.entries import (
    BrokenEntry,
    Entry,
    decode,
    decode_caller,
    decode_request,
    encode,
    encode_caller,
    encode_request,
    parse_entry,
)
from tests.doubles import question

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
"""Halves of surrogate pairs, controls, unassigned characters: whatever a provider may let through."""

NUMBERS = st.integers(-(2**53), 2**53)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(ANY_TEXT, JSON, max_size=4)
USAGES = st.builds(Usage, NUMBERS, NUMBERS, st.booleans(), OBJECTS)
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: ANY_TEXT,
    str | None: st.none() | ANY_TEXT,
    int: NUMBERS,
    int | None: st.none() | NUMBERS,
    bool: st.booleans(),
    bool | None: st.none() | st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    float | None: st.none() | st.floats(allow_nan=False, allow_infinity=False),
    bytes: st.binary(max_size=50),
    JsonObject: OBJECTS,
    JsonObject | None: st.none() | OBJECTS,
    dict[str, Any]: OBJECTS,
    dict[str, Any] | None: st.none() | OBJECTS,
    tuple[str, ...]: st.lists(ANY_TEXT, max_size=3).map(tuple),
    tuple[dict[str, Any], ...]: st.lists(OBJECTS, max_size=3).map(tuple),
    Usage | None: st.none() | USAGES,
    OnDisconnect: st.sampled_from(OnDisconnect),
    Any: JSON,
}


def _anything(kind: Any) -> st.SearchStrategy[Any]:
    if issubclass(kind, Text):
        return st.builds(kind, ANY_TEXT)
    return st.builds(kind, **{field.name: _values(kind)[field.name] for field in dataclasses.fields(kind)})


def _values(kind: Any) -> Mapping[str, st.SearchStrategy[Any]]:
    hints = typing.get_type_hints(kind)
    return {field.name: VALUES[hints[field.name]] for field in dataclasses.fields(kind)}


for part in (Voice, Caps, Preferences):
    VALUES[part | None] = st.none() | _anything(part)
KINDS = [kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, Event) and kind != Event]


def test_the_whole_closed_set_is_tried() -> None:
    """Twenty classes; a new one is tried here as soon as it exists."""
    assert len(KINDS) >= 20


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_event_is_read_as_it_was_written(kind: type[Event]) -> None:
    """Whatever its fields hold, alone and between others."""

    @given(_anything(kind))
    def check(event: Event) -> None:
        batch = [Text("a"), event, Text("b")]
        again = decode(encode(batch, with_audio=True))
        assert again == batch
        assert [type(found) for found in again] == [type(event) for event in batch]

    check()


def test_speech_is_left_out_but_keeps_its_place() -> None:
    """Unless it is asked for: it is a hundred times the text."""
    speech = Audio(b"sound", "pcm", 24000, "Hi.", 3, True, 100)
    assert decode(encode([Text("Hi."), speech])) == [Text("Hi."), AudioEvicted(3)]
    assert decode(encode([speech], with_audio=True)) == [speech]


def test_what_is_no_json_spoils_nothing_beside_it() -> None:
    """No client can be told of it, here as there; its place is kept."""
    endless: dict[str, Any] = {}
    endless["self"] = endless
    event = Metadata({})
    object.__setattr__(event, "data", endless)
    assert decode(encode([Text("a"), event, Text("\ud800")])) == [Text("a"), Metadata({}), Text("\ud800")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[",
        b"\xff",
        b"[1]",
        b"[null]",
        b"[{}]",
        b'[{"t":"Surprise"}]',
        b'[{"t":["Text"]}]',
        b'[{"t":"Event"}]',
        b'[{"t":"_Weighed"}]',
        b'[{"t":"WholeText"}]',
        b'[{"t":"Reasoning"}]',
        b'[{"t":"Reasoning","token":5}]',
        b'[{"t":"Audio","chunk":"no base64!","format":"","sample_rate":1,"sentence":"","index":1,"final":true}]',
        b'[{"t":"TextComplete","finish_reason":"stop","usage":{"prompt_tokens":"many"}}]',
        b'[{"t":"Suggestions","suggestions":[1]}]',
        b"[" * 100_000,
    ],
    ids=lambda body: body[:40].decode(errors="replace") or "nothing",
)
def test_what_is_not_ours_is_one_clear_error(body: bytes) -> None:
    """Never a crash somewhere else, and never an event with a field of the wrong kind."""
    with pytest.raises(BrokenEntry):
        decode(body)


def test_fields_of_a_newer_version_are_passed_over() -> None:
    """While a fleet is being restarted two versions read each other's logs."""
    assert decode(b'[{"t":"Reasoning","token":"hm","depth":3}]') == [events.Reasoning("hm")]


@pytest.mark.parametrize(
    ("entry_id", "fields"),
    [
        (b"1-2", [b"f", b"1", b"p", b"0"]),
        (b"1-2", [b"f", b"one", b"p", b"0", b"b", b'["a"]']),
        (b"1", [b"f", b"1", b"p", b"0", b"b", b'["a"]']),
        (b"1-2", [b"f", b"3", b"p", b"0", b"b", b'["a"]']),
        (b"1-4", [b"f", b"1", b"p", b"0", b"b", b'["a","b"]']),
        (b"1-4", [b"f", b"1", b"p", b"0", b"b", b"[]"]),
        (b"1-4", [b"f"]),
    ],
)
def test_an_entry_that_does_not_add_up_is_refused(entry_id: bytes, fields: list[bytes]) -> None:
    """A field missing, no number, more or fewer events than its places can have."""
    with pytest.raises(BrokenEntry):
        parse_entry(entry_id, fields)


def test_an_entry_that_overlaps_tells_only_what_is_new() -> None:
    """A write that was thought lost and was not: its successor begins where it began."""
    entry = parse_entry(b"2-5", [b"f", b"3", b"p", b"1", b"b", b'["c","d","e"]'])
    assert entry == Entry(2, 3, 5, 1, [Text("c"), Text("d"), Text("e")])
    assert entry.records(after=4) == [Record(5, Text("e"))]
    folded = parse_entry(b"2-9", [b"f", b"1", b"p", b"1", b"b", b'["abc"]'])
    assert folded.folded
    assert folded.records() == [Record(9, Text("abc"))]
    assert folded.records(after=9) == []


@given(_anything(StreamRequest))
def test_a_request_is_read_as_it_was_written(request: StreamRequest) -> None:
    """Equal in every field."""
    assert decode_request(encode_request(request)) == request


@given(st.text(max_size=20), st.dictionaries(st.text(max_size=5), NUMBERS, max_size=3))
def test_a_request_keeps_its_fingerprint(text: str, metadata: dict[str, Any]) -> None:
    """An idempotency key is bound to it, whichever process is asked again."""
    asked = question(text, metadata=metadata, voice=Voice(rate=1.5))
    assert decode_request(encode_request(asked)).fingerprint() == asked.fingerprint()


@given(_anything(Caller))
def test_a_caller_is_read_as_it_was_written(caller: Caller) -> None:
    """With and without a user and a session."""
    assert decode_caller(encode_caller(caller)) == caller


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"tenant":5}', orjson.dumps({"user": "x"})])
def test_a_broken_caller_is_refused(body: bytes) -> None:
    """A stream without an owner is nobody's."""
    with pytest.raises(BrokenEntry):
        decode_caller(body)


def test_whole_text_stays_whole() -> None:
    """It replaces what a client had; read as an ordinary piece it would be appended."""
    (again,) = decode(encode([WholeText("x")]))
    assert type(again) is WholeText
