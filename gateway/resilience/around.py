"""Around: what every Source around another Source leaves to it."""

from gateway.request import StreamRequest
from gateway.sources.base import Source


class Around:
    """Passes on all of `source` but how it pours."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.name = source.name
        self.exact = source.exact

    def continues(self, request: StreamRequest) -> bool:
        """As the source's."""
        return self._source.continues(request)

    async def check(self) -> None:
        """As the source's."""
        await self._source.check()

    async def close(self) -> None:
        """As the source's."""
        await self._source.close()
