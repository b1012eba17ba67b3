"""Source: pours events for a request; cancelling it stops the upstream."""

from collections.abc import Callable
from typing import Protocol

from gateway.events import Event
from gateway.request import StreamRequest

Batch = list[Event]
"""Events that became known together, never none of them: what one read from the upstream brought."""

Outlet = Callable[[Batch], None]
"""Takes a batch at once, in whatever callback brought it: no task has to be switched to for a token."""


class Enough(Exception):
    """Raised by an outlet that wants no more, though the source has not ended; no failure of anybody."""


class Source(Protocol):
    """Makes one answer. Retry, deadline and fallback are Sources around Sources.

    An answer that broke off can go on in two ways. `exact` says that the same request gives the same events every
    time: it is poured again with `skip`. Other sources take no `skip` but 0; one that `continues` a request is given
    `request.continued(text)` and says what comes behind that text.
    """

    name: str
    """The provider's name in metrics and logs; from a closed set."""
    exact: bool

    async def pour(self, request: StreamRequest, outlet: Outlet, skip: int = 0) -> None:
        """Hand batches of events to `outlet` in order, each as soon as it is known; return when the answer is over.

        The first `skip` events were said before: they are handed over at once and without pace, so that whoever
        follows the source stands where it stood, and the rest comes in the source's own pace.
        The last event is a `TextComplete`, and only an upstream's own marker makes one. Every failure is raised as a
        `GatewayError`, and so is what `outlet` raises. Whether raised, returned or cancelled: nothing is handed over
        behind it, and the upstream has been let go.
        """

    def continues(self, request: StreamRequest) -> bool:
        """Whether the answer to `request` may go on behind a text; false for exact sources, which need none."""

    async def check(self) -> None:
        """Raises a `GatewayError` when the upstream cannot be reached at all; asks it nothing that costs money."""

    async def close(self) -> None:
        """Let go of pooled connections."""
