"""WindowCounts: how often somebody asked of late, for ever so many of them in bounded memory."""

import hashlib
from collections import OrderedDict
from operator import attrgetter

from gateway.limits import Standing, Window

WINDOWS_MAX = 100_000
"""Counts kept at once, at most; about 400 bytes each. Beyond it those are let go that nobody asked for the longest."""

SWEPT = 2
"""Old counts that are looked at for each new one: all that are over go sooner than new ones come."""

HAIR = 1e-6
"""Of a request: a sum of fractions must not refuse whom the same sum told to come now."""

SHORT = 64
"""Characters of a name that is kept as it is; of a longer one only its digest."""

Name = str | bytes
Key = tuple[str, Name, float]


class Count:
    """Requests in the span of a window's length that is now, and in the one before; spans begin at multiples of it.

    As it was found last: `room` is what is left of the `limit` when the two are summed by weight. Of those before so
    much counts as of their span lies inside the window still, which is as much as is `left_s` of the present one.
    """

    __slots__ = ("before", "ends_s", "kept", "key", "left_s", "limit", "now", "room")

    def __init__(self, key: Key, now_s: float) -> None:
        self.key = key
        self.ends_s = (now_s // key[2] + 1) * key[2]
        self.now = 0
        self.before = 0
        self.kept = False
        self.limit = 0
        self.left_s = 0.0
        self.room = 0.0

    def turn(self, now_s: float) -> None:
        """It is a time outside the span."""
        window_s = self.key[2]
        ends_s = (now_s // window_s + 1) * window_s
        if ends_s == self.ends_s - window_s:
            # The clock was set back a little: what was counted has happened all the same.
            return
        self.before = self.now if ends_s == self.ends_s + window_s else 0
        self.now = 0
        self.ends_s = ends_s

    def wait_s(self) -> float:
        """Seconds until one more may be taken where nobody asks meanwhile; there is no room now."""
        window_s, most = self.key[2], self.limit - 1
        if self.now <= most:
            return self.left_s - window_s * (most - self.now) / self.before
        return self.left_s + window_s * (1 - most / self.now)

    def standing(self, taken: int) -> Standing:
        """What is left when `taken` more (0 or 1) are counted."""
        window_s = self.key[2]
        reset_s = self.ends_s + window_s if self.now or taken else self.ends_s
        return Standing(self.limit, max(0, int(self.room - taken)), reset_s, window_s)


room_of = attrgetter("room")


class WindowCounts:
    """Sliding windows of two counters each.

    In any span that begins at a multiple of the window no more than its limit is taken; in a window that lies across
    two of them never twice the limit, and the limit where requests come evenly.
    """

    def __init__(self, most: int = WINDOWS_MAX) -> None:
        self._most = most
        self._counts: OrderedDict[Key, Count] = OrderedDict()

    def __len__(self) -> int:
        return len(self._counts)

    def find(self, window: Window, now_s: float) -> Count:
        """How the window is used now; to ask is no request."""
        scope, who, limit, window_s = window
        key = (scope, who if len(who) <= SHORT else short(who), window_s)
        count = self._counts.get(key)
        if count is None:
            count = Count(key, now_s)
        else:
            self._counts.move_to_end(key)
        left_s = count.ends_s - now_s
        if not 0 < left_s <= window_s:
            count.turn(now_s)
            left_s = min(count.ends_s - now_s, window_s)
        count.limit = limit
        count.left_s = left_s
        count.room = limit - count.before * left_s / window_s - count.now + HAIR
        return count

    def add(self, count: Count, now_s: float) -> None:
        """One request more in what was found."""
        count.now += 1
        if not count.kept:
            count.kept = True
            self._counts[count.key] = count
            self._sweep(now_s)

    def _sweep(self, now_s: float) -> None:
        for _ in range(SWEPT):
            key = next(iter(self._counts))
            if now_s < self._counts[key].ends_s + key[2] and len(self._counts) <= self._most:
                return
            # Who has found it before, and adds to it later, adds to what nobody looks at.
            del self._counts[key]


def short(who: str) -> Name:
    """A name to be kept for `who`, however long that is; no two share one."""
    return who if len(who) <= SHORT else hashlib.sha256(who.encode("utf-8", "surrogatepass")).digest()
