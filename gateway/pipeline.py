"""Pipeline: one source, its stages, its followers; whatever happens, the last event is a terminal one."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence

from gateway.errors import Code, GatewayError
from gateway.events import Completed, Event, Failed, Text, TextComplete, Usage, Warned
from gateway.request import CHARACTERS_PER_TOKEN
from gateway.resilience.continuation import go_on, open_to_more
from gateway.resilience.remembering import Brief
from gateway.sources.base import Batch, Enough, Outlet, Source
from gateway.stages.base import Chain, Follower, Stage
from gateway.streams.stream import Stream
from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

NO_VOICE = Warned("VOICE_UNAVAILABLE", "this gateway has no voice; the answer comes as text only")


class Pipeline:
    """What runs for one stream. Made afresh for every stream; `run` is called once.

    Followers may work for `follower_limit_s` seconds after the text has ended. Without a `brief` the source hears the
    stream's own request.
    """

    def __init__(
        self,
        source: Source,
        stages: Sequence[Stage] = (),
        followers: Sequence[Follower] = (),
        *,
        brief: Brief | None = None,
        follower_limit_s: float = 30.0,
        metrics: Metrics,
    ) -> None:
        self.source = source
        self.exact = source.exact and not followers
        self._stage = stages[0] if len(stages) == 1 else Chain(stages)
        self._brief = brief
        self._followers = followers
        self._follower_limit_s = follower_limit_s
        self._metrics = metrics
        self._started = time.monotonic()
        self.first_content_at = 0.0

    async def run(self, stream: Stream) -> None:
        """Fill `stream` from its second event to its last. Never raises: every ending is an event."""
        terminal: Completed | Failed
        try:
            await self._produce(stream)
            return
        except asyncio.CancelledError:
            terminal = self.cancelled(stream)
        except GatewayError as error:
            terminal = failed(error)
        except Exception:
            log.exception("a pipeline failed", extra={"stream_id": stream.sid})
            terminal = failed(GatewayError(Code.INTERNAL))
        if not stream.ended:
            stream.finish(terminal)

    def can_go_on(self, stream: Stream) -> bool:
        """Whether `run` can go on with a stream that another process began; what nobody has heard can be begun anew."""
        if stream.text_ended:
            return True
        if stream.lineage.exact or self.exact:
            return stream.lineage.exact == self.exact
        if not stream.content_events:
            return True
        return self.source.continues(stream.request) and open_to_more(stream.events())

    def cancelled(self, stream: Stream) -> Completed | Failed:
        """The end of a stream that somebody ended, or that was ended for a reason which makes it a failure."""
        if stream.seal_error is not None:
            return failed(stream.seal_error)
        return self._completed(stream, "cancelled", stream.seal_reason or "cancelled")

    async def _produce(self, stream: Stream) -> None:
        if stream.request.voice is not None and not self._followers and NO_VOICE not in stream.events():
            stream.aside(NO_VOICE)
        followers = [asyncio.create_task(self._follow(follower, stream)) for follower in self._followers]
        try:
            if not stream.text_ended:
                await self._take_text(stream, last=not followers)
            await self._finish_followers(followers)
            if not stream.ended:
                self._complete(stream)
        finally:
            for task in followers:
                task.cancel()

    async def _take_text(self, stream: Stream, *, last: bool) -> None:
        """Everything that the source says, to its end; with `last`, the stream ends with it."""
        stage = self._stage_behind(stream)
        try:
            await self._pour(stream, self._outlet(stream, stage.feed, last=last))
        except Enough:
            return
        except Exception:
            if not stream.text_ended:
                _say_last(stream, stage)
                raise
            # The text is whole, however its upstream takes it that we leave it.
            log.warning("a source failed behind its end", exc_info=True, extra={"stream_id": stream.sid})
        if not stream.text_ended:
            _say_last(stream, stage)
            raise GatewayError(Code.UPSTREAM_TRUNCATED)

    async def _pour(self, stream: Stream, outlet: Outlet) -> None:
        """What the source says behind all that the log holds already."""
        request = stream.request if self._brief is None else await self._brief(stream)
        if self.exact:
            await self.source.pour(request, outlet, skip=stream.poured)
        elif stream.content_events:
            await go_on(self.source, request, stream.text(), outlet)
        else:
            await self.source.pour(request, outlet)

    def _stage_behind(self, stream: Stream) -> Stage:
        """The stages, standing where the log stands."""
        stage = self._stage
        if self.exact:
            # Also where nothing but facts was said so far: they must not stand in the log twice.
            return Rest(stage, stream) if stream.poured else stage
        if stream.content_events:
            stage.feed([event for event in stream.events() if event.is_content])
            # What a stage holds of this stands in the log already.
            stage.last()
        return stage

    def _outlet(self, stream: Stream, feed: Callable[[Batch], Sequence[Event]], *, last: bool) -> Outlet:
        """Where the source pours: through the stages into the log, until the text ends."""
        append, provider, metrics = stream.append, self.source.name, self._metrics
        came, now_s = metrics.chunks(provider), time.monotonic
        last_content_at, seen, over = 0.0, 0, False

        def outlet(batch: Batch) -> None:
            nonlocal last_content_at, seen, over
            if over:
                return
            append(feed(batch))
            if stream.content_events != seen:
                now, seen = now_s(), stream.content_events
                if last_content_at:
                    came(now - last_content_at)
                else:
                    self.first_content_at = now
                    metrics.first_chunk(provider, now - self._started)
                last_content_at = now
            if stream.finish_reason:
                over = True
                if last:
                    # Before the source is over: nobody should wait for an upstream that lingers.
                    self._complete(stream)
                if type(batch[-1]) is not TextComplete:
                    # A stage has ended the text: the source is to make no more of it.
                    raise Enough

        return outlet

    def _complete(self, stream: Stream) -> None:
        stream.finish(self._completed(stream, "completed", stream.finish_reason))

    async def _follow(self, follower: Follower, stream: Stream) -> None:
        try:
            await follower.follow(stream)
        except Exception:
            log.exception("a follower failed", extra={"stream_id": stream.sid, "follower": follower.name})
            stream.aside(Warned("FOLLOWER_FAILED", f"{follower.name} stopped early", {"follower": follower.name}))

    async def _finish_followers(self, followers: list[asyncio.Task[None]]) -> None:
        if followers:
            _, late = await asyncio.wait(followers, timeout=self._follower_limit_s)
            for task in late:
                task.cancel()

    def _completed(self, stream: Stream, status: str, reason: str) -> Completed:
        # A wall clock only where the stream was begun by another process.
        passed_s = time.monotonic() - self._started if stream.epoch == 1 else time.time() - stream.created_s
        duration_ms = round(passed_s * 1000)
        return Completed(status, reason, usage_of(stream), stream.content_events, duration_ms)


class Rest(Stage):
    """What a chain of stages gives when an exact source says everything again: only what lies behind the log's end.

    Raises `PRODUCER_LOST` when the source turns out to say something else than it did: its texts have changed since.
    """

    def __init__(self, stage: Stage, stream: Stream) -> None:
        self._stage = stage
        self._said = stream.text() if not stream.lost else None
        self._left = stream.poured
        self._again: list[str] = []

    def feed(self, events: Sequence[Event]) -> Sequence[Event]:
        """What the stages make of `events`, as far as it is new."""
        return self._new(self._stage.feed(events))

    def last(self) -> Sequence[Event]:
        """What they still hold, as far as it is new."""
        return self._new(self._stage.last())

    def _new(self, made: Sequence[Event]) -> Sequence[Event]:
        if not self._left:
            return made
        heard = made[: self._left]
        self._left -= len(heard)
        self._again += [event for event in heard if isinstance(event, Text)]
        if not self._left and self._said is not None and "".join(self._again) != self._said:
            raise GatewayError(Code.PRODUCER_LOST, "the answer was begun with words that are not said any more")
        return made[len(heard) :]


def _say_last(stream: Stream, stage: Stage) -> None:
    """What the stages still hold of an answer that broke off; how it ends is settled already."""
    if not stream.sealed:
        with contextlib.suppress(GatewayError):
            stream.append(stage.last())


def failed(error: GatewayError) -> Failed:
    """The end of a stream that went wrong."""
    now_ms = int(time.time() * 1000)
    return Failed(error.code.name, error.message, error.retryable, error.status, now_ms, error.retry_after_s)


def usage_of(stream: Stream) -> Usage:
    """The provider's usage, or an estimate where the stream ended without one."""
    if stream.usage is not None:
        return stream.usage
    said = sum(event.size for event in stream.events() if event.is_content)
    return Usage(stream.request.asked_tokens(), said // CHARACTERS_PER_TOKEN, reported=False)
