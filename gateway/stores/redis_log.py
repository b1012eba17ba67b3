"""RedisLog: what is done to one stream in Redis.

Writers put their commands into a `Batch`; an answer is an entry's id or `OK` where it was done, `SUPERSEDED` where
another process has the stream, nothing or `MISSING` where Redis has lost it.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import orjson
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from gateway.events import Status
from gateway.request import Caller, StreamRequest
from gateway.stores.batch import Batch, Word
from gateway.stores.courier import Courier
from gateway.stores.entries import (
    BrokenEntry,
    Entry,
    decode_caller,
    decode_request,
    encode,
    encode_caller,
    encode_request,
    parse_entry,
    parse_id,
)
from gateway.stores.keys import Keys
from gateway.stores.pieces import Piece, words_of
from gateway.stores.scripts import Script
from gateway.streams.stream import State, Stream

SLICE = 64
"""Streams that one round trip is about, so that nothing else waits long for its turn."""

ENTRIES_MAX = 16_384
"""Entries of one log; Redis lets go of the oldest beyond it."""

CONTINUED = Status("continued")
"""The first event of every epoch but the first."""

OK, SUPERSEDED, MISSING = b"OK", b"SUPERSEDED", b"MISSING"


class Producer(NamedTuple):
    """The instance that makes a stream, and where it can be asked whether it lives."""

    instance: str
    at: str


class Claimed(NamedTuple):
    """Whether a claim was won; else who has the stream. `last` is the last durable seq of the epoch before.

    `cancelled`: somebody has cancelled it, and its producer died before it could end.
    """

    won: bool
    epoch: int
    last: int
    producer: str
    cancelled: bool


class Found(NamedTuple):
    """A stream as it stands in Redis. When it is `gone` only its tombstone is left."""

    sid: str
    epoch: int
    ends: dict[int, int]
    exact: bool
    state: State
    owner: Caller
    request: StreamRequest
    created_s: int
    producer: str
    at: str
    dialect: str
    provider: str
    entries: list[Entry]
    credential: str = ""
    clients: tuple[str, ...] = ()

    @property
    def gone(self) -> bool:
        """Whether nothing but the tombstone is left."""
        return not self.entries

    @property
    def running(self) -> bool:
        """Whether its terminal event is still to come."""
        return self.state in (State.OPEN, State.LIVE)


def _add(batch: Batch, commands: Sequence[tuple[Word, ...]]) -> None:
    for command in commands:
        batch.add(*command)


def _is_foreign(reply: Any) -> bool:
    return isinstance(reply, ResponseError) and "WRONGTYPE" in str(reply)


def is_stale(error: object) -> bool:
    """Whether an entry was refused because the log already holds that one, or a later one."""
    return isinstance(error, ResponseError) and "equal or smaller" in str(error)


class RedisLog:
    """The logs of streams in one Redis. All times in seconds.

    `running_ttl_s` must outlast any answer: nothing prolongs it but a takeover. A finished log is kept for
    `retention_s`; what is known beside it for `tombstone_s` longer, so that its owner hears 410 and not 404.
    """

    def __init__(
        self, commands: Redis, keys: Keys, *, command_s: float, running_ttl_s: int, retention_s: int, tombstone_s: int
    ) -> None:
        self._commands = commands
        self._keys = keys
        self._command_s = command_s
        self._running_ttl_s = running_ttl_s
        self._retention_s = retention_s
        self._tombstone_s = tombstone_s
        self.courier = Courier(self.batch)
        """For what is asked one by one."""
        self._write, self._append = Script("write"), Script("append")
        self._finish, self._claim, self._cancel = Script("finish"), Script("claim"), Script("cancel")

    def batch(self) -> Batch:
        """A batch for commands about several streams."""
        return Batch(self._commands, self._command_s)

    # Writing.

    def write(
        self, batch: Batch, stream: Stream, pieces: Sequence[Piece], producer: Producer, *, dialect: str, provider: str
    ) -> None:
        """Write `stream` down whole, as `pieces`: when it begins, and whenever Redis has lost it or is to forget of it.

        Refused only where another process has taken it over; a call that was delayed takes nothing back.
        """
        ttl_s = self._retention_s if stream.ended else self._running_ttl_s
        last = pieces[-1].last if pieces else 0
        request = stream.request.without_question() if stream.ended else stream.request
        meta: list[Word] = [
            "at", producer.at, "state", stream.state.value, "exact", int(stream.lineage.exact),
            "owner", encode_caller(stream.owner), "request", encode_request(request), "created", stream.created_s,
            "dialect", dialect, "provider", provider, "ends", _dump_ends(stream.lineage.ends),
        ]  # fmt: skip
        if stream.credential:
            meta += ("credential", stream.credential)
        if stream.clients:
            meta += ("clients", orjson.dumps(stream.clients))
        head = (stream.epoch, producer.instance, last, ttl_s, ttl_s + self._tombstone_s, ENTRIES_MAX, len(meta) // 2)
        batch.run(self._write, self._both(stream.sid), [*head, *meta, *words_of(pieces)])

    def append(self, batch: Batch, stream: Stream, pieces: Sequence[Piece]) -> None:
        """Append `pieces`, nearly always one. The one command that is sent all the time."""
        key = self._keys.log(stream.sid)
        if len(pieces) == 1:
            first, last, poured, body = pieces[0]
            entry_id = f"{stream.epoch}-{last}"
            batch.add(
                "XADD", key, "NOMKSTREAM", "MAXLEN", "~", ENTRIES_MAX, entry_id, "f", first, "p", poured, "b", body
            )
        else:
            batch.run(self._append, [key], [stream.epoch, ENTRIES_MAX, *words_of(pieces)])

    def finish(self, batch: Batch, stream: Stream, pieces: Sequence[Piece], producer: Producer) -> None:
        """Append the last `pieces`, with the terminal event, and end the stream, in one. May be repeated."""
        request = encode_request(stream.request.without_question())
        state, until = stream.state.value, self._retention_s + self._tombstone_s
        head = (stream.epoch, producer.instance, state, request, self._retention_s, until, ENTRIES_MAX)
        batch.run(self._finish, self._both(stream.sid), [*head, *words_of(pieces)])

    # Reading.

    async def load(self, sid: str) -> Found | None:
        """The stream as it stands in Redis; None when nothing is known of it.

        Raises `BrokenEntry` for what cannot be read, and what redis-py raises when Redis is away.
        """
        commands: list[tuple[Word, ...]] = [
            ("MULTI",),
            ("HGETALL", self._keys.meta(sid)),
            ("XRANGE", self._keys.log(sid), "-", "+"),
            ("EXEC",),
        ]
        meta, log = (await self.ask(commands))[-1]
        return _found(sid, meta, [parse_entry(*entry) for entry in log]) if meta else None

    async def tops(self, sids: Sequence[str]) -> list[tuple[int, int] | None]:
        """Of each stream the epoch and seq of its last entry; None where it has none."""
        commands: list[tuple[Word, ...]] = [("XREVRANGE", self._keys.log(sid), "+", "-", "COUNT", 1) for sid in sids]
        return [parse_id(reply[0][0]) if reply else None for reply in await self._ask_each(commands)]

    async def epochs(self, sids: Sequence[str]) -> list[tuple[int, str] | None]:
        """Of each stream its epoch and the instance that makes it; None where nothing is known of it."""
        commands: list[tuple[Word, ...]] = [("HMGET", self._keys.meta(sid), "epoch", "producer") for sid in sids]
        return [
            (int(reply[0]), reply[1].decode()) if reply and reply[0] is not None else None
            for reply in await self._ask_each(commands)
        ]

    async def check_writes(self) -> None:
        """Raises what redis-py raises when Redis is away, or takes no writes."""
        await self.ask([("SET", self._keys.probe, "1", "PX", 1000)])

    async def _ask_each(self, commands: Sequence[tuple[Word, ...]]) -> list[Any]:
        """The same, where a key that is not what it should be is as good as none: it is written anew."""
        return [None if _is_foreign(reply) else reply for reply in await self._carry(commands, _is_foreign)]

    async def ask(self, commands: Sequence[tuple[Word, ...]]) -> list[Any]:
        """The answers to commands, in order. Raises what redis-py raises, for a refused one too."""
        return await self._carry(commands, lambda reply: False)

    async def _carry(self, commands: Sequence[tuple[Word, ...]], forgiven: Callable[[Any], bool]) -> list[Any]:
        found: list[Any] = []
        for at in range(0, len(commands), SLICE):
            found += await self.courier.carry(partial(_add, commands=commands[at : at + SLICE]))
        for reply in found:
            if isinstance(reply, Exception) and not forgiven(reply):
                raise reply
        return found

    async def run(self, script: Script, keys: Sequence[str], words: Sequence[Word]) -> Any:
        """What a script answers. Raises what redis-py raises, where it is refused too."""
        (reply,) = await self.courier.carry(lambda batch: batch.run(script, keys, words))
        if isinstance(reply, Exception):
            raise reply
        return reply

    # Taking over.

    async def claim(self, sid: str, *, expected_producer: str, expected_epoch: int, producer: Producer) -> Claimed:
        """Become the producer of a running stream whose own is dead; of any number that try, one wins.

        May be repeated when the answer was lost. Raises what redis-py raises when Redis is away.
        """
        ttl_s = self._running_ttl_s
        told = encode([CONTINUED])
        words: list[Word] = [
            expected_producer,
            expected_epoch,
            producer.instance,
            producer.at,
            told,
            ttl_s,
            ttl_s + self._tombstone_s,
            ENTRIES_MAX,
        ]
        won, epoch, last, by, cancelled = await self.run(self._claim, self._both(sid), words)
        return Claimed(bool(won), epoch, last, by.decode(), bool(cancelled))

    async def note_cancel(self, sid: str) -> None:
        """Somebody cancelled the stream: whoever claims it is to know. Raises what redis-py raises."""
        await self.run(self._cancel, [self._keys.meta(sid)], [])

    def _both(self, sid: str) -> list[str]:
        return [self._keys.log(sid), self._keys.meta(sid)]


# What was found.


def _dump_ends(ends: Mapping[int, int]) -> bytes:
    return orjson.dumps(ends, option=orjson.OPT_NON_STR_KEYS)


def _found(sid: str, meta: Mapping[bytes, bytes], entries: list[Entry]) -> Found:
    try:
        return Found(
            sid=sid,
            epoch=int(meta[b"epoch"]),
            ends={int(epoch): int(last) for epoch, last in orjson.loads(meta[b"ends"]).items()},
            exact=meta[b"exact"] == b"1",
            state=State(meta[b"state"].decode()),
            owner=decode_caller(meta[b"owner"]),
            request=decode_request(meta[b"request"]),
            created_s=int(meta[b"created"]),
            producer=meta[b"producer"].decode(),
            at=meta[b"at"].decode(),
            dialect=meta[b"dialect"].decode(),
            provider=meta[b"provider"].decode(),
            credential=meta.get(b"credential", b"").decode(),
            clients=tuple(map(str, orjson.loads(meta.get(b"clients", b"[]")))),
            entries=entries,
        )
    except (KeyError, ValueError, AttributeError) as error:
        raise BrokenEntry(f"a stream without its facts: {error!r}") from error
