"""MemoryLimiter: the counts of one process."""

import time
from collections.abc import Callable, Iterable

from gateway.limits import Budget, Charge, Slots, Verdict, Window
from gateway.stores.windows import SHORT, WINDOWS_MAX, Name, WindowCounts, room_of, short

DAY_S = 86_400.0

SLOT_RETRY_S = 2.0
"""When to come again for a slot: nobody knows when a stream ends."""

Place = tuple[str, Name]
Refusal = tuple[float, Window | Slots | Budget]


class Spent:
    """Tokens of a day: made here, and by others as far as they told."""

    __slots__ = ("day", "others", "own")

    def __init__(self, day: int) -> None:
        self.day = day
        self.own = 0
        self.others = 0


class MemoryLimiter:
    """A `Limiter` for one process; `clock` tells seconds of Unix time.

    However many clients come, `windows_max` windows are counted at most. Slots and budgets are as many as streams run
    and as tenants are: they are never forgotten before their time.
    """

    shared = False

    def __init__(self, *, clock: Callable[[], float] = time.time, windows_max: int = WINDOWS_MAX) -> None:
        self._clock = clock
        self._windows = WindowCounts(windows_max)
        self._slots: dict[Place, set[str]] = {}
        self._places: dict[str, list[Place]] = {}
        self._spent: dict[Place, Spent] = {}
        self._day = 0

    # A Limiter.

    async def charge(self, sid: str, charge: Charge, *, may_wait: bool, take: bool = True) -> Verdict:
        """Everything is looked at before anything is counted; of several refusals the longest is told."""
        now, (windows, slots, budgets) = self._clock(), charge
        counts = [self._windows.find(window, now) for window in windows]
        nearest = min(counts, key=room_of) if counts else None
        refusals: list[Refusal] = []
        if nearest is not None and nearest.room < 1:
            refusals += [(count.wait_s(), what) for what, count in zip(windows, counts, strict=True) if count.room < 1]
        full = [wanted for wanted in slots if not self._has_slot(sid, wanted)]
        if full:
            refusals += [(SLOT_RETRY_S, wanted) for wanted in full if not (wanted.waits and may_wait)]
        if budgets:
            refusals += [(DAY_S - now % DAY_S, budget) for budget in budgets if self._is_spent(budget, now)]
        if refusals:
            retry_after_s, refused = max(refusals, key=_longest)
            if type(refused) is Window:
                nearest = counts[windows.index(refused)]
            return Verdict(refused, retry_after_s, None if nearest is None else nearest.standing(0), False)
        standing = None if nearest is None else nearest.standing(1)
        for count in counts:
            self._windows.add(count, now)
        has_slots = take and not full
        if slots:
            self.adopt(sid, slots if has_slots else held_at_once(slots))
        return Verdict(None, 0.0, standing, has_slots)

    async def take(self, sid: str, slots: tuple[Slots, ...]) -> bool:
        """All of them, or none."""
        if not all(self._has_slot(sid, wanted) for wanted in slots):
            return False
        self.adopt(sid, slots)
        return True

    def adopt(self, sid: str, slots: tuple[Slots, ...]) -> None:
        """Beside those that it has."""
        places = [_place(wanted) for wanted in slots]
        if not places:
            return
        for place in places:
            holders = self._slots.get(place)
            if holders is None:
                self._slots[place] = {sid}
            else:
                holders.add(sid)
        held = self._places.setdefault(sid, places)
        if held is not places:
            held += [place for place in places if place not in held]

    def leave(self, sid: str) -> None:
        """All that it has."""
        for place in self._places.pop(sid, ()):
            holders = self._slots[place]
            holders.discard(sid)
            if not holders:
                del self._slots[place]

    def forget(self, sid: str) -> None:
        """Its slots are none of this process's any more."""
        self.leave(sid)

    def spent(self, budgets: tuple[Budget, ...], tokens: int) -> None:
        """To each of the budgets; a day that was counted too high is at nothing, and no lower."""
        for budget in budgets:
            spent = self._spent_today(budget, self._clock())
            spent.own = max(0, spent.own + tokens)

    def exhausted(self, budgets: tuple[Budget, ...]) -> bool:
        """As far as this process and what others told it go."""
        now = self._clock()
        return any(self._is_spent(budget, now) for budget in budgets)

    # For who keeps count with others.

    def admit(self, sid: str, windows: Iterable[Window], slots: tuple[Slots, ...]) -> None:
        """What the shared count has taken is counted here too, so that it can be gone on with alone."""
        now = self._clock()
        for window in windows:
            self._windows.add(self._windows.find(window, now), now)
        self.adopt(sid, slots)

    @property
    def day(self) -> int:
        """Days of UTC since the beginning of Unix time."""
        return int(self._clock() // DAY_S)

    def own(self, budget: Budget) -> tuple[int, int]:
        """The day, and the tokens that were made here in it."""
        spent = self._spent_today(budget, self._clock())
        return spent.day, spent.own

    def told(self, budget: Budget, day: int, tokens: int) -> None:
        """So many tokens were made on that day by others."""
        spent = self._spent_today(budget, self._clock())
        if spent.day == day:
            spent.others = tokens

    def _has_slot(self, sid: str, slots: Slots) -> bool:
        scope, who, limit, _ = slots
        holders = self._slots.get((scope, who if len(who) <= SHORT else short(who)), ())
        return len(holders) < limit or sid in holders

    def _is_spent(self, budget: Budget, now: float) -> bool:
        spent = self._spent.get(_place(budget))
        tokens = 0 if spent is None or spent.day != int(now // DAY_S) else spent.own + spent.others
        return tokens >= budget.limit

    def _spent_today(self, budget: Budget, now: float) -> Spent:
        day = int(now // DAY_S)
        if day != self._day:
            self._day = day
            self._spent.clear()
        return self._spent.setdefault(_place(budget), Spent(day))


def held_at_once(slots: tuple[Slots, ...]) -> tuple[Slots, ...]:
    """What a stream has that waits for the rest."""
    return tuple(wanted for wanted in slots if not wanted.waits)


def _longest(refusal: Refusal) -> float:
    return refusal[0]


def _place(what: Slots | Budget) -> Place:
    who = what.who
    return what.scope, who if len(who) <= SHORT else short(who)
