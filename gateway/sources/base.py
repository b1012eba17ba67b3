"""Source: pours events for a request; cancelling it stops the upstream."""

from collections.abc import Callable
from typing import Protocol

from gateway.events import Event
from gateway.request import StreamRequest

Batch = list[Event]
"""Events that became known together, never none of them: what one read from the upstream brought."""

Outlet = Callable[[Batch], None]
"""Takes a batch at once, in whatever callback brought it: no task has to be switched to for a token."""


class Source(Protocol):
    """Makes one answer. Retry, deadline and fallback are Sources around Sources.

    `exact` says that the same request gives the same events every time, so that `skip` may leave out the
    first ones; other sources take no `skip` but 0.
    """

    name: str
    """The provider's name in metrics and logs; from a closed set."""
    exact: bool

    async def pour(self, request: StreamRequest, outlet: Outlet, skip: int = 0) -> None:
        """Hand batches of events to `outlet` in order, each as soon as it is known; return when the answer is over.

        The last event is a `TextComplete`, and only an upstream's own marker makes one. Every failure is raised as a
        `GatewayError`, and so is what `outlet` raises. Whether raised, returned or cancelled: nothing is handed over
        behind it, and the upstream has been let go.
        """

    async def check(self) -> None:
        """Raises a `GatewayError` when the upstream cannot be reached at all; asks it nothing that costs money."""

    async def close(self) -> None:
        """Let go of pooled connections."""
