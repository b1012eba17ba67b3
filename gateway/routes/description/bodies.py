"""The bodies of requests and answers as schemas: those of questions are the models that check them."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from gateway.dialects.native import NativeDialect
from gateway.dialects.openai import OpenAIDialect
from gateway.dialects.preferences import PreferencesBody
from gateway.routes.description.events import USAGE, native_event, openai_event
from gateway.routes.feedback import FeedbackRoutes
from gateway.routes.tickets import TicketRoutes
from gateway.streams.ids import SID_PATTERN

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_NUMBER: Json = {"type": "number"}
_MAYBE_TEXT: Json = {"type": ["string", "null"]}
_SID: Json = {"type": "string", "pattern": f"^{SID_PATTERN}$"}
_OPENAI_USAGE: Json = {"type": ["object", "null"], "properties": {**USAGE["properties"]}}
_OPENAI_USAGE["properties"].pop("reported")


QUESTION: dict[str, str] = {
    "query": "The question.",
    "messages": "A conversation in OpenAI's form, the newest message last.",
    "model": "Which model to ask.",
    "session_id": "The conversation. Part of who owns the stream, where no user is named.",
    "message_id": "With a `session_id` it is an idempotency key.",
    "user_id": "The user. Part of who owns the stream.",
    "language": "The language of the answer.",
    "voice": "Whether the answer is to be spoken, and how.",
    "max_tokens": "The longest answer.",
    "temperature": "Passed to the model.",
    "filters": "Narrows what the answer is made of.",
    "limit": "How many results are wanted.",
    "attachments": "What belongs to the question.",
    "preferences": "How the answer is liked.",
    "full_text": "Each `text` event also carries all of the text so far. Costly for long answers.",
    "on_disconnect": "What becomes of the answer when nobody reads it; else `grace`.",
    "grace_s": "How many seconds it then goes on.",
    "metadata": "Yours; given back in the first event.",
}
"""What each field of a native question means."""


def schema_of(model: type[BaseModel]) -> Json:
    """The schema of a model, without what pydantic adds for its own sake. Its parts stand inside it."""
    schema = model.model_json_schema(ref_template="{model}")
    parts = schema.pop("$defs", {})
    schema.pop("description", None)
    found = _inlined(schema, parts)
    assert isinstance(found, dict)
    return found


def _inlined(value: Any, parts: Json) -> Any:
    if isinstance(value, list):
        return [_inlined(each, parts) for each in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        return _inlined(parts[value["$ref"]], parts)
    kept = {name: each for name, each in value.items() if not _is_noise(name, each)}
    return {name: _inlined(each, parts) for name, each in kept.items()}


def _is_noise(name: str, value: Any) -> bool:
    """Titles that only repeat a name. A field may be called so too, but its schema is no text."""
    return (name == "title" and isinstance(value, str)) or (name == "default" and value is None)


def _object(meaning: str, properties: Json, *optional: str) -> Json:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "description": meaning, "properties": properties, "required": required}


def _list_of(items: Json) -> Json:
    return {"type": "array", "items": items}


def question_schema() -> Json:
    """The fields of a native question, with their meanings."""
    schema = schema_of(NativeDialect.body)
    for name, field in schema["properties"].items():
        field["description"] = QUESTION.get(name, "")
    schema["properties"]["preferences"]["anyOf"][0] = schema_of(PreferencesBody)
    return schema


def _question() -> Json:
    """Exactly one of two fields is needed, which no type of the model says."""
    schema = question_schema()
    given = {"not": {"type": "null"}}
    either = [{"required": [name], "properties": {name: given}} for name in ("query", "messages")]
    return {**schema, "description": "A question: either `query` or `messages`.", "oneOf": either}


def _completion_request() -> Json:
    meaning = "A Chat Completions request. Parameters that are not named here are passed on to the upstream."
    return {**schema_of(OpenAIDialect.body), "description": meaning}


def _error() -> Json:
    properties = {
        "status": _COUNT,
        "code": _TEXT,
        "message": _TEXT,
        "error": _TEXT,
        "retryable": {"type": "boolean"},
        "timestamp": _COUNT,
        "field": _TEXT,
        "allowed": _list_of(_TEXT),
    }
    meaning = "`message` is about this case, `error` is the code's meaning, `timestamp` is in ms."
    return _object(meaning, properties, "field", "allowed")


def _openai_error() -> Json:
    inner = _object("OpenAI's own fields.", {"message": _TEXT, "type": _TEXT, "param": _MAYBE_TEXT, "code": _TEXT})
    return _object("An error as OpenAI's API tells it.", {"error": inner})


def _listed() -> Json:
    names = {"stream_id": _SID, "state": _TEXT, "session_id": _MAYBE_TEXT, "model": _TEXT, "created": _COUNT}
    return _object("The newest hundred streams.", {"streams": _list_of(_object("One of them.", names))})


def _ticket() -> Json:
    names = {"ticket": _TEXT, "expires_in_s": _NUMBER, "session_id": _TEXT}
    return _object("Good for one stream, until it expires.", names)


def _session() -> Json:
    names = {"role": {"enum": ["user", "assistant"]}, "content": _TEXT, "at": _NUMBER, "stream_id": _SID}
    return _object("A conversation.", {"session_id": _TEXT, "messages": _list_of(_object("One of them.", names))})


def _models() -> Json:
    names = {"id": _TEXT, "object": {"const": "model"}, "created": _COUNT, "owned_by": _TEXT}
    return _object("Models.", {"object": {"const": "list"}, "data": _list_of(_object("One of them.", names))})


def _completion(kind: str, said: str, *, whole: bool) -> Json:
    finish: Json = {"finish_reason": _MAYBE_TEXT if whole else {"type": ["string", "null"]}}
    choice = _object("The only one.", {"index": {"const": 0}, said: {"type": "object"}, "logprobs": {}, **finish})
    names = {
        "id": {"type": "string", "pattern": f"^chatcmpl-{SID_PATTERN}$"},
        "object": {"const": kind},
        "created": _COUNT,
        "model": _TEXT,
        "choices": {**_list_of(choice), "maxItems": 1},
        "usage": _OPENAI_USAGE,
    }
    return _object("OpenAI's own form.", names, "usage")


def _dependencies() -> Json:
    one = _object("One of them.", {"status": _TEXT, "code": _TEXT, "latency_ms": _NUMBER, "bytes": _COUNT})
    one["required"] = ["status"]
    several: Json = {"type": "object", "additionalProperties": one}
    return _object("What the process depends on.", {"status": _TEXT, "dependencies": several, "streams": _COUNT})


def _figures() -> Json:
    names = {
        "streams_active": _COUNT,
        "readers": _COUNT,
        "store_bytes": _COUNT,
        "loop_lag_s": _NUMBER,
        "uptime_s": _NUMBER,
        "draining": {"type": "boolean"},
        "shared_store": {"type": "object"},
        "series": {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": _NUMBER}},
    }
    return _object("Figures for a dashboard.", names, "shared_store")


def _plain() -> Json:
    facts: Json = {
        "stream_id": _SID,
        "status": {"const": "completed"},
        "model": _TEXT,
        "text": _TEXT,
        "finish_reason": _TEXT,
        "usage": USAGE,
        "total": _COUNT,
        "duration": _COUNT,
        "warnings": {"type": "array", "items": {"type": "object"}},
    }
    schema = _object("The whole of an answer; more fields where there was more than text.", facts)
    return {**schema, "additionalProperties": True}


SCHEMAS: dict[str, Callable[[], Json]] = {
    "Question": _question,
    "ChatCompletionRequest": _completion_request,
    "Error": _error,
    "OpenAIError": _openai_error,
    "StreamEvent": native_event,
    "ChatCompletionEvent": openai_event,
    "ChatCompletion": lambda: _completion("chat.completion", "message", whole=True),
    "ChatCompletionChunk": lambda: _completion("chat.completion.chunk", "delta", whole=False),
    "PlainAnswer": _plain,
    "StreamState": lambda: _object("A stream and its state.", {"stream_id": _SID, "state": _TEXT}),
    "StreamList": _listed,
    "ModelList": _models,
    "Ticket": _ticket,
    "TicketRequest": lambda: schema_of(TicketRoutes.body),
    "Feedback": lambda: schema_of(FeedbackRoutes.body),
    "Rating": lambda: _object("It is counted.", {"stream_id": _SID, "rating": _COUNT}),
    "Session": _session,
    "Preferences": lambda: schema_of(PreferencesBody),
    "Health": lambda: _object("How the process is.", {"status": _TEXT}),
    "Dependencies": _dependencies,
    "Figures": _figures,
}
