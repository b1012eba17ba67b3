"""RedisFlags: flags that processes share; each looks a few times a second, and goes by what it saw last."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
from redis.exceptions import ResponseError

from gateway.errors import Code, GatewayError
from gateway.flags import AUDIT_MAX, Change, Entry, Flag, from_dict, to_dict
from gateway.stores.courier import Courier
from gateway.stores.keys import Keys
from gateway.stores.redis_client import AWAY
from gateway.stores.scripts import Script

log = logging.getLogger(__name__)

_FLAG = Script("flag")
_TRIES = 8
"""Of a change that others are always faster than."""


class RedisFlags:
    """A FlagStore for all processes of one Redis. What was changed at run time wins over what is configured.

    While Redis is away the last known flags stand, and none can be changed. Should it lose its data, whoever still
    knows a changed flag puts it back: what was rolled back must not come to life again by that.
    """

    def __init__(
        self,
        configured: Iterable[Flag],
        courier: Courier,
        keys: Keys,
        *,
        poll_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._flags = {flag.name: flag for flag in configured}
        self._courier = courier
        self._keys = keys
        self._poll_s = poll_s
        self._clock = clock
        self._polling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look once now, and again and again from now on."""
        await self.look()
        self._polling = asyncio.create_task(self._poll(), name="flags")

    def stop(self) -> None:
        """Look no more."""
        if self._polling is not None:
            self._polling.cancel()

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            await self.look()

    def read(self) -> Mapping[str, Flag]:
        """All flags, as they were when last looked at."""
        return self._flags

    async def look(self) -> None:
        """Take over what was changed elsewhere; without effect while Redis is away."""
        try:
            answers = await self._courier.carry(lambda batch: batch.add("HGETALL", self._keys.flags))
        except AWAY:
            return
        if isinstance(answers[0], ResponseError):
            log.warning("flags cannot be read", extra={"error": repr(answers[0])[:200]})
            return
        held = {name: flag for name, flag in _flags_in(answers[0]).items() if name in self._flags}
        for name, flag in list(self._flags.items()):
            version = held[name].version if name in held else 0
            if version < flag.version:
                await self._put_back(flag, version)
            elif version:
                self._flags[name] = held[name]

    async def _put_back(self, flag: Flag, version: int) -> None:
        log.warning("Redis has lost a flag, which is put back", extra={"flag": flag.name, "version": flag.version})
        try:
            await self._write(version, flag, Entry("gateway", self._clock(), {}, to_dict(flag)))
        except AWAY:
            log.debug("a flag was not put back; it is tried again", exc_info=True)

    async def change(self, name: str, change: Change, actor: str) -> Flag:
        """Compare the version and set, in one step; where somebody was faster, his flag is what is changed."""
        before = self._flags[name]
        version = before.version
        for _ in range(_TRIES):
            after = change(before)
            if after == before:
                return before
            now = self._clock()
            after = replace(after, version=before.version + 1, changed_s=now)
            try:
                held = await self._write(version, after, Entry(actor, now, to_dict(before), to_dict(after)))
            except AWAY as error:
                raise GatewayError(Code.STORE_AWAY, retry_after_s=1) from error
            if held == b"OK":
                self._flags[name] = after
                return after
            version = 0
            if held:
                before = self._flags[name] = from_dict(orjson.loads(held))
                version = before.version
        raise GatewayError(Code.STORE_AWAY, "the flag is being changed by others all the time", retry_after_s=1)

    async def _write(self, version: int, flag: Flag, entry: Entry) -> Any:
        words = flag.name, version, orjson.dumps(to_dict(flag)), orjson.dumps(entry._asdict()), AUDIT_MAX
        keys = self._keys.flags, self._keys.flag_changes
        answer = (await self._courier.carry(lambda batch: batch.run(_FLAG, keys, words)))[0]
        if isinstance(answer, ResponseError):
            raise answer
        return answer

    async def audit(self, name: str) -> Sequence[Entry]:
        """The changes of that flag by all processes, the newest first."""
        try:
            carried = await self._courier.carry(
                lambda batch: batch.add("XREVRANGE", self._keys.flag_changes, "+", "-", "COUNT", AUDIT_MAX)
            )
        except AWAY as error:
            raise GatewayError(Code.STORE_AWAY, retry_after_s=1) from error
        if isinstance(carried[0], ResponseError):
            raise GatewayError(Code.STORE_AWAY, retry_after_s=1) from carried[0]
        entries = (dict(zip(words[::2], words[1::2], strict=True)) for _, words in carried[0])
        return [Entry(**orjson.loads(found[b"entry"])) for found in entries if found[b"flag"] == name.encode()]


def _flags_in(answer: Any) -> dict[str, Flag]:
    """The flags in the hash; one that cannot be understood is left out, and said."""
    pairs = answer.items() if isinstance(answer, dict) else zip(answer[::2], answer[1::2], strict=True)
    found = {}
    for name, text in pairs:
        try:
            found[name.decode()] = from_dict(orjson.loads(text))
        except (ValueError, TypeError, KeyError) as error:
            log.error("a flag in Redis cannot be understood", extra={"error": repr(error)[:200]})
    return found
