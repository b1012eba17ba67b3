"""Feedback: what a reader thought of an answer."""

from collections import OrderedDict
from collections.abc import Callable

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from gateway.dialects.fields import parse_object, validate
from gateway.hub import Hub
from gateway.routes.bodies import read_json_body
from gateway.routes.callers import Callers
from gateway.streams.ids import SID_PATTERN

REMEMBERED_MAX = 10_000
"""Rated streams of which it is known how they were rated; about 200 bytes each."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    rating: int = Field(ge=1, le=5)
    comment: str | None = Field(None, max_length=4000)


class FeedbackRoutes:
    """`POST /stream/{sid}/feedback`. `rated` is told each rating, and the one that it replaces."""

    body: type[BaseModel] = _Body
    """What may be said of an answer."""

    def __init__(self, hub: Hub, callers: Callers, rated: Callable[[int, int | None], None], *, body_s: float) -> None:
        self._hub = hub
        self._callers = callers
        self._rated = rated
        self._body_s = body_s
        self._ratings: OrderedDict[str, int] = OrderedDict()

    def table(self) -> list[web.RouteDef]:
        """The routes."""
        return [web.post(f"/stream/{{sid:{SID_PATTERN}}}/feedback", self.rate)]

    async def rate(self, request: web.Request) -> web.Response:
        """`{"rating": 1 to 5, "comment": …}` by whoever may read the stream; said again it replaces what was said.

        An answer has one rating, its owner's: whoever else may read it speaks for the owner, under whatever name it
        gives. Comments are not kept. A rating counts once in each process that hears of it.
        """
        visitor = await self._callers.reader(request, tickets=True)
        stream = await self._hub.find(request.match_info["sid"], visitor.caller)
        await self._callers.may_read(visitor, stream)
        rating = validate(_Body, parse_object(await read_json_body(request, self._body_s))).rating
        before = self._ratings.pop(stream.sid, None)
        self._ratings[stream.sid] = rating
        if len(self._ratings) > REMEMBERED_MAX:
            self._ratings.popitem(last=False)
        if rating != before:
            self._rated(rating, before)
        body = orjson.dumps({"stream_id": stream.sid, "rating": rating})
        return web.Response(body=body, content_type="application/json")
