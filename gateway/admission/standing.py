"""The rate-limit headers: how a caller stands in its limits."""

import math
import time
from collections.abc import Callable

from gateway.limits import Standing


class Standings:
    """Tells them: the de-facto `X-RateLimit-*`, and with `ietf` those of the draft that is to become a standard
    (draft-ietf-httpapi-ratelimit-headers-10), which counts seconds from now. `clock` tells seconds of Unix time.
    """

    def __init__(self, *, ietf: bool = True, clock: Callable[[], float] = time.time) -> None:
        self._ietf = ietf
        self._clock = clock

    def headers(self, standing: Standing) -> dict[str, str]:
        """What an answer to that caller carries."""
        limit, remaining, reset_s, window_s = standing
        headers = {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(remaining),
            "X-RateLimit-Reset": str(math.ceil(reset_s)),
        }
        if self._ietf:
            headers["RateLimit-Policy"] = f'"requests";q={limit};w={math.ceil(window_s)}'
            headers["RateLimit"] = f'"requests";r={remaining};t={max(0, math.ceil(reset_s - self._clock()))}'
        return headers
