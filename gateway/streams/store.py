"""LogStore: the few verbs that a log needs of its keeper."""

from typing import Protocol

from gateway.request import Caller
from gateway.streams.stream import Stream


class LogStore(Protocol):
    """Keeps streams for as long as somebody may come back to them, within a bound of memory.

    An idempotency key belongs to its owner and lives as long as the stream that it was reserved for.
    """

    async def create(self, stream: Stream) -> None:
        """Keep `stream` from now on. Raises `STORE_FULL` when live streams fill the memory."""

    async def find(self, sid: str, caller: Caller) -> Stream:
        """The stream of that name, for one who may read it.

        Raises `STREAM_NOT_FOUND` for an unknown name and for somebody else's stream alike, and
        `STREAM_EXPIRED` where the caller's own stream is no longer kept.
        """

    async def reserve(self, owner: Caller, key: str, fingerprint: bytes, sid: str) -> str | None:
        """Reserve `key` for `sid`; the name of the stream that already has it, or None when it was free.

        Atomic: of any number of racing calls exactly one gets None. Raises `IDEMPOTENCY_MISMATCH` where the
        key was reserved for another request.
        """

    async def release(self, owner: Caller, key: str) -> None:
        """Let `key` be used again, because its stream was refused or failed before it had content."""

    def settle(self, stream: Stream) -> None:
        """`stream` has ended: its retention begins, and it may be evicted when memory is needed."""

    def sweep(self) -> None:
        """Let go of what has been kept long enough. To be called every few seconds."""

    @property
    def bytes_kept(self) -> int:
        """Memory that all kept streams take."""
