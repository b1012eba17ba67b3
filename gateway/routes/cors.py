"""CORS: what browsers ask before they ask (Fetch standard, section 3.2), answered from the tenants' lists."""

from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.admission.tenants import Registry
from gateway.errors import Code, GatewayError

METHODS = "GET, POST, PUT, PATCH, DELETE"
HEADERS = ", ".join(
    (
        "Authorization",
        "Content-Type",
        "Idempotency-Key",
        "Last-Event-ID",
        "X-API-Key",
        "X-Request-Id",
        "X-Session-Id",
        "X-Tenant-Hash",
        "X-User-Id",
    )
)
"""Of requests: those that the gateway reads, and no others."""

MAX_AGE_S = 600


class Preflights:
    """A middleware that answers preflights on every path. They carry no credential, so that any tenant's page may."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    @web.middleware
    async def answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """204, or `ORIGIN_NOT_ALLOWED`; anything but a preflight is for `handler`."""
        if request.method != "OPTIONS" or "Access-Control-Request-Method" not in request.headers:
            return await handler(request)
        origin = request.headers.get("Origin", "")
        if origin not in self._registry.now.origins:
            raise GatewayError(Code.ORIGIN_NOT_ALLOWED, headers={"Vary": "Origin"})
        headers = {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Methods": METHODS,
            "Access-Control-Allow-Headers": HEADERS,
            "Access-Control-Max-Age": str(MAX_AGE_S),
            "Vary": "Origin",
        }
        return web.Response(status=204, headers=headers)
