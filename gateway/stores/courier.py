"""Courier: carries the questions of many callers to Redis together, and each its answers back.

When a process dies all its clients come to the others at once: with a connection for each question they would wait for
connections, and with a limit for each they would take their own crowd for an absent Redis.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from gateway.stores.batch import Batch

AT_ONCE = 64
"""Commands in one round trip, about: whoever comes later must not wait for all who came before."""


class _Errand(NamedTuple):
    put: Callable[[Batch], None]
    answers: asyncio.Future[list[Any]]


class Courier:
    """One round trip after the other, each for all who wait. One that fails fails for all of them, at once."""

    def __init__(self, batch: Callable[[], Batch]) -> None:
        self._batch = batch
        self._waiting: deque[_Errand] = deque()
        self._going: asyncio.Task[None] | None = None

    async def carry(self, put: Callable[[Batch], None]) -> list[Any]:
        """The answers to the commands that `put` puts into a batch; a refused one is an exception among them.

        Raises what redis-py raises when Redis is away, and what `put` raises; then nothing of it is sent.
        """
        errand = _Errand(put, asyncio.get_running_loop().create_future())
        self._waiting.append(errand)
        if self._going is None:
            self._going = asyncio.create_task(self._go(), name="courier")
        return await errand.answers

    async def _go(self) -> None:
        try:
            while self._waiting:
                await self._once()
        finally:
            # Whatever happened: the next one must not wait for a round trip that nobody makes.
            self._going = None

    async def _once(self) -> None:
        taken: list[tuple[_Errand, int, int]] = []
        try:
            batch = self._batch()
            while self._waiting and len(batch) < AT_ONCE:
                errand, first = self._waiting.popleft(), len(batch)
                if not errand.answers.done() and _said(errand, batch):
                    taken.append((errand, first, len(batch)))
            answers = await batch.send()
        except Exception as error:
            # Those who came meanwhile need not wait as long to hear the same.
            for errand in (*(errand for errand, _, _ in taken), *self._waiting):
                if not errand.answers.done():
                    errand.answers.set_exception(error)
            self._waiting.clear()
            return
        for errand, first, end in taken:
            if not errand.answers.done():
                errand.answers.set_result(answers[first:end])


def _said(errand: _Errand, batch: Batch) -> bool:
    """Whether it could say its question; one that could not is told alone, and is no fault of the others."""
    first = len(batch)
    try:
        errand.put(batch)
    except Exception as error:
        batch.cut(first)
        errand.answers.set_exception(error)
        return False
    return True
