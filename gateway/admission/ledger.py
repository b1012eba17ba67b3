"""Ledger: what running streams cost their tenants, told once a second, and the end of those whose budget is used up."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from gateway.admission.permit import Permit
from gateway.errors import Code, GatewayError
from gateway.limits import Budget, Limiter
from gateway.request import CHARACTERS_PER_TOKEN
from gateway.streams.stream import Stream
from gateway.telemetry.metrics import Account

log = logging.getLogger(__name__)

LOOK_S = 1.0
DAY_S = 86_400


class Tab:
    """What one stream was counted for: `told` tokens so far, in all processes that made it; `earlier` of them on days
    before `day`.
    """

    __slots__ = ("_asked", "_before", "day", "earlier", "permit", "told")

    def __init__(self, stream: Stream, permit: Permit, *, before: int) -> None:
        self.permit = permit
        self.told = 0
        self.day = stream.created_s // DAY_S
        self.earlier = 0
        self._asked = stream.request.asked_tokens()
        self._before = before

    def made(self, stream: Stream) -> int:
        """Tokens of question and answer so far, as an estimate that costs nothing to make."""
        return self._asked + (stream.bytes_ever - self._before) // CHARACTERS_PER_TOKEN

    def turn(self, day: int) -> None:
        """It is that day: what was told on another is that day's."""
        if day != self.day:
            self.day, self.earlier = day, self.told

    def since(self, stream: Stream, day: int) -> int:
        """What was made since this was asked the last time; nothing where its turn has not come."""
        if self.permit.waits:
            return 0
        self.turn(day)
        made = self.made(stream)
        since, self.told = made - self.told, made
        return since


class Ledger:
    """A `Witness` that counts tokens against budgets: while a stream runs an estimate, at its end what was reported.

    `making` tells the streams of this process with their permits, `permit_of` that of one of them, `fail_where` ends
    those that a function picks; all three are the hub's. `clock` tells seconds of Unix time.
    """

    def __init__(
        self,
        limiter: Limiter,
        *,
        making: Callable[[], Iterable[tuple[Stream, Permit]]],
        permit_of: Callable[[str], Permit],
        fail_where: Callable[[Callable[[Stream, Permit], bool], GatewayError], int],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._limiter = limiter
        self._making = making
        self._permit_of = permit_of
        self._fail_where = fail_where
        self._clock = clock
        self._tabs: dict[str, Tab] = {}
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Look once a second from now on."""
        self._looking = asyncio.create_task(self._look_on(), name="ledger")

    async def stop(self) -> None:
        """Look no more; streams that end are settled all the same."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])

    # A Witness.

    def opened(self, stream: Stream) -> None:
        """It may be over before anybody looks."""
        permit = self._permit_of(stream.sid)
        if permit.charge.budgets:
            # That it was opened is no part of the answer.
            self._tabs[stream.sid] = Tab(stream, permit, before=stream.bytes_ever)

    def ended(self, stream: Stream, account: Account) -> None:
        """The usage that was reported is what counts, or the estimate of it; so it is for failed and cancelled ones.

        Of a stream that goes on elsewhere all that was made here is counted, and nothing more. What was counted too
        much on a day that is over is not given back: today it would be others' tokens.
        """
        tab = self._tabs.pop(stream.sid, None)
        if tab is None or tab.permit.waits:
            # Nothing was asked of anybody.
            return
        due = account.prompt_tokens + account.completion_tokens if stream.ended else tab.made(stream)
        tab.turn(self._today())
        owed = max(due, tab.earlier) - tab.told
        if owed:
            self._limiter.spent(tab.permit.charge.budgets, owed)

    # Looking.

    def look(self) -> None:
        """Tell what was made since the last time; end what may cost nothing more."""
        costs: dict[tuple[Budget, ...], int] = {}
        today = self._today()
        for stream, permit in self._making():
            budgets = permit.charge.budgets
            if budgets:
                tab = self._tabs.get(stream.sid) or self._taken_over(stream, permit)
                costs[budgets] = costs.get(budgets, 0) + tab.since(stream, today)
        for budgets, tokens in costs.items():
            self._limiter.spent(budgets, tokens)
        doomed = {budgets for budgets in costs if self._limiter.exhausted(budgets)}
        if doomed:
            self._end(doomed)

    def _today(self) -> int:
        return int(self._clock() // DAY_S)

    def _taken_over(self, stream: Stream, permit: Permit) -> Tab:
        tab = self._tabs[stream.sid] = Tab(stream, permit, before=0)
        if not permit.waits:
            # Another process began it, and has counted it until then.
            tab.told = tab.made(stream)
        return tab

    def _end(self, doomed: set[tuple[Budget, ...]]) -> None:
        error = GatewayError(Code.BUDGET_EXCEEDED, retry_after_s=DAY_S - self._clock() % DAY_S)
        ended = self._fail_where(lambda stream, permit: permit.charge.budgets in doomed, error)
        if ended:
            log.warning("the tokens of a day are used up", extra={"streams": ended})

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                self.look()
            except Exception:
                log.exception("tokens could not be counted")
