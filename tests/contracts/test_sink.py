"""What every sink owes the connection above it, and that the recording double is a true one."""

import asyncio
from collections.abc import Iterator
from typing import Protocol

import pytest

from gateway.delivery.http import SseSink
from gateway.delivery.packing import PLAIN
from gateway.delivery.sink import Sink
from gateway.errors import ClientGone, SlowClient
from gateway.sse import HEARTBEAT, Frame, Parser, ServerEvent
from gateway.turn import Turn
from tests.delivery.transport import connected
from tests.doubles import ManualLoop, RecordingSink

FRAMES = [Frame(b'{"a":1}', b"text", b"i-1"), Frame(b"x"), Frame(b"line\nline", b"status", retry_ms=5)]
EVENTS = [
    ServerEvent('{"a":1}', "text", "i-1"),
    ServerEvent("x", "message", "i-1"),
    ServerEvent("line\nline", "status", "i-1"),
]
LIMIT_S = 15.0


class Client(Protocol):
    """The other end of a sink."""

    sink: Sink

    @property
    def arrived(self) -> bytes:
        """What the client has of the body."""

    def refuse(self) -> None:
        """Take nothing from now on."""

    def take(self, count: int | None = None) -> None:
        """Take `count` bytes, or everything and ever after."""

    def leave(self) -> None:
        """Hang up."""

    def stall(self) -> None:
        """Take nothing until the limit is over."""


class OverHttp:
    """A client of HTTP/1.1 (chunked) or 1.0."""

    def __init__(self, loop: ManualLoop, *, chunked: bool) -> None:
        self._loop, self._chunked = loop, chunked
        self.protocol, self.transport = loop.run(connected())
        self.socket_sink = SseSink(self.protocol, Turn(loop), chunked=chunked)
        self.sink: Sink = self.socket_sink
        self.take, self.leave = self.transport.take, self.transport.leave

    @property
    def arrived(self) -> bytes:
        self._loop.turn()
        return _dechunked(self.transport.arrived) if self._chunked else self.transport.arrived

    def refuse(self) -> None:
        self.transport.room = 0

    def stall(self) -> None:
        # The socket is looked at now and then, so that the end may come a look late.
        self._loop.advance(LIMIT_S * 1.25, step_s=LIMIT_S / 40)


class Recorded:
    """The double."""

    def __init__(self) -> None:
        self.double = RecordingSink()
        self.sink: Sink = self.double
        self.take, self.leave, self.stall = self.double.take, self.double.leave, self.double.stall

    @property
    def arrived(self) -> bytes:
        return self.double.arrived

    def refuse(self) -> None:
        self.double.room = 0


def _dechunked(body: bytes) -> bytes:
    """The payload of whole HTTP chunks, each of which says its size."""
    payload = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        assert length > 0, "an empty chunk would be the end of the body"
        if len(body) < length + 2:
            return payload + body[:length]
        assert body[length : length + 2] == b"\r\n"
        payload, body = payload + body[:length], body[length + 2 :]
    return payload


@pytest.fixture
def loop() -> Iterator[ManualLoop]:
    """Time by hand."""
    loop = ManualLoop()
    yield loop
    loop.turn()
    loop.close()


@pytest.fixture(params=["sse chunked", "sse", "recording"])
def client(request: pytest.FixtureRequest, loop: ManualLoop) -> Iterator[Client]:
    """One of every kind."""
    made: Client = Recorded() if request.param == "recording" else OverHttp(loop, chunked=request.param != "sse")
    yield made
    made.leave()


def waiting(loop: ManualLoop, client: Client) -> "asyncio.Task[None]":
    """Somebody waits for the socket."""
    task = loop.create_task(client.sink.drained(LIMIT_S))
    loop.turn()
    return task


def full(loop: ManualLoop, client: Client) -> None:
    """A socket that holds what was written."""
    client.refuse()
    client.sink.write(client.sink.packing.pack(FRAMES))
    loop.turn()
    assert client.sink.congested


def test_what_is_packed_is_what_the_client_understands(client: Client) -> None:
    """One by one or together: the same events, in the same bytes."""
    client.sink.write(client.sink.packing.pack(FRAMES))
    assert Parser().feed(client.arrived) == EVENTS
    for frame in FRAMES:
        client.sink.write(client.sink.packing.pack([frame]))
    assert client.arrived == PLAIN.pack(FRAMES) * 2


def test_sinks_of_one_kind_share_one_way_to_pack(client: Client, loop: ManualLoop) -> None:
    """The same function, so that what is packed for one can be written to all."""
    other = OverHttp(loop, chunked=client._chunked) if isinstance(client, OverHttp) else Recorded()
    assert other.sink.packing is client.sink.packing
    other.leave()


def test_a_beat_is_a_comment_and_no_event(client: Client) -> None:
    """One line and no blank one, wherever it falls."""
    client.sink.beat()
    assert client.arrived == HEARTBEAT == b": hb\n"
    client.sink.write(client.sink.packing.pack(FRAMES[:1]))
    client.sink.beat()
    client.sink.write(client.sink.packing.pack(FRAMES[1:]))
    assert Parser().feed(client.arrived) == EVENTS


def test_a_full_socket_is_seen_at_once_and_until_it_is_empty(client: Client, loop: ManualLoop) -> None:
    """Behind the turn of the write, and told; and a client that takes a little has not taken all."""
    seen, told = [client.sink.congested], list[str]()
    client.sink.on_congestion(lambda: told.append("full"))
    full(loop, client)
    client.take(10)
    seen.append(client.sink.congested)
    assert Parser().feed(client.arrived) == []
    client.take()
    seen.append(client.sink.congested)
    assert Parser().feed(client.arrived) == EVENTS
    assert (seen, told) == ([False, True, False], ["full"])


def test_nobody_waits_for_a_socket_that_has_room(client: Client, loop: ManualLoop) -> None:
    """Not even for one turn."""
    loop.run(client.sink.drained(LIMIT_S))
    client.sink.write(client.sink.packing.pack(FRAMES))
    loop.run(client.sink.drained(LIMIT_S))


def test_whoever_waits_is_woken_when_everything_is_taken(client: Client, loop: ManualLoop) -> None:
    """And not before."""
    full(loop, client)
    task = waiting(loop, client)
    client.take(10)
    loop.turn()
    assert not task.done()
    client.take()
    loop.turn()
    assert task.done()
    task.result()


def test_whoever_waits_can_be_woken(client: Client, loop: ManualLoop) -> None:
    """Because something else has happened; what waits, waits on."""
    client.sink.release()
    full(loop, client)
    task = waiting(loop, client)
    client.sink.release()
    client.sink.release()
    loop.turn()
    assert task.done()
    task.result()
    assert client.sink.congested


def test_a_client_that_takes_nothing_for_too_long_is_slow(client: Client, loop: ManualLoop) -> None:
    """As long as the limit, no longer."""
    full(loop, client)
    task = waiting(loop, client)
    client.stall()
    loop.turn()
    with pytest.raises(SlowClient):
        task.result()


def test_to_a_client_that_has_gone_nothing_can_be_written(client: Client, loop: ManualLoop) -> None:
    """Neither an event nor a beat, and nobody waits for it."""
    full(loop, client)
    client.leave()
    with pytest.raises(ClientGone):
        client.sink.write(b"data: x\n\n")
    with pytest.raises(ClientGone):
        client.sink.beat()
    with pytest.raises(ClientGone):
        loop.run(client.sink.drained(LIMIT_S))


def test_whoever_waits_for_a_client_that_goes_learns_of_it(client: Client, loop: ManualLoop) -> None:
    """At once from the wait, or from the next look."""
    full(loop, client)
    task = waiting(loop, client)
    client.leave()
    loop.turn()
    assert task.done()
    if task.exception() is None:
        task = waiting(loop, client)
    assert isinstance(task.exception(), ClientGone)


# What only a socket can do.


@pytest.fixture
def http(loop: ManualLoop) -> Iterator[OverHttp]:
    """A client of HTTP/1.1."""
    client = OverHttp(loop, chunked=True)
    yield client
    client.leave()


def test_what_is_packed_together_is_one_chunk_of_http(http: OverHttp, loop: ManualLoop) -> None:
    """In one piece, with its size in front."""
    http.sink.write(http.sink.packing.pack([Frame(b"x"), Frame(b"x")]))
    http.sink.beat()
    loop.turn()
    assert http.transport.arrived == b"12\r\n" + b"data: x\n\n" * 2 + b"\r\n5\r\n: hb\n\r\n"


def test_a_slow_client_that_takes_a_little_is_given_time(http: OverHttp, loop: ManualLoop) -> None:
    """The limit is without progress: with some it begins anew."""
    full(loop, http)
    task = waiting(loop, http)
    for _ in range(4):
        http.take(1)
        loop.advance(LIMIT_S * 0.75, step_s=LIMIT_S / 40)
        assert not task.done()
    http.stall()
    with pytest.raises(SlowClient):
        task.result()


def test_a_socket_that_closes_is_as_good_as_gone(http: OverHttp) -> None:
    """What is written to it would be dropped without a word."""
    http.transport.close()
    with pytest.raises(ClientGone):
        http.sink.write(b"data: x\n\n")


def test_what_waits_for_a_client_that_is_cut_off_is_thrown_away(http: OverHttp, loop: ManualLoop) -> None:
    """At once, and a second time does no harm."""
    full(loop, http)
    http.socket_sink.abort()
    http.socket_sink.abort()
    assert http.transport.get_write_buffer_size() == 0
    with pytest.raises(ClientGone):
        http.sink.write(b"data: x\n\n")
