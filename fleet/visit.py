"""Visit: one connection of one client, from its request to its end, without a task while it reads."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import httptools
import orjson


class Seen(NamedTuple):
    """One event as it came. `at` is loop time in seconds; `id` is empty where the event itself had none."""

    at: float
    name: str
    id: str
    data: dict[str, object]

    @property
    def text(self) -> str:
        """The token of a `text` event, else nothing."""
        return str(self.data["token"]) if self.name == "text" else ""


class Visit(asyncio.Protocol):
    """Sends `request` and tells `heard` each event, and `told_retry` each `retry:` in seconds.

    `over` is set when nothing more will come; then `status` is the HTTP status (0 where no head came), and `whole`
    whether the answer ended properly or was cut.
    """

    def __init__(self, request: bytes, heard: Callable[[Seen], None], told_retry: Callable[[float], None]) -> None:
        self._request = request
        self._heard = heard
        self._told_retry = told_retry
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpResponseParser(self)
        self._rest = b""
        self._transport: asyncio.Transport | None = None
        self._events = False
        self.over: asyncio.Future[None] = self._loop.create_future()
        self.status = 0
        self.whole = False
        self.retry_after_s = 0.0

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Read what has come."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end, whoever made it."""
        if not self.over.done():
            self.over.set_result(None)

    def hang_up(self) -> None:
        """Leave."""
        if self._transport is not None:
            self._transport.abort()

    # What the HTTP parser says.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Two headers matter."""
        if name.lower() == b"content-type":
            self._events = value.startswith(b"text/event-stream")
        elif name.lower() == b"retry-after" and value.isdigit():
            self.retry_after_s = float(value)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self.status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """A piece of the answer: whole blocks of it are events. An event without its blank line never happened."""
        if not self._events:
            return
        *blocks, self._rest = (self._rest + body).split(b"\n\n")
        now = self._loop.time()
        for block in blocks:
            self._block(block, now)

    def on_message_complete(self) -> None:
        """The answer has ended properly."""
        self.whole = True
        self.hang_up()

    def _block(self, block: bytes, now: float) -> None:
        """One event; the gateway writes one line for each field."""
        fields = dict(line.partition(b": ")[::2] for line in block.split(b"\n") if not line.startswith(b":"))
        if retry := fields.get(b"retry"):
            self._told_retry(int(retry) / 1000)
        if data := fields.get(b"data"):
            name, id_ = fields.get(b"event", b"message"), fields.get(b"id", b"")
            self._heard(Seen(now, name.decode(), id_.decode(), orjson.loads(data)))
