"""`/sessions/{session}`: what is remembered of a conversation, to be read and forgotten by whoever holds it."""

import orjson
from aiohttp import web

from gateway.admission.identity import check_session, speaks_for
from gateway.admission.visitor import Trust
from gateway.errors import Code, GatewayError
from gateway.request import Caller
from gateway.routes.callers import Callers
from gateway.sessions import Exchange, SessionStore


class SessionRoutes:
    """Read one, delete one. Somebody else's is as unknown as one that never was."""

    def __init__(self, callers: Callers, store: SessionStore) -> None:
        self._callers = callers
        self._store = store

    def table(self) -> list[web.RouteDef]:
        """The routes."""
        # Any name that a question may give it, braces too.
        path = "/sessions/{session:[^/]+}"
        return [web.get(path, self.read, allow_head=False), web.delete(path, self.delete)]

    async def read(self, request: web.Request) -> web.Response:
        """`GET /sessions/{session}`: its messages, the oldest first. Raises `SESSION_NOT_FOUND`, `STORE_AWAY`."""
        session = request.match_info["session"]
        owner = await self._owner(request, session)
        turns = await self._store.read(owner, owner.kept_as(session))
        if not turns:
            raise GatewayError(Code.SESSION_NOT_FOUND)
        messages = [message for turn in turns for message in _messages(turn)]
        body = orjson.dumps({"session_id": session, "messages": messages})
        return web.Response(body=body, content_type="application/json", headers={"Cache-Control": "no-store"})

    async def delete(self, request: web.Request) -> web.Response:
        """`DELETE /sessions/{session}`: forget it. Raises `SESSION_NOT_FOUND`, `STORE_AWAY`."""
        session = request.match_info["session"]
        owner = await self._owner(request, session)
        if not await self._store.delete(owner, owner.kept_as(session)):
            raise GatewayError(Code.SESSION_NOT_FOUND)
        return web.Response(status=204)

    async def _owner(self, request: web.Request, session: str) -> Caller:
        """The caller, who may ask for that session. Raises `SESSION_NOT_FOUND` for one who came as another session.

        Where a user is named it is the user's, whatever session it comes from.
        """
        visitor = await self._callers.visitor(request)
        caller = visitor.caller
        if caller.user is None and caller.session is not None and caller.shown_session != session:
            raise GatewayError(Code.SESSION_NOT_FOUND)
        if visitor.trust is Trust.STRANGER:
            visitor = speaks_for(visitor, None, session)
            check_session(visitor)
        return visitor.caller


def _messages(turn: Exchange) -> list[dict[str, object]]:
    return [
        {"role": "user", "content": turn.question, "at": turn.asked_s, "stream_id": turn.sid},
        {"role": "assistant", "content": turn.answer, "at": turn.answered_s, "stream_id": turn.sid},
    ]
