"""Chunks of Chat Completions, in the spellings of several providers, as events; and what is not a chunk, as a fault."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.native import told
from gateway.errors import GatewayError
from gateway.events import Citation, Event, Metadata, Reasoning, Refusal, Text, TextComplete, ToolCall, Usage
from gateway.sources.openai_chunks import COUNT_MAX, NESTING_MAX, ChunkReader


def read(*chunks: Any, reader: ChunkReader | None = None, event: str = "message") -> list[Event]:
    """The events of these chunks; a string is taken as it is."""
    reader = reader or ChunkReader()
    data = [chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks]
    return [found for text in data for found in reader.read(event.encode(), text.encode())]


def delta(value: Any, **choice: Any) -> dict[str, Any]:
    """A chunk around a delta."""
    return {"choices": [{"index": 0, "delta": value, **choice}]}


def code_of(*chunks: Any, event: str = "message") -> str:
    """The code of the fault that these chunks are."""
    with pytest.raises(GatewayError) as caught:
        read(*chunks, event=event)
    return caught.value.code.name


def test_a_plain_answer_is_its_text_and_its_end() -> None:
    """Role, tokens, finish reason, usage, [DONE]; the role says nothing that an event would."""
    counts = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
    reader = ChunkReader()
    start = delta({"role": "assistant", "content": ""})
    assert read(start, delta({"content": "Hé"}), delta({}, finish_reason="stop"), reader=reader) == [Text("Hé")]
    assert not reader.done
    assert read({"choices": [], "usage": counts}, "[DONE]", reader=reader) == [TextComplete("stop", Usage(5, 7))]
    assert reader.done


def test_who_really_answers_is_said_once_and_first() -> None:
    """Model, fingerprint and tier of the first chunk; every later one repeats them."""
    chunk = {"model": "up-1", "system_fingerprint": "fp", "service_tier": None, **delta({"content": "a"})}
    assert read(chunk, chunk) == [Metadata({"model": "up-1", "system_fingerprint": "fp"}), Text("a"), Text("a")]


@pytest.mark.parametrize("reason", ["stop", "length", "tool_calls", "content_filter", "function_call", "eos"])
def test_the_finish_reason_is_the_upstreams_own(reason: str) -> None:
    """Whatever it is called; beside content or behind it."""
    assert read(delta({"content": "a"}, finish_reason=reason), "[DONE]")[-1] == TextComplete(reason, None)
    assert read(delta({}, finish_reason=reason), delta({}, finish_reason=None), "[DONE]") == [
        TextComplete(reason, None)
    ]


def test_tool_calls_come_in_pieces_by_their_index() -> None:
    """Name and id once, arguments in fragments, two calls interleaved."""
    calls: list[list[dict[str, Any]]] = [
        [{"index": 0, "id": "c0", "type": "function", "function": {"name": "find", "arguments": ""}}],
        [{"index": 0, "function": {"arguments": '{"q":'}}, {"index": 1, "id": "c1", "function": {"name": "go"}}],
        [{"index": 1, "function": {"arguments": "{}"}}, {"index": 0, "function": {"arguments": "1}"}}],
    ]
    assert read(*(delta({"tool_calls": pieces}) for pieces in calls)) == [
        ToolCall(0, "", "c0", "find"),
        ToolCall(0, '{"q":'),
        ToolCall(1, "", "c1", "go"),
        ToolCall(1, "{}"),
        ToolCall(0, "1}"),
    ]


def test_loose_tool_calls_are_understood() -> None:
    """No index, nulls, no function at all; and the old `function_call`."""
    loose = [{"index": None, "id": None, "function": {"name": None, "arguments": None}}, {"id": "x"}]
    assert read(delta({"tool_calls": loose})) == [ToolCall(0), ToolCall(0, "", "x")]
    assert read(delta({"function_call": {"name": "f", "arguments": "{"}})) == [ToolCall(0, "{", None, "f")]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
def test_reasoning_is_kept_apart_from_the_answer(key: str) -> None:
    """In both spellings; where a provider sends both, once."""
    assert read(delta({key: "hm", "content": None})) == [Reasoning("hm")]
    assert read(delta({"reasoning_content": "hm", "reasoning": "hm"})) == [Reasoning("hm")]
    assert read(delta({key: "", "content": "a"})) == [Text("a")]


def test_refusals_citations_and_logprobs_have_events_of_their_own() -> None:
    """None of them is text, and none is dropped."""
    cited = {"type": "url_citation", "url_citation": {"url": "https://example.org"}}
    scores = {"content": [{"token": "a", "logprob": -0.1}]}
    assert read(delta({"refusal": "I cannot"})) == [Refusal("I cannot")]
    assert read(delta({"annotations": [cited]})) == [Citation(cited)]
    assert read(delta({"content": "a"}, logprobs=scores)) == [Text("a"), Metadata({"logprobs": scores})]


def test_what_nobody_knows_is_passed_on_as_metadata() -> None:
    """Keys of a delta that we have no event for, unless they say nothing."""
    assert read(delta({"content": "a", "audio": {"id": 1}, "odd": None})) == [Text("a"), Metadata({"audio": {"id": 1}})]


@pytest.mark.parametrize(
    "empty",
    [
        {},
        {"choices": None},
        {"choices": []},
        delta(None),
        delta({}),
        {"usage": None},
        {"error": None},
        delta({"content": None}),
    ],
)
def test_chunks_that_say_nothing_are_nothing(empty: dict[str, Any]) -> None:
    """Azure and vLLM send several of them."""
    assert read(empty) == []


def test_usage_keeps_its_details_and_the_last_one_counts() -> None:
    """Cached and reasoning tokens as they are; running totals are replaced by the final ones."""
    details = {"prompt_tokens_details": {"cached_tokens": 3}}
    chunks = [{"usage": {"prompt_tokens": 1}}, {"usage": {"prompt_tokens": 5, "completion_tokens": 2.0, **details}}]
    end = read(*chunks, delta({}, finish_reason="stop"), "[DONE]")[-1]
    assert end == TextComplete("stop", Usage(5, 2, True, details))
    assert read(delta({}, finish_reason="stop"), {"usage": {}}, "[DONE]") == [TextComplete("stop", None)]


@pytest.mark.parametrize("before", [[], [delta({"content": "a"})], [{"usage": {"prompt_tokens": 1}}]])
def test_done_without_a_finish_reason_is_no_end(before: list[Any]) -> None:
    """[DONE] alone is what a proxy adds to an answer that broke off."""
    assert code_of(*before, "[DONE]") == "UPSTREAM_TRUNCATED"


@pytest.mark.parametrize(
    ("chunk", "event", "code"),
    [
        ({"error": {"message": "sk-secret", "type": "server_error"}}, "message", "UPSTREAM_ERROR"),
        ({"error": "sk-secret"}, "message", "UPSTREAM_ERROR"),
        ({"error": ["sk-secret"], "choices": []}, "message", "UPSTREAM_ERROR"),
        ({"message": "sk-secret"}, "error", "UPSTREAM_ERROR"),
        ({"error": {"code": 429}}, "message", "UPSTREAM_RATE_LIMITED"),
        ({"error": {"type": "rate_limit_error"}}, "message", "UPSTREAM_RATE_LIMITED"),
        ({"code": "rate_limit_exceeded"}, "error", "UPSTREAM_RATE_LIMITED"),
        ({"error": {"code": "insufficient_quota"}, **delta({"content": "a"})}, "message", "UPSTREAM_RATE_LIMITED"),
    ],
)
def test_an_error_inside_is_a_fault_whose_words_stay_here(chunk: Any, event: str, code: str) -> None:
    """An upstream's message may hold anything; the client is told ours."""
    with pytest.raises(GatewayError) as caught:
        read(chunk, event=event)
    assert caught.value.code.name == code
    assert "secret" not in str(caught.value)


WRONG: list[Any] = [
    "",
    "hello",
    "[]",
    '"[DONE]"',
    "null",
    '{"choices":',
    '{"choices":NaN}',
    '{"usage":{"prompt_tokens":1e999}}',
    {"choices": 5},
    {"choices": [5]},
    {"choices": [None]},
    {"choices": {"index": 0}},
    {"choices": [{"index": 1, "delta": {"content": "a"}}]},
    delta("a"),
    delta(["a"]),
    delta({"content": 5}),
    delta({"content": ["a"]}),
    delta({"reasoning": {"a": 1}}),
    delta({"refusal": 5}),
    delta({"tool_calls": 5}),
    delta({"tool_calls": [None]}),
    delta({"tool_calls": [{"index": "x"}]}),
    delta({"tool_calls": [{"index": -1}]}),
    delta({"tool_calls": [{"id": 7}]}),
    delta({"tool_calls": [{"function": {"name": 3}}]}),
    delta({"tool_calls": [{"function": {"arguments": {}, "name": ["x"]}}]}),
    delta({"function_call": "f"}),
    delta({"annotations": ["a"]}),
    delta({"annotations": 5}),
    delta({}, logprobs="a"),
    delta({}, finish_reason=5),
    {"usage": "a"},
    {"usage": {"prompt_tokens": "5"}},
    {"usage": {"completion_tokens": -1}},
    {"usage": {"completion_tokens": COUNT_MAX}},
    delta({"odd": json.loads("[" * NESTING_MAX + "]" * NESTING_MAX)}),
]


@pytest.mark.parametrize("chunk", WRONG, ids=lambda chunk: str(chunk)[:60])
def test_what_is_not_a_chunk_is_a_fault_of_the_protocol(chunk: Any) -> None:
    """Never an exception of ours, never an event that could not be written down again."""
    assert code_of(chunk) == "UPSTREAM_PROTOCOL"


CHUNK = ["choices", "usage", "prompt_tokens", "error", "model", "delta", "index", "finish_reason", "logprobs"]
DELTA = ["content", "tool_calls", "function", "name", "arguments", "id", "annotations", "reasoning", "refusal", "odd"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(CHUNK + DELTA), inner, max_size=4),
    max_leaves=15,
)


@given(st.lists(JSON, max_size=3), JSON)
def test_any_json_is_events_that_can_be_told_or_a_known_fault(chunks: list[Any], inner: Any) -> None:
    """However odd: nothing else comes out of it."""
    try:
        found = read(*map(json.dumps, [*chunks, delta(inner), {"choices": [inner]}, {"usage": inner}]))
    except GatewayError:
        return
    for event in found:
        assert event.size >= 0
        orjson.dumps(told(event)[1])
