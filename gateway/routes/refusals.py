"""Errors before the first byte, and what every answer carries."""

import asyncio
import logging
import math
import re
from collections.abc import Callable

import orjson
from aiohttp import HttpVersion10, HttpVersion11, web
from aiohttp.typedefs import Handler

from gateway.delivery.http import is_native_get, is_one_too_many
from gateway.delivery.response import CARRIED, HEADERS, SERVER
from gateway.dialects.base import Dialect
from gateway.errors import Code, GatewayError
from gateway.randomness import Names
from gateway.sse import Frame, encode
from gateway.telemetry.logs import request_id
from gateway.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_request_ids = Names("0123456789abcdef", 16)
_OF_STATUS = {404: Code.NOT_FOUND, 405: Code.METHOD_NOT_ALLOWED, 413: Code.BODY_TOO_LARGE}
ALWAYS_ANSWERED = ("/health/", "/metrics")
"""Whoever watches the process must see that it is full, not that it is gone."""

SPOKEN = (HttpVersion11, HttpVersion10)

WAIT_CODES = frozenset((Code.OVERLOADED, Code.STORE_FULL, Code.STORE_AWAY, Code.DRAINING, Code.QUEUE_FULL))
"""Refusals that say "not now": a browser's EventSource must be told so in a 200, or it closes for ever."""

COME_BACK_S = 30
"""The longest that a browser is sent away from a full queue: its user waits before the page."""


class Refusals:
    """The outermost middleware: gives each request an id, and each error its answer in the caller's dialect."""

    def __init__(self, dialects: dict[str, Dialect], retry_ms: Callable[[], int], metrics: Metrics) -> None:
        self._dialects = dialects
        self._retry_ms = retry_ms
        self._metrics = metrics

    def guard(self, handler: Handler) -> Handler:
        """`handler` with the same answers to its errors, for requests that do not come by way of an application."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            response = await self.answered(request, handler)
            if not response.prepared:
                await self.sign(request, response)
            return response

        return guarded

    @web.middleware
    async def answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """What `handler` answers to `request`, or the refusal that its error stands for."""
        given = request.headers.get("X-Request-Id")
        request_id.set(given if given and _REQUEST_ID.fullmatch(given) else _request_ids.new())
        try:
            if is_one_too_many(request) and not request.path.startswith(ALWAYS_ANSWERED):
                raise GatewayError(Code.OVERLOADED, retry_after_s=2)
            if request.version not in SPOKEN:
                raise GatewayError(Code.BAD_HTTP, "the versions of HTTP spoken here are 1.0 and 1.1")
            return await handler(request)
        except GatewayError as error:
            return self._answer(request, error)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            response = self._answer(request, self._translate(error))
            if "Allow" in error.headers:
                response.headers["Allow"] = error.headers["Allow"]
            return response
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("a handler failed", extra={"route": _route_of(request)})
            return self._answer(request, GatewayError(Code.INTERNAL))

    async def sign(self, request: web.Request, response: web.StreamResponse) -> None:
        """Every answer carries its request's id, and no versions."""
        if response.status == 417 and isinstance(response, web.Response):
            # aiohttp refuses an `Expect` before any middleware is asked, and repeats what was sent.
            error = GatewayError(Code.BAD_HTTP, "the only expectation that can be met is 100-continue", status=417)
            body = response.body = orjson.dumps(self._dialect(request).refusal(error))
            response.content_type = "application/json"
            response.headers["Content-Length"] = str(len(body))
        response.headers["X-Request-Id"] = request_id.get()
        if CARRIED in request:
            response.headers.update(request[CARRIED])
        response.headers["Server"] = SERVER
        if is_one_too_many(request):
            response.headers["Connection"] = "close"
            response.force_close()

    def _translate(self, error: web.HTTPException) -> GatewayError:
        return GatewayError(_OF_STATUS.get(error.status, Code.BAD_HTTP))

    def _answer(self, request: web.Request, error: GatewayError) -> web.Response:
        self._metrics.refused(error.code.name)
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **error.headers}
        if error.retry_after_s is not None:
            headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
        dialect = self._dialect(request)
        if error.code in WAIT_CODES and is_native_get(request) and dialect.resumable:
            return self._come_back(error, headers, request.query.get("events") == "unnamed")
        if error.ended_a_stream or error.code in (Code.IDEMPOTENCY_MISMATCH, Code.STREAMING_DISABLED):
            # Asking again is the user's decision, not a client library's, or cannot help.
            headers["x-should-retry"] = "false"
        body = orjson.dumps(dialect.refusal(error))
        return web.Response(status=error.status, body=body, headers=headers, content_type="application/json")

    def _come_back(self, error: GatewayError, headers: dict[str, str], unnamed: bool) -> web.Response:
        retry_ms = self._retry_ms()
        if error.code is Code.QUEUE_FULL:
            # Behind the estimate, so that those who were sent away together do not come back together.
            retry_ms += round(min(error.retry_after_s or 0, COME_BACK_S) * 1000)
        data = {"state": "retry", "code": error.code.name, "message": error.message, "retry": retry_ms}
        if unnamed:
            frame = Frame(orjson.dumps({"event": "status", **data}), retry_ms=retry_ms)
        else:
            frame = Frame(orjson.dumps(data), b"status", retry_ms=retry_ms)
        return web.Response(status=200, body=encode(frame), headers={**headers, **HEADERS})

    def _dialect(self, request: web.Request) -> Dialect:
        """The one that the request was made in, so that its client understands the answer."""
        if request.path.startswith("/v1/"):
            return self._dialects["openai"]
        return self._dialects.get(request.query.get("dialect", ""), self._dialects["native"])


def _route_of(request: web.Request) -> str:
    """The pattern of the route, never the path that was asked for."""
    try:
        resource = request.match_info.route.resource
    except (AssertionError, AttributeError):
        # No application looked for it: its path is one of the few that are served without.
        return request.path
    return resource.canonical if resource is not None else "unknown"
