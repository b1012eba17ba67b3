"""Reading a request's body: bounded in size and in time."""

import asyncio

from aiohttp import web

from gateway.errors import Code, GatewayError

JSON = "application/json"


async def read_json_body(request: web.Request, limit_s: float) -> bytes:
    """The raw body of a JSON request.

    Raises `UNSUPPORTED_MEDIA_TYPE`, `REQUEST_TIMEOUT`, `BAD_HTTP`; a body too large is aiohttp's 413.
    """
    headers = request.headers
    if headers.get("Content-Type", JSON) != JSON and not _is_json(request.content_type):
        raise GatewayError(Code.UNSUPPORTED_MEDIA_TYPE, "the Content-Type must be application/json")
    if headers.get("Content-Encoding", "identity") != "identity":
        raise GatewayError(Code.UNSUPPORTED_MEDIA_TYPE, "the body must not be compressed")
    try:
        if request.content.is_eof():
            # All of it came with the head, as it mostly does: no timer, nothing to wait for.
            body = request.content.read_nowait()
            if len(body) > request.client_max_size:
                raise web.HTTPRequestEntityTooLarge(request.client_max_size, len(body))
            return body
        async with asyncio.timeout(limit_s):
            return await request.read()
    except TimeoutError:
        raise GatewayError(Code.REQUEST_TIMEOUT) from None
    except web.RequestPayloadError:
        raise GatewayError(Code.BAD_HTTP, "the body ended before it was whole") from None


def _is_json(kind: str) -> bool:
    return kind == JSON or kind.endswith("+json")
