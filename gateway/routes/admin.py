"""The operator's own routes: on a listener of their own, never on the public one."""

import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from hmac import compare_digest
from typing import Any

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.admission.flag_changes import changed, iso, shown, shown_now
from gateway.dialects.fields import parse_object
from gateway.errors import Code, GatewayError
from gateway.flags import Flag, FlagStore
from gateway.routes.bodies import read_json_body

log = logging.getLogger(__name__)

ACTOR_MAX = 64
FAILURES_MAX, FAILURES_S = 10, 10.0
"""So many wrong tokens in so many seconds; after them a wrong one is told 429 for the rest. The right one is let in all
the same: what keeps guessing hopeless is the length of the token, and nobody may keep the operator out.
"""

BODY_MAX = 256 * 1024

Reload = Callable[[], Awaitable[str]]
"""Reads the tenants again. Empty where that went well; else what is wrong, and everything is as before."""


class AdminRoutes:
    """`/admin/…`: flags and their audit trail, and what is read again without a restart. `clock` tells Unix time."""

    def __init__(
        self,
        flags: FlagStore,
        *,
        token: str,
        body_s: float,
        reload_tenants: Reload,
        clock: Callable[[], float] = time.time,
        passing: Callable[[], float] = time.monotonic,
    ) -> None:
        self._flags = flags
        self._token = token.encode()
        self._body_s = body_s
        self._reload_tenants = reload_tenants
        self._clock = clock
        self._passing = passing
        self._failures: deque[float] = deque(maxlen=FAILURES_MAX)

    def table(self) -> list[web.RouteDef]:
        """The routes."""
        return [
            web.get("/admin/flags", self.list, allow_head=False),
            web.get("/admin/flags/{name}", self.show, allow_head=False),
            web.patch("/admin/flags/{name}", self.change),
            web.get("/admin/flags/{name}/audit", self.audit, allow_head=False),
            web.post("/admin/tenants/reload", self.reload),
        ]

    @web.middleware
    async def guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let in who has the token and is no page in a browser."""
        headers = request.headers
        # A page that loads an image names no origin; its browser says all the same that it is one that asks.
        if "Origin" in headers or headers.get("Sec-Fetch-Site", "none") != "none":
            raise GatewayError(Code.ORIGIN_NOT_ALLOWED, "pages in browsers may not ask here")
        self._check_token(headers.get("Authorization", ""))
        return await handler(request)

    def _check_token(self, shown_token: str) -> None:
        scheme, _, token = shown_token.partition(" ")
        # Compared even where the scheme is wrong: the answer takes as long.
        right = compare_digest(token.strip().encode("utf-8", "surrogateescape"), self._token)
        if right and scheme.lower() == "bearer":
            return
        now = self._passing()
        if len(self._failures) == FAILURES_MAX and now - self._failures[0] < FAILURES_S:
            wait_s = FAILURES_S - (now - self._failures[0])
            raise GatewayError(Code.RATE_LIMITED, "too many wrong tokens", retry_after_s=wait_s)
        self._failures.append(now)
        raise GatewayError(Code.UNAUTHENTICATED, "the admin token is needed", headers={"WWW-Authenticate": "Bearer"})

    async def list(self, request: web.Request) -> web.Response:
        """`GET /admin/flags`: all of them as they are in force."""
        now = self._clock()
        return _json({"flags": [shown_now(flag, now) for flag in self._flags.read().values()]})

    async def show(self, request: web.Request) -> web.Response:
        """`GET /admin/flags/{name}`: one, with its version as `ETag`."""
        return self._answer(self._flag(request))

    async def change(self, request: web.Request) -> web.Response:
        """`PATCH /admin/flags/{name}`: change what the body names; with `If-Match` only the version it names."""
        name, only = self._flag(request).name, _version(request)
        said = parse_object(await read_json_body(request, self._body_s))

        def change(flag: Flag) -> Flag:
            if only is not None and flag.version != only:
                raise GatewayError(Code.INVALID_REQUEST, "the flag was changed meanwhile", status=412, param="If-Match")
            return changed(flag, said, self._clock())

        return self._answer(await self._flags.change(name, change, _actor(request)))

    async def audit(self, request: web.Request) -> web.Response:
        """`GET /admin/flags/{name}/audit`: who changed it, when, from what to what; the newest first."""
        entries = await self._flags.audit(self._flag(request).name)
        told = [
            {"actor": actor, "at": iso(at_s), "before": shown(before), "after": shown(after)}
            for actor, at_s, before, after in entries
        ]
        return _json({"changes": told})

    async def reload(self, request: web.Request) -> web.Response:
        """`POST /admin/tenants/reload`: read the tenants again; a file that is wrong changes nothing."""
        log.info("the tenants are read again", extra={"actor": _actor(request)})
        problem = await self._reload_tenants()
        if problem:
            raise GatewayError(Code.INVALID_REQUEST, problem)
        return _json({"reloaded": True})

    def _flag(self, request: web.Request) -> Flag:
        flag = self._flags.read().get(request.match_info["name"])
        if flag is None:
            raise GatewayError(Code.NOT_FOUND, "there is no such flag")
        return flag

    def _answer(self, flag: Flag) -> web.Response:
        return _json(shown_now(flag, self._clock()), {"ETag": f'"{flag.version}"'})


def _actor(request: web.Request) -> str:
    """Who says to be changing something; refused where nobody says it."""
    said = request.headers.get("X-Actor", "")
    if not said or len(said) > ACTOR_MAX or not said.isprintable():
        raise GatewayError(
            Code.INVALID_REQUEST,
            f"X-Actor: who changes this, in 1 to {ACTOR_MAX} printable characters",
            param="X-Actor",
        )
    return said


def _version(request: web.Request) -> int | None:
    said = request.headers.get("If-Match", "*").strip()
    if said == "*":
        return None
    digits = said.removeprefix('"').removesuffix('"')
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise GatewayError(Code.INVALID_REQUEST, "If-Match: the ETag of the flag", param="If-Match")
    return int(digits)


def _json(body: dict[str, Any], headers: dict[str, str] | None = None) -> web.Response:
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", **(headers or {})}
    return web.Response(body=orjson.dumps(body), headers=headers, content_type="application/json")
