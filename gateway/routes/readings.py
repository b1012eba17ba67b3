"""Readings: who reads which stream by what, so that nobody reads on by what is good no more."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from aiohttp import web

from gateway.admission.tenant import OPEN
from gateway.admission.tenants import Registry, Tenants
from gateway.admission.visitor import Visitor
from gateway.delivery.server import GatewayProtocol
from gateway.errors import Code, GatewayError
from gateway.hub import Hub
from gateway.streams.stream import Stream

NO_MORE = "the credential is good no more"
"""The last word to whoever showed it."""

LAST_WORDS_S = 3.0
"""For those to be heard who read what their own credential opened: its stream ends with a word, then they are cut."""


class _Read:
    """One request that reads a stream."""

    __slots__ = ("request", "stream", "visitor")

    def __init__(self, request: web.Request, visitor: Visitor, stream: Stream) -> None:
        self.request = request
        self.visitor = visitor
        self.stream = stream


class Readings:
    """All that go on here by a credential. What the open tenant's visitors read is not kept: they show none."""

    def __init__(self, hub: Hub, registry: Registry) -> None:
        self._hub = hub
        self._registry = registry
        self._reads: set[_Read] = set()

    def __len__(self) -> int:
        return len(self._reads)

    def check(self, visitor: Visitor) -> None:
        """Raise `UNAUTHENTICATED` where what it showed is good no more: its question may have taken long to come."""
        if not self._registry.now.honours(visitor.credential, visitor.tenant.name):
            raise GatewayError(Code.UNAUTHENTICATED, NO_MORE)

    def of(self, request: web.Request, visitor: Visitor, stream: Stream) -> AbstractContextManager[None]:
        """`visitor` reads `stream` as the answer to `request` while inside; raises as `check` does."""
        if visitor.tenant is OPEN:
            return self._hub.reading(stream)
        return self._kept(_Read(request, visitor, stream))

    @contextmanager
    def _kept(self, read: _Read) -> Iterator[None]:
        self.check(read.visitor)
        self._reads.add(read)
        try:
            with self._hub.reading(read.stream):
                yield
        finally:
            self._reads.discard(read)

    def changed(self, tenants: Tenants) -> int:
        """Cut those who read by what `tenants` do not honour, within `LAST_WORDS_S`; how many."""
        found = [read for read in self._reads if not tenants.honours(read.visitor.credential, read.visitor.tenant.name)]
        for read in found:
            if self._hub.permit_of(read.stream.sid).credential == read.visitor.credential:
                asyncio.get_running_loop().call_later(LAST_WORDS_S, self._cut, read)
            else:
                self._cut(read)
        return len(found)

    def _cut(self, read: _Read) -> None:
        """Its client sees that this was no proper end, asks again, and is told why."""
        protocol = read.request.protocol
        if read in self._reads and isinstance(protocol, GatewayProtocol):
            protocol.abort()
