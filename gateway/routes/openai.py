"""The OpenAI-compatible endpoints, streaming or not."""

import time
from contextlib import closing

import orjson
from aiohttp import web

from gateway.catalog import Catalog
from gateway.delivery.collector import Collector
from gateway.delivery.http import Delivery, Reading, refuse_ended, stream_headers
from gateway.delivery.waiter import Waiter, successor_of
from gateway.dialects.openai import OpenAIDialect
from gateway.errors import Code, GatewayError
from gateway.events import Event
from gateway.hub import Hub
from gateway.routes.bodies import read_json_body
from gateway.routes.callers import Callers
from gateway.routes.entrance import Entrance
from gateway.routes.streams import place_of
from gateway.streams.stream import Stream


class OpenAIRoutes:
    """`/v1/chat/completions` and `/v1/models`."""

    def __init__(
        self,
        hub: Hub,
        catalog: Catalog,
        delivery: Delivery,
        dialect: OpenAIDialect,
        entrance: Entrance,
        callers: Callers,
        *,
        body_s: float,
    ) -> None:
        self._hub = hub
        self._catalog = catalog
        self._delivery = delivery
        self._dialect = dialect
        self._entrance = entrance
        self._callers = callers
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
        visitor = await self._callers.visitor(request)
        body = await read_json_body(request, self._body_s)
        asked, streamed = self._dialect.read(body)
        visitor, asked = self._callers.asking(visitor, asked)
        if place_of(request) is not None:
            raise GatewayError(
                Code.INVALID_EVENT_ID, "streams of this dialect cannot be resumed; attach at /stream/{stream id}"
            )
        entered = await self._entrance.open(request, asked, visitor, self._dialect, arrived=arrived, streamed=streamed)
        stream = entered.stream
        with self._hub.reading(stream):
            if not streamed:
                return await self._whole(stream)
            reading = Reading(stream, self._dialect, None, True, entered.asked_at, entered.pipeline.source.name)
            return await self._delivery.deliver(request, reading)

    async def _whole(self, stream: Stream) -> web.Response:
        """The answer as one JSON object, or the error that ended it: half an answer is none."""
        events = await self._all_of(stream)
        while stream.given_up:
            stream = successor_of(stream)
            events = await self._all_of(stream)
        refuse_ended(stream)
        body = orjson.dumps(self._dialect.fold(stream, events))
        return web.Response(body=body, content_type="application/json", headers=stream_headers(stream))

    async def _all_of(self, stream: Stream) -> list[Event]:
        """Every event of a stream, once it has ended or is given up."""
        with closing(Collector(stream)) as collector, closing(Waiter(stream)) as waiter:
            await waiter.wait(lambda: stream.ended or stream.given_up)
        return collector.events

    async def models(self, request: web.Request) -> web.Response:
        """`GET /v1/models`."""
        await self._callers.visitor(request)
        names = await self._catalog.models()
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "sse-gateway"} for name in names]
        return web.Response(body=orjson.dumps({"object": "list", "data": data}), content_type="application/json")
