"""What the tests of the shared store have in common: a log in a real Redis, and the text that stands in it."""

import contextlib
from collections.abc import AsyncIterator

from gateway.events import Record, Text
from gateway.stores.keys import Keys
from gateway.stores.pieces import all_pieces
from gateway.stores.redis_client import Clients, connect
from gateway.stores.redis_log import Found, Producer, RedisLog
from gateway.streams.stream import Stream
from tests.redis_server import RedisServer

US = Producer("us", "127.0.0.1:1")
THEM = Producer("them", "127.0.0.1:2")
KEYS = Keys("test")


@contextlib.asynccontextmanager
async def clients_of(server: RedisServer, command_s: float = 1.0) -> AsyncIterator[Clients]:
    """Clients, closed in the end."""
    clients = connect(server.url, command_s)
    try:
        yield clients
    finally:
        await clients.aclose()


def log_of(clients: Clients, command_s: float = 1.0) -> RedisLog:
    """A log with times that do not matter."""
    return RedisLog(clients.commands, KEYS, command_s=command_s, running_ttl_s=600, retention_s=300, tombstone_s=100)


async def write(log: RedisLog, stream: Stream, producer: Producer = US) -> bytes:
    """Write `stream` whole; the answer."""
    batch = log.batch()
    pieces = all_pieces(stream, with_audio=False, folded=False)
    log.write(batch, stream, pieces, producer, dialect="native", provider="local")
    (answer,) = await batch.send()
    assert isinstance(answer, bytes), answer
    return answer


def records_of(found: Found | None) -> list[Record]:
    """What a reader reads, each place once; fails where a place is missing."""
    records: list[Record] = []
    last = 0
    for entry in found.entries if found else ():
        assert entry.first <= last + 1, "a gap"
        records += entry.records(after=last)
        last = max(last, entry.last)
    return records


def text_of(found: Found | None) -> str:
    """The text that a reader reads."""
    return "".join(event for _, event in records_of(found) if isinstance(event, Text))
