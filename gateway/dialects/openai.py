"""OpenAI's Chat Completions, asked and answered: stream, non-stream, `include_usage`.

Source: the OpenAI API reference, "chat". No `id:`, `event:` or `retry:` lines: official clients trip over them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from gateway import events
from gateway.dialects.base import TextLayout
from gateway.dialects.errors import openai_error, openai_refusal
from gateway.dialects.fields import Name, Part, Role, parse_object, validate
from gateway.dialects.folding import joined, joined_logprobs, logprobs_of, tool_calls
from gateway.errors import Code, GatewayError
from gateway.events import Event, Record
from gateway.request import OnDisconnect, StreamRequest
from gateway.sse import Frame
from gateway.streams.stream import Stream

Json = dict[str, Any]

DONE = Frame(b"[DONE]")


class _Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: Role
    content: str | list[Part] | None = None


class _Body(BaseModel):
    """What the gateway itself understands; every other parameter goes to the upstream as it is."""

    model_config = ConfigDict(extra="allow")

    messages: list[_Message] = Field(min_length=1)
    model: Name
    stream: bool | None = False
    stream_options: Json | None = None
    n: int | None = Field(None, ge=1, le=1)
    user: Name | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(None, ge=0, le=2)


class OpenAIDialect:
    """An unmodified OpenAI client can be pointed at it."""

    name = "openai"
    holds_headers = True
    resumable = False
    body: type[BaseModel] = _Body
    """What the gateway itself understands of a question."""

    def parse(self, body: bytes) -> StreamRequest:
        """A Chat Completions request, whether its answer is to be streamed or not."""
        return self.read(body)[0]

    def read(self, body: bytes) -> tuple[StreamRequest, bool]:
        """The request, and whether it asks for a stream. `n` above 1 is refused: one stream is one answer."""
        value = parse_object(body)
        asked = validate(_Body, value)
        parameters: Json = dict(asked.model_extra or {})
        for name in ("stream_options", "max_completion_tokens", "user"):
            if value.get(name) is not None:
                parameters[name] = value[name]
        request = StreamRequest(
            messages=tuple(value["messages"]),
            model=asked.model,
            on_disconnect=OnDisconnect.CANCEL,
            grace_s=0.0,
            user_id=asked.user,
            max_tokens=asked.max_tokens or asked.max_completion_tokens,
            temperature=asked.temperature,
            parameters=parameters,
        )
        return request, bool(asked.stream)

    def encoder(self, stream: Stream, *, unnamed: bool = True) -> "OpenAIEncoder":
        """How `stream` is told; its events never have names."""
        return OpenAIEncoder(stream)

    def refusal(self, error: GatewayError) -> Mapping[str, Any]:
        """OpenAI's error envelope."""
        return openai_refusal(error)

    def fold(self, stream: Stream, said: Sequence[Event]) -> Json:
        """The whole answer as one `chat.completion`, for clients that do not stream; `said` is all of its events."""
        text = joined(said, events.Text)
        message: Json = {"role": "assistant", "content": text or None, "refusal": joined(said, events.Refusal) or None}
        if reasoning := joined(said, events.Reasoning):
            message["reasoning_content"] = reasoning
        if calls := tool_calls(said):
            message["tool_calls"] = calls
        if cited := [dict(event.data) for event in said if isinstance(event, events.Citation)]:
            message["annotations"] = cited
        choice = {
            "index": 0,
            "message": message,
            "logprobs": joined_logprobs(said),
            "finish_reason": stream.finish_reason,
        }
        answer: Json = {
            "id": f"chatcmpl-{stream.sid}",
            "object": "chat.completion",
            "created": stream.created_s,
            "model": stream.request.model,
            "choices": [choice],
        }
        if stream.usage is not None:
            answer["usage"] = _usage(stream.usage)
        return answer


def _usage(usage: events.Usage) -> Json:
    counts = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    return {**counts, "total_tokens": usage.total_tokens, **usage.details}


class OpenAIEncoder:
    """Events of one stream as `chat.completion.chunk` frames."""

    can_replace = False

    def __init__(self, stream: Stream) -> None:
        options = stream.request.parameters.get("stream_options") or {}
        self._with_usage = bool(options.get("include_usage"))
        self._base = {
            "id": f"chatcmpl-{stream.sid}",
            "object": "chat.completion.chunk",
            "created": stream.created_s,
            "model": stream.request.model,
        }
        usage = b',"usage":null}' if self._with_usage else b"}"
        self.layout = TextLayout(
            orjson.dumps(self._base)[:-1] + b',"choices":[{"index":0,"delta":{"content":',
            b'},"logprobs":null,"finish_reason":null}]' + usage,
        )
        self.key: tuple[object, ...] = ("openai",)

    def hello(self, *, resumed: bool, retry_ms: int) -> Sequence[Frame]:
        """Nothing: the first frame is the role."""
        return ()

    def encode(self, record: Record) -> Sequence[Frame]:
        """Chunks for content and endings, nothing for what this dialect has no words for."""
        event = record.event
        if isinstance(event, events.Text):
            return (Frame(self.layout.before + orjson.dumps(event) + self.layout.after),)
        if isinstance(event, events.TextComplete):
            return self._end_of_text(event)
        if isinstance(event, events.Completed):
            if event.status == "completed":
                return (DONE,)
            code = Code.DRAINING if event.finish_reason == events.DRAINING else Code.CANCELLED
            return (self._error(f"the stream was cancelled ({event.finish_reason})", code.name, code.status),)
        if isinstance(event, events.Failed):
            return (self._error(event.message, event.code, event.status),)
        delta = _delta(event)
        if delta is not None:
            return (self._chunk(delta),)
        if (logprobs := logprobs_of(event)) is not None:
            return (self._chunk({}, logprobs=logprobs),)
        return ()

    def notice(self, event: Event) -> Sequence[Frame]:
        """Nothing: there are no words for it."""
        return ()

    def lost(self, warning: events.Warned) -> Sequence[Frame]:
        """An error, since text once sent cannot be taken back."""
        code = Code.PRODUCER_LOST.name if warning.code == "REWIND" else warning.code
        return (self._error(warning.message, code, 502),)

    def farewell(self, reason: str, *, retry_ms: int = 0) -> Sequence[Frame]:
        """Nothing: the last chunk was the last word."""
        return ()

    def _end_of_text(self, event: events.TextComplete) -> Sequence[Frame]:
        last = self._chunk({}, finish_reason=event.finish_reason)
        if not self._with_usage or event.usage is None:
            return (last,)
        return (last, Frame(orjson.dumps({**self._base, "choices": [], "usage": _usage(event.usage)})))

    def _chunk(self, delta: Json, *, finish_reason: str | None = None, logprobs: Any = None) -> Frame:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        chunk: Json = {**self._base, "choices": [choice]}
        if self._with_usage:
            chunk["usage"] = None
        return Frame(orjson.dumps(chunk))

    def _error(self, message: str, code: str, status: int) -> Frame:
        return Frame(orjson.dumps({"error": openai_error(message, code, status)}))


def _delta(event: Event) -> Json | None:
    """The delta that says `event`, None where this dialect has no words for it."""
    if isinstance(event, events.Opened):
        return {"role": "assistant", "content": ""}
    if isinstance(event, events.Reasoning):
        return {"reasoning_content": event.token}
    if isinstance(event, events.Refusal):
        return {"refusal": event.token}
    if isinstance(event, events.ToolCall):
        return {"tool_calls": [_tool_call(event)]}
    if isinstance(event, events.Citation):
        return {"annotations": [dict(event.data)]}
    return None


def _tool_call(event: events.ToolCall) -> Json:
    function: Json = {"arguments": event.arguments}
    if event.name is not None:
        function["name"] = event.name
    call: Json = {"index": event.index, "function": function}
    if event.id is not None:
        call |= {"id": event.id, "type": "function"}
    return call
