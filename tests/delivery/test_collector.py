"""The answer as a whole, however much of it the log has forgotten by then."""

import pytest

from gateway.delivery.collector import Collector
from gateway.dialects.openai import OpenAIDialect
from gateway.errors import Code, GatewayError
from gateway.events import Metadata, Text, ToolCall
from gateway.streams.stream import Bounds
from tests.doubles import DONE, END, stream_of

SMALL = Bounds(max_bytes=1 << 20, max_events=20, max_audio_ms=1000)


async def test_what_the_log_forgets_is_not_missing_from_the_whole() -> None:
    """Probabilities and fragments of tool calls cannot be folded: the log drops its beginning, the answer does not."""
    stream = stream_of(bounds=SMALL)
    collector = Collector(stream)
    for n in range(40):
        stream.append([Text(f"<{n}>"), Metadata({"logprobs": {"content": [n]}})])
    stream.append([ToolCall(0, "", "call-1", "look_up")])
    stream.append([ToolCall(0, str(n)) for n in range(40)])
    stream.append([END])
    stream.finish(DONE)
    collector.close()
    assert stream.lost
    assert stream.readers == 0
    choice = OpenAIDialect().fold(stream, collector.events)["choices"][0]
    assert choice["message"]["content"] == "".join(f"<{n}>" for n in range(40))
    assert choice["logprobs"]["content"] == list(range(40))
    call = choice["message"]["tool_calls"][0]
    assert (call["id"], call["function"]["name"]) == ("call-1", "look_up")
    assert call["function"]["arguments"] == "".join(map(str, range(40)))


async def test_who_comes_when_the_beginning_is_gone_is_told_so() -> None:
    """A part of an answer never passes for the whole."""
    stream = stream_of(*[Metadata({"n": n}) for n in range(100)], bounds=SMALL)
    with pytest.raises(GatewayError) as raised:
        Collector(stream)
    assert raised.value.code is Code.STREAM_EXPIRED
    assert stream.readers == 0
