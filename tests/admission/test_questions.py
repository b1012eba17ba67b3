"""Questions: what is too much or not the tenant's is refused, what nobody types is taken out, the rest is let be."""

from typing import Any

import pytest

from gateway.admission.questions import Questions, caps_of
from gateway.admission.tenant import OPEN, Features, Limits, Tenant
from gateway.errors import Code, GatewayError
from gateway.request import Caps, Voice
from tests.doubles import question

QUESTIONS = Questions(max_chars=100, max_messages=5)


def of(**features: Any) -> Tenant:
    """A tenant with these features."""
    return Tenant("acme", features=Features(**features))


def within(**limits: Any) -> Tenant:
    """A tenant with these limits."""
    return Tenant("acme", limits=Limits(**limits))


def refused(tenant: Tenant = OPEN, dialect: str = "native", **asked: Any) -> GatewayError:
    """Why a question is not accepted."""
    with pytest.raises(GatewayError) as raised:
        QUESTIONS.accept(question(**asked), tenant, dialect)
    return raised.value


def said(*contents: Any) -> tuple[dict[str, Any], ...]:
    """Messages with these contents."""
    return tuple({"role": "user", "content": content} for content in contents)


@pytest.mark.parametrize(
    ("messages", "tenant", "limit"),
    [
        (said("x" * 101), OPEN, "100 characters of text"),
        (said("x" * 50, "x" * 51), OPEN, "100 characters of text"),
        (said([{"type": "text", "text": "x" * 60}, {"type": "text", "text": "x" * 60}]), OPEN, "100 characters"),
        (({"role": "assistant", "tool_calls": [{"function": {"arguments": "x" * 101}}]},), OPEN, "100 characters"),
        (({"role": "user", "content": "hi", "name": "x" * 101},), OPEN, "100 characters"),
        (({"role": "user", "content": "hi", "file": "x" * 101},), OPEN, "100 characters"),
        (({"role": "user", "content": "hi", "type": "file", "file": "x" * 101},), OPEN, "100 characters"),
        (({"role": "user", "content": "hi", "x" * 101: 1},), OPEN, "100 characters"),
        (said([{"type": "x" * 101, "text": "hi"}]), OPEN, "100 characters"),
        (said([{"type": "text", "text": "hi", "file": "x" * 101}]), OPEN, "100 characters"),
        (said([{"type": "file", "file": {}, "image_url": "x" * 101}]), OPEN, "100 characters"),
        (said([{"type": {"type": "file", "file": "x" * 101}}]), OPEN, "100 characters"),
        (said([{"type": "text", "text": "hi", "x" * 101: None}]), OPEN, "100 characters"),
        (said("x" * 11), within(max_input_chars=10), "10 characters"),
        (said("x" * 101), within(max_input_chars=1000), "100 characters"),
        (said(*["x"] * 6), OPEN, "5 messages"),
        (said(*["x"] * 3), within(max_messages=2), "2 messages"),
        (said(*["x"] * 6), within(max_messages=2000), "5 messages"),
    ],
)
def test_too_much_text_and_too_many_messages_are_refused(
    messages: tuple[dict[str, Any], ...], tenant: Tenant, limit: str
) -> None:
    """413, and the limit is said; the smaller one holds, and text counts wherever it stands."""
    error = refused(tenant, messages=messages)
    assert (error.code, error.status, error.param) == (Code.INPUT_TOO_LARGE, 413, "messages")
    assert limit in error.message
    assert "xx" not in error.message


def tool(**schema: Any) -> dict[str, Any]:
    """Parameters with one tool."""
    return {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", **schema}}}]}


@pytest.mark.parametrize(
    "asked",
    [
        {"parameters": tool(description="x" * 98)},
        {"parameters": tool(properties={"x" * 98: {"type": "string"}})},
        {"parameters": tool(type="file", file="x" * 98)},
        {"parameters": {"prediction": {"type": "content", "content": "x" * 99}}},
        {"parameters": {"prediction": {"type": "content", "content": [{"type": "text", "text": "x" * 99}]}}},
        {"parameters": {"stop": ["x" * 50, "x" * 49]}},
        {"context": {"filters": {"file": "x" * 99}}},
        {"context": {"attachments": [{"type": "text", "text": "x" * 99}]}},
    ],
)
def test_what_is_asked_beside_the_messages_counts_with_them(asked: dict[str, Any]) -> None:
    """It is read as they are, and paid for; 413, and no field is blamed alone."""
    error = refused(messages=said("hi"), **asked)
    assert (error.code, error.param) == (Code.INPUT_TOO_LARGE, None)
    assert "100 characters" in error.message
    assert "xx" not in error.message
    assert QUESTIONS.accept(question(messages=said("x"), **asked), OPEN, "native")


@pytest.mark.parametrize("tenant", [OPEN, within(max_input_chars=100, max_messages=5)])
def test_what_just_fits_is_asked(tenant: Tenant) -> None:
    """Pictures and files are no text: the bound of the body is theirs."""
    files = [{"type": "image_url", "image_url": {"url": "data:" + "x" * 200}}, {"type": "file", "file": "x" * 200}]
    asked = question(
        messages=said("x" * 20, "x" * 20, "x" * 20, "x" * 20, [*files, {"type": "text", "text": "x" * 18}]),
        parameters={"user": "u" * 99, "stream_options": {"include_usage": True}, "top_p": 0.5, **tool(required=["x"])},
        context={"limit": 5, "attachments": files},
    )
    assert QUESTIONS.accept(asked, tenant, "native") is asked


@pytest.mark.parametrize("unwanted", ["\0", "\x08", "\x0b", "\x1b", "\x1f", "\x7f", "\x85", "\x9f", "\u202d", "\u202e"])
def test_what_nobody_types_is_taken_out(unwanted: str) -> None:
    """From text and from parts of text, in messages of every role; everything else is as it was."""
    dirty = f"a{unwanted}b\n"
    picture = {"type": "image_url", "image_url": {"url": f"data:{unwanted}"}}
    asked = question(
        messages=(
            {"role": "system", "content": dirty, "name": "n"},
            {"role": "user", "content": [{"type": "text", "text": dirty}, picture]},
            {"role": "assistant", "content": None},
            {"role": "user", "content": "clean"},
        )
    )
    clean = QUESTIONS.accept(asked, OPEN, "native")
    assert clean.messages == (
        {"role": "system", "content": "ab\n", "name": "n"},
        {"role": "user", "content": [{"type": "text", "text": "ab\n"}, picture]},
        {"role": "assistant", "content": None},
        {"role": "user", "content": "clean"},
    )
    assert asked.messages[0]["content"] == dirty


@pytest.mark.parametrize("text", [["x"], [{"text": "\0"}], {"text": "\0"}, 5, None])
def test_what_is_no_text_is_not_cleaned(text: Any) -> None:
    """Nor does it break anything: whether it may stand there is its dialect's to say."""
    asked = question(messages=said([{"type": "text", "text": text}]))
    assert QUESTIONS.accept(asked, OPEN, "native") is asked


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "tabs\tand\r\nlines",
        "family 👨‍👩‍👧‍👦, flag 🏴󠁧󠁢󠁳󠁣󠁴󠁿, skin 👍🏽",  # joiners, tags and selectors are the point
        "שלום \u200f(עולם)\u200f",
        "\u2067ابحث\u2069 and \u202bمرحبا\u202c",
        "soft\u00adhyphen, no\u00a0break, zero\u200bwidth",
        "می\u200cخواهم",
        "line\u2028separator",
    ],
)
def test_what_people_type_stays(text: str) -> None:
    """Not even a copy is made."""
    asked = question(text)
    assert QUESTIONS.accept(asked, OPEN, "native") is asked


def test_a_tenant_has_its_models_and_no_others() -> None:
    """403, with the names that it has; without a list it has all."""
    assert QUESTIONS.accept(question(model="m"), of(models=("m", "n")), "native").model == "m"
    assert QUESTIONS.accept(question(model="x"), of(), "native").model == "x"
    error = refused(of(models=("m", "n")), model="x")
    assert (error.code, error.status, error.param, error.allowed) == (Code.MODEL_NOT_ALLOWED, 403, "model", ["m", "n"])


@pytest.mark.parametrize(
    ("tenant", "dialect", "asked", "param"),
    [
        (of(dialects=("native",)), "openai", {}, "dialect"),
        (of(voice=False), "native", {"voice": Voice()}, "voice"),
    ],
)
def test_a_tenant_has_its_features_and_no_others(
    tenant: Tenant, dialect: str, asked: dict[str, Any], param: str
) -> None:
    """403, before anything is looked at that would tell more."""
    error = refused(tenant, dialect, **asked)
    assert (error.code, error.status, error.param) == (Code.FEATURE_NOT_ALLOWED, 403, param)
    QUESTIONS.accept(question(), tenant, "native")


def test_caps_are_the_tenant_s_where_it_has_them() -> None:
    """And the gateway's own where it says nothing."""
    own = Caps(words=1000, bytes=5000)
    assert caps_of(own, OPEN) == own
    assert caps_of(own, Tenant("a", caps=Caps(words=2000, seconds=5))) == Caps(words=2000, bytes=5000, seconds=5)
