"""The plain JSON answer to a stream longer than what is kept: an error, and no part that passes for the whole."""

import pytest

from gateway.dialects.openai import OpenAIDialect
from gateway.errors import Code, GatewayError
from gateway.events import Metadata, Text
from gateway.streams.stream import Bounds
from tests.doubles import DONE, END, stream_of


def test_a_part_of_an_answer_never_passes_for_the_whole() -> None:
    """Probabilities between the tokens cannot be folded, so that a long answer with them loses its beginning."""
    bounds = Bounds(max_bytes=1 << 20, max_events=20, max_audio_ms=1000)
    stream = stream_of(bounds=bounds)
    for n in range(40):
        stream.append([Text(f"<{n}>"), Metadata({"logprobs": {"content": [n]}})])
    stream.append([END])
    stream.finish(DONE)
    assert stream.lost
    with pytest.raises(GatewayError) as raised:
        OpenAIDialect().fold(stream)
    assert raised.value.code is Code.OUTPUT_LIMIT
    assert raised.value.ended_a_stream
