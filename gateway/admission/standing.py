"""The rate-limit headers: how a caller stands in its limits."""

import math
import time

from gateway.limits import Standing


def standing_headers(standing: Standing) -> dict[str, str]:
    """The de-facto `X-RateLimit-*`, and the IETF's draft (ratelimit-headers-10), which counts seconds from now."""
    limit, remaining, reset_s, window_s = standing
    return {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(remaining),
        "X-RateLimit-Reset": str(math.ceil(reset_s)),
        "RateLimit-Policy": f'"requests";q={limit};w={math.ceil(window_s)}',
        "RateLimit": f'"requests";r={remaining};t={max(0, math.ceil(reset_s - time.time()))}',
    }
