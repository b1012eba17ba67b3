"""The native dialect: the words in which it answers."""

import base64
from typing import Any

import orjson
import pytest

from gateway.dialects.native import _TELLERS, NativeDialect, told
from gateway.errors import Code, GatewayError
from gateway.events import (
    Audio,
    AudioEvicted,
    Completed,
    Custom,
    Event,
    Failed,
    Metadata,
    Opened,
    Record,
    Status,
    Text,
    TextComplete,
    ToolCall,
    Usage,
    Warned,
    WholeText,
)
from gateway.sse import Frame
from tests.dialects.examples import KINDS
from tests.doubles import DONE, END, stream_of

NATIVE = NativeDialect(default_model="house", grace_s=30, grace_max_s=60)


def data_of(frame: Frame) -> Any:
    """What a frame says."""
    return orjson.loads(frame.data)


def test_every_kind_of_event_has_words_of_its_own() -> None:
    """None is told as another's, none is forgotten, and none that is no event is told at all."""
    assert set(_TELLERS) == KINDS
    with pytest.raises(GatewayError):
        told(Event())


@pytest.mark.parametrize(
    ("event", "name", "data"),
    [
        (Opened("m"), "status", {"state": "opened", "message": "", "model": "m"}),
        (Opened("m", {"k": 1}), "status", {"state": "opened", "message": "", "model": "m", "metadata": {"k": 1}}),
        (Status("queued", "", {"position": 2}), "status", {"state": "queued", "message": "", "position": 2}),
        (Text("a"), "text", {"token": "a"}),
        (WholeText("a"), "text", {"token": "a", "replace": True}),
        (ToolCall(0, "{", "i", "f"), "tool_call", {"index": 0, "id": "i", "name": "f", "arguments": "{"}),
        (
            Audio(b"\0\xff", "mp3", 24000, "s", 3, True, 9),
            "audio",
            {
                "chunk": base64.b64encode(b"\0\xff").decode(),
                "format": "mp3",
                "sample_rate": 24000,
                "sentence": "s",
                "index": 3,
                "final": True,
            },
        ),
        (
            AudioEvicted(3),
            "warning",
            {"code": "AUDIO_EVICTED", "message": "this piece of speech is no longer kept", "index": 3},
        ),
        (Custom("own", {"k": 1}), "own", {"k": 1}),
        (Warned("GAP", "m", {"to": 1}), "warning", {"code": "GAP", "message": "m", "to": 1}),
        (
            TextComplete("stop", Usage(1, 2, details={"cached": 1})),
            "status",
            {
                "state": "text_complete",
                "message": "",
                "finish_reason": "stop",
                "usage": {
                    "cached": 1,
                    "prompt_tokens": 1,
                    "completion_tokens": 2,
                    "total_tokens": 3,
                    "reported": True,
                },
            },
        ),
        (
            Completed("cancelled", "client", None, 4, 5),
            "complete",
            {"status": "cancelled", "finish_reason": "client", "usage": None, "total": 4, "duration": 5},
        ),
        (
            Failed("UPSTREAM_ERROR", "m", True, 502, 6),
            "error",
            {
                "message": "m",
                "error": Code.UPSTREAM_ERROR.meaning,
                "code": "UPSTREAM_ERROR",
                "retryable": True,
                "timestamp": 6,
            },
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Event) else "",
)
def test_events_are_told_in_the_words_of_the_documentation(event: Event, name: str, data: dict[str, Any]) -> None:
    """With a name and an id, or with the name inside; the data is the same."""
    stream = stream_of(event)
    [named] = NATIVE.encoder(stream, unnamed=False).encode(Record(4, event))
    assert (named.event.decode(), data_of(named), named.id.decode()) == (name, data, f"{stream.sid}-1-4")
    [unnamed] = NATIVE.encoder(stream, unnamed=True).encode(Record(4, event))
    assert (unnamed.event, data_of(unnamed), unnamed.id) == (b"", {"event": name, **data}, named.id)


@pytest.mark.parametrize("name", ["complete", "error", "close"])
def test_free_data_cannot_pass_itself_off_as_another_event(name: str) -> None:
    """Where the name stands inside, an upstream's own `event` does not take its place."""
    [frame] = NATIVE.encoder(stream_of(), unnamed=True).encode(Record(1, Metadata({"event": name, "k": 1})))
    assert data_of(frame) == {"event": "metadata", "k": 1}


@pytest.mark.parametrize("unnamed", [False, True])
def test_full_text_says_all_of_it_each_time(unnamed: bool) -> None:
    """Up to that very piece, also when it is told again later, and set anew by a replacement."""
    stream = stream_of(Text("a"), Text("b"), WholeText("C"), Text("d"), full_text=True)
    encoder = NATIVE.encoder(stream, unnamed=unnamed)
    frames = [encoder.encode(Record(seq, event))[0] for seq, event in enumerate(stream.events(), 1)]
    assert [data_of(frame)["fullText"] for frame in frames] == ["a", "ab", "C", "Cd"]
    assert [data_of(frame)["token"] for frame in frames] == ["a", "b", "C", "d"]
    assert data_of(frames[2])["replace"] is True


def test_the_first_words_say_which_stream_it_is_and_when_to_come_back() -> None:
    """In the data for those who read it, and as `retry:` for those who obey it."""
    stream = stream_of()
    [frame] = NATIVE.encoder(stream, unnamed=False).hello(resumed=True, retry_ms=1500)
    assert (frame.event, frame.retry_ms) == (b"connected", 1500)
    assert data_of(frame) == {"message": "connected", "stream_id": stream.sid, "resumed": True, "retry": 1500}


def test_the_last_words_say_why() -> None:
    """And, where the stream goes on, when to come back for the rest of it."""
    encoder = NATIVE.encoder(stream_of(END, DONE), unnamed=False)
    [close] = encoder.farewell("complete")
    assert (close.event, data_of(close)["reason"], close.retry_ms) == (b"close", "complete", 0)
    status, close = encoder.farewell("rotate", retry_ms=700)
    assert (status.event, status.retry_ms, data_of(status)["state"]) == (b"status", 700, "rotate")
    assert (data_of(status)["retry"], data_of(close)["reason"]) == (700, "rotate")


def test_a_refusal_says_what_to_do_about_it() -> None:
    """All six names always, the other two where they help."""
    plain = NATIVE.refusal(GatewayError(Code.OVERLOADED))
    assert set(plain) == {"status", "code", "message", "error", "retryable", "timestamp"}
    assert (plain["status"], plain["code"], plain["retryable"]) == (503, "OVERLOADED", True)
    helpful = NATIVE.refusal(GatewayError(Code.INVALID_REQUEST, "m", status=418, param="p", allowed=["a"]))
    assert (helpful["status"], helpful["field"], helpful["allowed"]) == (418, "p", ["a"])
