"""WaitingRoom: who may make a stream now, and who waits for it; the keeper of this process's own slots."""

import asyncio
import logging
import time
from collections.abc import Callable

from gateway.admission.estimate import Lives
from gateway.admission.line import Line, Tried
from gateway.admission.permit import HeldPermit, Place
from gateway.admission.refusal import refusal
from gateway.errors import Code, GatewayError
from gateway.events import Status
from gateway.limits import Charge, Limiter, Slots
from gateway.streams.stream import Stream
from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

ASK_AGAIN_S = 0.25
"""While anybody waits: another process may have left a shared slot, and tells nobody."""

TELL_AGAIN_S = 1.0
"""The least between two words to the same stream about its place."""

WAITING = "waiting for a free stream"
COMING = "its turn has come"


class WaitingRoom:
    """Gives permits: at once where there are slots, else in turn.

    `slots` are this process's own (0: no end of them). At most `max_waiting` wait, each for at most `patience_s`
    seconds, and after `premium_run` of a higher class one of a lower one goes in.
    """

    def __init__(
        self,
        limiter: Limiter,
        *,
        slots: int,
        max_waiting: int,
        patience_s: float,
        premium_run: int,
        clock: Callable[[], float] = time.monotonic,
        metrics: Metrics,
    ) -> None:
        self._limiter = limiter
        self._slots = slots
        self._max_waiting = max_waiting
        self._patience_s = patience_s
        self._clock = clock
        self._metrics = metrics
        self._line = Line(premium_run)
        self._lives = Lives(slots)
        self._held: set[str] = set()
        self._promised = 0
        self._due = False
        self._asking: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def bounded(self) -> bool:
        """Whether this process has slots of its own to count, whatever its callers are charged."""
        return self._slots > 0

    async def admit(self, sid: str, charge: Charge, priority: str, credential: str = "") -> HeldPermit:
        """Leave to make the stream `sid`, at once or in turn; cancelled in between, nothing stays taken.

        Raises `QUEUE_FULL` before anything is counted, and what `charge` is refused with.
        """
        permit = HeldPermit(self, sid, charge, priority, credential)
        at_once, may_wait = self._prospects(permit)
        if not (at_once or may_wait):
            raise self._full(permit)
        self._promised += may_wait
        if at_once:
            self._held.add(sid)
        try:
            await self._count(permit, at_once=at_once, may_wait=may_wait)
        except BaseException:
            self.take_back(permit, kept=False)
            raise
        finally:
            self._promised -= may_wait
        if permit.began_s is None:
            self._free(permit)
            self._enter(permit)
        return permit

    def adopt(self, sid: str, charge: Charge, priority: str, credential: str = "", *, waits: bool) -> HeldPermit:
        """Leave for a stream that another process began: it keeps its slots, whatever the count.

        One that still `waits` goes on to do so, before the others of its class.
        """
        permit = HeldPermit(self, sid, charge, priority, credential)
        if waits:
            self._limiter.adopt(sid, tuple([slots for slots in charge.slots if not slots.waits]))
            self._enter(permit, first=True)
        else:
            self._limiter.adopt(sid, charge.slots)
            self._held.add(sid)
            permit.began_s = self._clock()
        return permit

    # For permits.

    async def wait(self, permit: HeldPermit, stream: Stream) -> None:
        """Return when it is its turn; see `Permit.turn`."""
        place = permit.place
        if place is not None:
            place.stream = stream
            self._wake()
            try:
                await place.turn
            finally:
                self._leave(permit, "handed_over" if stream.given_up else "left")

    def take_back(self, permit: HeldPermit, *, kept: bool) -> None:
        """Its stream is over here; nothing the second time."""
        if permit.over:
            return
        permit.over = True
        self._leave(permit, "handed_over" if kept else "left")
        if permit.began_s is not None and not kept:
            self._lives.note(self._clock() - permit.began_s)
        self._settle(permit, kept=kept)

    def _settle(self, permit: HeldPermit, *, kept: bool) -> None:
        """Give back whatever slots it has; what another process goes on with is kept for it."""
        if kept:
            self._limiter.forget(permit.sid)
        else:
            self._limiter.leave(permit.sid)
        self._free(permit)

    # Coming in.

    def _prospects(self, permit: HeldPermit) -> tuple[bool, bool]:
        """Whether it may have slots at once, if there are any, and whether there is a place to wait for them."""
        may_wait = len(self._line) + self._promised < self._max_waiting
        # While the line is asked whose turn it is, a slot that is free is somebody's.
        free = self._has_slot() and not (self._slots and self._asking)
        # Where there is no place to wait, it need not stand back for those who wait for other slots than it does.
        rivals = self._line.wants_any if may_wait else self._line.wants_all
        return free and not rivals(permit.shared), may_wait

    async def _count(self, permit: HeldPermit, *, at_once: bool, may_wait: bool) -> None:
        verdict = await self._limiter.charge(permit.sid, permit.charge, may_wait=may_wait, take=at_once)
        permit.standing = verdict.standing
        if isinstance(verdict.refused, Slots) and verdict.refused.waits:
            raise self._full(permit)
        if verdict.refused is not None:
            raise refusal(verdict)
        if at_once and verdict.has_slots:
            permit.began_s = self._clock()

    def _full(self, permit: HeldPermit) -> GatewayError:
        self._metrics.queue_left(permit.priority, "full", 0.0)
        return GatewayError(Code.QUEUE_FULL, retry_after_s=self._lives.estimate_s(len(self._line) + 1, permit.shared))

    def _enter(self, permit: HeldPermit, *, first: bool = False) -> None:
        loop = asyncio.get_running_loop()
        patience = loop.call_later(self._patience_s, self._out_of_patience, permit)
        permit.place = Place(self._clock(), patience, loop.create_future())
        self._line.enter(permit, first=first)
        self._metrics.queue_waiting(permit.priority, self._line.waiting(permit.priority))
        if self._timer is None:
            self._timer = loop.call_later(ASK_AGAIN_S, self._tick)

    # Going out.

    def _leave(self, permit: HeldPermit, outcome: str) -> None:
        """Wait no more; nothing where it does not."""
        if self._line.leave(permit):
            self._left(permit, outcome)
        place = permit.place
        if place is not None and not place.turn.cancel() and not place.turn.cancelled():
            place.turn.exception()  # Seen, also where nobody waits to hear it.

    def _left(self, permit: HeldPermit, outcome: str) -> None:
        place = permit.place
        assert place is not None
        place.patience.cancel()
        self._metrics.queue_left(permit.priority, outcome, self._clock() - place.since_s)
        self._metrics.queue_waiting(permit.priority, self._line.waiting(permit.priority))

    def _out_of_patience(self, permit: HeldPermit) -> None:
        after_s = self._lives.estimate_s(self._line.position(permit), permit.shared)
        self._fail(permit, GatewayError(Code.QUEUE_TIMEOUT, retry_after_s=after_s), "timeout")

    def _fail(self, permit: HeldPermit, error: GatewayError, outcome: str) -> None:
        """Its turn will never come."""
        if self._line.leave(permit):
            self._left(permit, outcome)
        if permit.place is not None and not permit.place.turn.done():
            permit.place.turn.set_exception(error)

    # Whose turn it is.

    def _has_slot(self) -> bool:
        return not self._slots or len(self._held) < self._slots

    def _free(self, permit: HeldPermit) -> None:
        self._held.discard(permit.sid)
        if self._line:
            self._wake()

    def _tick(self) -> None:
        self._timer = None
        if self._line:
            self._timer = asyncio.get_running_loop().call_later(ASK_AGAIN_S, self._tick)
            self._wake()

    def _wake(self) -> None:
        """Ask whose turn it is, now or once more."""
        self._due = True
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask(), name="waiting room")

    async def _ask(self) -> None:
        try:
            while self._due:
                self._due = False
                await self._go_round()
            self._tell_all()
        finally:
            self._asking = None

    async def _go_round(self) -> None:
        """Give all slots that are free to those whose turn it is."""
        tried = Tried()
        while self._has_slot():
            permit = self._line.next(tried.skips)
            if permit is None:
                return
            self._held.add(permit.sid)
            got = await self._take(permit)
            place = permit.place
            assert place is not None
            if place.turn.done():
                # It has left meanwhile: what was just taken is nobody's, or that of the process that goes on.
                self._settle(permit, kept=place.stream is not None and place.stream.given_up)
            elif got:
                self._grant(permit, tried)
            else:
                self._held.discard(permit.sid)
                tried.refused(permit)

    async def _take(self, permit: HeldPermit) -> bool:
        try:
            return not permit.charge.slots or await self._limiter.take(permit.sid, permit.charge.slots)
        except Exception:
            log.exception("slots could not be taken", extra={"stream_id": permit.sid})
            self._fail(permit, GatewayError(Code.INTERNAL), "left")
            return False

    def _grant(self, permit: HeldPermit, tried: Tried) -> None:
        place = permit.place
        assert place is not None
        if place.told:
            self._tell(permit, 0)
        if place.turn.done():
            return
        self._line.granted(permit, tried.skips)
        self._left(permit, "granted")
        permit.began_s = self._clock()
        permit.place = None
        place.turn.set_result(None)

    # How they stand.

    def _tell_all(self) -> None:
        now = self._clock()
        for position, permit in enumerate(list(self._line), 1):
            place = permit.place
            assert place is not None
            if position != place.told and (not place.told or now - place.told_s >= TELL_AGAIN_S):
                self._tell(permit, position)

    def _tell(self, permit: HeldPermit, position: int) -> None:
        """Say to its stream how it stands; position 0 is that its turn has come."""
        place = permit.place
        if place is None or place.stream is None or place.stream.sealed or place.stream.content_events:
            return
        place.told, place.told_s = position, self._clock()
        estimated_s = self._lives.estimate_s(position, permit.shared) if position else 0
        details = {"position": position, "estimated_s": estimated_s}
        try:
            place.stream.aside(Status("queued", WAITING if position else COMING, details))
        except GatewayError as error:
            # There is no room even for this; it is that stream's end, and nobody else's.
            self._fail(permit, error, "left")
