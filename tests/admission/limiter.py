"""CountingLimiter: a Limiter that counts slots and nothing else, remembers what was said, and answers when let."""

import asyncio

from gateway.limits import Budget, Charge, Slots, Standing, Verdict, Window

STANDING = Standing(10, 9, 1_700_000_000.0, 60.0)


class CountingLimiter:
    """`full` are slots that others have all of; `refuse` refuses a charge.

    Answers take `latency` turns of the loop, and wait for the `gate`.
    """

    shared = False

    def __init__(self) -> None:
        self.holders: dict[Slots, set[str]] = {}
        self.full: set[Slots] = set()
        self.gate: asyncio.Event | None = None
        self.latency = 0
        self.refuse: Window | Slots | Budget | None = None
        self.fails: BaseException | None = None
        self.charged: list[str] = []
        self.taken: list[str] = []
        self.left: list[str] = []
        self.forgotten: list[str] = []
        self.adopted: list[tuple[str, tuple[Slots, ...]]] = []

    async def charge(self, sid: str, charge: Charge, *, may_wait: bool, take: bool = True) -> Verdict:
        """As the protocol says; what nobody waits for is held from here on."""
        self.charged.append(sid)
        if self.refuse is not None:
            await self._answer()
            return Verdict(self.refuse, 7.0, STANDING, False)
        full = [slots for slots in charge.slots if not self._has_room(sid, slots)]
        refused = [slots for slots in full if not (slots.waits and may_wait)]
        if refused:
            await self._answer()
            return Verdict(refused[0], 2.0, None, False)
        has_slots = take and not full
        self._give(sid, tuple(slots for slots in charge.slots if has_slots or not slots.waits))
        await self._answer()
        return Verdict(None, 0.0, STANDING, has_slots)

    async def take(self, sid: str, slots: tuple[Slots, ...]) -> bool:
        """All, or none."""
        self.taken.append(sid)
        if self.fails is not None:
            raise self.fails
        # Late, so that what is left meanwhile is left before it is taken.
        await self._answer()
        got = all(self._has_room(sid, wanted) for wanted in slots)
        if got:
            self._give(sid, slots)
        return got

    def adopt(self, sid: str, slots: tuple[Slots, ...]) -> None:
        """Whatever the count."""
        self.adopted.append((sid, slots))
        self._give(sid, slots)

    def leave(self, sid: str) -> None:
        """All that it has."""
        self.left.append(sid)
        self._take_away(sid)

    def forget(self, sid: str) -> None:
        """The slots are another process's."""
        self.forgotten.append(sid)
        self._take_away(sid)

    def spent(self, budgets: tuple[Budget, ...], tokens: int) -> None:
        """Not counted."""

    def exhausted(self, budgets: tuple[Budget, ...]) -> bool:
        """Never."""
        return False

    @property
    def running(self) -> set[str]:
        """Whoever holds a slot that others wait for."""
        return {sid for slots, holders in self.holders.items() if slots.waits for sid in holders}

    async def _answer(self) -> None:
        for _ in range(self.latency):
            await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()

    def _has_room(self, sid: str, slots: Slots) -> bool:
        holders = self.holders.get(slots, set())
        return sid in holders or (slots not in self.full and len(holders) < slots.limit)

    def _give(self, sid: str, slots: tuple[Slots, ...]) -> None:
        for wanted in slots:
            self.holders.setdefault(wanted, set()).add(sid)

    def _take_away(self, sid: str) -> None:
        for holders in self.holders.values():
            holders.discard(sid)
