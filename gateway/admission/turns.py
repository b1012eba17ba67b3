"""Turns: gives the slots that become free to those who wait for them, and tells them meanwhile how they stand."""

import asyncio
import logging
from collections.abc import Callable

from gateway.admission.estimate import Lives
from gateway.admission.line import Line, Tried
from gateway.admission.permit import HeldPermit, Place
from gateway.errors import Code, GatewayError
from gateway.events import Status
from gateway.limits import Limiter
from gateway.streams.stream import Stream
from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

ASK_AGAIN_S = 0.25
"""While anybody waits: another process may have left a shared slot, and tells nobody."""

TELL_AGAIN_S = 1.0
"""The least between two words to the same stream about its place."""

WAITING = "waiting for a free stream"
COMING = "its turn has come"


class Turns:
    """The keeper of this process's own `slots` (0: no end of them), and of the line for these and the shared ones."""

    def __init__(
        self,
        limiter: Limiter,
        line: Line,
        *,
        slots: int,
        patience_s: float,
        clock: Callable[[], float],
        metrics: Metrics,
    ) -> None:
        self._limiter = limiter
        self._line = line
        self._slots = slots
        self._patience_s = patience_s
        self._clock = clock
        self._metrics = metrics
        self._held: set[str] = set()
        self._due = False
        self._asking: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.lives = Lives(slots)

    # This process's slots.

    @property
    def has_spare(self) -> bool:
        """Whether there is a slot that is nobody's: while it is asked whose turn it is, one that is free is not."""
        return not self._slots or (len(self._held) < self._slots and self._asking is None)

    def hold(self, permit: HeldPermit) -> None:
        """It has one, be there any left or not."""
        self._held.add(permit.sid)

    def free(self, permit: HeldPermit) -> None:
        """It has none."""
        self._held.discard(permit.sid)
        if self._line:
            self._wake()

    def settle(self, permit: HeldPermit, *, kept: bool) -> None:
        """Give back whatever slots it has; the shared ones are `kept` where another process goes on."""
        if kept:
            self._limiter.forget(permit.sid)
        else:
            self._limiter.leave(permit.sid)
        self.free(permit)

    # The line.

    def enter(self, permit: HeldPermit, *, first: bool = False) -> None:
        """Wait behind the others of its class, or before them; it is asked at once whether that takes any time."""
        loop = asyncio.get_running_loop()
        patience = loop.call_later(self._patience_s, self._out_of_patience, permit)
        permit.place = Place(self._clock(), patience, loop.create_future())
        self._line.enter(permit, first=first)
        self._metrics.queue_waiting(permit.priority, self._line.waiting(permit.priority))
        if self._timer is None:
            self._timer = loop.call_later(ASK_AGAIN_S, self._tick)
        self._wake()

    def sit_down(self, place: Place, stream: Stream) -> None:
        """`stream` is to be told how it stands; where that is being asked just now, when it is known."""
        place.stream = stream
        if self._asking is None:
            self._tell_all()

    def leave(self, permit: HeldPermit, outcome: str) -> None:
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
        after_s = self.lives.estimate_s(self._line.position(permit), permit.shared)
        self._fail(permit, GatewayError(Code.QUEUE_TIMEOUT, retry_after_s=after_s), "timeout")

    def _fail(self, permit: HeldPermit, error: GatewayError, outcome: str) -> None:
        """Its turn will never come."""
        if self._line.leave(permit):
            self._left(permit, outcome)
        if permit.place is not None and not permit.place.turn.done():
            permit.place.turn.set_exception(error)

    # Whose turn it is.

    def _wake(self) -> None:
        """Ask whose turn it is, now or once more."""
        self._due = True
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._ask(), name="waiting room")

    def _tick(self) -> None:
        self._timer = None
        if self._line:
            self._timer = asyncio.get_running_loop().call_later(ASK_AGAIN_S, self._tick)
            self._wake()

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
        while not self._slots or len(self._held) < self._slots:
            permit = self._line.next(tried.skips)
            if permit is None:
                return
            self._held.add(permit.sid)
            got = await self._take(permit)
            place = permit.place
            assert place is not None
            if place.turn.done():
                # It has left meanwhile: what was just taken is nobody's, or that of the process that goes on.
                self.settle(permit, kept=place.stream is not None and place.stream.given_up)
            elif got:
                self._grant(permit, place, tried)
            else:
                self._held.discard(permit.sid)
                tried.refused(permit)

    async def _take(self, permit: HeldPermit) -> bool:
        try:
            return not permit.shared or await self._limiter.take(permit.sid, permit.charge.slots)
        except Exception:
            # No reason to lose a place: it is asked for again, for as long as it has patience.
            log.exception("slots could not be taken", extra={"stream_id": permit.sid})
            return False

    def _grant(self, permit: HeldPermit, place: Place, tried: Tried) -> None:
        self._line.granted(permit, tried.skips)
        self._left(permit, "granted")
        if place.told:
            self._tell(permit, place, 0)
        if not place.turn.done():
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
                self._tell(permit, place, position)

    def _tell(self, permit: HeldPermit, place: Place, position: int) -> None:
        """Say to its stream how it stands; position 0 is that its turn has come."""
        stream = place.stream
        if stream is None or stream.sealed or stream.content_events:
            return
        place.told, place.told_s = position, self._clock()
        estimated_s = self.lives.estimate_s(position, permit.shared) if position else 0
        try:
            details = {"position": position, "estimated_s": estimated_s}
            stream.aside(Status("queued", WAITING if position else COMING, details))
        except GatewayError as error:
            # There is no room even for this; it is that stream's end, and nobody else's.
            self._fail(permit, error, "left")
