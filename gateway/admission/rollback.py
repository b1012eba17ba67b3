"""Rollback: watches what comes of streams, and takes the rollout back when too much of it is bad."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from gateway.admission.outcomes import Outcomes, SharedCounts
from gateway.errors import Code, GatewayError
from gateway.flags import STREAMING, Flag, FlagStore
from gateway.streams.stream import Stream
from gateway.telemetry.logs import tell
from gateway.telemetry.metrics import Account, Metrics

log = logging.getLogger(__name__)

LOOK_S = 0.5
ACTOR = "rollback"
P99 = 0.01
"""The share of streams that may be slower than a 99th percentile."""

MICRO = 1_000_000
"""Costs are counted in millionths, as whole numbers."""

_BAD = frozenset(
    ("provider_error", "provider_truncated", "provider_timeout_first", "provider_timeout_idle", "gateway_error")
)
_OTHERS_FAULT = frozenset((Code.UPSTREAM_REJECTED.name,))
"""A question that is wrong says nothing of the rollout; whoever asks wrong ones could end it."""

_GOOD = frozenset(("ok", "policy_limit", "queue_timeout"))


class Triggers(NamedTuple):
    """What is too much of it, over at least `min_streams` of the last `window_s` seconds. 0 switches a trigger off.

    `error_rate` is a share (0.02), `first_token_p99_s` and `total_p99_s` are seconds, `cost_multiple` is of
    `projected_cost` (of one stream), `min_rating` is a mean of 1 to 5 over at least `min_ratings`. Prices are for
    1,000 tokens, in any currency. With `to_previous` the step before is gone back to, else nobody has it any more.
    """

    window_s: float = 300.0
    min_streams: int = 100
    error_rate: float = 0.02
    first_token_p99_s: float = 0.0
    total_p99_s: float = 0.0
    cost_multiple: float = 0.0
    projected_cost: float = 0.0
    price_prompt: float = 0.0
    price_completion: float = 0.0
    min_rating: float = 0.0
    min_ratings: int = 20
    to_previous: bool = False


class Rollback:
    """A Witness. Counts what ends, in the turn in which it does; looks at the sum twice a second.

    `on_rollback(flag's name, reason)` is told by the one process that takes the flag back. `clock` tells Unix time.
    """

    def __init__(
        self,
        store: FlagStore,
        triggers: Triggers,
        metrics: Metrics,
        *,
        shared: SharedCounts | None = None,
        on_rollback: Callable[[str, str], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._triggers = triggers
        self._metrics = metrics
        self._outcomes = Outcomes(triggers.window_s, shared)
        self.on_rollback = on_rollback
        self._clock = clock
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look from now on."""
        self._looking = asyncio.create_task(self._look_on(), name="rollback")

    def stop(self) -> None:
        """Look no more."""
        if self._looking is not None:
            self._looking.cancel()

    def opened(self, stream: Stream) -> None:
        """It is counted when it ends."""

    def ended(self, stream: Stream, account: Account) -> None:
        """Count it, unless its caller or a drain ended it: that says nothing of how good it was."""
        if not self._store.read()[STREAMING].guarded:
            return
        if stream.request.variant:
            self._metrics.variant_ended(stream.request.variant, account.outcome)
        bad = account.outcome in _BAD and account.error not in _OTHERS_FAULT
        if bad or account.outcome in _GOOD:
            self._outcomes.add(_counts(account, self._triggers, bad=bad), self._clock())

    def rated(self, rating: int, before: int | None = None) -> None:
        """A stream was rated 1 to 5, or rated otherwise than `before`."""
        self._metrics.rated(rating)
        if not self._store.read()[STREAMING].guarded:
            return
        counts = {"ratings": 1, "stars": rating} if before is None else {"stars": rating - before}
        self._outcomes.add(counts, self._clock())

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except Exception:
                log.exception("the outcomes of streams could not be looked at")

    async def look(self) -> None:
        """Hear what the others counted, and take the flag back where that is too much; where Redis is away, go by
        what was counted here."""
        flag, now, own = self._store.read()[STREAMING], self._clock(), False
        try:
            if not await self._outcomes.exchange(now):
                return
        except GatewayError:
            own = True
        if flag.rolled_back or not flag.enabled or not flag.percent_at(now):
            return
        found = exceeded(self._outcomes.sum(now, flag.changed_s, own=own), self._triggers)
        if found is not None:
            await self._take_back(flag, *found, now)

    async def _take_back(self, seen: Flag, trigger: str, reason: str, now: float) -> None:
        to = seen.last_good_at(now) if self._triggers.to_previous else 0.0

        def change(flag: Flag) -> Flag:
            # Somebody else did, or a person has decided something since.
            return flag.taken_back(to, reason, now) if flag.version == seen.version else flag

        try:
            flag = await self._store.change(STREAMING, change, ACTOR)
        except GatewayError:
            log.warning("the rollout should be taken back, but the store is away", extra={"reason": reason})
            return
        if flag.rolled_back is None or flag.rolled_back != (reason, now):
            return
        facts = {"flag": flag.name, "trigger": trigger, "reason": reason, "percent": to}
        tell(log, logging.WARNING, "the rollout was taken back", facts)
        self._metrics.rolled_back(trigger)
        if self.on_rollback is not None:
            self.on_rollback(flag.name, reason)


def _counts(account: Account, triggers: Triggers, *, bad: bool) -> dict[str, int]:
    """What one stream adds. One that never said anything was as slow as it was long."""
    first_s = account.seconds if account.first_content_s is None else account.first_content_s
    cost = account.prompt_tokens * triggers.price_prompt + account.completion_tokens * triggers.price_completion
    counts = {
        "streams": 1,
        "errors": int(bad),
        "late": int(first_s > triggers.first_token_p99_s > 0),
        "long": int(account.seconds > triggers.total_p99_s > 0),
        "cost": round(cost / 1000 * MICRO),
    }
    return {name: count for name, count in counts.items() if count}


def exceeded(counts: Counter[str], triggers: Triggers) -> tuple[str, str] | None:
    """The trigger that these counts set off, and why, in words; None where all is well."""
    streams, ratings = counts["streams"], counts["ratings"]
    if streams and streams >= triggers.min_streams:
        errors, late, long = (counts[name] / streams for name in ("errors", "late", "long"))
        if errors > triggers.error_rate > 0:
            return "error_rate", f"{errors:.1%} of {streams} streams failed, more than {triggers.error_rate:.1%}"
        if triggers.first_token_p99_s and late > P99:
            return "first_token", f"{late:.1%} of {streams} first tokens took over {triggers.first_token_p99_s:g} s"
        if triggers.total_p99_s and long > P99:
            return "total", f"{long:.1%} of {streams} streams took over {triggers.total_p99_s:g} s"
        cost, most = counts["cost"] / MICRO / streams, triggers.cost_multiple * triggers.projected_cost
        if cost > most > 0:
            return "cost", f"a stream cost {cost:g} over {streams} streams, more than {most:g}"
    if ratings and ratings >= triggers.min_ratings and counts["stars"] / ratings < triggers.min_rating:
        mean = counts["stars"] / ratings
        return "rating", f"{ratings} ratings are {mean:.2f} on average, less than {triggers.min_rating:g}"
    return None
