"""`POST /stream/tickets`: what a browser's EventSource shows, which can set no header."""

from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict

from gateway.admission.identity import check_session, speaks_for
from gateway.admission.tickets import TICKET_S, Tickets
from gateway.admission.visitor import Trust, Visitor
from gateway.dialects.fields import Name, parse_object, validate
from gateway.routes.bodies import read_json_body
from gateway.routes.callers import Callers

Count = Callable[[Visitor], Awaitable[None]]
"""Counts a ticket for somebody. Raises `RATE_LIMITED` where that is one too many."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    user_id: Name | None = None
    session_id: Name | None = None


class TicketRoutes:
    """Makes tickets for whoever shows something better."""

    body: type[BaseModel] = _Body
    """What may be said of them."""

    def __init__(self, callers: Callers, tickets: Tickets, count: Count, *, body_s: float) -> None:
        self._callers = callers
        self._tickets = tickets
        self._count = count
        self._body_s = body_s

    def table(self) -> list[web.RouteDef]:
        """The route."""
        return [web.post("/stream/tickets", self.issue)]

    async def issue(self, request: web.Request) -> web.Response:
        """A ticket for the user and the session that are named; a session is made up where none is.

        Raises `RATE_LIMITED` to who asks for too many, `OVERLOADED` and `STORE_AWAY`.
        """
        visitor = await self._callers.visitor(request)
        body = await read_json_body(request, self._body_s)
        asked = validate(_Body, parse_object(body)) if body else _Body()
        visitor = speaks_for(visitor, asked.user_id, asked.session_id)
        if visitor.trust is not Trust.STRANGER or visitor.caller.session is not None:
            check_session(visitor)
        await self._count(visitor)
        issued = await self._tickets.issue(visitor)
        answer = {"ticket": issued.ticket, "expires_in_s": TICKET_S, "session_id": issued.session}
        return web.Response(
            body=orjson.dumps(answer), content_type="application/json", headers={"Cache-Control": "no-store"}
        )
