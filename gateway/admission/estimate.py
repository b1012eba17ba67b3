"""Estimate: how long somebody will wait, from how long streams have lived of late."""

import math

from gateway.limits import Slots

FIRST_GUESS_S = 10.0
"""How long a stream lives, before any has ended here."""
WEIGHT = 0.1
"""Of the newest life in the mean: after twenty others one is forgotten."""
LEAST_S, MOST_S = 1, 300


class Lives:
    """Remembers their mean. `slots` are the process's own, 0 where it has no end of them."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._mean_s = FIRST_GUESS_S

    def note(self, life_s: float) -> None:
        """A stream has ended after so many seconds."""
        self._mean_s += WEIGHT * (life_s - self._mean_s)

    def estimate_s(self, position: int, shared: tuple[Slots, ...]) -> int:
        """Whole seconds until the slots of so many have become free, of those that one waits for: 1 to 300."""
        lanes = [slots.limit for slots in shared]
        if self._slots:
            lanes.append(self._slots)
        return max(LEAST_S, min(MOST_S, math.ceil(self._mean_s * position / max(1, min(lanes, default=1)))))
