"""Sources that say more when they are told to: one the same every time, one that goes on in words of its own."""

import asyncio
from collections.abc import Sequence
from itertools import count

from gateway.events import Event, Metadata, Text, TextComplete
from gateway.request import StreamRequest
from gateway.sources.base import Outlet
from gateway.stages.base import Stage

TOKENS = 14
"""Of one answer, with the fact before it and the end behind it two more."""

WHOLE = "".join(f"<{n}>" for n in range(TOKENS))
"""What the exact source says in all."""

_CALLS = count(1)


class SteppedSource:
    """Pours `give(n)` more events. `exact` ones say `WHOLE`; each answer of the others has words of its own."""

    name = "stepped"

    def __init__(self, *, exact: bool) -> None:
        self.exact = exact
        self._rest: list[Event] = []
        self._outlet: Outlet | None = None
        self._over: asyncio.Future[None] | None = None

    async def pour(self, request: StreamRequest, outlet: Outlet, skip: int = 0) -> None:
        """What was said before at once, everything else as it is told to."""
        events = self._answer(request)
        self._rest = events[skip:]
        if events[:skip]:
            outlet(events[:skip])
        self._outlet, self._over = outlet, asyncio.get_running_loop().create_future()
        try:
            if self._rest:
                await self._over
        finally:
            self._outlet = None

    def _answer(self, request: StreamRequest) -> list[Event]:
        call = next(_CALLS)
        words = [f"<{n}>" if self.exact else f"[{call}.{n}]" for n in range(TOKENS)]
        facts = [] if request.is_continuation else [Metadata({"model": "stepped"})]
        return [*facts, *map(Text, words), TextComplete("stop")]

    def give(self, number: int) -> int:
        """Say so many more; how many that were."""
        batch, self._rest = self._rest[:number], self._rest[number:]
        if self._outlet is None or not batch:
            return 0
        assert self._over is not None
        try:
            self._outlet(batch)
        except Exception as error:
            self._over.set_exception(error)
            return len(batch)
        if not self._rest and not self._over.done():
            self._over.set_result(None)
        return len(batch)

    def continues(self, request: StreamRequest) -> bool:
        """Whoever cannot repeat goes on."""
        return not self.exact

    async def check(self) -> None:
        """Always there."""

    async def close(self) -> None:
        """Nothing to let go of."""


class Halves(Stage):
    """A stage that makes two events of each text, so that places in the source and in the log differ."""

    def feed(self, events: Sequence[Event]) -> Sequence[Event]:
        """The same text in smaller pieces."""
        made: list[Event] = []
        for event in events:
            if type(event) is Text and len(event) > 1:
                made += [Text(event[:1]), Text(event[1:])]
            else:
                made.append(event)
        return made
