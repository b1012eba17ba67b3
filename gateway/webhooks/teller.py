"""Teller: a witness of the streams of this process who tells their tenant, and the operator, what becomes of them."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from gateway.admission.tenant import WebhookTarget
from gateway.streams.stream import State, Stream
from gateway.telemetry.metrics import Account, Metrics
from gateway.transport.guard import Network
from gateway.webhooks.lane import Lane, Policy
from gateway.webhooks.message import CANCELLED, COMPLETED, FAILED, OPENED, ROLLED_BACK, message
from gateway.webhooks.post import Post
from gateway.webhooks.target import Target, checked

log = logging.getLogger(__name__)

OPERATOR = ""
"""Whose lane the operator's own is: no tenant has an empty name."""

_LOOK_S = 0.05
_KINDS = {State.COMPLETED: COMPLETED, State.FAILED: FAILED}

TargetOf = Callable[[str], WebhookTarget | None]
"""Where the tenant of that name wants to be told; None where it does not."""


class Teller:
    """Never waits and never raises: messages go their way from a lane for each target, which delay one another nowhere.

    `target_of` is asked anew for each message and for each attempt, so that a target can change meanwhile.
    """

    def __init__(
        self,
        post: Post,
        policy: Policy,
        *,
        own: WebhookTarget | None,
        target_of: TargetOf,
        networks: Sequence[Network],
        metrics: Metrics,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._post = post
        self._policy = policy
        self._own = own
        self._target_of = target_of
        self._networks = networks
        self._metrics = metrics
        self._now_s = now_s
        self._lanes: dict[str, Lane] = {}
        self._checked: dict[str, tuple[WebhookTarget, Target | None]] = {}

    def opened(self, stream: Stream) -> None:
        """See `Witness`."""
        tenant = stream.owner.tenant
        if self._own is not None or self._target_of(tenant) is not None:  # Most often neither: that must cost nothing.
            self._tell((tenant, OPERATOR), OPENED, stream.sid, lambda: _stream(stream))

    def ended(self, stream: Stream, account: Account) -> None:
        """See `Witness`. What another process goes on with has not ended."""
        tenant = stream.owner.tenant
        if stream.ended and (self._own is not None or self._target_of(tenant) is not None):
            kind = _KINDS.get(stream.state, CANCELLED)
            self._tell((tenant, OPERATOR), kind, stream.sid, lambda: _stream(stream) | _ending(account))

    def rolled_back(self, flag: str, reason: str) -> None:
        """A flag was set back by itself; for the operator alone."""
        self._tell((OPERATOR,), ROLLED_BACK, f"flag {flag}", lambda: {"flag": flag, "reason": reason})

    def _tell(self, names: Sequence[str], kind: str, about: str, data: Callable[[], dict[str, Any]]) -> None:
        try:
            wanting = [name for name in names if (target := self._target(name)) is not None and kind in target.types]
            if wanting:
                told = message(kind, about, data(), self._now_s())
                for name in wanting:
                    self._lane(name).push(told)
        except Exception:
            log.exception("a webhook could not be made")

    def _target(self, name: str) -> Target | None:
        """Where it goes, as it is said now; None, and told once, where that cannot be used."""
        wanted = self._own if name == OPERATOR else self._target_of(name)
        if wanted is None:
            return None
        known = self._checked.get(name)
        if known is None or known[0] != wanted:
            try:
                known = (wanted, checked(wanted, self._networks))
            except ValueError as error:
                log.error("a webhook cannot be used: %s", error, extra={"tenant": name})
                known = (wanted, None)
            self._checked[name] = known
        return known[1]

    def _lane(self, name: str) -> Lane:
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = Lane(
                name or "(operator)",
                lambda: self._target(name),
                self._post,
                self._policy,
                self._metrics,
                now_s=self._now_s,
            )
        return lane

    async def close(self, limit_s: float) -> None:
        """Let what waits arrive for `limit_s` seconds, as far as there is hope; then say how many are lost."""
        loop = asyncio.get_running_loop()
        end = loop.time() + limit_s
        # There are many lanes, and none has an event for it.
        while loop.time() < end and any(lane.hopeful(end) for lane in self._lanes.values()):  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        lost = sum([await lane.close() for lane in self._lanes.values()])
        if lost:
            log.warning("webhooks are lost", extra={"messages": lost})
        await self._post.close()


def _stream(stream: Stream) -> dict[str, Any]:
    """Which stream it is; nothing of what was asked or said."""
    session = {} if stream.request.session_id is None else {"session_id": stream.request.session_id}
    return {
        "stream_id": stream.sid,
        "tenant": stream.owner.tenant,
        **session,
        "dialect": stream.dialect,
        "model": stream.request.model,
        "created": stream.created_s,
    }


def _ending(account: Account) -> dict[str, Any]:
    """How it ended, and what it took."""
    code = {"code": account.error} if account.error else {}
    usage = {
        "prompt_tokens": account.prompt_tokens,
        "completion_tokens": account.completion_tokens,
        "total_tokens": account.prompt_tokens + account.completion_tokens,
        "reported": account.reported,
    }
    return {"outcome": account.outcome, **code, "usage": usage, "duration_ms": round(account.seconds * 1000)}
