"""Answer: hears one answer of a Chat Completions service, and pours its events in the callback that read them."""

import asyncio
import email.utils
import logging
import time

from gateway.errors import Code, GatewayError
from gateway.events import Event, Text
from gateway.sources.base import Enough, Outlet
from gateway.sources.openai_chunks import ChunkReader
from gateway.sources.openai_stencil import Stencil
from gateway.sse import Parser
from gateway.transport.connection import Headers

log = logging.getLogger(__name__)

RETRY_AFTER_MAX_S = 3600.0
"""An upstream's Retry-After is passed on up to an hour; beyond that it is not advice but a mistake."""


class Answer:
    """A listener of the transport. `over` is done with the upstream's own marker, and fails with whatever went wrong.

    `let_end` says that what is still to come need not be heard, and that the connection is good for more.
    """

    def __init__(self, outlet: Outlet, max_event_bytes: int) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.let_end = False
        self.pieces = 0
        self._outlet = outlet
        self._parser = Parser(max_event_bytes)
        self._reader = ChunkReader()
        self._stencil = Stencil(max_event_bytes)
        self._batch: list[Event] = []

    def began(self, status: int, headers: Headers) -> None:
        """Anything but a stream of events that can be read as it comes is refused before its body is read."""
        if status >= 300:
            log.warning("upstream refused", extra={"status": status})
            self.let_end = True
            self.failed(refusal(status, headers))
        elif headers.get(b"content-encoding", b"identity").lower() not in (b"", b"identity"):
            self.failed(GatewayError(Code.UPSTREAM_PROTOCOL, "the upstream sent an encoding that was not asked for"))
        elif headers.get(b"content-type", b"").partition(b";")[0].strip().lower() != b"text/event-stream":
            self.failed(GatewayError(Code.UPSTREAM_PROTOCOL, "the upstream did not answer with text/event-stream"))

    def body(self, data: bytes) -> None:
        """A piece of the body, which nearly always is one event that brings one token."""
        self.pieces += 1
        if self.over.done():
            return
        token = self._stencil.token(data) if self._parser.between else None
        if token is not None:
            self._batch.append(Text(token))
        else:
            self._read(data)

    def rested(self) -> None:
        """What came together is poured together."""
        batch = self._batch
        if batch:
            self._batch = []
            try:
                self._outlet(batch)
            except Exception as error:
                self._give_up(error)
        if self._reader.done and not self.over.done():
            self.let_end = True
            self.over.set_result(None)

    def ended(self) -> None:
        """The body is over; the answer is only if it said so."""
        self.failed(GatewayError(Code.UPSTREAM_TRUNCATED))

    def failed(self, error: Exception) -> None:
        """The answer is over, and not whole. What arrived before is said before, however the network cut the bytes."""
        self.rested()
        self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        if not self.over.done():
            if isinstance(error, (GatewayError, Enough)):
                # Nobody asks where it was raised, and the frames there would hold us, who hold it.
                error.__traceback__ = error.__cause__ = error.__context__ = None
            self.over.set_exception(error)

    def _read(self, data: bytes) -> None:
        """Take the bytes apart, up to the end or to the first fault."""
        whole, known = self._parser.between, len(self._batch)
        try:
            self._parser.push(data, self._take)
        except GatewayError as error:
            self.failed(error)
        else:
            if self._reader.done:
                self._stencil.forget()
            elif whole and self._parser.between:
                self._stencil.learn(data, self._batch[known:])

    def _take(self, name: bytes, data: bytes) -> None:
        if not self._reader.done:
            self._batch += self._reader.read(name, data)


def refusal(status: int, headers: Headers) -> GatewayError:
    """The error for an upstream's status of 300 or more, which is passed on where it is one of HTTP's errors."""
    delay = retry_after_s(headers.get(b"retry-after", b"").decode("latin-1"))
    if status in (401, 403):
        return GatewayError(Code.UPSTREAM_AUTH, status=status)
    if status == 407:
        return GatewayError(Code.UPSTREAM_UNAVAILABLE, "the proxy refused to connect to the upstream")
    if status == 429:
        return GatewayError(Code.UPSTREAM_RATE_LIMITED, status=status, retry_after_s=delay)
    if 400 <= status < 500:
        return GatewayError(Code.UPSTREAM_REJECTED, f"the upstream refused the request ({status})", status=status)
    if 500 <= status < 600:
        return GatewayError(Code.UPSTREAM_ERROR, f"the upstream failed ({status})", status=status, retry_after_s=delay)
    return GatewayError(Code.UPSTREAM_PROTOCOL, f"the upstream answered {status}, which is no answer to a question")


def retry_after_s(value: str) -> float | None:
    """Seconds from a Retry-After of either form (RFC 9110, 10.2.3), 0 to an hour; None when it says nothing."""
    if value.isascii() and value.isdigit():
        return min(float(value), RETRY_AFTER_MAX_S)
    try:
        when_s = email.utils.parsedate_to_datetime(value).timestamp()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, when_s - time.time()), RETRY_AFTER_MAX_S)
