"""SSE framing and parsing against the standard: vectors, an independent parser, and every way to cut the bytes."""

from collections.abc import Iterator
from itertools import pairwise

import httpx
import pytest
from httpx_sse import EventSource
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Code, GatewayError
from gateway.sse import BOM, HEARTBEAT, Frame, Parser, ServerEvent, encode


def parse_naively(text: str) -> tuple[list[ServerEvent], str]:
    """A whole stream by WHATWG HTML 9.2, read line by line as it is written there; events and the last event id."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]
    events: list[ServerEvent] = []
    data = event = ""
    buffered = last = ""
    for line in lines:
        if line == "":
            last = buffered
            if data != "":
                events.append(ServerEvent(data.removesuffix("\n"), event or "message", last))
            data = event = ""
            continue
        if line.startswith(":"):
            continue
        field, colon, value = line.partition(":")
        value = value.removeprefix(" ") if colon else ""
        if field == "event":
            event = value
        elif field == "data":
            data += value + "\n"
        elif field == "id" and "\0" not in value:
            buffered = value
    return events, last


def parse(stream: bytes, *cuts: int) -> list[ServerEvent]:
    """Fed in pieces, cut at these places."""
    parser = Parser()
    places = [0, *sorted(cuts), len(stream)]
    return [event for a, b in pairwise(places) for event in parser.feed(stream[a:b])]


# What the format tests of Web Platform Tests (eventsource/format-*) look at: name, bytes, (type, data, id) of events.
VECTORS = [
    ("bom", "\ufeffdata:a\n\n\ufeffdata:b\n\ndata:c\n\n", [("message", "a", ""), ("message", "c", "")]),
    ("bom-2", "\ufeff\ufeffdata:a\n\ndata:b\n\n", [("message", "b", "")]),
    ("comments", f"data:1\r:\0\n:\r\ndata:2\n:{'x' * 2048}\rdata:3\n:data:no\r\n\n", [("message", "1\n2\n3", "")]),
    ("data-before-final-empty-line", "retry:9\ndata:a\n\nid:i\ndata:b", [("message", "a", "")]),
    (
        "field-data",
        "data:\n\ndata\ndata\n\ndata:t\n\n",
        [("message", "", ""), ("message", "\n", ""), ("message", "t", "")],
    ),
    ("field-event", "event:own\ndata:x\n\ndata:y\n\n", [("own", "x", ""), ("message", "y", "")]),
    ("field-event-empty", "event: \ndata:x\n\n", [("message", "x", "")]),
    ("field-event-dropped-with-its-event", "event:own\n\ndata:x\n\n", [("message", "x", "")]),
    ("field-id", "id:…\ndata:x\n\n", [("message", "x", "…")]),
    ("field-id-2", "id:…\ndata:x\n\ndata:y\n\n", [("message", "x", "…"), ("message", "y", "…")]),
    ("field-id-3-changes", "id:1\ndata:x\n\nid:2\ndata:y\n\n", [("message", "x", "1"), ("message", "y", "2")]),
    ("field-id-3-resets", "id:1\ndata:x\n\nid\ndata:y\n\n", [("message", "x", "1"), ("message", "y", "")]),
    ("field-id-null", "id:1\0\ndata:x\n\n", [("message", "x", "")]),
    ("field-id-without-data", "id:1\n\ndata:x\n\n", [("message", "x", "1")]),
    (
        "field-parsing",
        "data:\0\ndata:  2\rData:no\ndata\0:no\ndata:3\r\0data:no\nda-ta:no\rdata_no\ndata:\r\n data:no\ndata:4\n\n",
        [("message", "\0\n 2\n3\n\n4", "")],
    ),
    ("field-unknown", "data:a\n data\ndata\nother:x\ntext\n:comment\ndata:b\n\n", [("message", "a\n\nb", "")]),
    ("leading-space", "data:\ta\rdata: \ndata:b\ndata:  c\n\n", [("message", "\ta\n\nb\n c", "")]),
    (
        "newlines",
        "data:a\r\ndata\ndata:b\r\n\r\ndata:c\r\rdata:d\n\n",
        [(*("message",), t, "") for t in ("a\n\nb", "c", "d")],
    ),
    ("null-character", "data:\0\n\n", [("message", "\0", "")]),
    ("utf-8", "data:ok… 😀 \u2028\x85\n\n", [("message", "ok… 😀 \u2028\x85", "")]),
]


@pytest.mark.parametrize(("text", "expected"), [v[1:] for v in VECTORS], ids=[v[0] for v in VECTORS])
def test_the_standard_s_vectors_parse_as_they_must(text: str, expected: list[tuple[str, str, str]]) -> None:
    """Whole, byte by byte, and by the naive parser: always the same events."""
    stream, events = text.encode(), [ServerEvent(data, name, id_) for name, data, id_ in expected]
    assert parse(stream) == events
    assert parse(stream, *range(len(stream))) == events
    assert parse_naively(text)[0] == events


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("retry:1500\n", 1500),
        ("retry: 0\n", 0),
        ("retry:1000\nretry:2000\n", 2000),
        ("retry:2000\nretry:1000x\n", 2000),
        ("retry:7\nretry\n", 7),
        ("retry:7\nretry:\n", 7),
        ("retry:-1\n", None),
        ("retry:1.5\n", None),
        ("retry:²\n", None),
        ("retry:" + "9" * 30 + "\n", None),
    ],
)
def test_retry_counts_only_when_it_is_all_digits(text: str, milliseconds: int | None) -> None:
    """Bogus, empty and absurd values change nothing."""
    parser = Parser()
    parser.feed(text.encode())
    assert parser.retry_ms == milliseconds


def test_an_id_counts_only_with_its_blank_line() -> None:
    """A client that was cut off before it must come back with the id of the event before."""
    parser = Parser()
    parser.feed(b"id: 1\ndata: a\n\nid: 2\ndata: b\n")
    assert parser.last_id == "1"
    parser.feed(b"\n")
    assert parser.last_id == "2"


LINES = st.lists(
    st.one_of(
        st.sampled_from(["", "", "data", "data:", "data: ", ":", "event", "id", "id:\0", "\ufeff", " data:x"]),
        st.builds(
            "{}{}{}".format, st.sampled_from(["data", "event", "id", "x"]), st.sampled_from([":", ": "]), st.text()
        ),
    ).flatmap(lambda line: st.sampled_from(["\n", "\r", "\r\n"]).map(lambda end: line + end)),
    max_size=12,
)
STREAMS = st.builds(
    lambda bom, lines, rest: bom + "".join(lines) + rest, st.sampled_from(["", "\ufeff"]), LINES, st.text()
)


@given(STREAMS, st.data())
def test_any_cut_of_any_stream_gives_the_same_events(text: str, data: st.DataObject) -> None:
    """Wherever the network cuts, in the middle of a character or of CR LF, nothing is lost, made up or changed."""
    stream = text.encode()
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8))
    events, last_id = parse_naively(text)
    assert parse(stream, *cuts) == events
    parser = Parser()
    parser.feed(stream)
    assert parser.last_id == last_id


ONE_LINE = st.text().map(lambda s: s.translate({10: None, 13: None, 0: None}))


@given(st.lists(st.tuples(st.text(), ONE_LINE, ONE_LINE, st.sampled_from([0, 2000]))))
def test_what_is_encoded_is_what_any_client_understands(parts: list[tuple[str, str, str, int]]) -> None:
    """Round trip through our parser, the naive one, and httpx-sse's."""
    frames = [Frame(d.encode(), e.encode(), i.encode(), r) for d, e, i, r in parts]
    stream = b"".join(encode(frame) + HEARTBEAT for frame in frames)
    events, last = [], ""
    for data, event, id_, _ in parts:
        last = id_ or last
        lines = data.replace("\r\n", "\n").replace("\r", "\n")
        events.append(ServerEvent(lines, event or "message", last))
    assert parse(stream) == events
    assert parse_naively(stream.decode())[0] == events
    response = httpx.Response(200, content=stream, headers={"Content-Type": "text/event-stream"})
    theirs = [ServerEvent(e.data, e.event, e.id) for e in EventSource(response).iter_sse()]
    assert theirs == events


@pytest.mark.parametrize("field", ["event", "id"])
@pytest.mark.parametrize("evil", [b"a\nb", b"a\rdata: x", b"a\0b", b"\n\nid: forged", b"\r\n"])
def test_nobody_can_smuggle_a_field_into_a_frame(field: str, evil: bytes) -> None:
    """CR, LF and NUL in a name or an id are refused, not written."""
    with pytest.raises(ValueError, match="cannot hold"):
        encode(Frame(b"x", event=evil) if field == "event" else Frame(b"x", id=evil))


def test_data_cannot_end_its_event_or_begin_another() -> None:
    """Line ends of every kind inside data stay inside data."""
    evil = b"a\n\nevent: forged\rid: 9\r\n\r\ndata: b"
    assert parse(encode(Frame(evil, b"text", b"1"))) == [
        ServerEvent("a\n\nevent: forged\nid: 9\n\ndata: b", "text", "1"),
    ]


def test_a_heartbeat_is_no_event_and_ends_none() -> None:
    """Not even in the middle of one."""
    assert HEARTBEAT.count(b"\n") == 1
    assert parse(b"data: a\n" + HEARTBEAT + b"data: b\n\n" + HEARTBEAT) == [ServerEvent("a\nb")]


CAP = 64


def _fed_in_pieces(stream: bytes, piece: int) -> Iterator[str]:
    parser = Parser(CAP)
    for at in range(0, len(stream), piece):
        taken: list[str] = []
        try:
            parser.push(stream[at : at + piece], lambda _, data: taken.append(data.decode()))  # noqa: B023
        finally:
            yield from taken


@pytest.mark.parametrize(
    "stream",
    [b"data: " + b"x" * CAP, b":" + b"x" * CAP + b"\n", b"data:xxxxxxx\n" * 9, b"data\n" * (CAP + 1), b"x" * CAP * 3],
    ids=["line without end", "comment", "event of many lines", "event of empty lines", "noise"],
)
@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_nobody_can_fill_the_memory(stream: bytes, piece: int) -> None:
    """A line or an event beyond the cap is a fault, however it is cut; what came before it has been told."""
    told: list[str] = []
    with pytest.raises(GatewayError) as raised:
        told.extend(_fed_in_pieces(b"data: before\n\n" + stream, piece))
    assert raised.value.code is Code.UPSTREAM_PROTOCOL
    assert told == ["before"]


def test_events_up_to_the_cap_pass() -> None:
    """The cap is of one event, not of the stream."""
    parser = Parser(CAP)
    event = b"data: " + b"x" * (CAP - 6) + b"\n\n"
    assert len(parser.feed(event * 50)) == 50


@pytest.mark.parametrize("stream", [b"data: \xff\n\n", b"id: \xc3\ndata: x\n\n", b"event: \xed\xa0\x80\ndata: x\n\n"])
def test_what_is_not_utf_8_is_a_fault(stream: bytes) -> None:
    """Never a replacement character in somebody's answer."""
    with pytest.raises(GatewayError) as raised:
        Parser().feed(stream)
    assert raised.value.code is Code.UPSTREAM_PROTOCOL


def test_a_byte_order_mark_may_come_in_pieces() -> None:
    """Byte by byte, and what merely begins like one is kept."""
    assert parse(BOM + b"data: a\n\n", 1, 2) == [ServerEvent("a")]
    assert parse(BOM[:2]) == []


def test_a_long_line_in_tiny_pieces_is_looked_at_once() -> None:
    """The same events, and no copy of the pending line for each byte of it."""
    line = b"data: " + b"x" * 200_000 + b"\n\n"
    parser, told = Parser(), list[str]()
    for at in range(len(line)):
        parser.push(line[at : at + 1], lambda _, data: told.append(data.decode()))
    assert told == ["x" * 200_000]
