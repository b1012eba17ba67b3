"""The OpenAI dialect: what an unmodified OpenAI client understands of the answer."""

from typing import Any

import orjson
import pytest

from gateway.dialects.openai import OpenAIDialect
from gateway.errors import Code, GatewayError
from gateway.events import (
    Citation,
    Completed,
    Event,
    Failed,
    Metadata,
    Opened,
    Reasoning,
    Record,
    Refusal,
    Text,
    TextComplete,
    ToolCall,
    Usage,
    Warned,
    WholeText,
)
from gateway.streams.stream import Stream
from tests.dialects.examples import EXAMPLES
from tests.doubles import DONE, END, stream_of

OPENAI = OpenAIDialect()
WITH_USAGE = {"stream_options": {"include_usage": True}}
LOGPROBS = [{"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}]


def frames(stream: Stream) -> list[str]:
    """The data of everything that a client of this stream is told."""
    encoder = OPENAI.encoder(stream)
    told = [frame for seq, event in enumerate(stream.events(), 1) for frame in encoder.encode(Record(seq, event))]
    assert not any(frame.event or frame.id or frame.retry_ms for frame in told)
    return [frame.data.decode() for frame in told]


def chunks(*events: Event, **parameters: Any) -> list[Any]:
    """The chunks that tell these events."""
    stream = stream_of(*events, parameters=parameters)
    told = [orjson.loads(data) for data in frames(stream) if data != "[DONE]"]
    for chunk in told:
        assert chunk["id"] == f"chatcmpl-{stream.sid}"
        assert (chunk["object"], chunk["created"], chunk["model"]) == ("chat.completion.chunk", stream.created_s, "m")
    return told


@pytest.mark.parametrize(
    ("event", "delta"),
    [
        (Opened("m"), {"role": "assistant", "content": ""}),
        (Text('a"\n'), {"content": 'a"\n'}),
        (Reasoning("r"), {"reasoning_content": "r"}),
        (Refusal("no"), {"refusal": "no"}),
        (
            ToolCall(1, "{", "i", "f"),
            {"tool_calls": [{"index": 1, "id": "i", "type": "function", "function": {"name": "f", "arguments": "{"}}]},
        ),
        (ToolCall(1, "}"), {"tool_calls": [{"index": 1, "function": {"arguments": "}"}}]}),
        (Citation({"type": "url_citation"}), {"annotations": [{"type": "url_citation"}]}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Event) else "",
)
def test_content_is_a_delta(event: Event, delta: dict[str, Any]) -> None:
    """In the first and only choice."""
    [chunk] = chunks(event)
    assert chunk["choices"] == [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}]
    assert "usage" not in chunk


def test_logprobs_are_told_where_they_were_asked_for() -> None:
    """Beside an empty delta, as they come."""
    [chunk] = chunks(Metadata({"logprobs": {"content": LOGPROBS}}))
    assert chunk["choices"] == [
        {"index": 0, "delta": {}, "logprobs": {"content": LOGPROBS}, "finish_reason": None},
    ]


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "content_filter"])
def test_the_last_chunk_says_why_it_is_the_last(reason: str) -> None:
    """In the upstream's own word."""
    [chunk] = chunks(TextComplete(reason, Usage(1, 2)))
    assert chunk["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason}]


def test_usage_comes_last_where_it_was_asked_for() -> None:
    """Null on every chunk before it, and no choice beside it."""
    usage = Usage(3, 4, details={"prompt_tokens_details": {"cached_tokens": 1}})
    told = chunks(Opened("m"), Text("a"), Reasoning("r"), TextComplete("stop", usage), **WITH_USAGE)
    assert [chunk["usage"] for chunk in told[:-1]] == [None] * 4
    assert told[-1]["choices"] == []
    assert told[-1]["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 1},
    }


@pytest.mark.parametrize("parameters", [{}, {"stream_options": {}}, {"stream_options": {"include_usage": False}}])
def test_usage_is_not_told_unasked(parameters: dict[str, Any]) -> None:
    """A chunk without a choice makes some clients stumble."""
    told = chunks(Opened("m"), Text("a"), END, **parameters)
    assert not any("usage" in chunk for chunk in told)
    assert all(chunk["choices"] for chunk in told)


def test_a_provider_that_gave_no_usage_is_given_none() -> None:
    """What was asked for and is not known is left out, not made up."""
    assert all(chunk["choices"] for chunk in chunks(TextComplete("stop"), **WITH_USAGE))


def test_done_is_the_last_word_of_an_answer_that_is_whole() -> None:
    """Exactly one, behind everything."""
    assert frames(stream_of(Opened("m"), Text("a"), END, DONE)).index("[DONE]") == 3
    assert frames(stream_of(DONE)) == ["[DONE]"]


@pytest.mark.parametrize(
    ("terminal", "code", "kind"),
    [
        (Failed("UPSTREAM_ERROR", "went wrong", True, 502, 0), "UPSTREAM_ERROR", "server_error"),
        (Failed("UPSTREAM_RATE_LIMITED", "went wrong", True, 429, 0), "UPSTREAM_RATE_LIMITED", "rate_limit_error"),
        (Completed("cancelled", "went wrong", None, 1, 2), "CANCELLED", "invalid_request_error"),
    ],
)
def test_half_an_answer_is_never_called_whole(terminal: Event, code: str, kind: str) -> None:
    """An error that official clients raise, no `[DONE]` and no finish reason."""
    told = frames(stream_of(Opened("m"), Text("a"), terminal))
    assert "[DONE]" not in told
    error = orjson.loads(told[-1])["error"]
    assert (error["code"], error["type"], error["param"]) == (code, kind, None)
    assert "went wrong" in error["message"]
    assert all(orjson.loads(data)["choices"][0]["finish_reason"] is None for data in told[:-1])


def test_a_lost_place_is_an_error() -> None:
    """Since text once sent cannot be taken back; other notices, hello and farewell have no words here."""
    encoder = OPENAI.encoder(stream_of())
    assert not encoder.can_replace
    [frame] = encoder.lost(Warned("GAP", "lost"))
    assert orjson.loads(frame.data)["error"] | {"param": 0} == {
        "message": "lost",
        "type": "server_error",
        "param": 0,
        "code": "GAP",
    }
    assert not [*encoder.notice(Text("")), *encoder.hello(resumed=False, retry_ms=0), *encoder.farewell("complete")]


def test_what_this_dialect_has_words_for_is_a_decision() -> None:
    """A new kind of event is silent here only when somebody has said so."""
    encoder = OPENAI.encoder(stream_of())
    silent = {type(event).__name__ for event in EXAMPLES if not encoder.encode(Record(1, event))}
    assert silent == {
        "Audio",
        "AudioEvicted",
        "Custom",
        "Metadata",
        "PartialResult",
        "Progress",
        "Results",
        "Status",
        "Suggestions",
        "Warned",
    }


# Being answered at once.


def whole(*events: Event) -> Any:
    """The answer as one object."""
    return _fold(stream_of(*events, END, DONE))


def _fold(stream: Stream) -> Any:
    return OPENAI.fold(stream, stream.events())


def test_a_whole_answer_is_one_object() -> None:
    """Text joined, a replacement obeyed, usage told."""
    stream = stream_of(Opened("m"), Text("x"), WholeText("a"), Text("b"), END, DONE)
    message = {"role": "assistant", "content": "ab", "refusal": None}
    assert _fold(stream) == {
        "id": f"chatcmpl-{stream.sid}",
        "object": "chat.completion",
        "created": stream.created_s,
        "model": "m",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }


def test_tool_calls_are_joined_piece_by_piece() -> None:
    """Each by its index, in the order of the indexes, however they were mixed."""
    answer = whole(
        ToolCall(1, "", "i1", "g"), ToolCall(0, '{"a"', "i0", "f"), ToolCall(1, "[]"), ToolCall(0, ":1}"), ToolCall(1)
    )
    message = answer["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": "i0", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "i1", "type": "function", "function": {"name": "g", "arguments": "[]"}},
    ]


def test_everything_else_that_was_streamed_is_in_the_whole_answer_too() -> None:
    """Reasoning, refusal, annotations and logprobs, joined."""
    answer = whole(
        Reasoning("r"),
        Reasoning("s"),
        Refusal("n"),
        Refusal("o"),
        Citation({"type": "url_citation"}),
        Metadata({"logprobs": {"content": LOGPROBS, "refusal": None}}),
        Metadata({"model": "x"}),
        Metadata({"logprobs": {"content": LOGPROBS}}),
    )
    [choice] = answer["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": "no",
        "reasoning_content": "rs",
        "annotations": [{"type": "url_citation"}],
    }
    assert choice["logprobs"] == {"content": LOGPROBS * 2}


def test_a_whole_answer_without_usage_says_nothing_of_it() -> None:
    """What the provider did not count is not made up here."""
    assert "usage" not in _fold(stream_of(Text("a"), TextComplete("length"), DONE))
    assert _fold(stream_of(TextComplete("length"), DONE))["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "authentication_error"),
        (404, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "server_error"),
        (503, "server_error"),
    ],
)
def test_a_refusal_is_openai_s_envelope(status: int, kind: str) -> None:
    """Clients raise the class that fits the status."""
    body = OPENAI.refusal(GatewayError(Code.INTERNAL, "m", status=status, param="p"))
    assert body == {"error": {"message": "m", "type": kind, "param": "p", "code": "INTERNAL"}}
