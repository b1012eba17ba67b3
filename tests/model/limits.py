"""What limits should do, said as plainly as can be: every request that was taken is remembered for ever."""

from collections import defaultdict

from gateway.limits import Charge, Slots, Window


class PlainLimits:
    """Slow and unbounded; times are seconds of Unix time."""

    def __init__(self) -> None:
        self.taken: defaultdict[Window, list[float]] = defaultdict(list)
        self.holders: defaultdict[Slots, set[str]] = defaultdict(set)

    def used(self, window: Window, now: float) -> float:
        """Requests of this span, and of the one before as much as of it lies inside the window."""
        length = window.window_s
        begun = now // length * length
        current = sum(begun <= at for at in self.taken[window])
        before = sum(begun - length <= at < begun for at in self.taken[window])
        return before * (1 - (now - begun) / length) + current

    def has_room(self, window: Window, now: float) -> bool:
        """Whether one more would be taken."""
        return self.used(window, now) + 1 <= window.limit

    def has_slot(self, sid: str, slots: Slots) -> bool:
        """Likewise."""
        return sid in self.holders[slots] or len(self.holders[slots]) < slots.limit

    def charge(self, sid: str, charge: Charge, now: float, *, may_wait: bool, take: bool) -> tuple[bool, bool]:
        """Whether it is taken, and whether it has all its slots."""
        full = [slots for slots in charge.slots if not self.has_slot(sid, slots)]
        if not all(self.has_room(window, now) for window in charge.windows):
            return False, False
        if any(not (slots.waits and may_wait) for slots in full):
            return False, False
        has_slots = take and not full
        for window in charge.windows:
            self.taken[window].append(now)
        for slots in charge.slots:
            if has_slots or not slots.waits:
                self.holders[slots].add(sid)
        return True, has_slots

    def take(self, sid: str, slots: tuple[Slots, ...]) -> bool:
        """All, or none."""
        if not all(self.has_slot(sid, wanted) for wanted in slots):
            return False
        for wanted in slots:
            self.holders[wanted].add(sid)
        return True

    def leave(self, sid: str) -> None:
        """All that it has."""
        for holders in self.holders.values():
            holders.discard(sid)

    def most_in_any(self, window: Window) -> int:
        """The most requests that were taken in any span of the window's length, wherever it begins."""
        times = self.taken[window]
        return max((sum(begin <= at < begin + window.window_s for at in times) for begin in times), default=0)
