"""Batch: many commands in one round trip, at a fraction of what a pipeline of the library costs."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.stores.scripts import Script

Word = str | bytes | int

AHEAD_S = 0.005
FAIR_S = 0.1
"""To read an answer that came while this process was busy; looked after so shortly before the limit is over."""


class Batch:
    """Commands for one round trip, answered one by one; not a transaction.

    A pipeline that costs a quarter: each command is packed once, and all answers are read under one limit.
    """

    def __init__(self, commands: Redis, limit_s: float) -> None:
        self._pool = commands.connection_pool
        self._limit_s = limit_s
        self._packed: list[bytes] = []
        self._scripts: dict[int, Script] = {}
        self.size = 0
        """Bytes to be sent."""

    def __len__(self) -> int:
        return len(self._packed)

    def add(self, *words: Word) -> None:
        """One command."""
        packed = _pack(*words)
        self._packed.append(packed)
        self.size += len(packed)

    def run(self, script: Script, keys: Sequence[str], words: Sequence[Word]) -> None:
        """One script with its keys and arguments; it is loaded where Redis does not know it."""
        self._scripts[len(self._packed)] = script
        self.add("EVALSHA", script.sha, len(keys), *keys, *words)

    def cut(self, length: int) -> None:
        """Only the first `length` commands, as if no others had been put in."""
        for at in range(length, len(self._packed)):
            self._scripts.pop(at, None)
        self.size -= sum(map(len, self._packed[length:]))
        del self._packed[length:]

    async def send(self) -> list[Any]:
        """The answers in order; what a command was refused with stands in its place as a `ResponseError`.

        Raises ConnectionError or TimeoutError of redis-py when Redis is away: any of the commands may have been done.
        """
        replies = await self._exchange(self._packed)
        unknown = [at for at, script in self._scripts.items() if isinstance(replies[at], NoScriptError)]
        if unknown:
            texts = {self._scripts[at].text for at in unknown}
            loads = [_pack("SCRIPT", "LOAD", text) for text in texts]
            again = await self._exchange([*loads, *(self._packed[at] for at in unknown)])
            for at, reply in zip(unknown, again[len(loads) :], strict=True):
                replies[at] = reply
        return replies

    async def _exchange(self, packed: Sequence[bytes]) -> list[Any]:
        if not packed:
            return []
        until = asyncio.get_running_loop().time() + self._limit_s
        connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]  # its decorator
        try:
            await connection.send_packed_command(b"".join(packed))
            # A limit of its own: the one around the sending may have been used up without anybody hearing of it.
            async with asyncio.timeout_at(until) as limit:
                timer = asyncio.get_running_loop().call_at(until - AHEAD_S, _be_fair, limit)
                try:
                    return [await _answer(connection) for _ in packed]
                finally:
                    timer.cancel()
        except BaseException as error:
            # Whatever is still to come must not be taken for the answer to somebody else's command.
            await connection.disconnect(nowait=True)
            if isinstance(error, TimeoutError):
                raise RedisTimeoutError("Redis did not answer in time") from error
            raise
        finally:
            await asyncio.shield(self._pool.release(connection))


def _be_fair(limit: asyncio.Timeout) -> None:
    """When it was this process that was late, the answer may be there and only has to be read."""
    now, when = asyncio.get_running_loop().time(), limit.when()
    if when is not None and now > when:
        # Timers that are due together ring in any order: then it is over.
        with contextlib.suppress(RuntimeError):
            limit.reschedule(now + FAIR_S)


def _pack(*words: Word) -> bytes:
    packed: bytes = hiredis.pack_command(words)  # type: ignore[arg-type]  # its stub means a tuple of any length
    return packed


async def _answer(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response(timeout=float("inf"))
    except ResponseError as error:
        return error
