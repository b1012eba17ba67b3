"""Doubles: small true things that stand in for big ones, each with a script or a memory of its own."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from gateway.delivery.packing import PLAIN
from gateway.delivery.sink import Packing
from gateway.errors import ClientGone, SlowClient
from gateway.events import Completed, Event, Record, TextComplete, Usage
from gateway.request import Caller, Caps, OnDisconnect, StreamRequest
from gateway.sources.base import Outlet
from gateway.sse import HEARTBEAT, Parser, ServerEvent
from gateway.stages.truncate import Truncate
from gateway.streams.ids import new_sid
from gateway.streams.stream import DEFAULT_BOUNDS, Bounds, Stream
from gateway.telemetry.metrics import Metrics

T = TypeVar("T")

ALICE = Caller("acme", user="alice", session="s1")
BOB = Caller("acme", user="bob", session="s2")
END = TextComplete("stop", Usage(3, 4))
DONE = Completed("completed", "stop", None, 0, 1)


def question(text: str = "hi", **changes: Any) -> StreamRequest:
    """A request that asks `text`; everything else as a native client's defaults."""
    values: dict[str, Any] = {
        "messages": ({"role": "user", "content": text},),
        "model": "m",
        "on_disconnect": OnDisconnect.GRACE,
        "grace_s": 30.0,
        **changes,
    }
    return StreamRequest(**values)


def stream_of(*events: Event, bounds: Bounds = DEFAULT_BOUNDS, **changes: Any) -> Stream:
    """A stream of Alice's, with these events appended one by one."""
    stream = Stream(new_sid(), question(**changes), ALICE, bounds)
    for event in events:
        stream.append([event])
    return stream


def uncapped(max_bytes: int) -> Truncate:
    """A limit that nothing comes near but its end."""
    return Truncate(Caps(), max_bytes=max_bytes, asked_tokens=lambda: 0)


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


class _JumpingSelector(selectors.SelectSelector):
    """Does not wait: the clock jumps to when the waiting would be over."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._clock.advance(timeout or 0.0)
        return super().select(0 if timeout is not None else None)


class ManualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is moved by hand, or jumps while everybody waits: a test of seconds takes none."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        super().__init__(_JumpingSelector(self.clock))

    def time(self) -> float:
        return self.clock()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` to its end; time jumps to whatever it waits for."""
        return self.run_until_complete(work)

    def turn(self, times: int = 5) -> None:
        """Let everything run that can."""
        for _ in range(times):
            self.run_until_complete(asyncio.sleep(0))

    def advance(self, seconds: float, step_s: float | None = None) -> None:
        """Let time pass in steps, with a few turns after each."""
        steps = 1 if step_s is None else round(seconds / step_s)
        for _ in range(steps):
            self.clock.advance(seconds / steps)
            self.turn()


class RecordingMetrics(Metrics):
    """Remembers every verb that was said."""

    def __init__(self) -> None:
        self.said: list[tuple[str, tuple[Any, ...]]] = []
        for name in vars(Metrics):
            if not name.startswith("_") and name != "chunks":
                setattr(self, name, partial(self._note, name))

    def chunks(self, provider: str) -> Callable[[float], None]:
        return partial(self._note, "chunk", provider)

    def _note(self, name: str, *values: Any) -> None:
        self.said.append((name, values))

    def of(self, name: str) -> list[tuple[Any, ...]]:
        """What was said with this verb, in order."""
        return [values for said, values in self.said if said == name]


HANG = float("inf")
"""A step of a script: wait for ever."""

Step = Sequence[Event] | float | BaseException | asyncio.Event


class ScriptedSource:
    """Plays a script: a batch is poured, a number waited, an event awaited, an exception raised."""

    name = "scripted"
    exact = False

    def __init__(self, *script: Step) -> None:
        self._script = script
        self.calls = 0
        self.closed = 0

    async def pour(self, request: StreamRequest, outlet: Outlet, skip: int = 0) -> None:
        """The script, once for each call."""
        self.calls += 1
        try:
            for step in self._script:
                if isinstance(step, Sequence):
                    outlet(list(step))
                elif isinstance(step, BaseException):
                    raise step
                elif isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    await asyncio.sleep(step)
        finally:
            self.closed += 1

    def continues(self, request: StreamRequest) -> bool:
        """It knows only its script."""
        return False

    async def check(self) -> None:
        """Always there."""

    async def close(self) -> None:
        """Nothing to let go of."""


class ScriptedFollower:
    """A follower that does what its function does."""

    def __init__(self, follow: Callable[[Stream], Coroutine[Any, Any, None]], name: str = "scripted") -> None:
        self.follow = follow
        self.name = name


class RecordingReader:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[Record] = []
        self.calls = 0
        self.is_superseded = False

    def appended(self, first: int, events: Sequence[Event]) -> None:
        self.calls += 1
        self.told += [Record(seq, event) for seq, event in enumerate(events, first)]

    def superseded(self) -> None:
        self.is_superseded = True


class RecordingSink:
    """A client behind a socket with `room` bytes of buffer (None: no end of it).

    What does not fit waits in this process until the client takes some. `arrived` is what the client has.
    """

    def __init__(self, room: int | None = None) -> None:
        self.packing: Packing = PLAIN
        self.room = room
        self.arrived = b""
        self.waiting = b""
        self.writes: list[bytes] = []
        self.beats = 0
        self.gone = False
        self.limits: list[float] = []
        self._wake: asyncio.Future[None] | None = None
        self._tell: Callable[[], None] | None = None
        self._slow = False

    def write(self, data: bytes, *, last: bool = False) -> None:
        if self.gone:
            raise ClientGone
        self.writes.append(data)
        waited = self.congested
        self.waiting += data
        self._flow()
        if self.congested and not waited and self._tell is not None:
            self._tell()

    def beat(self) -> None:
        self.write(HEARTBEAT)
        self.beats += 1

    def on_congestion(self, tell: Callable[[], None] | None) -> None:
        self._tell = tell

    def drop(self) -> None:
        self.waiting = b""

    @property
    def congested(self) -> bool:
        return bool(self.waiting)

    async def drained(self, limit_s: float) -> None:
        self.limits.append(limit_s)
        if self.waiting and not self.gone:
            self._wake = asyncio.get_running_loop().create_future()
            await self._wake
        if self.gone:
            raise ClientGone
        if self._slow:
            raise SlowClient

    def release(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    # What the client does.

    def take(self, count: int | None = None) -> None:
        """Read `count` bytes, or everything and ever after."""
        if count is None:
            self.room = None
        elif self.room is not None:
            self.room += count
        self._flow()
        if not self.waiting:
            self.release()

    def leave(self) -> None:
        """Hang up."""
        self.gone = True
        self.release()

    def stall(self) -> None:
        """Take nothing until the write deadline is over."""
        self._slow = True
        self.release()

    def _flow(self) -> None:
        count = len(self.waiting) if self.room is None else min(self.room, len(self.waiting))
        self.arrived += self.waiting[:count]
        self.waiting = self.waiting[count:]
        if self.room is not None:
            self.room -= count

    @property
    def events(self) -> list[ServerEvent]:
        """What the client has understood so far."""
        return Parser(1 << 24).feed(self.arrived)
