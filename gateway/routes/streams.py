"""The native endpoints: open, attach, resume, cancel."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import orjson
from aiohttp import web

from gateway.admission.tickets import TicketUsedError
from gateway.admission.visitor import Trust, Visitor
from gateway.delivery.http import Delivery, Reading, stream_headers
from gateway.delivery.plain import answer_plainly, wants_plain
from gateway.dialects.base import Dialect
from gateway.dialects.native import NativeDialect
from gateway.errors import Code, GatewayError
from gateway.hub import Hub
from gateway.request import OnDisconnect, StreamRequest
from gateway.routes.bodies import read_json_body
from gateway.routes.callers import Callers
from gateway.routes.entrance import Entrance
from gateway.routes.readings import Readings
from gateway.streams.ids import SID_PATTERN, Place, parse_place
from gateway.streams.store import Summary
from gateway.telemetry.metrics import Metrics

CONTROLS = frozenset(("dialect", "events", "detach", "last_event_id", "idempotency_key", "ticket", "tenant_hash"))
"""Query parameters that say who asks and how to be answered, not what is asked."""

_OTHER = "/stream/{other:(?!tickets$)[^{}/]+}"
"""What has routes of its own is left to them: a 405 of theirs names their methods and no others."""

CREATED_S = 1.0
"""For the stream of a ticket to be there, when another request is just opening it."""

LOOK_S = 0.02


class StreamRoutes:
    """`/stream` and `/stream/{sid}`."""

    def __init__(
        self,
        hub: Hub,
        delivery: Delivery,
        dialects: dict[str, Dialect],
        native: NativeDialect,
        entrance: Entrance,
        callers: Callers,
        readings: Readings,
        *,
        body_s: float,
        metrics: Metrics,
    ) -> None:
        self._hub = hub
        self._delivery = delivery
        self._dialects = dialects
        self._native = native
        self._entrance = entrance
        self._callers = callers
        self._readings = readings
        self._body_s = body_s
        self._metrics = metrics

    def table(self) -> list[web.RouteDef]:
        """The routes."""
        sid = f"/stream/{{sid:{SID_PATTERN}}}"
        return [
            web.post("/stream", self.open_by_post),
            web.get("/stream", self.open_by_get, allow_head=False),
            web.get("/streams", self.list, allow_head=False),
            web.get(sid, self.attach, allow_head=False),
            web.delete(sid, self.cancel),
            web.get(_OTHER, self.malformed, allow_head=False),
            web.delete(_OTHER, self.malformed),
        ]

    async def open_by_post(self, request: web.Request) -> web.StreamResponse:
        """`POST /stream`: a new stream, or one to come back to (`Last-Event-ID`, idempotency key)."""
        arrived = time.monotonic()
        visitor = await self._callers.visitor(request, tickets=True)
        dialect = self._dialect_of(request)
        plain = wants_plain(request)
        asked = self._native.parse(await read_json_body(request, self._body_s), _unread(dialect, plain=plain))
        return await self._open(request, asked, dialect, visitor, arrived, plain=plain)

    async def open_by_get(self, request: web.Request) -> web.StreamResponse:
        """`GET /stream?query=…`: the same for EventSource, which cannot POST."""
        arrived = time.monotonic()
        visitor = await self._callers.visitor(request, tickets=True)
        fields = {name: value for name, value in request.query.items() if name not in CONTROLS}
        dialect = self._dialect_of(request)
        plain = wants_plain(request)
        asked = self._native.parse_query(fields, _unread(dialect, plain=plain))
        return await self._open(request, asked, dialect, visitor, arrived, plain=plain)

    async def attach(self, request: web.Request) -> web.StreamResponse:
        """`GET /stream/{sid}`: read a stream that exists, from `Last-Event-ID` on or from its beginning."""
        visitor = await self._callers.reader(request, tickets=True)
        sid = request.match_info["sid"]
        dialect = self._dialect_of(request)
        place = place_of(request)
        if place is not None and place.sid != sid:
            raise GatewayError(Code.INVALID_EVENT_ID, "Last-Event-ID belongs to another stream than the path")
        return await self._come_back(request, sid, place, dialect, visitor)

    async def cancel(self, request: web.Request) -> web.Response:
        """`DELETE /stream/{sid}`: end it as cancelled; idempotent."""
        visitor = await self._callers.reader(request, tickets=True)
        sid = request.match_info["sid"]
        if visitor.trust is not Trust.BELIEVED:
            await self._callers.may_read(visitor, await self._hub.find(sid, visitor.caller))
        stream = await self._hub.cancel(sid, visitor.caller)
        state = {"stream_id": stream.sid, "state": "cancelling" if not stream.ended else stream.state.value}
        return web.Response(body=orjson.dumps(state), content_type="application/json", status=200)

    async def list(self, request: web.Request) -> web.Response:
        """`GET /streams`: the streams of the user or session that asks, in whatever process they are made."""
        visitor = await self._callers.reader(request)
        caller = visitor.caller
        if caller.user is None and caller.session is None:
            # A list of what nobody in particular opened would be a list of other people's streams.
            raise GatewayError(Code.INVALID_REQUEST, "user_id or session_id is needed", param="user_id")
        found = [_listed(summary) for summary in await self._hub.streams_of(caller)]
        return web.Response(body=orjson.dumps({"streams": found}), content_type="application/json")

    async def malformed(self, request: web.Request) -> web.StreamResponse:
        """A path that cannot be a stream's."""
        await self._callers.visitor(request, tickets=True)
        raise GatewayError(Code.INVALID_EVENT_ID, "a stream id is 22 letters and digits")

    async def _open(
        self,
        request: web.Request,
        asked: StreamRequest,
        dialect: Dialect,
        visitor: Visitor,
        arrived: float,
        *,
        plain: bool,
    ) -> web.StreamResponse:
        visitor, asked = self._callers.asking(visitor, asked)
        if asked.session_id is None and visitor.caller.session is not None:
            # Named by a header, a ticket or a token, it is the question's session all the same.
            asked = replace(asked, session_id=visitor.caller.shown_session)
        place = place_of(request)
        bare = unnamed(request)
        if place is not None:
            return await self._come_back(request, place.sid, place, dialect, visitor)
        if visitor.bound:
            # A browser's EventSource repeats its URL for ever: a ticket in it that opened a stream means that one.
            return await self._of_ticket(request, visitor.bound, dialect, visitor)
        detach = "detach" in request.query
        try:
            entered = await self._entrance.open(
                request, asked, visitor, dialect, arrived=arrived, streamed=detach or not plain, detach=detach
            )
        except TicketUsedError as used:
            return await self._of_ticket(request, used.sid, dialect, visitor)
        stream = entered.stream
        if entered.asked_at is None:
            await self._callers.may_read(visitor, stream)
        if detach:
            body = orjson.dumps({"stream_id": stream.sid, "state": stream.state.value})
            return web.Response(status=202, body=body, headers=stream_headers(stream), content_type="application/json")
        with self._readings.of(request, visitor, stream):
            if plain:
                return await answer_plainly(stream, dialect)
            return await self._delivery.deliver(
                request, Reading(stream, dialect, None, bare, entered.asked_at, entered.pipeline.source.name)
            )

    async def _of_ticket(
        self, request: web.Request, sid: str, dialect: Dialect, visitor: Visitor
    ) -> web.StreamResponse:
        """The stream that a ticket has opened; another request may be just about to."""
        end = time.monotonic() + CREATED_S
        while time.monotonic() < end:
            try:
                await self._hub.find(sid, visitor.caller)
                break
            except GatewayError as error:
                if error.code is not Code.STREAM_NOT_FOUND:
                    raise
            await asyncio.sleep(LOOK_S)
        return await self._come_back(request, sid, None, dialect, visitor)

    async def _come_back(
        self, request: web.Request, sid: str, place: Place | None, dialect: Dialect, visitor: Visitor
    ) -> web.StreamResponse:
        bare = unnamed(request)
        try:
            stream = await self._hub.find(sid, visitor.caller)
            await self._callers.may_read(visitor, stream)
        except GatewayError as error:
            self._metrics.resumed("expired" if error.code is Code.STREAM_EXPIRED else "denied", 0)
            raise
        with self._readings.of(request, visitor, stream):
            if wants_plain(request):
                return await answer_plainly(stream, dialect)
            return await self._delivery.deliver(request, Reading(stream, dialect, place, bare))

    def _dialect_of(self, request: web.Request) -> Dialect:
        name = request.query.get("dialect", self._native.name)
        dialect = self._dialects.get(name)
        if dialect is None:
            names = sorted(self._dialects)
            raise GatewayError(
                Code.UNKNOWN_DIALECT, "dialects are: " + ", ".join(names), param="dialect", allowed=names
            )
        return dialect


def _listed(summary: Summary) -> dict[str, Any]:
    names = {"session_id": summary.session, "model": summary.model, "created": summary.created_s}
    return {"stream_id": summary.sid, "state": summary.state.value, **names}


def place_of(request: web.Request) -> Place | None:
    """Where the client was: the header wins over the query, since EventSource keeps the old query for ever."""
    text = request.headers.get("Last-Event-ID") or request.query.get("last_event_id")
    return parse_place(text) if text else None


def unnamed(request: web.Request) -> bool:
    """`?events=unnamed`: no `event:` lines, for clients that only hear `message`."""
    value = request.query.get("events", "named")
    if value not in ("named", "unnamed"):
        raise GatewayError(
            Code.INVALID_REQUEST, "events: named or unnamed", param="events", allowed=["named", "unnamed"]
        )
    return value == "unnamed"


def _unread(dialect: Dialect, *, plain: bool) -> OnDisconnect:
    """Who cannot come back has left for good; who waits for a plain answer hears of its stream when it has ended."""
    return OnDisconnect.GRACE if dialect.resumable and not plain else OnDisconnect.CANCEL
