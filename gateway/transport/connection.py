"""UpstreamConnection: one HTTP/1.1 connection to an upstream; what is read is handed on in the callback that reads it.

No task, future or timer for a piece of the body: that is what makes a token cheap. Reading the head and the chunks is
llhttp's work (RFC 9112), strict as it comes.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol, cast

import httptools

from gateway.errors import Code, GatewayError
from gateway.turn import Turn

HEAD_MAX_BYTES = 64 * 1024
"""Of an answer's status line and headers, and of its trailers."""

TRAILER_S = 0.25
TRAILER_MAX_BYTES = 16 * 1024
"""How long, and how much, to read on when the listener has heard enough, so that the connection can be used again."""

Headers = dict[bytes, bytes]
"""By lower-case name; of a repeated header the last one."""


class Listener(Protocol):
    """Hears one answer, in order. Called from a socket's callback: must not wait and must not raise."""

    pieces: int
    """How many pieces of the body it has been told."""

    def began(self, status: int, headers: Headers) -> None:
        """The head of the answer."""

    def body(self, data: bytes) -> None:
        """A piece of its body."""

    def rested(self) -> None:
        """What one read of the socket brought has been told."""

    def ended(self) -> None:
        """The body is whole."""

    def failed(self, error: GatewayError) -> None:
        """There will be no more, though it is not whole: `UPSTREAM_UNAVAILABLE`, `_TRUNCATED` or `_PROTOCOL`."""


class UpstreamConnection(asyncio.Protocol):
    """Idle, asking, or reading to the end of an answer that nobody listens to any more.

    `released` is called once for each question: the connection can be used again, or it is lost.
    """

    def __init__(self, turn: Turn, released: Callable[["UpstreamConnection"], None]) -> None:
        # The event loop calls the turn itself: it is a step less for each token.
        self.data_received = partial(turn.read, self._take)  # type: ignore[method-assign]  # the loop looks it up here
        self._turn = turn
        self._released = released
        self._transport: asyncio.Transport | None = None
        self._parser: httptools.HttpResponseParser | None = None
        self._listener: Listener | None = None
        self._headers: Headers = {}
        self._bytes = self._pieces = 0
        self._begun = False
        self._until_close = False
        self._timer: asyncio.TimerHandle | None = None
        self.idle_since = 0.0
        self.on_body: Callable[[bytes], None] | None = None

    @property
    def usable(self) -> bool:
        """Whether a question can be asked on it, and nothing was read that could be taken for its answer."""
        if self._transport is None or self._parser is not None or self._transport.is_closing():
            return False
        return not self._turn.holds(self._take)

    def ask(self, request: bytes, listener: Listener) -> None:
        """Send a whole request; `listener` hears the answer."""
        assert self._transport is not None
        self._listener, self._bytes, self._begun, self._pieces = listener, 0, False, 0
        # The parser keeps what it finds here: a piece of the body takes no step through this object.
        self.on_body = listener.body
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(request)

    def leave(self, listener: Listener, *, at_end: bool) -> None:
        """`listener` hears no more, but perhaps pieces of the body, which it must pass over.

        Without effect where its answer is over, and the connection perhaps another's.

        `at_end`: what is missing is only the end of the body, so that the connection can be used again if it comes
        in a moment. Else the upstream shall know at once, and the connection is closed.
        """
        if self._listener is not listener or self._transport is None:
            return
        if not at_end:
            self.drop()
            return
        self._hush()
        self._bytes = 0
        self._timer = asyncio.get_running_loop().call_later(TRAILER_S, self._transport.abort)

    def drop(self) -> None:
        """Close at once, whatever is going on."""
        self._hush()
        if self._transport is not None:
            self._transport.abort()

    # Called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def _take(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            self.drop()  # Nobody asked.
            return
        try:
            parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(GatewayError(Code.UPSTREAM_PROTOCOL, "the upstream's answer is not well-formed HTTP"))
            return
        listener = self._listener
        if listener is None or not self._begun:
            self._bound(len(data))
        elif listener.pieces == self._pieces:
            self._bound(len(data))  # Neither head nor body: trailers, which the parser keeps.
        else:
            self._pieces, self._bytes = listener.pieces, 0
            listener.rested()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._transport = None
        # It holds us, so that nobody else could let go of us.
        del self.data_received
        listener = self._listener
        self._hush()
        if listener is not None:
            if self._begun and self._until_close and exc is None:
                listener.ended()
            elif self._begun:
                listener.failed(
                    GatewayError(Code.UPSTREAM_TRUNCATED, "the upstream's connection was cut in its answer")
                )
            else:
                listener.failed(GatewayError(Code.UPSTREAM_UNAVAILABLE))
        self._free()

    # Called by the parser; what they raise would be its error.

    def on_message_begin(self) -> None:
        """The first byte of an answer; behind the one that was asked for there is none."""
        if self._begun:
            raise httptools.HttpParserError

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header of the answer; trailers are not looked at."""
        if not self._begun:
            self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The head is whole; those of interim answers (RFC 9110, section 15.2) are passed over."""
        assert self._parser is not None
        status, headers = self._parser.get_status_code(), self._headers
        self._headers = {}
        if status < 200:
            return
        self._begun, self._bytes = True, 0
        coding = headers.get(b"transfer-encoding", b"").lower()
        self._until_close = not coding.endswith(b"chunked") and b"content-length" not in headers and status != 204
        if self._listener is not None:
            self._listener.began(status, headers)

    def on_message_complete(self) -> None:
        """The body is whole."""
        parser, listener = self._parser, self._listener
        if not self._begun or parser is None:
            return
        if parser.should_keep_alive() and self._transport is not None and not self._transport.get_write_buffer_size():
            self._hush()
            self._free()
        else:
            self.drop()  # Nor is a connection good for more on which the question was not even read.
        if listener is not None:
            listener.ended()

    def _bound(self, count: int) -> None:
        """Neither a head, nor trailers, nor what comes behind the listener's interest may go on for ever."""
        self._bytes += count
        if not self._begun and self._bytes > HEAD_MAX_BYTES:
            self._fail(GatewayError(Code.UPSTREAM_PROTOCOL, "the head of the upstream's answer is too large"))
        elif self._listener is not None and self._bytes > HEAD_MAX_BYTES:
            self._fail(GatewayError(Code.UPSTREAM_PROTOCOL, "the upstream's trailers are too large"))
        elif self._listener is None and self._bytes > TRAILER_MAX_BYTES and self._parser is not None:
            self.drop()

    def _hush(self) -> None:
        self._listener = self.on_body = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, error: GatewayError) -> None:
        listener = self._listener
        self.drop()
        if listener is not None:
            listener.failed(error)

    def _free(self) -> None:
        """The question is over."""
        if self._parser is not None:
            self._parser = None
            self._released(self)
