"""The events on the wire as schemas: of each its name, what its data hold, and which of that is always there."""

from typing import Any

from gateway.errors import Code
from gateway.streams.ids import PLACE_PATTERN, SID_PATTERN

Json = dict[str, Any]

_TEXT: Json = {"type": "string"}
_TRUTH: Json = {"type": "boolean"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_FREE: Json = {"type": "object"}
_SID: Json = {"type": "string", "pattern": f"^{SID_PATTERN}$"}
_TOKEN: Json = {"token": _TEXT}
_CODES: Json = {"enum": [code.name for code in Code]}

USAGE: Json = {
    "type": ["object", "null"],
    "description": "Tokens. `reported` is false where the gateway had to estimate.",
    "properties": {
        "prompt_tokens": _COUNT,
        "completion_tokens": _COUNT,
        "total_tokens": _COUNT,
        "reported": _TRUTH,
    },
    "required": ["prompt_tokens", "completion_tokens", "total_tokens", "reported"],
}

EVENTS: dict[str, tuple[str, Json, tuple[str, ...]]] = {
    "connected": (
        "First on every connection.",
        {"message": _TEXT, "stream_id": _SID, "resumed": _TRUTH, "retry": _COUNT},
        ("message", "stream_id", "resumed", "retry"),
    ),
    "status": (
        "The stream was opened, waits, its text is complete, it goes on elsewhere, or the client is sent away.",
        {
            "state": _TEXT,
            "message": _TEXT,
            "model": _TEXT,
            "metadata": _FREE,
            "finish_reason": _TEXT,
            "usage": USAGE,
            "retry": _COUNT,
            "code": _CODES,
        },
        ("state", "message"),
    ),
    "metadata": ("Facts beside the answer.", {}, ()),
    "text": (
        "A piece of the answer. With `replace` it is set, not appended.",
        {"token": _TEXT, "replace": _TRUTH, "fullText": _TEXT},
        ("token",),
    ),
    "reasoning": ("A piece of the model's reasoning.", _TOKEN, ("token",)),
    "refusal": ("A piece of the model's refusal.", _TOKEN, ("token",)),
    "tool_call": (
        "A piece of a tool call; `arguments` are joined by `index`.",
        {"index": _COUNT, "id": {"type": ["string", "null"]}, "name": {"type": ["string", "null"]}, "arguments": _TEXT},
        ("index", "arguments"),
    ),
    "citation": ("Where a statement comes from, as the provider says it.", {}, ()),
    "audio": (
        "A piece of speech in base64.",
        {
            "chunk": {"type": "string", "contentEncoding": "base64"},
            "format": _TEXT,
            "sample_rate": _COUNT,
            "sentence": _TEXT,
            "index": _COUNT,
            "final": _TRUTH,
        },
        ("chunk", "format", "index", "final"),
    ),
    "suggestions": ("Questions that may follow.", {"suggestions": {"type": "array", "items": _TEXT}}, ("suggestions",)),
    "progress": ("A step of a longer job.", {}, ()),
    "partial_result": (
        "A long result in pieces.",
        {"chunk": _TEXT, "chunkIndex": _COUNT, "isComplete": _TRUTH},
        ("chunk", "chunkIndex", "isComplete"),
    ),
    "results": ("Cards, documents and the like.", {}, ()),
    "warning": (
        "Something is amiss that does not end the stream.",
        {"code": _TEXT, "message": _TEXT},
        ("code", "message"),
    ),
    "complete": (
        "Terminal: the answer is whole, or was cancelled.",
        {
            "status": {"enum": ["completed", "cancelled"]},
            "finish_reason": _TEXT,
            "usage": USAGE,
            "total": _COUNT,
            "duration": _COUNT,
        },
        ("status", "finish_reason", "usage", "total", "duration"),
    ),
    "error": (
        "Terminal: the answer failed. Never sent otherwise.",
        {"message": _TEXT, "error": _TEXT, "code": _CODES, "retryable": _TRUTH, "timestamp": _COUNT},
        ("message", "error", "code", "retryable", "timestamp"),
    ),
    "close": ("Last on a connection that ends properly.", {"message": _TEXT, "reason": _TEXT}, ("message", "reason")),
}


def native_event() -> Json:
    """One event of the native dialect, as the fields that a parser of Server-Sent Events gives."""
    kinds = [_event(name, *parts) for name, parts in EVENTS.items()]
    unnamed = {"type": "object", "properties": {"event": {"enum": list(EVENTS)}}, "required": ["event"]}
    kinds.append(_framed("message", "Any of them under `events=unnamed`: its name stands in its data.", unnamed))
    return {"description": "One event. Names that are not known are to be ignored: new ones will come.", "oneOf": kinds}


def openai_event() -> Json:
    """One event of the OpenAI dialect: a chunk, an error, or the word that says that the answer is whole."""
    said = {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": {
            "anyOf": [
                {"$ref": "#/components/schemas/ChatCompletionChunk"},
                {"$ref": "#/components/schemas/OpenAIError"},
            ]
        },
    }
    data = {"anyOf": [{"const": "[DONE]"}, said]}
    return {
        "type": "object",
        "title": "chunk",
        "description": "In the OpenAI dialect. The answer is whole after `[DONE]`, and only then.",
        "properties": {"event": {"const": "message"}, "data": data},
        "required": ["data"],
    }


def _event(name: str, meaning: str, properties: Json, required: tuple[str, ...]) -> Json:
    data: Json = {"type": "object", "properties": properties}
    return _framed(name, meaning, {**data, "required": list(required)} if required else data)


def _framed(name: str, meaning: str, data: Json) -> Json:
    return {
        "type": "object",
        "title": name,
        "description": meaning,
        "properties": {
            "event": {"const": name},
            "data": {"type": "string", "contentMediaType": "application/json", "contentSchema": data},
            "id": {"type": "string", "pattern": f"^{PLACE_PATTERN}$"},
            "retry": {"type": "integer", "minimum": 0},
        },
        "required": ["event", "data"],
    }
