"""The native dialect: every event as it is, named, with an id to come back with."""

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from gateway import events
from gateway.dialects.base import TextLayout
from gateway.dialects.errors import native_refusal
from gateway.dialects.fields import Name, Part, Role, parse_json, parse_object, refuse_too_many_messages, validate
from gateway.dialects.folding import joined, joined_logprobs, tool_calls
from gateway.dialects.preferences import parse_preferences
from gateway.errors import Code, GatewayError
from gateway.events import Event, Record
from gateway.request import OnDisconnect, StreamRequest, Voice
from gateway.sse import Frame
from gateway.streams.stream import Stream

Json = dict[str, Any]


class _VoiceBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    enabled: bool = True
    language: Name | None = None
    name: Name | None = None
    rate: float | None = Field(None, ge=0.25, le=4.0)
    format: Name | None = None


class _Message(BaseModel):
    model_config = ConfigDict(extra="allow")

    role: Role
    content: str | list[Part] | None = None


class _Body(BaseModel):
    """The fields of a native request; anything else is refused with this list."""

    model_config = ConfigDict(extra="forbid")

    query: str | None = Field(None, min_length=1)
    messages: list[_Message] | None = Field(None, min_length=1)
    model: Name | None = None
    session_id: Name | None = None
    message_id: Name | None = None
    user_id: Name | None = None
    language: Name | None = None
    voice: bool | _VoiceBody = False
    max_tokens: int | None = Field(None, ge=1, le=1_000_000)
    temperature: float | None = Field(None, ge=0, le=2)
    filters: Json | None = None
    limit: int | None = Field(None, ge=1, le=1000)
    attachments: list[Json] | None = Field(None, max_length=100)
    preferences: Json | None = None
    full_text: bool = False
    on_disconnect: Literal["cancel", "grace", "detach"] | None = None
    grace_s: float | None = Field(None, ge=0)
    metadata: Json | None = None


_CONTEXT = ("filters", "limit", "attachments")
STRUCTURED = frozenset(("messages", "voice", "filters", "attachments", "preferences", "metadata"))
"""Fields that are JSON where they stand in a query."""


class NativeDialect:
    """Named events with ids. `grace_s` is how long an unread stream lives, at most `grace_max_s`."""

    name = "native"
    holds_headers = False
    resumable = True
    body: type[BaseModel] = _Body
    """What a question may hold."""

    def __init__(self, *, default_model: str, grace_s: float, grace_max_s: float) -> None:
        self._default_model = default_model
        self._grace_s = grace_s
        self._grace_max_s = grace_max_s

    def parse(self, body: bytes, unread: OnDisconnect = OnDisconnect.GRACE) -> StreamRequest:
        """A JSON body, strictly typed. `unread` is what becomes of a stream without readers, if it does not say."""
        values = parse_object(body)
        return self._request(validate(_Body, values), values, unread)

    def parse_query(self, query: Mapping[str, str], unread: OnDisconnect = OnDisconnect.GRACE) -> StreamRequest:
        """The same names in a query string; structured fields as JSON."""
        values: Json = {}
        for name, text in query.items():
            values[name] = text
            if name in STRUCTURED and text.startswith(("[", "{")):
                values[name] = parse_json(text)
        refuse_too_many_messages(values)
        return self._request(validate(_Body, values, strict=False), values, unread)

    def _request(self, body: _Body, values: Json, unread: OnDisconnect) -> StreamRequest:
        """What `values` ask, which `body` has found to be well-formed."""
        if (body.query is None) == (body.messages is None):
            raise GatewayError(Code.INVALID_REQUEST, "request: exactly one of query and messages is needed")
        grace_s = self._grace_s if body.grace_s is None else min(body.grace_s, self._grace_max_s)
        return StreamRequest(
            messages=_messages(body.query, values),
            model=body.model or self._default_model,
            on_disconnect=unread if body.on_disconnect is None else OnDisconnect(body.on_disconnect),
            grace_s=grace_s,
            session_id=body.session_id,
            message_id=body.message_id,
            user_id=body.user_id,
            language=body.language,
            voice=_voice(body.voice),
            max_tokens=body.max_tokens,
            temperature=body.temperature,
            full_text=body.full_text,
            metadata=body.metadata,
            preferences=None if body.preferences is None else parse_preferences(body.preferences),
            context={name: found for name in _CONTEXT if (found := getattr(body, name)) is not None},
        )

    def encoder(self, stream: Stream, *, unnamed: bool) -> "NativeEncoder":
        """How `stream` is told."""
        return NativeEncoder(stream, unnamed=unnamed)

    def fold(self, stream: Stream, said: Sequence[Event]) -> Json:
        """The whole answer as one object: what its events would tell, put together by kind."""
        terminal = stream.terminal
        assert isinstance(terminal, events.Completed)
        _, end = _completed(terminal)
        body: Json = {"stream_id": stream.sid, "status": end.pop("status"), "text": joined(said, events.Text), **end}
        body["warnings"] = [told(event)[1] for event in said if isinstance(event, events.Warned)]
        for name, kind in (("reasoning", events.Reasoning), ("refusal", events.Refusal)):
            if text := joined(said, kind):
                body[name] = text
        if calls := tool_calls(said):
            body["tool_calls"] = calls
        for event in said:
            _fold_in(body, event)
        if logprobs := joined_logprobs(said):
            body["metadata"]["logprobs"] = logprobs
        return body

    def refusal(self, error: GatewayError) -> Mapping[str, Any]:
        """The body of an error before the first byte."""
        return native_refusal(error)


def _messages(query: str | None, values: Json) -> tuple[Json, ...]:
    """The messages as they came, without what is null; a query is one message."""
    if query is not None:
        return ({"role": "user", "content": query},)
    return tuple({name: part for name, part in message.items() if part is not None} for message in values["messages"])


def _voice(voice: bool | _VoiceBody) -> Voice | None:
    if voice is True:
        return Voice()
    if voice is False or not voice.enabled:
        return None
    return Voice(voice.language, voice.name, voice.rate, voice.format)


def _fold_in(body: Json, event: Event) -> None:
    """What is no text has a list of its kind; facts are one object, of which the last word on each holds."""
    if isinstance(event, events.Opened):
        body["model"] = event.model
        if event.metadata is not None:
            body["echo"] = event.metadata
    elif isinstance(event, events.Metadata):
        body.setdefault("metadata", {}).update(event.data)
    elif isinstance(event, events.Suggestions):
        body.setdefault("suggestions", []).extend(event.suggestions)
    elif isinstance(event, events.Custom):
        body.setdefault("custom", []).append({"event": event.name, "data": event.data})
    elif (name := _LISTS.get(type(event))) is not None:
        body.setdefault(name, []).append(told(event)[1])


_LISTS: dict[type[Event], str] = {
    events.Citation: "citations",
    events.Results: "results",
    events.PartialResult: "partial_results",
}


class NativeEncoder:
    """Events of one stream as native frames."""

    can_replace = True

    def __init__(self, stream: Stream, *, unnamed: bool) -> None:
        self._stream = stream
        self._unnamed = unnamed
        self._full_text = stream.request.full_text
        self._prefix = b"%s-%d-" % (stream.sid.encode(), stream.epoch)
        self.layout: TextLayout | None = None
        if not self._full_text:
            before, name = (b'{"event":"text","token":', b"") if unnamed else (b'{"token":', b"text")
            self.layout = TextLayout(before, b"}", name, self._prefix)
        self.key: tuple[object, ...] = ("native", unnamed)

    def hello(self, *, resumed: bool, retry_ms: int) -> Sequence[Frame]:
        """`connected`, with the time after which to come back."""
        data = {"message": "connected", "stream_id": self._stream.sid, "resumed": resumed, "retry": retry_ms}
        return [self._frame("connected", data)._replace(retry_ms=retry_ms)]

    def encode(self, record: Record) -> Sequence[Frame]:
        """One frame for each event."""
        seq, event = record
        id_ = self._prefix + b"%d" % seq
        name, data = told(event)
        if self._full_text and isinstance(event, events.Text):
            data["fullText"] = self._stream.text(until=seq)
        return (self._frame(name, data)._replace(id=id_),)

    def notice(self, event: Event) -> Sequence[Frame]:
        """An event of this connection only."""
        return [self._frame(*told(event))]

    def lost(self, warning: events.Warned) -> Sequence[Frame]:
        """Never the last words here: text can be replaced."""
        return self.notice(warning)

    def farewell(self, reason: str, *, retry_ms: int = 0) -> Sequence[Frame]:
        """`close`; where the stream goes on, a `status` before it says so and when to come back."""
        frames = []
        if retry_ms:
            state = {"state": reason, "message": "come back with the last event id", "retry": retry_ms}
            frames.append(self._frame("status", state)._replace(retry_ms=retry_ms))
        frames.append(self._frame("close", {"message": "this connection ends", "reason": reason}))
        return frames

    def _frame(self, name: str, data: Json) -> Frame:
        if self._unnamed:
            # Said again behind the data: free-form data must not pass itself off as another event.
            return Frame(orjson.dumps({"event": name} | data | {"event": name}))
        return Frame(orjson.dumps(data), name.encode())


def told(event: Event) -> tuple[str, Json]:
    """An event's name and data on the wire."""
    teller = _TELLERS.get(type(event))
    if teller is None:
        raise GatewayError(Code.INTERNAL, "an event of no known kind")
    return teller(event)


def _opened(event: events.Opened) -> tuple[str, Json]:
    data: Json = {"state": "opened", "message": "", "model": event.model}
    return "status", data if event.metadata is None else {**data, "metadata": event.metadata}


def _text(event: events.Text) -> tuple[str, Json]:
    return "text", {"token": event}


def _audio(event: events.Audio) -> tuple[str, Json]:
    chunk = base64.b64encode(event.chunk).decode()
    data = {"format": event.format, "sample_rate": event.sample_rate, "sentence": event.sentence}
    return "audio", {"chunk": chunk, **data, "index": event.index, "final": event.final}


def _text_complete(event: events.TextComplete) -> tuple[str, Json]:
    data = {"state": "text_complete", "message": "", "finish_reason": event.finish_reason}
    return "status", {**data, "usage": usage_told(event.usage)}


def _completed(event: events.Completed) -> tuple[str, Json]:
    data = {"status": event.status, "finish_reason": event.finish_reason, "usage": usage_told(event.usage)}
    return "complete", {**data, "total": event.total, "duration": event.duration_ms}


def _failed(event: events.Failed) -> tuple[str, Json]:
    data = {"message": event.message, "error": Code[event.code].meaning, "code": event.code}
    return "error", {**data, "retryable": event.retryable, "timestamp": event.timestamp_ms}


def usage_told(usage: events.Usage | None) -> Json | None:
    """Tokens, and whether the provider counted them or we guessed."""
    if usage is None:
        return None
    counts = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    return {**usage.details, **counts, "total_tokens": usage.total_tokens, "reported": usage.reported}


_TELLERS: dict[type[Event], Callable[[Any], tuple[str, Json]]] = {
    events.Opened: _opened,
    events.Status: lambda e: ("status", {"state": e.state, "message": e.message, **e.details}),
    events.Metadata: lambda e: ("metadata", dict(e.data)),
    events.Text: _text,
    events.WholeText: lambda e: ("text", {"token": e, "replace": True}),
    events.Reasoning: lambda e: ("reasoning", {"token": e.token}),
    events.Refusal: lambda e: ("refusal", {"token": e.token}),
    events.ToolCall: lambda e: (
        "tool_call",
        {"index": e.index, "id": e.id, "name": e.name, "arguments": e.arguments},
    ),
    events.Citation: lambda e: ("citation", dict(e.data)),
    events.Audio: _audio,
    events.AudioEvicted: lambda e: (
        "warning",
        {"code": "AUDIO_EVICTED", "message": "this piece of speech is no longer kept", "index": e.index},
    ),
    events.Suggestions: lambda e: ("suggestions", {"suggestions": list(e.suggestions)}),
    events.Progress: lambda e: ("progress", dict(e.data)),
    events.PartialResult: lambda e: (
        "partial_result",
        {"chunk": e.chunk, "chunkIndex": e.chunk_index, "isComplete": e.is_complete},
    ),
    events.Results: lambda e: ("results", dict(e.data)),
    events.Custom: lambda e: (e.name, dict(e.data)),
    events.Warned: lambda e: ("warning", {"code": e.code, "message": e.message, **e.details}),
    events.TextComplete: _text_complete,
    events.Completed: _completed,
    events.Failed: _failed,
}
