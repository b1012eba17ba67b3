"""WaitingRoom: who may make a stream now, who waits for it, and who is turned away."""

import time
from collections.abc import Callable

from gateway.admission.line import Line
from gateway.admission.permit import HeldPermit
from gateway.admission.refusal import refusal
from gateway.admission.standing import Standings
from gateway.admission.turns import Turns
from gateway.errors import Code, GatewayError
from gateway.events import Status
from gateway.limits import Charge, Limiter, Slots, Verdict
from gateway.streams.stream import Stream
from gateway.telemetry.metrics import Metrics


class WaitingRoom:
    """Gives permits: at once where there are slots, else in turn.

    `slots` are this process's own (0: no end of them). At most `max_waiting` wait, each for at most `patience_s`
    seconds, and after `premium_run` of a higher class one of a lower one goes in. Where there are several `tenants`
    each may have as many places as it leaves free for others: one alone half of them, two a third each.
    """

    def __init__(
        self,
        limiter: Limiter,
        *,
        slots: int,
        max_waiting: int,
        patience_s: float,
        premium_run: int,
        tenants: Callable[[], int] = lambda: 1,
        standings: Standings = Standings(),  # noqa: B008  # it has no state
        clock: Callable[[], float] = time.monotonic,
        metrics: Metrics,
    ) -> None:
        self._limiter = limiter
        self._standings = standings
        self._max_waiting = max_waiting
        self._clock = clock
        self._metrics = metrics
        self._line = Line(premium_run)
        self._turns = Turns(limiter, self._line, slots=slots, patience_s=patience_s, clock=clock, metrics=metrics)
        self._tenants = tenants
        self._promised: dict[str, int] = {}
        self.bounded = slots > 0
        """Whether this process has slots of its own to count, whatever its callers are charged."""

    async def admit(
        self, sid: str, charge: Charge, priority: str, credential: str = "", tenant: str = ""
    ) -> HeldPermit:
        """Leave to make the stream `sid`, at once or in turn; cancelled in between, nothing stays taken.

        `priority` is `premium`, `standard` or `background`. Raises `QUEUE_FULL` before anything is counted, and what
        the `charge` is refused with.
        """
        permit = HeldPermit(self, sid, charge, priority, credential, tenant)
        at_once, may_wait = self._prospects(permit)
        if not (at_once or may_wait):
            raise self._full(permit)
        # Both are kept free for it while it is asked elsewhere whether it may.
        if may_wait:
            self._promised[tenant] = self._promised.get(tenant, 0) + 1
        if at_once:
            self._turns.hold(permit)
        try:
            verdict = await self._limiter.charge(sid, charge, may_wait=may_wait, take=at_once)
            self._heed(permit, verdict, at_once=at_once)
        except BaseException:
            self.take_back(permit, kept=False)
            raise
        finally:
            if may_wait:
                self._keep_promise(tenant)
        if permit.began_s is None:
            self._turns.free(permit)
            self._turns.enter(permit)
        return permit

    def adopt(
        self, stream: Stream, charge: Charge, priority: str, credential: str = "", tenant: str = ""
    ) -> HeldPermit:
        """Leave for a stream that another process began: it keeps its slots, whatever the count.

        One that waited for its turn goes on to do so, before the others of its class, though there be no place.
        """
        permit = HeldPermit(self, stream.sid, charge, priority, credential, tenant)
        if still_waits(stream):
            self._limiter.adopt(stream.sid, tuple([slots for slots in charge.slots if not slots.waits]))
            self._turns.enter(permit, first=True)
        else:
            self._limiter.adopt(stream.sid, charge.slots)
            self._turns.hold(permit)
            permit.began_s = self._clock()
        return permit

    # For permits.

    async def wait(self, permit: HeldPermit, stream: Stream) -> None:
        """Return when it is its turn; see `HeldPermit.turn`."""
        place = permit.place
        if place is not None:
            self._turns.sit_down(place, stream)
            try:
                await place.turn
            finally:
                self._turns.leave(permit, "handed_over" if stream.given_up else "left")

    def take_back(self, permit: HeldPermit, *, kept: bool) -> None:
        """Its stream is over here; nothing the second time."""
        if permit.over:
            return
        permit.over = True
        if permit.place is not None:
            self._turns.leave(permit, "handed_over" if kept else "left")
        if permit.began_s is not None and not kept:
            self._turns.lives.note(self._clock() - permit.began_s)
        self._turns.settle(permit, kept=kept)

    # Coming in.

    def _prospects(self, permit: HeldPermit) -> tuple[bool, bool]:
        """Whether it may have slots at once, if there are any, and whether there is a place to wait for them."""
        if not self._line and not self._promised:
            return self._turns.has_spare, self._max_waiting > 0
        may_wait = self._has_place_for(permit.tenant)
        # Where there is no place to wait, it need not stand back for those who wait for other slots than it does.
        rivals = self._line.wants_any if may_wait else self._line.wants_all
        return self._turns.has_spare and not rivals(permit.shared), may_wait

    def _has_place_for(self, tenant: str) -> bool:
        """Whether one more of that tenant may wait."""
        places = self._max_waiting - len(self._line) - sum(self._promised.values())
        if places <= 0 or self._tenants() <= 1:
            return places > 0
        return self._line.waiting_of(tenant) + self._promised.get(tenant, 0) < places

    def _keep_promise(self, tenant: str) -> None:
        """One place less is kept free."""
        left = self._promised.pop(tenant) - 1
        if left:
            self._promised[tenant] = left

    def _heed(self, permit: HeldPermit, verdict: Verdict, *, at_once: bool) -> None:
        """Take what the keeper of the count has said. Raises the refusal."""
        permit.standing = verdict.standing
        if isinstance(verdict.refused, Slots) and verdict.refused.waits:
            raise self._full(permit)
        if verdict.refused is not None:
            raise refusal(verdict, self._standings)
        if at_once and verdict.has_slots:
            permit.began_s = self._clock()

    def _full(self, permit: HeldPermit) -> GatewayError:
        self._metrics.queue_left(permit.priority, "full", 0.0)
        after_s = self._turns.lives.estimate_s(len(self._line) + 1, permit.shared)
        return GatewayError(Code.QUEUE_FULL, retry_after_s=after_s)


def still_waits(stream: Stream) -> bool:
    """Whether the last that its log says of its turn is that it is yet to come."""
    told = [event for event in stream.events() if isinstance(event, Status) and event.state == "queued"]
    return bool(told) and not stream.content_events and told[-1].details.get("position", 0) > 0
