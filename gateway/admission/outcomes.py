"""Outcomes: what came of the streams that ended lately, counted in short whiles, by this process or by all."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Protocol

WHILES = 30
"""A window is made of so many: one more or less is the error of its length."""


class SharedCounts(Protocol):
    """Counts of all processes, one set for each while."""

    async def exchange(
        self, number: int, new: Mapping[str, int], wanted: Collection[int], kept_s: float
    ) -> Mapping[int, Mapping[str, int]]:
        """Add what is `new` to the while of that `number`, which is kept for `kept_s` seconds from now; then tell the
        counts of the `wanted` whiles. Raises `STORE_AWAY`, and then nothing is certain of what was added."""


class Outcomes:
    """Counts by name over the last `window_s` seconds. Bounded: one set of counts for each while of the window."""

    def __init__(self, window_s: float, shared: SharedCounts | None) -> None:
        self._while_s = window_s / WHILES
        self._shared = shared
        self._own: dict[int, Counter[str]] = {}
        self._all: dict[int, Mapping[str, int]] = {}
        self._read_at: dict[int, float] = {}
        self._unsaid: Counter[str] = Counter()

    def add(self, counts: Mapping[str, int], now: float) -> None:
        """Count something that happened at `now` (Unix time)."""
        number = int(now / self._while_s)
        self._own.setdefault(number, Counter()).update(counts)
        if self._shared is not None:
            self._unsaid.update(counts)

    async def exchange(self, now: float) -> bool:
        """Tell the others what is new here, and hear what is new there; whether there was anything to tell.

        Whoever adds the last straw hears of it in the answer, so that nobody needs to ask who has nothing to tell.
        Raises `STORE_AWAY`.
        """
        self._forget(now)
        if self._shared is None or not self._unsaid:
            return bool(self._own)
        number, unsaid = int(now / self._while_s), self._unsaid
        # Over is over, once those who still counted into a while have told of it.
        wanted = [
            at
            for at in range(number - WHILES + 1, number + 1)
            if self._read_at.get(at, 0.0) < (at + 2) * self._while_s + 1
        ]
        self._unsaid = Counter()
        found = await self._shared.exchange(number, unsaid, wanted, (WHILES + 2) * self._while_s)
        self._all.update(found)
        self._read_at |= dict.fromkeys(found, now)
        return True

    def sum(self, now: float, since: float, *, own: bool) -> Counter[str]:
        """The counts of whole whiles behind `since` until `now`: of all processes, or only this one's `own`."""
        number, total = int(now / self._while_s), Counter[str]()
        first = max(number - WHILES + 1, int(since / self._while_s) + 1)
        kept: Mapping[int, Mapping[str, int]] = self._own if own or self._shared is None else self._all
        for at in range(first, number + 1):
            total.update(kept.get(at, {}))
        return total

    def _forget(self, now: float) -> None:
        oldest = int(now / self._while_s) - WHILES
        for kept in (self._own, self._all, self._read_at):
            for at in [at for at in kept if at < oldest]:
                del kept[at]
