"""`/preferences`: how the caller's user likes to be answered, for all questions that do not say otherwise."""

import orjson
from aiohttp import web

from gateway.admission.preferences import Likings
from gateway.dialects.fields import parse_object
from gateway.dialects.preferences import parse_preferences, told
from gateway.errors import Code, GatewayError
from gateway.request import Caller, Preferences
from gateway.routes.bodies import read_json_body
from gateway.routes.callers import Callers


class PreferenceRoutes:
    """Read them, set them. Times in seconds."""

    def __init__(self, callers: Callers, likings: Likings, *, body_s: float) -> None:
        self._callers = callers
        self._likings = likings
        self._body_s = body_s

    def table(self) -> list[web.RouteDef]:
        """The routes."""
        return [
            web.get("/preferences", self.read, allow_head=False),
            web.put("/preferences", self.write),
        ]

    async def read(self, request: web.Request) -> web.Response:
        """`GET /preferences`: what the user said last, null where nothing. Raises `STORE_AWAY`."""
        return _answer(await self._likings.read(await self._user(request)))

    async def write(self, request: web.Request) -> web.Response:
        """`PUT /preferences`: in place of all that was said before. Raises `INVALID_REQUEST`, `STORE_AWAY`."""
        caller = await self._user(request)
        said = parse_preferences(parse_object(await read_json_body(request, self._body_s)), within="")
        await self._likings.write(caller, said)
        return _answer(said)

    async def _user(self, request: web.Request) -> Caller:
        """The caller. Raises `INVALID_REQUEST` where no user is named: preferences of nobody would be everybody's."""
        caller = (await self._callers.visitor(request)).caller
        if caller.user is None:
            raise GatewayError(Code.INVALID_REQUEST, "user_id is needed", param="user_id")
        return caller


def _answer(preferences: Preferences) -> web.Response:
    body = orjson.dumps(told(preferences))
    return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})
