"""Reading a request's body: bounded in size and in time."""

import asyncio

from aiohttp import web

from gateway.errors import Code, GatewayError


async def read_json_body(request: web.Request, limit_s: float) -> bytes:
    """The raw body of a JSON request.

    Raises `UNSUPPORTED_MEDIA_TYPE`, `REQUEST_TIMEOUT`, `BAD_HTTP`; a body too large is aiohttp's 413.
    """
    kind = request.content_type
    if "Content-Type" in request.headers and kind != "application/json" and not kind.endswith("+json"):
        raise GatewayError(Code.UNSUPPORTED_MEDIA_TYPE, "the Content-Type must be application/json")
    if request.headers.get("Content-Encoding", "identity") != "identity":
        raise GatewayError(Code.UNSUPPORTED_MEDIA_TYPE, "the body must not be compressed")
    try:
        async with asyncio.timeout(limit_s):
            return await request.read()
    except TimeoutError:
        raise GatewayError(Code.REQUEST_TIMEOUT) from None
    except web.RequestPayloadError:
        raise GatewayError(Code.BAD_HTTP, "the body ended before it was whole") from None
