"""LocalSource: answers questions about the gateway from its own documents, paced as a model would.

It needs no key and no network, says something true, and says it the same way every time: the demo, the
tests and the load tests all stand on it.
"""

import asyncio
import re

from gateway.events import Event, Metadata, Text, TextComplete, Usage
from gateway.request import StreamRequest
from gateway.sources.base import Outlet
from gateway.sources.passages import Library

_TOKEN = re.compile(r"\s*\S{1,8}|\s+")
"""A word or a piece of a long one, with the space before it: about what a model's tokens look like."""

UNPACED_BATCH = 64
"""Events that come together where no pace is set."""


class LocalSource:
    """Exact: the same question over the same documents gives the same events, so it can go on anywhere.

    The first token comes after `first_token_s` seconds, the others at `tokens_per_s`; 0 means as fast as can be.
    """

    name = "local"
    exact = True

    def __init__(self, library: Library, *, first_token_s: float, tokens_per_s: float) -> None:
        self._library = library
        self._first_token_s = first_token_s
        self._gap_s = 1.0 / tokens_per_s if tokens_per_s else 0.0

    async def pour(self, request: StreamRequest, outlet: Outlet, skip: int = 0) -> None:
        """The answer's events, each when it is due; those that are overdue together come as one batch."""
        events = self.answer(request)
        skip = min(skip, len(events))
        for at in range(0, skip, UNPACED_BATCH):
            outlet(events[at : min(skip, at + UNPACED_BATCH)])
            await asyncio.sleep(0)
        await self._paced(events[skip:], outlet, 0.0 if skip else self._first_token_s)

    async def _paced(self, events: list[Event], outlet: Outlet, wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        begin = loop.time() + wait_s
        at = 0
        while at < len(events):
            due = begin + at * self._gap_s
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            due_by_now = int((loop.time() - begin) / self._gap_s) + 1 if self._gap_s else at + UNPACED_BATCH
            upto = min(len(events), max(at + 1, due_by_now))
            outlet(events[at:upto])
            at = upto
            if not self._gap_s:
                await asyncio.sleep(0)

    def continues(self, request: StreamRequest) -> bool:
        """It says everything again instead."""
        return False

    def answer(self, request: StreamRequest) -> list[Event]:
        """All events of the answer, unpaced."""
        question = request.question()
        answer = self._library.answer(question)
        tokens = _TOKEN.findall(answer.text)
        reason = "stop"
        if request.max_tokens is not None and len(tokens) > request.max_tokens:
            tokens, reason = tokens[: request.max_tokens], "length"
        prompt = sum(len(_TOKEN.findall(str(message.get("content")))) for message in request.messages)
        events: list[Event] = [Metadata({"model": self.name, "sources": list(answer.sources)})]
        events += [Text(token) for token in tokens]
        events.append(TextComplete(reason, Usage(prompt, len(tokens))))
        return events

    async def models(self) -> list[str]:
        """One model, named like the source."""
        return [self.name]

    async def check(self) -> None:
        """Always there."""

    async def close(self) -> None:
        """Nothing to let go of."""
