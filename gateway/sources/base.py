"""Source: yields events for a request; closing it stops the upstream."""

from collections.abc import AsyncGenerator
from typing import Protocol

from gateway.events import Event
from gateway.request import StreamRequest

Batch = list[Event]
"""Events that became known together, never none of them: what one read from the upstream brought."""


class Source(Protocol):
    """Makes one answer. Retry, deadline and fallback are Sources around Sources.

    `exact` says that the same request gives the same events every time, so that `skip` may leave out the
    first ones; other sources take no `skip` but 0.
    """

    name: str
    """The provider's name in metrics and logs; from a closed set."""
    exact: bool

    def stream(self, request: StreamRequest, skip: int = 0) -> AsyncGenerator[Batch]:
        """Batches of events in order; the last event is a `TextComplete`, and only an upstream's own marker makes one.

        Every failure is raised as a `GatewayError`. Closing the generator closes the upstream's connection.
        """

    async def check(self) -> None:
        """Raises a `GatewayError` when the upstream cannot be reached at all; asks it nothing that costs money."""

    async def close(self) -> None:
        """Let go of pooled connections."""
