"""Attempts: who showed what is not good, so often that it looks like guessing."""

import math
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from gateway.admission.addresses import group

FAILURES_MAX = 20
"""From one address in `WINDOW_S`; a key of 256 random bits is not guessed, but trying should cost us nothing."""

WINDOW_S = 60.0

ADDRESSES_MAX = 10_000
"""Addresses remembered; beyond it those are forgotten that failed longest ago. About 1 kB each."""


class StaleError(Exception):
    """What was shown is good no more, but was: that is no guess."""


class Attempts:
    """The times of the last failures of each address, in a sliding window."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def failed(self, address: str) -> None:
        """One more from this address."""
        name = group(address)
        self._failures.setdefault(name, deque(maxlen=FAILURES_MAX)).append(self._clock())
        self._failures.move_to_end(name)
        if len(self._failures) > ADDRESSES_MAX:
            self._failures.popitem(last=False)

    def wait_s(self, address: str) -> float:
        """Seconds until this address may try again; 0 where it may now."""
        if not self._failures:
            return 0.0
        times = self._failures.get(group(address))
        if times is None or len(times) < FAILURES_MAX:
            return 0.0
        return max(0.0, math.ceil(times[0] + WINDOW_S - self._clock()))
