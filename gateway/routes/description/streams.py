"""The routes that answers come from, described: the native ones and OpenAI's."""

from gateway.errors import Code
from gateway.routes.description.operation import EVENT_STREAM, JSON, Answer, Operation, Schema, Wording, ref, whole
from gateway.routes.description.parameters import CALLER, KEYED, NAMED, OF_A_STREAM, RESUME
from gateway.routes.description.refusals import ADMITTED, ANSWERED, ASKED_UPSTREAM, BODY, FOUND, KNOWN

_TOLD: Schema = {"anyOf": [ref("StreamEvent"), ref("ChatCompletionEvent")]}
_TWINS: dict[str, Schema] = {
    EVENT_STREAM: _TOLD,
    JSON: {"anyOf": [ref("PlainAnswer"), ref("ChatCompletion")]},
}
"""The answer as it grows, or whole for whoever asks for JSON."""

_OPENED = (
    Answer(
        200,
        "The stream's events as they are made; one `status` `retry` for a browser's GET that must come back later.",
        _TWINS,
        OF_A_STREAM,
    ),
    whole(202, "With `detach`: the stream is being made.", "StreamState", *OF_A_STREAM),
    Answer(204, "With a `Last-Event-ID`: there is nothing more.", {}, OF_A_STREAM),
)

STREAMS: tuple[Operation, ...] = (
    Operation(
        "POST", "/stream", "Streams", "openStream", "Open a stream",
        _OPENED,
        (*KNOWN, *BODY, Code.UNKNOWN_DIALECT, *ADMITTED, *FOUND, *ANSWERED),
        ("dialect", "events", "detach", *RESUME, *KEYED, *NAMED, *CALLER),
        body="Question",
        example={"query": "How does resume work?", "session_id": "s-1"},
        wording=Wording.EITHER,
        detail="The same request with a `Last-Event-ID` goes on with the stream that it names.",
        passes_on=True,
    ),
    Operation(
        "GET", "/stream", "Streams", "openStreamByQuery", "Open a stream, for EventSource",
        _OPENED,
        (*KNOWN, Code.INVALID_JSON, Code.INPUT_TOO_LARGE, Code.UNKNOWN_DIALECT, *ADMITTED, *FOUND, *ANSWERED),
        ("question", "dialect", "events", "detach", *RESUME, *KEYED, *CALLER),
        wording=Wording.EITHER,
        detail="Either `query` or `messages` is needed.",
        passes_on=True,
    ),
    Operation(
        "GET", "/stream/{sid}", "Streams", "readStream", "Read a stream again, or go on reading it",
        (
            Answer(200, "From the beginning, or behind the last id that was seen.", _TWINS, OF_A_STREAM),
            Answer(204, "There is nothing more.", {}, OF_A_STREAM),
        ),
        (*KNOWN, Code.UNKNOWN_DIALECT, *FOUND, *ANSWERED),
        ("sid", "dialect", "events", *RESUME, *NAMED, *CALLER),
        wording=Wording.EITHER,
        passes_on=True,
    ),
    Operation(
        "DELETE", "/stream/{sid}", "Streams", "cancelStream", "Cancel a stream",
        (whole(200, "It ends, or has ended.", "StreamState"),),
        (*KNOWN, *FOUND),
        ("sid", *NAMED, *CALLER),
        detail="Harmless where it has ended.",
    ),
    Operation(
        "GET", "/streams", "Streams", "listStreams", "List the streams of a user or session",
        (whole(200, "The newest first.", "StreamList"),),
        KNOWN,
        ("user", "session_id", *CALLER),
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
        (*KNOWN, *BODY, *ADMITTED, Code.INVALID_EVENT_ID, *ANSWERED),
        (*KEYED, *CALLER, "session_id"),
        body="ChatCompletionRequest",
        example={"model": "local", "messages": [{"role": "user", "content": "Hello!"}], "stream": True},
        wording=Wording.OPENAI,
        passes_on=True,
    ),
    Operation(
        "GET", "/v1/models", "OpenAI", "listModels", "The models that may be asked for",
        (whole(200, "Their names.", "ModelList"),),
        (*KNOWN, *ASKED_UPSTREAM),
        wording=Wording.OPENAI,
        passes_on=True,
    ),
)  # fmt: skip
