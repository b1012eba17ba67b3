"""Teller: a witness of the streams of this process who tells their tenant, and the operator, what becomes of them."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from gateway.admission.tenant import WebhookTarget
from gateway.events import Failed
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
        self._tell_of(stream, OPENED, {})

    def ended(self, stream: Stream, account: Account) -> None:
        """See `Witness`. What another process goes on with has not ended."""
        if not stream.ended:
            return
        kind = CANCELLED
        facts: dict[str, Any] = {"outcome": account.outcome}
        if isinstance(stream.terminal, Failed):
            kind = FAILED
            facts["code"] = account.error
        elif stream.state is State.COMPLETED:
            kind = COMPLETED
        facts["usage"] = {
            "prompt_tokens": account.prompt_tokens,
            "completion_tokens": account.completion_tokens,
            "total_tokens": account.prompt_tokens + account.completion_tokens,
            "reported": account.reported,
        }
        facts["duration_ms"] = round(account.seconds * 1000)
        self._tell_of(stream, kind, facts)

    def rolled_back(self, flag: str, reason: str) -> None:
        """A flag was set back by itself; for the operator alone."""
        self._tell((OPERATOR,), ROLLED_BACK, f"flag {flag}", {"flag": flag, "reason": reason})

    def _tell_of(self, stream: Stream, kind: str, facts: dict[str, Any]) -> None:
        data: dict[str, Any] = {"stream_id": stream.sid, "tenant": stream.owner.tenant}
        if stream.request.session_id is not None:
            data["session_id"] = stream.request.session_id
        data |= {"dialect": stream.dialect, "model": stream.request.model, "created": stream.created_s, **facts}
        self._tell((stream.owner.tenant, OPERATOR), kind, stream.sid, data)

    def _tell(self, names: Sequence[str], kind: str, about: str, data: dict[str, Any]) -> None:
        try:
            wanting = [name for name in names if (target := self._target(name)) is not None and kind in target.types]
            if wanting:
                told = message(kind, about, data, self._now_s())
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
