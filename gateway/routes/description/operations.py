"""Every public route, described in a few lines each; the routes' own tables are compared with it by a test."""

from gateway.errors import Code
from gateway.routes.description.operation import EVENT_STREAM, JSON, Answer, Operation, Schema, Wording, ref
from gateway.routes.description.parameters import OF_A_STREAM

_KNOWN = (Code.UNAUTHENTICATED, Code.FORBIDDEN, Code.ORIGIN_NOT_ALLOWED, Code.CREDENTIAL_IN_QUERY, Code.INVALID_REQUEST)
_BODY = (
    Code.INVALID_JSON,
    Code.INVALID_REQUEST,
    Code.REQUEST_TIMEOUT,
    Code.BODY_TOO_LARGE,
    Code.INPUT_TOO_LARGE,
    Code.UNSUPPORTED_MEDIA_TYPE,
)
_ADMITTED = (
    Code.UNKNOWN_MODEL,
    Code.FEATURE_NOT_ALLOWED,
    Code.MODEL_NOT_ALLOWED,
    Code.IDEMPOTENCY_MISMATCH,
    Code.RATE_LIMITED,
    Code.TOO_MANY_STREAMS,
    Code.BUDGET_EXCEEDED,
    Code.QUEUE_FULL,
    Code.STORE_FULL,
    Code.STORE_AWAY,
    Code.DRAINING,
    Code.STREAMING_DISABLED,
)
_FOUND = (Code.STREAM_NOT_FOUND, Code.STREAM_EXPIRED, Code.INVALID_EVENT_ID, Code.STORE_AWAY)
_ASKED_UPSTREAM = (
    Code.UPSTREAM_UNAVAILABLE,
    Code.UPSTREAM_TLS,
    Code.UPSTREAM_AUTH,
    Code.UPSTREAM_REJECTED,
    Code.UPSTREAM_RATE_LIMITED,
    Code.UPSTREAM_ERROR,
    Code.UPSTREAM_TIMEOUT,
    Code.UPSTREAM_PROTOCOL,
)
_ANSWERED = (
    *_ASKED_UPSTREAM,
    Code.UPSTREAM_TRUNCATED,
    Code.PRODUCER_LOST,
    Code.OUTPUT_LIMIT,
    Code.QUEUE_TIMEOUT,
    Code.CANCELLED,
)
"""How an answer can end before its client was told anything."""

_CALLER = ("X-User-Id", "X-Session-Id")
_NAMED = ("user_id", "session_id")
_RESUME = ("Last-Event-ID", "last_event_id")
_KEYED = ("Idempotency-Key", "idempotency_key")
_TOLD: Schema = {"anyOf": [ref("StreamEvent"), ref("ChatCompletionEvent")]}


def _json(status: int, meaning: str, schema: str, *headers: str) -> Answer:
    return Answer(status, meaning, {JSON: ref(schema)}, headers)


def _page(*types: str) -> Answer:
    return Answer(200, "The file.", {kind: {"type": "string"} for kind in types})


_OPENED = (
    Answer(
        200,
        "The stream's events as they are made; one `status` `retry` for a browser's GET that must come back later.",
        {EVENT_STREAM: _TOLD},
        OF_A_STREAM,
    ),
    _json(202, "With `detach`: the stream is being made.", "StreamState", *OF_A_STREAM),
    Answer(204, "With a `Last-Event-ID`: there is nothing more.", {}, OF_A_STREAM),
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "POST", "/stream", "Streams", "openStream", "Open a stream",
        _OPENED,
        (*_KNOWN, *_BODY, Code.UNKNOWN_DIALECT, *_ADMITTED, *_FOUND, *_ANSWERED),
        ("dialect", "events", "detach", *_RESUME, *_KEYED, *_NAMED, *_CALLER),
        body="Question",
        example={"query": "How does resume work?", "session_id": "s-1"},
        wording=Wording.EITHER,
        detail="The same request with a `Last-Event-ID` goes on with the stream that it names.",
        passes_on=True,
    ),
    Operation(
        "GET", "/stream", "Streams", "openStreamByQuery", "Open a stream, for EventSource",
        _OPENED,
        (*_KNOWN, Code.INVALID_JSON, Code.INPUT_TOO_LARGE, Code.UNKNOWN_DIALECT, *_ADMITTED, *_FOUND, *_ANSWERED),
        ("question", "dialect", "events", "detach", *_RESUME, *_KEYED, *_CALLER),
        wording=Wording.EITHER,
        detail="Either `query` or `messages` is needed.",
        passes_on=True,
    ),
    Operation(
        "GET", "/stream/{sid}", "Streams", "readStream", "Read a stream again, or go on reading it",
        (
            Answer(200, "From the beginning, or behind the last id that was seen.", {EVENT_STREAM: _TOLD}, OF_A_STREAM),
            Answer(204, "There is nothing more.", {}, OF_A_STREAM),
        ),
        (*_KNOWN, Code.UNKNOWN_DIALECT, *_FOUND, *_ANSWERED),
        ("sid", "dialect", "events", *_RESUME, *_NAMED, *_CALLER),
        wording=Wording.EITHER,
        passes_on=True,
    ),
    Operation(
        "DELETE", "/stream/{sid}", "Streams", "cancelStream", "Cancel a stream",
        (_json(200, "It ends, or has ended.", "StreamState"),),
        (*_KNOWN, *_FOUND),
        ("sid", *_NAMED, *_CALLER),
        detail="Harmless where it has ended.",
    ),
    Operation(
        "GET", "/streams", "Streams", "listStreams", "List the streams of a user or session",
        (_json(200, "The newest first.", "StreamList"),),
        (*_KNOWN, Code.STORE_AWAY),
        (*_NAMED, *_CALLER),
        detail="A user or a session is needed.",
    ),
    Operation(
        "POST", "/v1/chat/completions", "OpenAI", "createChatCompletion", "OpenAI's Chat Completions",
        (
            Answer(
                200,
                "The whole answer, or with `stream` its chunks.",
                {JSON: ref("ChatCompletion"), EVENT_STREAM: ref("ChatCompletionEvent")},
                OF_A_STREAM,
            ),
        ),
        (*_KNOWN, *_BODY, *_ADMITTED, Code.INVALID_EVENT_ID, *_ANSWERED),
        (*_KEYED, *_CALLER, "session_id"),
        body="ChatCompletionRequest",
        example={"model": "local", "messages": [{"role": "user", "content": "Hello!"}], "stream": True},
        wording=Wording.OPENAI,
        passes_on=True,
    ),
    Operation(
        "GET", "/v1/models", "OpenAI", "listModels", "The models that may be asked for",
        (_json(200, "Their names.", "ModelList"),),
        (*_KNOWN, *_ASKED_UPSTREAM),
        wording=Wording.OPENAI,
        passes_on=True,
    ),
    Operation(
        "GET", "/health/live", "Operation", "live", "Whether the process turns",
        (_json(200, "It does.", "Health"),),
        is_open=True,
    ),
    Operation(
        "GET", "/health/ready", "Operation", "ready", "Whether the process takes new streams",
        (_json(200, "It does.", "Health"), _json(503, "It is going away, or its store is.", "Health")),
        is_open=True,
    ),
    Operation(
        "GET", "/health/streaming", "Operation", "dependencies", "Each dependency with its latency",
        (_json(200, "All are well.", "Dependencies"), _json(503, "One is away.", "Dependencies")),
        is_open=True,
    ),
    Operation(
        "GET", "/metrics", "Operation", "metrics", "Metrics for Prometheus",
        (Answer(200, "The text exposition format.", {"text/plain": {"type": "string"}}),),
        is_open=True,
    ),
    Operation(
        "GET", "/metrics/streaming", "Operation", "figures", "The same figures as JSON",
        (_json(200, "For a dashboard.", "Figures"),),
        is_open=True,
    ),
    Operation("GET", "/", "Pages", "chatPage", "The chat page", (_page("text/html"),), is_open=True),
    Operation(
        "GET", "/static/{name}", "Pages", "file", "Style sheets, scripts and pictures of the pages",
        (_page("text/css", "text/javascript", "text/html", "image/svg+xml"),),
        (Code.NOT_FOUND,),
        ("file",),
        is_open=True,
    ),
    Operation("GET", "/docs", "Pages", "docsPage", "This description as a page", (_page("text/html"),), is_open=True),
    Operation(
        "GET", "/openapi.json", "Pages", "description", "This description",
        (Answer(200, "An OpenAPI document.", {JSON: {"type": "object"}}),),
        is_open=True,
    ),
)  # fmt: skip
