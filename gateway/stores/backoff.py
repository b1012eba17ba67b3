"""Backoff: how long to wait before Redis is asked again."""

import random

FIRST_S = 0.1
LONGEST_S = 1.0


class Backoff:
    """Twice as long each time, up to `LONGEST_S`, and never the same for all who wait."""

    def __init__(self) -> None:
        self._next_s = FIRST_S

    @property
    def fresh(self) -> bool:
        """Whether there was no failure since the last success."""
        return self._next_s == FIRST_S

    def reset(self) -> None:
        """It went well."""
        self._next_s = FIRST_S

    def next_s(self) -> float:
        """It failed: seconds to wait."""
        wait_s, self._next_s = self._next_s, min(LONGEST_S, self._next_s * 2)
        return wait_s * random.uniform(0.5, 1.0)
