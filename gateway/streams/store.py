"""LogStore: the few verbs that a log needs of its keeper, and those of a keeper that several processes share."""

from typing import NamedTuple, Protocol

from gateway.request import Caller
from gateway.streams.stream import State, Stream


class Summary(NamedTuple):
    """One of a caller's streams, in a list of them. `created_s` is in seconds since the epoch of Unix time."""

    sid: str
    state: State
    created_s: int
    model: str
    session: str | None


def summary_of(stream: Stream) -> Summary:
    """How `stream` stands in a list."""
    request = stream.request
    return Summary(stream.sid, stream.state, stream.created_s, request.model, request.session_id)


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

    async def streams_of(self, caller: Caller) -> list[Summary]:
        """The streams that this user or session opened and that are still kept, the newest first."""


class SharedStore(LogStore, Protocol):
    """A LogStore that other processes share: what they make can be read here, as a mirror, and taken over.

    Its verbs raise `STORE_AWAY` where it cannot be reached in time. `durable` says whether it takes what is written.
    """

    durable: bool

    @property
    def takes_streams(self) -> bool:
        """Whether new streams are accepted now, durable or not."""

    async def check(self) -> None:
        """Raises `STORE_AWAY` when it cannot be reached at all."""

    async def look_up(self, sid: str) -> Stream:
        """The stream of that name for the house itself, whoever owns it; else as `find`."""

    async def is_bereft(self, stream: Stream) -> bool:
        """Whether `stream` runs, and the process that makes it is gone."""

    async def claim(self, stream: Stream) -> Stream:
        """Become the producer of a bereft stream: the log to go on with, in the next epoch.

        Where another process was faster, or the stream has ended, it is a mirror. `stream` is given up for it.
        """

    async def ask_to_cancel(self, stream: Stream) -> None:
        """Have the process that makes a mirrored stream cancel it."""

    def announce(self, sid: str, *, reading: bool) -> None:
        """Tell the process that makes a mirrored stream whether anybody reads it here; never waits."""

    def orphaned(self, stream: Stream) -> None:
        """Nobody reads a stream of ours; never waits."""

    def adopted(self, stream: Stream) -> None:
        """Somebody reads it again, or it has ended; never waits."""

    def supersede(self, owner: Caller, session: str) -> None:
        """Have the orphans of a session, which asks something new, ended wherever they are made; never waits."""

    async def written(self) -> None:
        """Return when all that was appended is durable, or the store is away."""


class Producer(Protocol):
    """What a shared store asks and tells the process that makes streams."""

    def told_to_cancel(self, sid: str) -> None:
        """Somebody cancelled a stream of ours in another process."""

    def told_of_new_question(self, sid: str) -> None:
        """The session of a stream of ours has asked something new in another process."""

    def told_of_readers(self, sid: str, process: str, *, reading: bool) -> None:
        """Another process begins or ceases to read a stream of ours for its clients."""

    def told_of_death(self, process: str) -> None:
        """Another process is gone, and with it all who read there."""

    def told_of_outage(self, *, away: bool) -> None:
        """The store does not take what is written, or takes it again."""

    def superseded(self, stream: Stream) -> None:
        """Another process makes a stream of ours now."""

    def reads(self, sid: str) -> bool:
        """Whether anybody reads that stream in this process."""

    async def bereft(self, sid: str, *, read_here: bool) -> bool:
        """The process that made a stream is gone, and somebody reads it here, or nobody does anywhere.

        Whether it has ended, so that there is nothing to go on with.
        """
