"""Lane: what waits for one target is handed over, tried again while that may help, paused while nobody is there."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from typing import NamedTuple

from gateway.telemetry.logs import tell
from gateway.telemetry.metrics import Metrics
from gateway.webhooks.backlog import Backlog, Entry
from gateway.webhooks.message import Message, signed
from gateway.webhooks.post import GONE, OK, REFUSED, Post, Reply
from gateway.webhooks.target import Target

log = logging.getLogger(__name__)

DELAYS_S = (1.0, 5.0, 30.0, 120.0, 600.0)
"""Before the second attempt, the third …; the last one before all that follow. A dead target is paused by the same."""

JITTER = 0.2
RETRY_AFTER_MAX_S = 600.0
"""However long a receiver asks to be left alone."""

AT_ONCE = 4
"""Attempts at one target at the same time; messages about the same thing still follow one another."""

TROUBLE = 3
"""After so many failures in a row a target is taken for dead: one attempt at a time, and pauses between them."""


class Policy(NamedTuple):
    """How often a message is tried at most, and how many may wait for one target."""

    attempts: int
    max_waiting: int


class Lane:
    """Hands messages over to whatever target `look` names at the moment: it may have changed since the last attempt.

    `whose` it is stands in logs; the URL does not, for it may hold a secret.
    """

    def __init__(
        self,
        whose: str,
        look: Callable[[], Target | None],
        post: Post,
        policy: Policy,
        metrics: Metrics,
        *,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._whose = whose
        self._look = look
        self._post = post
        self._attempts = policy.attempts
        self._backlog = Backlog(policy.max_waiting)
        self._metrics = metrics
        self._now_s = now_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._next_at = 0.0
        self._failures = 0
        self._paused_until = 0.0
        self._gone_url = ""
        self._overflowed = False

    def push(self, message: Message) -> None:
        """Have it handed over; where too many wait the oldest of them is given up."""
        self._metrics.webhooks_waiting(1)
        if self._backlog.add(message):
            self._count("dropped")
            if not self._overflowed:
                self._tell(logging.WARNING, "webhooks are dropped: too many wait")
            self._overflowed = True
        self._pump()

    def hopeful(self, until: float) -> bool:
        """Whether anything is on its way, or will be before `until`, on the loop's clock."""
        return bool(self._tasks) or (len(self._backlog) > 0 and self._next_at < until)

    async def close(self) -> int:
        """Give up what waits, and what is on its way; how many."""
        lost = self._give_up_all("lost")
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return lost

    def _pump(self) -> None:
        """Begin as many attempts as may be made now, and see to it that the others are made in time."""
        loop = asyncio.get_running_loop()
        while len(self._tasks) < (AT_ONCE if self._failures < TROUBLE else 1):
            now = loop.time()
            entry = self._backlog.ready(now) if now >= self._paused_until else None
            if entry is None:
                self._wake_later(loop)
                return
            target = self._look()
            if target is None or target.url == self._gone_url:
                self._give_up_all("dropped")
                return
            entry.sending = True
            task = loop.create_task(self._attempt(entry, target), name=f"webhook for {self._whose}")
            self._tasks.add(task)
            task.add_done_callback(self._attempted)

    def _wake_later(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._backlog.next_due()
        if due is not None:
            self._next_at = max(self._paused_until, due)
            self._timer = loop.call_at(self._next_at, self._pump)

    async def _attempt(self, entry: Entry, target: Target) -> None:
        message = entry.message
        try:
            reply = await self._post(target.url, message.body, signed(message, target.keys, self._now_s()))
        except Exception:
            log.exception("a webhook could not be sent", extra={"whose": self._whose})
            reply = Reply("unreachable")
        entry.sending = False
        self._metrics.webhook_attempt(reply.result)
        self._settle(entry, reply, target)

    def _attempted(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            self._pump()

    def _settle(self, entry: Entry, reply: Reply, target: Target) -> None:
        """Draw the consequences."""
        if reply.result == OK:
            self._there_again()
            self._over(entry, "delivered")
        elif reply.result == GONE:
            self._gone_url = target.url
            self._tell(logging.WARNING, "a webhook's receiver is gone for good")
            self._give_up_all("refused")
        elif reply.result == REFUSED:
            self._there_again()
            self._tell(logging.WARNING, "a webhook was refused")
            self._over(entry, "refused")
        else:
            self._failed(entry, reply)

    def _failed(self, entry: Entry, reply: Reply) -> None:
        """It was not taken, and perhaps will be later."""
        now = asyncio.get_running_loop().time()
        entry.tries += 1
        self._failures += 1
        if self._failures == TROUBLE:
            self._tell(logging.WARNING, "a webhook's receiver fails", result=reply.result)
        asked_s = min(reply.retry_after_s, RETRY_AFTER_MAX_S)
        pause_s = delay_s(self._failures - TROUBLE) if self._failures >= TROUBLE else 0.0
        self._paused_until = max(self._paused_until, now + max(asked_s, pause_s))
        entry.due = now + max(asked_s, delay_s(entry.tries - 1))
        if entry.tries >= self._attempts:
            self._tell(logging.WARNING, "a webhook was given up", result=reply.result)
            self._over(entry, "failed")

    def _there_again(self) -> None:
        """The target answers: what waited for that is due."""
        if self._failures >= TROUBLE:
            self._tell(logging.INFO, "a webhook's receiver answers again")
            self._backlog.all_due()
            self._paused_until = 0.0
        self._failures = 0

    def _over(self, entry: Entry, outcome: str) -> None:
        if self._backlog.remove(entry):
            self._count(outcome)
        self._overflowed = self._overflowed and len(self._backlog) > 0

    def _give_up_all(self, outcome: str) -> int:
        count = self._backlog.clear()
        self._count(outcome, count)
        return count

    def _count(self, outcome: str, count: int = 1) -> None:
        """So many are waited for no longer."""
        self._metrics.webhooks_waiting(-count)
        self._metrics.webhooks_ended(outcome, count)

    def _tell(self, level: int, event: str, **facts: str) -> None:
        tell(log, level, event, {"tenant": self._whose, **facts})


def delay_s(failures: int) -> float:
    """How long to wait after so many failures beyond the first; never the same for all who wait."""
    return DELAYS_S[min(failures, len(DELAYS_S) - 1)] * random.uniform(1 - JITTER, 1 + JITTER)
