"""RedisLimiter: one count for all processes, in Redis; while that is away, each process's own."""

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any

from gateway.limits import Budget, Charge, Slots, Verdict
from gateway.stores.batch import Batch, Word
from gateway.stores.charges import put_charge, slot_keys, verdict_of
from gateway.stores.courier import Courier
from gateway.stores.keys import Keys
from gateway.stores.leases import AT_ONCE, Leases
from gateway.stores.limits_memory import MemoryLimiter, held_at_once
from gateway.stores.redis_client import AWAY, away
from gateway.stores.scripts import Script
from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

RENEWALS = 4
"""Of a lease while it lasts: one may be missed, and so may the next."""

PROBE_S = 1.0
"""How often Redis is asked again while it is away; no request waits for that."""

BUDGET_S = 2 * 86_400
"""How long a day's tokens are kept from their last change."""


class RedisLimiter:
    """A `Limiter` that all processes share which share a Redis; each charge is one round trip of `courier`.

    `local` counts along, so that it can go on alone when Redis is away. Slots are leases of `lease_s` seconds, so that
    those of a killed process come back; they are renewed, and written again where Redis has lost them, by one task.
    `instance` is this process's name among those that share the budgets.
    """

    def __init__(
        self,
        courier: Courier,
        keys: Keys,
        local: MemoryLimiter,
        *,
        instance: str,
        lease_s: float,
        metrics: Metrics,
    ) -> None:
        self._courier = courier
        self._keys = keys
        self._local = local
        self._instance = instance
        self._lease_ms = int(lease_s * 1000)
        self._metrics = metrics
        self._leases = Leases()
        self._budgets: dict[Budget, None] = {}
        self._unsaid: dict[Budget, None] = {}
        self._wake = asyncio.Event()
        self._renew_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._charge, self._renew, self._spend = Script("charge"), Script("renew"), Script("spend")
        self.shared = True

    # Its life.

    def start(self) -> None:
        """Renew leases from now on, and tell Redis what it may learn a little later."""
        self._metrics.limits_shared(self.shared)
        self._task = asyncio.create_task(self._work(), name="limits")

    async def stop(self) -> None:
        """Tell it what is left, as far as it takes it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        try:
            await self._work_off()
        except AWAY:
            log.debug("slots were not given back; they end by themselves", exc_info=True)

    # A Limiter.

    async def charge(self, sid: str, charge: Charge, *, may_wait: bool, take: bool = True) -> Verdict:
        """One round trip; with the process's own count while Redis is away, and at once when it turns out to be."""
        reply = await self._ask(sid, charge, may_wait=may_wait, take=take) if self.shared else None
        if reply is None:
            verdict = await self._local.charge(sid, charge, may_wait=may_wait, take=take)
        else:
            verdict = verdict_of(charge, reply)
        if verdict.refused is None:
            held = charge.slots if verdict.has_slots else held_at_once(charge.slots)
            if reply is not None:
                self._local.admit(sid, charge.windows, held)
            self._leases.add(sid, slot_keys(self._keys, held), written=reply is not None)
        return verdict

    async def take(self, sid: str, slots: tuple[Slots, ...]) -> bool:
        """All of them, or none, in one round trip."""
        verdict = await self.charge(sid, Charge(slots=slots), may_wait=False)
        return verdict.refused is None

    def adopt(self, sid: str, slots: tuple[Slots, ...]) -> None:
        """Written with the next batch, at once."""
        if slots:
            self._local.adopt(sid, slots)
            self._leases.add(sid, slot_keys(self._keys, slots), written=False)
            self._wake.set()

    def leave(self, sid: str) -> None:
        """Written with the next batch, at once."""
        self._local.leave(sid)
        if self._leases.leave(sid):
            self._wake.set()

    def forget(self, sid: str) -> None:
        """The lease runs on until somebody else renews it."""
        self._local.forget(sid)
        self._leases.forget(sid)

    def spent(self, budgets: tuple[Budget, ...], tokens: int) -> None:
        """Told with the next batch, whose answer says what others have made."""
        self._local.spent(budgets, tokens)
        if budgets:
            self._budgets.update(dict.fromkeys(budgets))
            self._unsaid.update(dict.fromkeys(budgets))
            self._wake.set()

    def exhausted(self, budgets: tuple[Budget, ...]) -> bool:
        """By what was made here until now, and by others until they were heard of last."""
        return self._local.exhausted(budgets)

    # What is asked.

    async def _ask(self, sid: str, charge: Charge, *, may_wait: bool, take: bool) -> list[int] | None:
        """What the script says; None where Redis is away."""
        self._leases.ask(sid)
        keys, words = put_charge(self._keys, charge, self._local.day)
        head: list[Word] = [sid, self._lease_ms, int(may_wait), int(take)]
        try:
            return list(await self._run(self._charge, keys, head + words))
        except AWAY as error:
            # It may have been done all the same: whoever is not taken here must have no slots there.
            self._leases.doubt(sid, slot_keys(self._keys, charge.slots))
            if away(error):
                self._say_shared(False, error)
            else:
                log.error("limits could not be asked for", extra={"error": repr(error)[:200]})
            return None
        except asyncio.CancelledError:
            self._leases.doubt(sid, slot_keys(self._keys, charge.slots))
            self._wake.set()
            raise

    async def _run(self, script: Script, keys: Sequence[str], words: Sequence[Word]) -> Any:
        """What a script answers. Raises what redis-py raises, where it is refused too."""
        (reply,) = await self._courier.carry(lambda batch: batch.run(script, keys, words))
        if isinstance(reply, Exception):
            raise reply
        return reply

    # What is told later.

    async def _work(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            try:
                if not self.shared or clock() >= self._renew_at:
                    self._renew_at = clock() + self._lease_ms / 1000 / RENEWALS
                    await self._renew_all()
                await self._work_off()
                self._say_shared(True)
            except AWAY as error:
                self._say_shared(False, error)
                await asyncio.sleep(PROBE_S)
                continue
            except Exception:
                log.exception("limits could not be written")
                await asyncio.sleep(PROBE_S)
            await self._woken(self._renew_at - clock())

    async def _woken(self, limit_s: float) -> None:
        """When there is something to be told, or the leases are to be renewed."""
        try:
            async with asyncio.timeout(max(0.0, limit_s)):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _renew_all(self) -> None:
        """All leases, whether Redis still has them or not, and so the tokens of the day."""
        await self._carry([("SET", self._keys.probe, "1", "PX", 1000)])
        for keys, names in self._leases.rounds():
            await self._run(self._renew, keys, [self._lease_ms, *names])
        self._unsaid.update(self._budgets)

    async def _work_off(self) -> None:
        """All that waits. Raises what redis-py raises when Redis is away; it goes on waiting then."""
        self._wake.clear()
        while some := self._leases.left():
            await self._carry([("ZREM", key, sid) for sid, keys in some for key in keys])
            self._leases.given_back(some)
        for keys, names in self._leases.fresh():
            await self._run(self._renew, keys, [self._lease_ms, *names])
        while self._unsaid:
            await self._say_spent(list(islice(self._unsaid, AT_ONCE)))

    async def _say_spent(self, budgets: Sequence[Budget]) -> None:
        """What was made here in the day, and hear what others made."""
        own = [self._local.own(budget) for budget in budgets]
        keys = [self._keys.budget(budget.scope, budget.who, day) for budget, (day, _) in zip(budgets, own, strict=True)]
        for budget, (_, tokens) in zip(budgets, own, strict=True):
            del self._unsaid[budget]
            if not tokens:
                # Of a day that is over, perhaps.
                self._budgets.pop(budget, None)
        try:
            others = await self._run(self._spend, keys, [self._instance, BUDGET_S, *(tokens for _, tokens in own)])
        except BaseException:
            self._unsaid.update(dict.fromkeys(budgets))
            raise
        for budget, (day, _), tokens in zip(budgets, own, others, strict=True):
            self._local.told(budget, day, tokens)

    async def _carry(self, commands: Sequence[tuple[Word, ...]]) -> None:
        replies = await self._courier.carry(partial(_add, commands=commands))
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply

    def _say_shared(self, shared: bool, error: BaseException | None = None) -> None:
        if shared == self.shared:
            return
        self.shared = shared
        self._metrics.limits_shared(shared)
        if shared:
            log.warning("limits are counted among all processes again")
        else:
            log.warning("Redis is away; each process counts limits for itself", extra={"error": repr(error)[:200]})
            self._wake.set()


def _add(batch: Batch, commands: Sequence[tuple[Word, ...]]) -> None:
    for command in commands:
        batch.add(*command)
