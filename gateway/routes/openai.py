"""The OpenAI-compatible endpoints, streaming or not."""

import time

import orjson
from aiohttp import web

from gateway.admission.tickets import TicketUsedError
from gateway.catalog import Catalog
from gateway.delivery.http import Delivery, Reading
from gateway.delivery.plain import answer_plainly
from gateway.dialects.openai import OpenAIDialect
from gateway.errors import Code, GatewayError
from gateway.routes.bodies import read_json_body
from gateway.routes.callers import Callers
from gateway.routes.entrance import Entrance
from gateway.routes.readings import Readings
from gateway.routes.streams import place_of


class OpenAIRoutes:
    """`/v1/chat/completions` and `/v1/models`."""

    def __init__(
        self,
        catalog: Catalog,
        delivery: Delivery,
        dialect: OpenAIDialect,
        entrance: Entrance,
        callers: Callers,
        readings: Readings,
        *,
        body_s: float,
    ) -> None:
        self._catalog = catalog
        self._delivery = delivery
        self._dialect = dialect
        self._entrance = entrance
        self._callers = callers
        self._readings = readings
        self._body_s = body_s

    def table(self) -> list[web.RouteDef]:
        """The routes."""
        return [
            web.post("/v1/chat/completions", self.complete),
            web.get("/v1/models", self.models),
        ]

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """`POST /v1/chat/completions`."""
        arrived = time.monotonic()
        visitor = await self._callers.visitor(request, tickets=True)
        body = await read_json_body(request, self._body_s)
        asked, streamed = self._dialect.read(body)
        visitor, asked = self._callers.asking(visitor, asked)
        if place_of(request) is not None:
            raise GatewayError(
                Code.INVALID_EVENT_ID, "streams of this dialect cannot be resumed; attach at /stream/{stream id}"
            )
        try:
            entered = await self._entrance.open(
                request, asked, visitor, self._dialect, arrived=arrived, streamed=streamed
            )
        except TicketUsedError:
            raise GatewayError(Code.FORBIDDEN, "the ticket has opened its stream; attach at /stream/{id}") from None
        stream = entered.stream
        if entered.asked_at is None:
            await self._callers.may_read(visitor, stream)
        with self._readings.of(request, visitor, stream):
            if not streamed:
                return await answer_plainly(stream, self._dialect)
            reading = Reading(stream, self._dialect, None, True, entered.asked_at, entered.pipeline.source.name)
            return await self._delivery.deliver(request, reading)

    async def models(self, request: web.Request) -> web.Response:
        """`GET /v1/models`: of all models those that the visitor's tenant may use."""
        visitor = await self._callers.visitor(request)
        own = visitor.tenant.features.models
        names = [name for name in await self._catalog.models() if not own or name in own]
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "sse-gateway"} for name in names]
        return web.Response(body=orjson.dumps({"object": "list", "data": data}), content_type="application/json")
