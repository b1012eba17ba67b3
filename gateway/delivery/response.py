"""The head of a stream's answer, and an answer that aiohttp has nothing left to do for."""

from collections.abc import Mapping
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
_CHUNKS = "Transfer-Encoding: chunked\r\n"


CARRIED = web.RequestKey("carried", dict[str, str])
"""The key of a request's own store, for what its answer is to carry besides."""


def carry(request: web.BaseRequest, headers: Mapping[str, str]) -> None:
    """Let the answer to `request` carry `headers`, whatever it will be. They are ours: no line break is looked for."""
    request[CARRIED] = {**request.get(CARRIED, {}), **headers}


class StreamedResponse(web.StreamResponse):
    """An answer whose head and body its sink writes to the connection itself.

    aiohttp only learns from it whether the connection may be used again, so that one object stands for many answers.
    """

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._again = keep_alive

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


_AGAIN, _LAST = StreamedResponse(keep_alive=True), StreamedResponse(keep_alive=False)


def answer(request: web.BaseRequest, sid: str) -> tuple[StreamedResponse, bytes, bool]:
    """The answer to `request`, its head for the stream `sid`, and whether its body goes out in HTTP chunks.

    A body without chunks, for HTTP/1.0, ends with its connection.
    """
    chunked = request.version >= HttpVersion11
    again = chunked and request.keep_alive
    framing = _CHUNKS if chunked else ""
    last = "" if again else "Connection: close\r\n"
    names = f"X-Stream-Id: {sid}\r\nLocation: /stream/{sid}\r\nX-Request-Id: {request_id.get()}\r\n"
    if CARRIED in request:
        names += "".join(f"{name}: {value}\r\n" for name, value in request[CARRIED].items())
    status = f"HTTP/1.{int(chunked)} 200 OK\r\n"
    head = f"{status}{_SAME}{names}Date: {_date(int(time()))}\r\n{framing}{last}\r\n"
    return _AGAIN if again else _LAST, head.encode(), chunked


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    """The header's value, made once a second."""
    return formatdate(second, usegmt=True)
