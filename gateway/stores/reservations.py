"""Reservations: idempotency keys, each held by one stream among all processes."""

import asyncio
from collections.abc import Callable, Iterable

from gateway.errors import Code, GatewayError
from gateway.request import Caller
from gateway.stores.batch import Word
from gateway.stores.keys import Keys
from gateway.stores.redis_log import RedisLog
from gateway.stores.scripts import Script

CREATED_S = 1.0
"""For the stream that holds a key to be written down; after it the process that reserved the key is taken for dead."""

LOOK_S = 0.02


class Reservations:
    """Keys are kept for `kept_s` seconds, unless their stream ends before. Raises what redis-py raises."""

    def __init__(self, logs: RedisLog, keys: Keys, *, kept_s: int, known: Callable[[str], bool]) -> None:
        self._logs = logs
        self._keys = keys
        self._kept_ms = kept_s * 1000
        self._known = known
        self._held: dict[str, bytes] = {}
        self._name_of: dict[str, str] = {}
        self._reserve, self._release = Script("reserve"), Script("release")

    async def reserve(self, owner: Caller, key: str, fingerprint: bytes, sid: str) -> str | None:
        """Reserve `key` for `sid`, or name the stream that has it. Raises `IDEMPOTENCY_MISMATCH`."""
        name, value = self._keys.idempotency(owner, key), b"%b %b" % (sid.encode(), fingerprint.hex().encode())
        held: bytes | None = b""
        while held is not None:
            held = await self._run(self._reserve, name, value, self._kept_ms, held)
            if held is None:
                break
            holder, _, theirs = held.decode().partition(" ")
            if theirs != fingerprint.hex():
                raise GatewayError(Code.IDEMPOTENCY_MISMATCH)
            if await self._is_created(holder):
                return holder
        self._note(name, value, sid)
        return None

    def reserve_here(self, owner: Caller, key: str, fingerprint: bytes, sid: str) -> str | None:
        """The same among the streams that run in this process, while Redis is away; it hears of it when it is back."""
        name, value = self._keys.idempotency(owner, key), b"%b %b" % (sid.encode(), fingerprint.hex().encode())
        held = self._held.get(name)
        if held is None:
            self._note(name, value, sid)
            return None
        holder, _, theirs = held.decode().partition(" ")
        if theirs != fingerprint.hex():
            raise GatewayError(Code.IDEMPOTENCY_MISMATCH)
        return holder

    def _note(self, name: str, value: bytes, sid: str) -> None:
        self._held[name], self._name_of[sid] = value, name

    async def release(self, owner: Caller, key: str) -> None:
        """Let `key` be used again."""
        name = self._keys.idempotency(owner, key)
        value = self._held.pop(name, None)
        if value is not None:
            self._name_of.pop(value[: value.index(b" ")].decode(), None)
            await self._run(self._release, name, value)

    def held(self) -> Iterable[tuple[str, bytes]]:
        """The keys' names in Redis, and their values, of streams that run here."""
        return self._held.items()

    def settled(self, sid: str) -> str | None:
        """The key's name in Redis of a stream that has ended; it is not ours to release any more."""
        name = self._name_of.pop(sid, None)
        if name is not None:
            self._held.pop(name, None)
        return name

    async def _is_created(self, sid: str) -> bool:
        """Wait for the stream that a key stands for; whether it came to be."""
        loop = asyncio.get_running_loop()
        end = loop.time() + CREATED_S
        while not self._known(sid):
            if (await self._logs.epochs([sid]))[0] is not None:
                return True
            if loop.time() >= end:
                return False
            await asyncio.sleep(LOOK_S)
        return True

    async def _run(self, script: Script, name: str, *words: Word) -> bytes | None:
        reply = await self._logs.run(script, [name], words)
        return reply if isinstance(reply, bytes) else None
