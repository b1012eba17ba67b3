"""Membership: which of the other instances live, and which streams they make."""

import asyncio
import math
import time
from collections.abc import Callable
from typing import NamedTuple

from redis.asyncio import Redis

from gateway.stores.keys import Keys
from gateway.stores.lease import Lease, strike_off
from gateway.stores.probe import Verdict, ask

FRESH_S = 0.25
"""How long an answer about an instance holds; that one is dead holds for ever."""

REMEMBERED_MAX = 10_000
"""Instances of which something is remembered; about 300 bytes each."""


class _Known(NamedTuple):
    alive: bool
    until: float
    met: bool
    """It has answered from its address before."""


class Membership:
    """The others, as seen by the instance that has `lease`. What talks to Redis raises what the client raises."""

    def __init__(
        self, commands: Redis, keys: Keys, lease: Lease, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._commands = commands
        self._keys = keys
        self._lease = lease
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._looks: dict[str, asyncio.Task[bool]] = {}

    async def alive(self, instance: str, address: str) -> bool:
        """Whether `instance` lives. Never raises; it takes less than a second, and calls that race share one look.

        What it says itself at `address` counts. If it is silent its lease decides, as far as Redis can be relied on.
        """
        known = self._known.get(instance)
        if known is not None and self._clock() < known.until:
            return known.alive
        look = self._looks.get(instance)
        if look is None:
            look = self._looks[instance] = asyncio.create_task(self._look(instance, address), name="look")
            look.add_done_callback(lambda _: self._looks.pop(instance))
        # One caller may leave, the others still want the answer.
        return await asyncio.shield(look)

    async def has_left(self, instance: str, address: str) -> bool:
        """Whether nobody makes what is mirrored here and said to be made by `instance`: it is dead, or this very one.

        This one mirrors what it makes only where its claim was won and the answer never arrived.
        """
        return instance == self._lease.instance or not await self.alive(instance, address)

    async def _look(self, instance: str, address: str) -> bool:
        known = self._known.get(instance)
        met = known is not None and known.met
        verdict = await ask(address, instance, met=met)
        alive = await self._lease.held_by(instance) if verdict is Verdict.SILENT else verdict is Verdict.ALIVE
        until = math.inf if verdict is Verdict.DEAD else self._clock() + FRESH_S
        self._remember(instance, _Known(alive, until, met or verdict is Verdict.ALIVE))
        return alive

    def _remember(self, instance: str, known: _Known) -> None:
        self._known.pop(instance, None)
        if len(self._known) >= REMEMBERED_MAX:
            del self._known[next(iter(self._known))]
        self._known[instance] = known

    async def others(self) -> dict[str, str]:
        """Addresses by instance of all others that have not said goodbye, dead ones too."""
        found = await self._commands.hgetall(self._keys.instances)
        named = {_text(instance): _text(address) for instance, address in found.items()}
        named.pop(self._lease.instance, None)
        return named

    async def bury(self, instance: str) -> bool:
        """Take a dead instance off the list; false, and it stays there, as long as it has streams."""
        return await strike_off(self._commands, self._keys, instance)

    async def streams_of(self, instance: str) -> list[str]:
        """The streams that `instance` makes, or made when it died."""
        return [_text(sid) for sid in await self._commands.smembers(self._keys.streams(instance))]


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
