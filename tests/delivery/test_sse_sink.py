"""The sink of HTTP: what goes out together, because each write is a system call."""

import asyncio
from typing import Any

import pytest

from gateway.delivery.http import SseSink
from gateway.errors import ClientGone
from gateway.turn import Turn
from tests.delivery.transport import ScriptedTransport, connected

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Counted(ScriptedTransport):
    """Remembers each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: Any) -> None:
        self.writes.append(data)
        super().write(data)


async def begun(*, chunked: bool = True, turn: Turn | None = None) -> tuple[SseSink, Counted]:
    """A sink whose head is still to be written."""
    protocol, _ = await connected()
    transport = Counted()
    protocol.transport, transport.protocol = transport, protocol
    return SseSink(protocol, turn or Turn(), chunked=chunked, head=HEAD), transport


async def test_what_is_written_in_one_turn_is_one_write() -> None:
    """The head of the answer with the first bytes, and whatever comes together later."""
    sink, transport = await begun()
    sink.write(sink.packing.wrap(b"a"))
    sink.write(sink.packing.wrap(b"b"))
    assert transport.writes == []
    await asyncio.sleep(0)
    sink.write(sink.packing.wrap(b"c"))
    sink.beat()
    await asyncio.sleep(0)
    assert transport.writes == [HEAD + b"1\r\na\r\n1\r\nb\r\n", b"1\r\nc\r\n5\r\n: hb\n\r\n"]


async def test_a_head_without_a_body_waits_no_longer_than_a_turn() -> None:
    """A client that waits for the first event knows already that it will come."""
    _, transport = await begun()
    await asyncio.sleep(0)
    assert transport.writes == [HEAD]


async def test_the_last_bytes_go_out_with_the_end() -> None:
    """In one write, which ends the body for a client that knows chunks."""
    sink, transport = await begun()
    await asyncio.sleep(0)
    sink.write(sink.packing.wrap(b"a"), last=True)
    sink.write(sink.packing.wrap(b"b"), last=True)
    assert transport.writes == [HEAD]
    sink.finish()
    assert transport.writes[1:] == [b"1\r\na\r\n1\r\nb\r\n0\r\n\r\n"]


async def test_what_was_held_goes_out_in_order() -> None:
    """Also where the last bytes were not the last."""
    sink, transport = await begun(chunked=False)
    sink.write(sink.packing.wrap(b"a"), last=True)
    sink.beat()
    sink.finish()
    await asyncio.sleep(0)
    assert transport.writes == [HEAD + b"a: hb\n"]


async def test_a_whole_answer_is_one_write() -> None:
    """Head, body and end of an answer that was there at once."""
    sink, transport = await begun()
    sink.write(sink.packing.wrap(b"a"), last=True)
    sink.finish()
    await asyncio.sleep(0)
    assert transport.writes == [HEAD + b"1\r\na\r\n0\r\n\r\n"]


async def test_nothing_is_written_for_a_client_that_has_gone() -> None:
    """Neither what was held nor the end."""
    sink, transport = await begun()
    sink.write(sink.packing.wrap(b"a"))
    transport.leave()
    await asyncio.sleep(0)
    with pytest.raises(ClientGone):
        sink.write(sink.packing.wrap(b"b"))
    with pytest.raises(ClientGone):
        sink.finish()
    assert transport.writes == []


async def test_an_answer_that_is_cut_off_gets_no_end() -> None:
    """The head goes out all the same: without one, a client would ask again as if nothing had happened."""
    sink, transport = await begun()
    sink.write(sink.packing.wrap(b"a"), last=True)
    sink.abort()
    await asyncio.sleep(0)
    assert transport.writes == [HEAD + b"1\r\na\r\n"]


# While it is in doubt whether this process may still speak for its streams.


async def in_doubt() -> tuple[SseSink, Counted, Turn]:
    """A sink whose head is written, and something behind it that is not."""
    turn = Turn()
    sink, transport = await begun(turn=turn)
    await asyncio.sleep(0)
    turn.doubt = lambda: True
    sink.write(sink.packing.wrap(b"a"))
    await asyncio.sleep(0)
    assert transport.writes == [HEAD]
    return sink, transport, turn


async def test_what_is_written_in_doubt_goes_out_when_there_is_none_any_more() -> None:
    """All of it, in order, in one write."""
    sink, transport, turn = await in_doubt()
    sink.write(sink.packing.wrap(b"b"))
    turn.doubt = None
    turn.reopen()
    assert transport.writes[1:] == [b"1\r\na\r\n1\r\nb\r\n"]


async def test_an_end_in_doubt_waits_too() -> None:
    """The last words are words."""
    sink, transport, turn = await in_doubt()
    sink.finish()
    await asyncio.sleep(0)
    assert transport.writes == [HEAD]
    turn.doubt = None
    turn.reopen()
    assert transport.writes[1:] == [b"1\r\na\r\n0\r\n\r\n"]


async def test_what_was_held_in_doubt_does_not_go_out_with_a_cut() -> None:
    """The client must not hear what others may have said otherwise."""
    sink, transport, turn = await in_doubt()
    sink.abort()
    turn.doubt = None
    turn.reopen()
    assert transport.writes == [HEAD]
    assert transport.closing


async def test_what_was_dropped_never_goes_out() -> None:
    """And what is written behind it does."""
    sink, transport = await begun()
    await asyncio.sleep(0)
    sink.write(sink.packing.wrap(b"stale"))
    sink.drop()
    await asyncio.sleep(0)
    assert transport.writes == [HEAD]
    sink.write(sink.packing.wrap(b"b"))
    await asyncio.sleep(0)
    assert transport.writes == [HEAD, b"1\r\nb\r\n"]
