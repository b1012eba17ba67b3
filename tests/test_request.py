"""What was asked: a fingerprint without spelling, a question without a dialect, a weight."""

from dataclasses import replace
from typing import Any

import pytest

from gateway.dialects.native import NativeDialect
from gateway.request import Voice, plain_text
from tests.doubles import question

NATIVE = NativeDialect(default_model="m", grace_s=30, grace_max_s=60)


def test_equal_questions_have_equal_fingerprints_whatever_their_spelling() -> None:
    """Order, spaces and escapes are not the question."""
    one = NATIVE.parse(b'{"query":"h\\u00e9","max_tokens":5,"metadata":{"a":1,"b":2}}')
    other = NATIVE.parse('{ "metadata": {"b": 2, "a": 1},\n "max_tokens": 5, "query": "hé" }'.encode())
    assert one.fingerprint() == other.fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        {"model": "n"},
        {"messages": ()},
        {"max_tokens": 5},
        {"temperature": 0.0},
        {"voice": Voice()},
        {"metadata": {}},
        {"parameters": {"top_p": 1}},
        {"context": {"limit": 1}},
        {"user_id": "u"},
        {"full_text": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_question_has_another_fingerprint(change: dict[str, Any]) -> None:
    """Whatever differs."""
    assert replace(question(), **change).fingerprint() != question().fingerprint()


@pytest.mark.parametrize(
    ("messages", "asked"),
    [
        ([("user", "a"), ("assistant", "b"), ("user", "c")], "c"),
        ([("user", "a"), ("assistant", "b")], "a"),
        ([("system", "a")], ""),
        ([], ""),
        ([("user", [{"type": "text", "text": "a"}, {"type": "image_url"}, {"text": "b"}])], "a b"),
        ([("user", None)], ""),
    ],
)
def test_the_question_is_what_the_user_said_last(messages: list[tuple[str, Any]], asked: str) -> None:
    """As plain text, from a string or from parts."""
    chat = tuple({"role": role, "content": content} for role, content in messages)
    assert question(messages=chat).question() == asked


@pytest.mark.parametrize("content", [None, 5, {}, [1, "x", None, {}]])
def test_content_without_text_is_empty(content: Any) -> None:
    """And no error."""
    assert plain_text(content) == ""


def test_a_request_weighs_what_its_client_sent() -> None:
    """About as many bytes as its text, and what its members take beside it."""
    assert 10_000 < question("x" * 10_000).size() < 12_000


def test_a_continued_request_is_the_same_question_with_the_beginning_of_its_answer() -> None:
    """As the assistant's words, and nothing else is changed."""
    asked = question(temperature=0.5, parameters={"top_p": 1, "max_completion_tokens": None}, metadata={"a": 1})
    more = asked.continued("Once upon")
    assert more.messages == (*asked.messages, {"role": "assistant", "content": "Once upon"})
    assert more.is_continuation
    assert replace(more, messages=asked.messages, is_continuation=False) == asked


def test_a_continuation_goes_on_behind_words_that_the_caller_put_into_the_assistants_mouth() -> None:
    """One message of the assistant's, not two; so a continuation can be continued too."""
    messages = ({"role": "user", "content": "hi"}, {"role": "assistant", "content": "Once "})
    more = question(messages=messages).continued("upon").continued(" a time")
    assert more.messages == (messages[0], {"role": "assistant", "content": "Once upon a time"})
    parts = ({"role": "assistant", "content": [{"type": "text", "text": "Once "}]},)
    assert question(messages=parts).continued("upon").messages == (*parts, {"role": "assistant", "content": "upon"})


@pytest.mark.parametrize(("limit", "left"), [(100, 90), (10, 1), (3, 1)])
def test_what_was_said_counts_against_the_limit_of_tokens(limit: int, left: int) -> None:
    """Under either name, four characters a token; one is always left, for there must be an end."""
    more = question(max_tokens=limit, parameters={"max_completion_tokens": limit}).continued("abcd" * 10)
    assert (more.max_tokens, more.parameters["max_completion_tokens"]) == (left, left)
    assert question().continued("abcd").max_tokens is None
