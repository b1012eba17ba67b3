"""Lease: what this instance says of itself in Redis three times a lease, and what Redis shows of itself in return."""

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Callable

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from gateway.stores.keys import Keys
from gateway.stores.redis_client import AWAY

log = logging.getLogger(__name__)

BEATS = 3
"""Renewals in the time of a lease, so that one may fail."""

BEATS_KEPT_S = 3600
"""How long Redis counts on for an instance that does not renew; it outlasts any outage that streams outlast."""


class Lease:
    """`instance` can be asked at `address` and has a lease of `lease_s`; Redis is waited for `command_s` at most.

    `on_loss` is told when Redis has lost its data: it was flushed or began empty. `on_relapse` is told when it has
    lost what was written last: it was restarted, or a replica took over. `on_lapse` is told when the lease had run
    out before it was renewed: whoever found this instance silent meanwhile may have taken its streams. `on_missed` is
    told when a renewal failed, the first of several.
    """

    def __init__(
        self,
        commands: Redis,
        keys: Keys,
        *,
        instance: str,
        address: str,
        lease_s: float,
        command_s: float,
        on_loss: Callable[[], None],
        on_lapse: Callable[[], None],
        on_relapse: Callable[[], None],
        on_missed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._commands = commands
        self._keys = keys
        self.instance = instance
        self._address = address
        self._lease_s = lease_s
        self._command_s = command_s
        self._on_loss = on_loss
        self._on_lapse = on_lapse
        self._on_relapse = on_relapse
        self._on_missed = on_missed
        self._clock = clock
        self._beating: asyncio.Task[None] | None = None
        self._given_back = False
        self._renewing = asyncio.Lock()
        self._era: bytes | None = None
        self._beats = 0
        self._missing = False
        self._steady_since = math.inf
        self._lost_at = -math.inf
        self.renewed_at = -math.inf
        """When the last renewal that succeeded was sent, by the clock given."""

    def start(self) -> None:
        """Renew it, now and then three times in its length, until `goodbye`."""
        self._beating = asyncio.create_task(self._beat(), name="lease")

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        # Cancelling alone is not enough: on Python 3.11 the client may swallow it (`wait_for`).
        while not self._given_back:
            due = loop.time() + self._lease_s / BEATS
            try:
                await self.renew()
            except Exception:
                # Without its lease this instance would be taken for dead whenever it is busy.
                log.exception("a renewal failed")
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def renew(self) -> bool:
        """Say once that this instance lives. False if Redis did not take it."""
        sent_at = self._clock()
        try:
            async with asyncio.timeout(self._command_s), self._renewing:
                if self._given_back:
                    return False
                kept, leased, _, _, era, beats, _ = await self._renewal().execute(raise_on_error=False)
        except AWAY as error:
            return self._missed(error)
        # A full Redis does not take the lease anew, but prolongs the one that is there.
        refused = era if isinstance(era, Exception) else leased
        if isinstance(refused, Exception) and (refused is era or kept != 1):
            return self._missed(refused)
        self._renewed(sent_at, lapsed=kept == 0, era=era)
        if isinstance(beats, int):
            self._count(beats)
        return True

    def _count(self, beats: int) -> None:
        """Redis counts our renewals: one that it does not remember was lost, with all that was written since."""
        remembered, self._beats = beats > self._beats, beats
        if not remembered and not self.recently_lost(self._lease_s):
            log.warning("Redis has lost what was written last")
            self._on_relapse()

    def _renewal(self) -> Pipeline:
        lease, lease_ms = self._keys.lease(self.instance), int(self._lease_s * 1000)
        pipe = self._commands.pipeline(transaction=False)
        pipe.pexpire(lease, lease_ms)
        pipe.set(lease, self._address, px=lease_ms)
        pipe.hset(self._keys.instances, self.instance, self._address)
        # Another value each time: what was there before it was lost must not come back by chance.
        pipe.set(self._keys.era, secrets.token_hex(8), nx=True)
        pipe.get(self._keys.era)
        pipe.incr(self._keys.beats(self.instance))
        pipe.expire(self._keys.beats(self.instance), BEATS_KEPT_S)
        return pipe

    def _missed(self, error: Exception) -> bool:
        if not self._missing:
            log.warning("the lease is not renewed", extra={"error": repr(error)[:200]})
            self._on_missed()
        self._missing = True
        self._steady_since = math.inf
        return False

    def _renewed(self, sent_at: float, *, lapsed: bool, era: bytes | None) -> None:
        if self._missing:
            log.warning("the lease is renewed again")
        self._missing = False
        first, lost = self._era is None, self._era not in (None, era)
        if lost or lapsed:
            self._steady_since = math.inf
        self._steady_since = min(self._steady_since, sent_at)
        self._era = era
        self.renewed_at = sent_at
        if lost:
            self._lost_at = sent_at
            log.warning("Redis has lost its data")
            self._on_loss()
        elif lapsed and not first:
            log.warning("the lease had run out")
            self._on_lapse()

    def recently_lost(self, within_s: float) -> bool:
        """Whether Redis lost its data less than `within_s` ago."""
        return self._clock() - self._lost_at < within_s

    async def is_stale(self) -> bool:
        """Whether Redis has lost its data since the last renewal, which will find it out. Raises when it is away."""
        return self._era is not None and await self._commands.get(self._keys.era) != self._era

    async def held_by(self, instance: str) -> bool:
        """Whether `instance` has its lease. Never raises.

        Also true where a missing one proves nothing. If Redis is away nobody knows; if it was away, frozen or flushed,
        or its clock has jumped, then this instance's own lease is missing too, or was within the time of a lease.
        """
        pipe = self._commands.pipeline(transaction=False)
        pipe.exists(self._keys.lease(instance))
        pipe.exists(self._keys.lease(self.instance))
        try:
            async with asyncio.timeout(self._command_s):
                there, here = await pipe.execute()
        except AWAY:
            return True
        steady = self._clock() - self._steady_since >= self._lease_s
        return bool(there) or not (here and steady)

    async def goodbye(self) -> None:
        """Give it back, within `command_s`. Never raises.

        Streams left running keep this instance on the list, so that whoever sweeps finds them.
        """
        self._given_back = True
        try:
            # A renewal that is on its way must not bring back what is given up here.
            async with asyncio.timeout(self._command_s), self._renewing:
                await self._commands.delete(self._keys.lease(self.instance))
                await strike_off(self._commands, self._keys, self.instance)
        except AWAY as error:
            log.warning("the lease was not given back", extra={"error": repr(error)[:200]})
        finally:
            if self._beating is not None:
                self._beating.cancel()


async def strike_off(commands: Redis, keys: Keys, instance: str) -> bool:
    """Take `instance` off the list; false, and it stays there, as long as it has streams."""
    if await commands.scard(keys.streams(instance)):
        return False
    await commands.hdel(keys.instances, instance)
    return True
