"""Chat Completions chunks to events, without I/O.

Source of the shapes: the OpenAI API reference, "chat/streaming"; the looser spellings are those of vLLM
(`choices: null`, `reasoning_content`), OpenRouter (`reasoning`, `error` beside `choices`) and Azure.
"""

from typing import Any

import orjson

from gateway.errors import Code, GatewayError
from gateway.events import (
    Citation,
    Event,
    Metadata,
    Reasoning,
    Refusal,
    Text,
    TextComplete,
    ToolCall,
    Usage,
    nests_deeper,
)

DONE = b"[DONE]"
NESTING_MAX = 64
"""Deeper JSON than this could be read but not written again, when what we do not know is passed on."""

COUNT_MAX = 2**53
"""Whole numbers beyond it are not the same in every JSON parser."""

_REASONING_KEYS = ("reasoning_content", "reasoning")
_KNOWN_KEYS = frozenset(("role", "content", "refusal", "tool_calls", "function_call", "annotations", *_REASONING_KEYS))
_RATE_LIMITED = frozenset(("rate_limit_exceeded", "rate_limit_error", "insufficient_quota", "429"))


class ChunkReader:
    """Reads the events of one answer in order. `done` turns true with the upstream's own terminal marker."""

    def __init__(self) -> None:
        self.done = False
        self._introduced = False
        self._finish_reason: str | None = None
        self._usage: Usage | None = None

    def read(self, name: bytes, data: bytes) -> list[Event]:
        """What one event of the upstream says, by its name and data.

        Raises `UPSTREAM_ERROR`, `UPSTREAM_PROTOCOL`, `UPSTREAM_TRUNCATED`.
        """
        if data == DONE:
            return [self._end()]
        chunk = _object(data)
        if chunk.get("error") or name == b"error":
            raise error_inside(chunk)
        try:
            return self._chunk(chunk)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise GatewayError(Code.UPSTREAM_PROTOCOL, "a chunk does not have the shape of one") from error

    def _end(self) -> TextComplete:
        if self._finish_reason is None:
            raise GatewayError(Code.UPSTREAM_TRUNCATED, "the upstream said [DONE] but gave no finish_reason")
        self.done = True
        return TextComplete(self._finish_reason, self._usage)

    def _chunk(self, chunk: dict[str, Any]) -> list[Event]:
        events: list[Event] = [] if self._introduced else self._introduction(chunk)
        usage = chunk.get("usage")
        if usage:
            self._usage = usage_of(usage)
        for choice in chunk.get("choices") or ():
            if choice.get("index"):
                raise ValueError("an answer that was not asked for")
            delta = choice.get("delta")
            if delta:
                content = delta.get("content")
                if content:
                    events.append(Text(_text(content)))
                if len(delta) > 1 or not content:
                    events.extend(_beside_content(delta))
            if choice.get("logprobs"):
                events.append(Metadata({"logprobs": _members(choice["logprobs"])}))
            if choice.get("finish_reason"):
                self._finish_reason = _text(choice["finish_reason"])
        return events

    def _introduction(self, chunk: dict[str, Any]) -> list[Event]:
        """Which model really answers: said once."""
        self._introduced = True
        facts = {name: chunk[name] for name in ("model", "system_fingerprint", "service_tier") if chunk.get(name)}
        return [Metadata(facts)] if facts else []


def _beside_content(delta: dict[str, Any]) -> list[Event]:
    """Everything in a delta but its content; what we do not know is passed on as metadata, never dropped."""
    events: list[Event] = []
    thought = next((delta[key] for key in _REASONING_KEYS if delta.get(key)), None)
    if thought is not None:
        events.append(Reasoning(_text(thought)))
    if delta.get("refusal"):
        events.append(Refusal(_text(delta["refusal"])))
    for call in delta.get("tool_calls") or ():
        function = call.get("function") or {}
        name, id_ = _text(function.get("name") or ""), _text(call.get("id") or "")
        arguments = _text(function.get("arguments") or "")
        events.append(ToolCall(_count(call.get("index")), arguments, id_ or None, name or None))
    if delta.get("function_call"):
        function = delta["function_call"]
        name, arguments = _text(function.get("name") or ""), _text(function.get("arguments") or "")
        events.append(ToolCall(0, arguments, None, name or None))
    events.extend(Citation(_members(annotation)) for annotation in delta.get("annotations") or ())
    unknown = {key: value for key, value in delta.items() if key not in _KNOWN_KEYS and value is not None}
    if unknown:
        events.append(Metadata(unknown))
    return events


def usage_of(usage: dict[str, Any]) -> Usage:
    """The provider's own account of tokens; details such as cached or reasoning tokens are kept as they are."""
    counted = ("prompt_tokens", "completion_tokens", "total_tokens")
    details = {key: value for key, value in usage.items() if key not in counted and value is not None}
    return Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), True, details)


def error_inside(chunk: dict[str, Any]) -> GatewayError:
    """The error that an upstream sent inside its stream. Its message is for our log, not for our client."""
    error = chunk.get("error") or chunk
    kinds = {str(error.get(key)) for key in ("code", "type", "status")} if isinstance(error, dict) else set()
    if kinds & _RATE_LIMITED:
        return GatewayError(Code.UPSTREAM_RATE_LIMITED)
    return GatewayError(Code.UPSTREAM_ERROR, "the upstream reported an error inside its stream")


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise GatewayError(Code.UPSTREAM_PROTOCOL, "a chunk is not JSON") from error
    if not isinstance(value, dict):
        raise GatewayError(Code.UPSTREAM_PROTOCOL, "a chunk is not a JSON object")
    # Counting brackets is cheap; only a chunk with many of them has to be walked through.
    if data.count(b"{") + data.count(b"[") > NESTING_MAX and nests_deeper(value, NESTING_MAX):
        raise GatewayError(Code.UPSTREAM_PROTOCOL, f"a chunk nests deeper than {NESTING_MAX} levels")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not text")
    return value


def _members(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return value


def _count(value: Any) -> int:
    """A whole number from 0 on, 0 where it was left out."""
    if value is None:
        return 0
    if not isinstance(value, (int, float)) or not 0 <= value < COUNT_MAX:
        raise ValueError("not a count")
    return int(value)
