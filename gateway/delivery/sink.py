"""Sink: where one client's bytes go. SSE over HTTP is one; the connection above it knows no socket."""

from collections.abc import Callable, Sequence
from typing import Protocol

from gateway.dialects.base import TextLayout
from gateway.sse import Frame


class Packing(Protocol):
    """Frames as one transport's bytes; the same object for all sinks of one kind, so that bytes can be shared."""

    def pack(self, frames: Sequence[Frame]) -> bytes:
        """Frames, ready for `Sink.write`; nothing for none."""

    def encode(self, frame: Frame) -> bytes:
        """One frame, to be joined with others and wrapped."""

    def wrap(self, data: bytes) -> bytes:
        """Encoded frames that go out together, ready for `Sink.write`."""

    def text_writer(self, layout: TextLayout) -> Callable[[int, str], bytes]:
        """Makes of a seq and a token what `encode` would make of that text's frame, but faster."""

    def wrapped_text_writer(self, layout: TextLayout) -> Callable[[int, str], bytes]:
        """Makes the same, wrapped."""


class Sink(Protocol):
    """Takes bytes at once and tells when the client does not keep up. Raises `ClientGone` once it has gone."""

    packing: Packing

    def write(self, data: bytes, *, last: bool = False) -> None:
        """Hand over packed frames; never waits. `last` ones, with only such behind them, may be kept until the end."""

    def beat(self) -> None:
        """Show that the connection lives, in a way that no client takes for an event."""

    def on_congestion(self, tell: Callable[[], None] | None) -> None:
        """Have `tell` called when the client's socket is full and bytes begin to wait in this process.

        None when nobody listens any more: else the two would hold each other.
        """

    @property
    def congested(self) -> bool:
        """Whether the client's socket is full and bytes wait in this process."""

    async def drained(self, limit_s: float) -> None:
        """Wait until nothing waits any more; `SlowClient` when `limit_s` pass without any progress."""

    def release(self) -> None:
        """Wake whoever waits in `drained`, because something happened that it must see."""

    def drop(self) -> None:
        """Forget what has been written but has not left yet."""
