"""Packing: what is written fast is, byte for byte, what the encoder would have said."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.delivery.framer import Framer
from gateway.delivery.packing import CHUNKED, PLAIN, SsePacking
from gateway.dialects.base import Encoder
from gateway.events import (
    Citation,
    Event,
    Metadata,
    Reasoning,
    Record,
    Status,
    Text,
    TextComplete,
    ToolCall,
    Usage,
    Warned,
    WholeText,
)
from gateway.sse import Frame, Parser, encode
from gateway.streams.stream import Stream
from tests.delivery.bench import NATIVE, OPENAI
from tests.doubles import DONE, stream_of

ENCODERS: dict[str, Callable[[Stream], Encoder]] = {
    "native, named": lambda stream: NATIVE.encoder(stream, unnamed=False),
    "native, unnamed": lambda stream: NATIVE.encoder(stream, unnamed=True),
    "openai": OPENAI.encoder,
}
PACKINGS = {"plain": PLAIN, "chunked": CHUNKED}
STREAMS = {
    "usual": stream_of(),
    "usage": stream_of(parameters={"stream_options": {"include_usage": True}}),
    "an odd model": stream_of(model='%d %b "\\ é\n{}'),
}

every_encoder = pytest.mark.parametrize("make", ENCODERS.values(), ids=ENCODERS)
every_packing = pytest.mark.parametrize("packing", PACKINGS.values(), ids=PACKINGS)
every_stream = pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)

TEXTS = st.text() | st.sampled_from(["%d %b %%", "\r\n\0\x85\u2028", '"}\\', "data: x\n\n", "👩‍👩‍👧" * 40, "x" * 5000])
SEQS = st.integers(1, 2**40)


def slowly(encoder: Encoder, packing: SsePacking, *records: Record) -> bytes:
    """The bytes of what the encoder says of these, by nothing but its frames."""
    data = b"".join(encode(frame) for record in records for frame in encoder.encode(record))
    if not data:
        return b""
    return data if packing is PLAIN else b"%x\r\n%b\r\n" % (len(data), data)


@every_encoder
@every_packing
@every_stream
@given(token=TEXTS, seq=SEQS)
def test_a_text_is_written_as_it_would_be_encoded(
    make: Callable[[Stream], Encoder], packing: SsePacking, stream: Stream, token: str, seq: int
) -> None:
    """Alone, or to be joined with others; in every dialect, wrapped or not."""
    encoder, record = make(stream), Record(seq, Text(token))
    layout = encoder.layout
    assert layout is not None
    written = packing.text_writer(layout)(seq, Text(token))
    assert written == b"".join(map(packing.encode, encoder.encode(record)))
    assert packing.wrapped_text_writer(layout)(seq, Text(token)) == packing.wrap(written)
    assert packing.wrap(written) == packing.pack(encoder.encode(record)) == slowly(encoder, packing, record)


def _events() -> st.SearchStrategy[Event]:
    said = st.sampled_from(["", "a", "é\n"])
    facts: st.SearchStrategy[dict[str, Any]] = st.sampled_from([{}, {"a": 1}, {"event": "text"}])
    texts: st.SearchStrategy[Event] = TEXTS.map(Text)
    others: list[st.SearchStrategy[Event]] = [
        TEXTS.map(WholeText),
        said.map(Reasoning),
        said.map(lambda arguments: ToolCall(0, arguments)),
        facts.map(Metadata),
        facts.map(Citation),
        said.map(Status),
        said.map(lambda message: Warned("GAP", message)),
        st.sampled_from([None, Usage(1, 2)]).map(lambda usage: TextComplete("stop", usage)),
        st.just(DONE),
    ]
    return st.one_of(texts, texts, *others)


@every_encoder
@every_packing
@given(events=st.lists(_events(), min_size=1, max_size=12), with_usage=st.booleans())
def test_a_mixture_is_framed_as_it_would_be_encoded(
    make: Callable[[Stream], Encoder], packing: SsePacking, events: list[Event], with_usage: bool
) -> None:
    """In one batch, and one by one; what a dialect has no words for is no bytes, not even an empty chunk."""
    stream = STREAMS["usage" if with_usage else "usual"]
    encoder = make(stream)
    records = [Record(seq, event) for seq, event in enumerate(events, 1)]
    framer = Framer(encoder, packing)
    assert framer.frame_once(records) == slowly(encoder, packing, *records)
    assert framer.frame(1, events) == slowly(encoder, packing, *records)
    for record in records:
        assert framer.frame(record.seq, [record.event]) == slowly(encoder, packing, record)


@every_encoder
@given(token=TEXTS)
def test_whatever_a_text_holds_it_is_one_event(make: Callable[[Stream], Encoder], token: str) -> None:
    """Nothing that a model says can end a line, or begin another event."""
    encoder = make(STREAMS["usual"])
    (event,) = Parser(1 << 20).feed(Framer(encoder, PLAIN).frame(1, [Text(token)]))
    assert not {"\n", "\r"} & set(event.data)


@every_packing
def test_no_frames_are_no_bytes(packing: SsePacking) -> None:
    """An empty chunk would be the end of the body."""
    assert packing.pack([]) == b""
    assert packing.pack([Frame(b"a"), Frame(b"b")]) == packing.wrap(b"data: a\n\ndata: b\n\n")
