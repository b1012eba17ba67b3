"""Connection: the life of one client's reading, on one screen.

LIVE: an append is framed and written in the loop turn in which it happens. LAGGING: the connection catches
up from the log, waiting for the client's socket. Only its own catching up makes it LIVE, in the turn where
its cursor is at the head and nothing is buffered, with no await between; a full socket makes it LAGGING.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from gateway.delivery.framer import Framer
from gateway.delivery.heart import Heart
from gateway.delivery.sink import Sink
from gateway.errors import ClientGone, SlowClient
from gateway.events import Event, Record, Text, Warned, has_content
from gateway.streams.cursor import Cursor
from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


class Ending(StrEnum):
    """How a connection ended. A slow client is cut off, so that it sees that there is more, and so is one for whom
    an event could not be put into words, or whose stream is made by another process now; the others end cleanly.

    `renewed` is no end for the client: its reading goes on in the successor of the stream.
    """

    FINISHED = "finished"
    SENT_AWAY = "sent_away"
    LOST = "lost"
    SLOW = "slow"
    GONE = "gone"
    BROKEN = "broken"
    SUPERSEDED = "superseded"
    RENEWED = "renewed"


@dataclass(frozen=True, slots=True)
class Patience:
    """What a slow reader is granted: bytes and seconds of lag until text is merged, and until it is cut off.

    `turn_bytes` and `turn_events` bound what is written at once while catching up: a small event takes some hundred
    bytes on the wire, so that a bound of payload alone would let a reader that takes nothing hold megabytes.
    """

    merge_bytes: int
    merge_s: float
    abort_bytes: int
    write_deadline_s: float
    turn_bytes: int = 32 * 1024
    turn_events: int = 256


class Connection:
    """One client's reading of one stream.

    `comes_back` says that the client reconnects by itself after a clean end, so that it may be sent away at
    `rotate_at` (loop time) or when the process drains. `asked_at` is when the request that opened the stream
    came; `first_token_s` then holds the seconds to the first content written.
    """

    def __init__(
        self, cursor: Cursor, framer: Framer, sink: Sink, heart: Heart, patience: Patience, metrics: Metrics
    ) -> None:
        self._cursor = cursor
        self._stream = cursor.stream
        self._framer = framer
        self._sink = sink
        self._heart = heart
        self._patience = patience
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._live = False
        self._wake: asyncio.Future[None] | None = None
        self._trouble: Exception | None = None
        self._lagging_since = 0.0
        self._merging = False
        # What was already there when the reader came is no fault of the reader's.
        self._abort_bytes = patience.abort_bytes + cursor.lag_bytes
        self._news: list[Event] = []
        self._sent_away = ""
        self._retry_ms = 0
        self.replayed = 0
        self.comes_back = False
        self.rotate_at = 0.0
        self.touched = heart.tick
        self.asked_at: float | None = None
        self.first_token_s: float | None = None

    async def run(self, *, retry_ms: int = 0, greet: bool = True) -> Ending:
        """Read until the stream ends, the client leaves or is sent away; `greet` it first."""
        self._stream.attach(self)
        self._heart.add(self)
        # Where nobody takes even a heartbeat, the write deadline runs from there on.
        self._sink.on_congestion(self._stop_live)
        try:
            if greet:
                hello = self._framer.encoder.hello(resumed=self._cursor.resumed, retry_ms=retry_ms)
                self._write(self._framer.pack(hello))
            while True:
                await self._catch_up()
                if self._stream.given_up:
                    return Ending.SUPERSEDED if self._stream.successor is None else Ending.RENEWED
                if self._cursor.done:
                    return self._part(Ending.FINISHED, "complete")
                if self._sent_away:
                    return self._part(Ending.SENT_AWAY, self._sent_away, self._retry_ms)
                await self._told()
        except ClientGone:
            return Ending.GONE
        except SlowClient:
            self._metrics.slow_consumer("aborted")
            return Ending.SLOW
        except LostPlace:
            return Ending.LOST
        except Exception:
            # An event that cannot be told ends this reading, neither the stream nor anybody else's.
            log.exception("a connection failed", extra={"stream_id": self._stream.sid})
            return Ending.BROKEN
        finally:
            self._sink.on_congestion(None)
            self._heart.remove(self)
            self._stream.detach(self)

    # Told from outside, in a callback.

    def appended(self, first: int, events: Sequence[Event]) -> None:
        """New at the head of the log: write it now if LIVE, else it is there when we catch up."""
        if not self._live:
            if self._lagging_since and self._cursor.lag_bytes > self._abort_bytes:
                self._fail(SlowClient())
            self._stop_live()
            return
        try:
            data = self._framer.frame(first, events)
            if len(data) > self._patience.turn_bytes and len(events) > 1:
                # A burst: it goes out in turns, as far as the client takes it, or each reader would hold all of it.
                self._stop_live()
                return
            over = self._stream.terminal is not None
            if data:
                self._sink.write(data, last=over)
                self.touched = self._heart.tick
        except Exception as error:
            self._fail(error)
            return
        # LIVE is at the head: there is nothing to be counted.
        self._cursor.at_the_head()
        if self.asked_at is not None:
            self._look_for_content(events)
        if over:
            self._stop_live()

    def superseded(self) -> None:
        """Another process makes the stream now, or another log goes on with it: nothing more is read of this one."""
        if self._stream.successor is None:
            # Perhaps other words were said elsewhere since: those that have not gone out yet must not.
            self._sink.drop()
        self._stop_live()
        self._sink.release()

    def tell(self, event: Event) -> None:
        """Say something that is not in the log, to this client only."""
        self._news.append(event)
        self._stop_live()

    def pulse(self, tick: int, now: float) -> int:
        """Called by the heart when silence may be due for a beat; gives the tick at which to call again."""
        silent = tick - self.touched
        if silent >= self._heart.period and self._wake is not None:
            try:
                self._sink.beat()
            except ClientGone as error:
                self._fail(error)
            self.touched = tick
            self._heart.beats += 1
        if self.comes_back and now >= self.rotate_at and not self._stream.text_ended:
            self.send_away("rotate", self._heart.retry_ms())
        return max(self.touched, tick - self._heart.period + 1) + self._heart.period

    def send_away(self, reason: str, retry_ms: int) -> None:
        """End this connection politely, if its client is one that `comes_back`; the stream goes on without it."""
        if not self.comes_back:
            return
        self._sent_away, self._retry_ms = reason, retry_ms
        self._stop_live()

    # The shell around it.

    async def _told(self) -> None:
        """Wait while LIVE, or ahead of the log; returns when there is something to do that LIVE alone cannot do."""
        if self._live or self._cursor.ahead:
            self._wake = self._loop.create_future()
            try:
                await self._wake
            finally:
                self._wake = None
        if self._trouble is not None:
            raise self._trouble

    async def _catch_up(self) -> None:
        """Write what lies between the cursor and the head, as fast as the client takes it; then be LIVE."""
        while True:
            await self._drained()
            if self._stream.given_up:
                return
            if self._sink.congested:
                continue
            records = self._next()
            if records:
                self._write(self._framer.frame_once(records), last=self._cursor.done)
                if self.asked_at is not None:
                    self._look_for_content([record.event for record in records])
            if not records or (self._cursor.at_head and not self._lagging_since and not self._sink.congested):
                self._live = self._cursor.at_head and not self._cursor.done and not self._sent_away
                self._lagging_since = 0.0
                self._merging = False
                self._abort_bytes = self._patience.abort_bytes
                return
            # Others have their turn after each one of ours.
            await asyncio.sleep(0)

    async def _drained(self) -> None:
        if self._trouble is not None:
            raise self._trouble
        if self._sink.congested:
            if not self._lagging_since:
                self._lagging_since = self._loop.time()
            await self._sink.drained(self._patience.write_deadline_s)
        if self._trouble is not None:
            raise self._trouble

    def _next(self) -> Sequence[Record]:
        patience = self._patience
        while self._news:
            self._write(self._framer.pack(self._framer.encoder.notice(self._news.pop(0))))
        records = self._cursor.read(patience.turn_bytes, merge=self._should_merge(), max_events=patience.turn_events)
        for notice in self._cursor.notices():
            self._notify(notice)
        if self._cursor.resumed:
            self.replayed += len(records)
        return records

    def _notify(self, notice: Event) -> None:
        """Say what is not in the log; a dialect that cannot take text back says its last words instead."""
        encoder = self._framer.encoder
        if isinstance(notice, Warned) and not encoder.can_replace:
            self._write(self._framer.pack(encoder.lost(notice)))
            raise LostPlace
        if encoder.can_replace or not isinstance(notice, Text):
            self._write(self._framer.pack(encoder.notice(notice)))

    def _should_merge(self) -> bool:
        """Beyond the first bound, adjacent text goes out as one piece."""
        if self._stream.request.full_text:
            # Each event repeats the whole text: to repeat it for every token missed would take megabytes.
            return True
        if not self._lagging_since:
            return False
        late = self._loop.time() - self._lagging_since > self._patience.merge_s
        if not self._merging and (late or self._cursor.lag_bytes > self._patience.merge_bytes):
            self._merging = True
            self._metrics.slow_consumer("merged")
        return self._merging

    def _part(self, ending: Ending, reason: str, retry_ms: int = 0) -> Ending:
        frames = self._framer.encoder.farewell(reason, retry_ms=retry_ms)
        if frames:
            self._write(self._framer.pack(frames), last=True)
        return ending

    def _write(self, data: bytes, *, last: bool = False) -> None:
        if data:
            self._sink.write(data, last=last)
            self.touched = self._heart.tick

    def _look_for_content(self, events: Sequence[Event]) -> None:
        """The first content that is written to the client that asked is timed."""
        if self.asked_at is not None and has_content(events):
            self.first_token_s = time.monotonic() - self.asked_at
            self.asked_at = None

    def _stop_live(self) -> None:
        self._live = False
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)

    def _fail(self, error: Exception) -> None:
        self._trouble = error
        self._stop_live()
        self._sink.release()


class LostPlace(Exception):
    """The place of a reader is lost, and its dialect cannot start over."""
