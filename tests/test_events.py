"""Text: a string that is an event."""

import json

import orjson
import pytest

from gateway.events import Event, Reasoning, Record, Text, WholeText, as_record, has_content


@pytest.mark.parametrize("token", ["", "a", "é", "日本", "👩‍👩‍👧", '\0\n"\\'])
def test_a_text_is_its_token(token: str) -> None:
    """Read as a string, weighed as one, written as one; and nothing but a string where that is asked for."""
    text = Text(token)
    assert text == token
    assert type(text.token) is str
    assert text.token == token
    assert text.size == len(token)
    assert orjson.dumps(text) == orjson.dumps(token)
    assert orjson.loads(orjson.dumps({"token": text})) == json.loads(json.dumps({"token": text})) == {"token": token}
    assert "".join([text, text]) == token + token
    assert isinstance(text, Event)
    assert text.is_content
    assert not text.is_terminal


def test_a_whole_text_is_no_piece_of_text() -> None:
    """They are told in different ways: neither is taken for the other, whichever is asked."""
    piece, whole = Text("a"), WholeText("a")
    events: list[Event] = [piece, whole, Reasoning("a"), Text("b"), WholeText("b")]
    assert [event == Text("a") for event in events] == [True, False, False, False, False]
    assert [Text("a") == event for event in events] == [True, False, False, False, False]
    assert [event == WholeText("a") for event in events] == [False, True, False, False, False]
    assert [WholeText("a") == event for event in events] == [False, True, False, False, False]
    assert [event != WholeText("a") for event in events] == [True, False, True, True, True]
    assert [event != Text("a") for event in events] == [False, True, True, True, True]
    assert hash(whole) == hash(WholeText("a"))
    assert len({Text("a"), WholeText("a"), Text("a"), WholeText("a")}) == 2


def test_they_say_what_they_are() -> None:
    """In logs and in failing tests."""
    assert repr(Text('a"')) == "Text('a\"')"
    assert repr(WholeText("a")) == "WholeText('a')"
    assert str(Text("a")) == f"{Text('a')}" == "a"
    assert repr(Record(1, Text("a"))) == "Record(seq=1, event=Text('a'))"


@pytest.mark.parametrize("kind", [Text, WholeText])
def test_a_text_holds_nothing_but_characters(kind: type[Text]) -> None:
    """There are more of them than of anything else: none has a place for anything more."""
    text = kind("a")
    assert not hasattr(text, "__dict__")
    with pytest.raises(AttributeError):
        text.note = 1  # type: ignore[attr-defined]  # that it has no such place is the promise


def test_a_pair_becomes_a_record() -> None:
    """The same as the long way round."""
    record = as_record((3, Text("a")))
    assert record == Record(3, Text("a"))
    assert type(record) is Record
    assert record.seq == 3
    assert record.event == Text("a")


@pytest.mark.parametrize("token", ["", "a"])
def test_a_text_is_content_also_when_it_is_empty(token: str) -> None:
    """It is the kind of event that counts; an empty string is false, but no less an event."""
    assert has_content([Text(token)])
    assert not has_content([])
