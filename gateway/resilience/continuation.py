"""Continuation: a Source whose answer goes on where its upstream broke off in the middle of it."""

import asyncio
import io
import logging
from dataclasses import replace

from gateway.errors import Code, GatewayError
from gateway.events import Reasoning, Refusal, Status, Text, TextComplete, ToolCall, Usage, WholeText
from gateway.request import CHARACTERS_PER_TOKEN, StreamRequest
from gateway.resilience.around import Around
from gateway.resilience.seam import Behind
from gateway.sources.base import Batch, Outlet, Source
from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

BROKEN_OFF = frozenset(
    (
        Code.UPSTREAM_TRUNCATED,
        Code.UPSTREAM_UNAVAILABLE,
        Code.UPSTREAM_ERROR,
        Code.UPSTREAM_TIMEOUT,
        Code.UPSTREAM_PROTOCOL,
    )
)
"""What another call of the same upstream may do better."""


async def go_on(source: Source, request: StreamRequest, text: str, outlet: Outlet) -> None:
    """Pour what `source`, which `continues(request)`, says behind `text`, without what it repeats of it.

    The usage at the end is the provider's for what it said now, and an estimate of what led to the text.
    """
    more = request.continued(text)
    # Its last message may begin with words of the caller's, which are as likely to be repeated.
    behind = Behind(more.messages[-1]["content"], _with_usage(_estimated(request, text), outlet))
    try:
        await source.pour(more, behind)
    except Exception:
        behind.flush()
        raise
    behind.flush()


def _with_usage(before: Usage, outlet: Outlet) -> Outlet:
    def added(batch: Batch) -> None:
        last = batch[-1]
        if type(last) is TextComplete and last.usage is not None:
            usage = replace(
                last.usage,
                prompt_tokens=last.usage.prompt_tokens + before.prompt_tokens,
                completion_tokens=last.usage.completion_tokens + before.completion_tokens,
                reported=False,
            )
            batch = [*batch[:-1], replace(last, usage=usage)]
        outlet(batch)

    return added


def _estimated(request: StreamRequest, text: str) -> Usage:
    return Usage(request.asked_tokens(), len(text) // CHARACTERS_PER_TOKEN, reported=False)


def open_to_more(events: Batch) -> bool:
    """Whether an answer so far could go on behind its text: no tool call, refusal or reasoning is open."""
    said = _Said(_nobody)
    said(events)
    return said.open_to_more


def _nobody(batch: Batch) -> None:
    """Hears nothing."""


class Continuation(Around):
    """Asks `source` again when it breaks off in mid-answer, up to `continue_max` times for one answer.

    Only where the source `continues` the request, and only plain text is open: no tool call, refusal or reasoning.
    Limits of the source are those of each part; `total_s` seconds are for all parts together.
    """

    def __init__(self, source: Source, *, continue_max: int, total_s: float, metrics: Metrics) -> None:
        super().__init__(source)
        self._continue_max = continue_max
        self._total_s = total_s
        self._metrics = metrics

    async def pour(self, request: StreamRequest, outlet: Outlet, skip: int = 0) -> None:
        """The source's own where it does not continue the request; else its answer, in as many parts as it takes."""
        if skip or not self._source.continues(request):
            await self._source.pour(request, outlet, skip)
            return
        said, ends_at = _Said(outlet), asyncio.get_running_loop().time() + self._total_s
        parts = 0
        while True:
            try:
                await self._pour_part(request, said, ends_at, first=not parts)
            except GatewayError as error:
                if parts:
                    self._metrics.continuation("failed")
                if not self._goes_on(error, said, ends_at, parts):
                    raise
                log.warning("upstream broke off, going on", extra={"provider": self.name, "code": error.code.name})
            else:
                if parts:
                    self._metrics.continuation("continued")
                return
            parts += 1
            outlet([Status("continued", "the provider broke off; the answer goes on")])

    async def _pour_part(self, request: StreamRequest, said: "_Said", ends_at: float, *, first: bool) -> None:
        if first:
            await self._source.pour(request, said)
            return
        try:
            async with asyncio.timeout_at(ends_at):
                await go_on(self._source, request, said.text, said)
        except TimeoutError:
            message = f"the answer did not end within {self._total_s:g} s"
            raise GatewayError(Code.UPSTREAM_TIMEOUT, message) from None

    def _goes_on(self, error: GatewayError, said: "_Said", ends_at: float, parts: int) -> bool:
        """Whether to ask again, after so many parts of which the last ended with `error`."""
        if error.code not in BROKEN_OFF or said.over or not said.begun or parts >= self._continue_max:
            return False
        if asyncio.get_running_loop().time() >= ends_at:
            return False
        if said.open_to_more:
            return True
        self._metrics.continuation("refused")
        return False


class _Said:
    """An outlet that remembers the text, and what else decides whether an answer can go on."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._pieces = io.StringIO()
        self._thinks = self._barred = False
        self.begun = False
        """Whether there was any content."""
        self.over = False
        """Whether the source has said that the answer is whole."""

    @property
    def text(self) -> str:
        """All of it so far."""
        return self._pieces.getvalue()

    @property
    def open_to_more(self) -> bool:
        """Whether there is text, and nothing open that text could not go on with."""
        return bool(self.text) and not self._thinks and not self._barred

    def __call__(self, batch: Batch) -> None:
        """Hand it on, and remember."""
        for event in batch:
            if type(event) is Text:
                self._pieces.write(event)
                self.begun, self._thinks = True, False
            elif isinstance(event, WholeText):
                self._pieces = io.StringIO()
                self._pieces.write(event)
                self.begun, self._thinks = True, False
            elif event.is_content:
                self.begun = True
                self._thinks = isinstance(event, Reasoning)
                self._barred = self._barred or isinstance(event, (ToolCall, Refusal))
            elif type(event) is TextComplete:
                self.over = True
        self._outlet(batch)
