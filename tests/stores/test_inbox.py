"""Messages between instances: understood as they were sent, and never more than a line in the log if they are not."""

import logging
from typing import Any

import orjson
import pytest
from redis.asyncio import Redis

from gateway.stores.batch import Batch
from gateway.stores.courier import Courier
from gateway.stores.inbox import MESSAGES_MAX, Inbox, Kind, Message, parse
from gateway.stores.keys import Keys
from gateway.streams.ids import new_sid
from tests.redis_server import RedisServer

KEYS = Keys("t")
SID = new_sid()


def carried(commands: Redis) -> Courier:
    """What carries messages to this Redis."""
    return Courier(lambda: Batch(commands, 0.5))


async def read(commands: Redis, inbox: Inbox) -> list[Message | None]:
    """All messages of an inbox, from where one begins to read."""
    found: Any = await commands.xread({inbox.key: inbox.start_id()})
    return [parse(fields) for batches in found.values() for batch in batches for _, fields in batch]


async def test_what_is_sent_arrives(commands: Redis) -> None:
    """All kinds, in order, with what they carry and who said it."""
    mine, yours = Inbox(carried(commands), KEYS, "mine"), Inbox(carried(commands), KEYS, "yours")
    await mine.send("yours", Kind.CANCEL, SID, reason="caller", fast=True)
    await mine.send("yours", Kind.READING, SID)
    await mine.send("yours", Kind.LEFT, SID, readers=2)
    await mine.send("yours", Kind.WAKE, SID)
    assert await read(commands, yours) == [
        Message(Kind.CANCEL, SID, "mine", {"reason": "caller", "fast": True}),
        Message(Kind.READING, SID, "mine", {}),
        Message(Kind.LEFT, SID, "mine", {"readers": 2}),
        Message(Kind.WAKE, SID, "mine", {}),
    ]
    assert await read(commands, mine) == []


async def test_an_inbox_that_nobody_reads_is_bounded_and_goes_away(commands: Redis, redis_server: RedisServer) -> None:
    """Messages to the dead cost a little for a few minutes."""
    inbox = Inbox(carried(commands), KEYS, "mine")
    for _ in range(2 * MESSAGES_MAX + 200):
        await inbox.send("dead", Kind.WAKE, SID)
    assert MESSAGES_MAX <= redis_server.command("XLEN", KEYS.inbox("dead")) <= MESSAGES_MAX + 200
    assert 0 < redis_server.command("PTTL", KEYS.inbox("dead")) <= 5 * 60_000


def fields(**changes: bytes | None) -> dict[bytes, bytes]:
    """Of a good message, but for `changes`; None leaves a field out."""
    good: dict[str, bytes | None] = {"kind": b"wake", "sid": SID.encode(), "from": b"mine", "more": b"{}"}
    return {name.encode(): value for name, value in {**good, **changes}.items() if value is not None}


def test_unknown_fields_are_ignored() -> None:
    """A later version may say more."""
    assert parse(fields(later=b"1")) == Message(Kind.WAKE, SID, "mine", {})


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": None},
        {"kind": b"explode"},
        {"kind": b"\xff"},
        {"sid": None},
        {"sid": b"../etc"},
        {"sid": SID.encode() + b"\n"},
        {"from": None},
        {"more": None},
        {"more": b"{"},
        {"more": b"[]"},
        {"more": b"null"},
        {"more": b'{"a":{}}'},
        {"more": b'{"a":null}'},
        {"more": b"[" * 100_000},
        {"more": orjson.dumps({"a": 1.5})},
    ],
)
def test_what_is_not_understood_is_a_line_in_the_log(
    changes: dict[str, bytes | None], caplog: pytest.LogCaptureFixture
) -> None:
    """The one task that reads for the whole process must not fail over it."""
    with caplog.at_level(logging.WARNING):
        assert parse(fields(**changes)) is None
    assert [record.message for record in caplog.records] == ["a message was not understood"]
