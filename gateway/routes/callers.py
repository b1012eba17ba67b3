"""Who asks: what a request shows, taken from aiohttp, and what the page that asks may read of its answer."""

from dataclasses import replace

from aiohttp import web

from gateway.admission.identity import Identity, Shown, check_session, speaks_for
from gateway.admission.tenants import Registry
from gateway.admission.visitor import Trust, Visitor
from gateway.delivery.response import carry
from gateway.errors import Code, GatewayError
from gateway.request import StreamRequest
from gateway.streams.stream import Stream

EXPOSED = ", ".join(
    (
        "X-Stream-Id",
        "Location",
        "Retry-After",
        "X-RateLimit-Limit",
        "X-RateLimit-Remaining",
        "X-RateLimit-Reset",
        "RateLimit",
        "RateLimit-Policy",
        "X-Request-Id",
    )
)
"""Headers of an answer that a page of another origin may read."""

NO_TICKET = "a ticket is good for one stream, and for nothing else"


class Callers:
    """Asks the door's identity who it is, for every route of streams."""

    def __init__(self, identity: Identity, registry: Registry) -> None:
        self._identity = identity
        self._registry = registry

    async def visitor(self, request: web.Request, *, tickets: bool = False) -> Visitor:
        """Who asks, by headers and query; see `Identity.identify` for what it raises.

        `FORBIDDEN` for one that shows a ticket, but where `tickets` are taken: for the stream that one is good for.
        """
        headers = request.headers
        forwarded = ",".join(headers.getall("X-Forwarded-For")) if "X-Forwarded-For" in headers else ""
        shown = Shown(headers, request.query, request.remote or "", forwarded, headers.get("Host", ""))
        origins = self._registry.now.origins
        if not origins:
            visitor = await self._identity.identify(shown)
            if visitor.ticket and not tickets:
                raise GatewayError(Code.FORBIDDEN, NO_TICKET)
            return visitor
        carry(request, {"Vary": "Origin"})
        origin = headers.get("Origin")
        try:
            visitor = await self._identity.identify(shown)
        except GatewayError as error:
            # Before anybody is known each tenant's pages may read why, or they could not tell 401 from no network.
            if origin in origins and error.code is not Code.ORIGIN_NOT_ALLOWED:
                _let_read(request, origin)
            raise
        if origin in visitor.tenant.origins:
            _let_read(request, origin)
        if visitor.ticket and not tickets:
            raise GatewayError(Code.FORBIDDEN, NO_TICKET)
        return visitor

    async def reader(self, request: web.Request, *, tickets: bool = False) -> Visitor:
        """The same of a request that has no body to say more. Raises `INVALID_REQUEST` as `asking` does."""
        visitor = await self.visitor(request, tickets=tickets)
        check_session(visitor)
        return visitor

    async def may_read(self, visitor: Visitor, stream: Stream) -> None:
        """Raise `STREAM_NOT_FOUND` where it may not; see `Identity.lets_read`."""
        if visitor.trust is not Trust.BELIEVED:
            await self._identity.lets_read(visitor, stream.sid, stream.owner)

    def asking(self, visitor: Visitor, asked: StreamRequest) -> tuple[Visitor, StreamRequest]:
        """The visitor as whom its question names, and the question, which names nobody else. Raises `FORBIDDEN`,
        and `INVALID_REQUEST` where a stranger has no session that is hard to guess.
        """
        visitor = speaks_for(visitor, asked.user_id, asked.session_id)
        check_session(visitor)
        if asked.user_id is not None and asked.user_id != visitor.caller.user:
            parameters = {name: value for name, value in asked.parameters.items() if name != "user"}
            asked = replace(asked, user_id=None, parameters=parameters)
        return visitor, asked


def _let_read(request: web.Request, origin: str | None) -> None:
    carry(request, {"Access-Control-Allow-Origin": origin or "", "Access-Control-Expose-Headers": EXPOSED})
