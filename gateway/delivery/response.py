"""The head of a stream's answer, and an answer that aiohttp has nothing left to do for."""

from email.utils import formatdate
from functools import lru_cache
from time import time

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http import HttpVersion11

from gateway.telemetry.logs import request_id

SERVER = "sse-gateway"
HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    "X-Content-Type-Options": "nosniff",
}
"""Of every stream: nobody between us and the client may keep, change or hold back anything."""

_SAME = "".join(f"{name}: {value}\r\n" for name, value in {**HEADERS, "Server": SERVER}.items())
_BODY_OF_CHUNKS = "Transfer-Encoding: chunked\r\n"
_LAST_ANSWER = "Connection: close\r\n"


class StreamedResponse(web.StreamResponse):
    """The answer to `request` whose head and body its sink writes to the connection itself.

    aiohttp only learns from it whether the connection may be used again: a body without chunks ends with it.
    """

    def __init__(self, request: web.BaseRequest) -> None:
        super().__init__()
        self._minor = request.version.minor
        self.chunked_body = request.version >= HttpVersion11
        self._again = self.chunked_body and request.keep_alive

    @property
    def keep_alive(self) -> bool:
        """Whether another request may follow."""
        return self._again

    @property
    def prepared(self) -> bool:
        """Nobody else may choose its head."""
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Nothing: the sink has written the head."""
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing: the sink has ended the body, or cut the connection."""

    def head(self, sid: str) -> bytes:
        """Status and headers of the stream `sid`."""
        names = f"X-Stream-Id: {sid}\r\nLocation: /stream/{sid}\r\nX-Request-Id: {request_id.get()}\r\n"
        framing = _BODY_OF_CHUNKS if self.chunked_body else ""
        last = "" if self._again else _LAST_ANSWER
        return (
            f"HTTP/1.{self._minor} 200 OK\r\n{_SAME}{names}Date: {_date(int(time()))}\r\n{framing}{last}\r\n".encode()
        )


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    """The header's value, made once a second."""
    return formatdate(second, usegmt=True)
