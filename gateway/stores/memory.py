"""MemoryStore: streams kept in this process, the oldest finished ones evicted first."""

import time
from collections import OrderedDict
from collections.abc import Callable

from gateway.errors import Code, GatewayError
from gateway.request import Caller
from gateway.streams.store import Summary, summary_of
from gateway.streams.stream import Stream

TOMBSTONES_MAX = 20_000
"""Names of streams no longer kept, so that their owners hear 410 and not 404; about 200 bytes each."""


HEADROOM = 1.25
"""How far running streams may outgrow `max_bytes`: new ones are refused at once, running ones only beyond this."""


class MemoryStore:
    """A LogStore for one process. Bounds: `max_bytes` in all, `retention_s` after a stream's end."""

    def __init__(self, *, max_bytes: int, retention_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._retention_s = retention_s
        self._clock = clock
        self._bytes = 0
        self._streams: dict[str, Stream] = {}
        self._finished: OrderedDict[str, float] = OrderedDict()
        self._gone: OrderedDict[str, Caller] = OrderedDict()
        self._keys: dict[tuple[Caller, str], tuple[str, bytes]] = {}
        self._keys_of: dict[str, tuple[Caller, str]] = {}

    async def create(self, stream: Stream) -> None:
        """Keep `stream`; `STORE_FULL` when live streams fill the memory."""
        self.refuse_when_full()
        if stream.sid in self._streams:
            raise ValueError("a stream of that name is kept already")
        self._streams[stream.sid] = stream
        self._bytes += stream.bytes + stream.request_bytes
        stream.on_growth = self._grew

    async def find(self, sid: str, caller: Caller) -> Stream:
        """The stream, for one who may read it; else `STREAM_NOT_FOUND` or `STREAM_EXPIRED`."""
        stream = self._streams.get(sid)
        if stream is not None and caller.may_read_what(stream.owner):
            return stream
        owner = self._gone.get(sid)
        if owner is not None and caller.may_read_what(owner):
            raise GatewayError(Code.STREAM_EXPIRED)
        raise GatewayError(Code.STREAM_NOT_FOUND)

    async def reserve(self, owner: Caller, key: str, fingerprint: bytes, sid: str) -> str | None:
        """Reserve `key`, or name the stream that has it. No await inside, hence atomic on one loop."""
        held = self._keys.get((owner, key))
        if held is None:
            self._keys[owner, key] = (sid, fingerprint)
            self._keys_of[sid] = (owner, key)
            return None
        if held[1] != fingerprint:
            raise GatewayError(Code.IDEMPOTENCY_MISMATCH)
        return held[0]

    async def release(self, owner: Caller, key: str) -> None:
        """Let `key` be used again."""
        held = self._keys.pop((owner, key), None)
        if held is not None:
            self._keys_of.pop(held[0], None)

    async def streams_of(self, caller: Caller) -> list[Summary]:
        """The caller's streams that are kept, the newest first."""
        found = [summary_of(stream) for stream in self._streams.values() if caller.opened(stream.owner)]
        return sorted(found, key=lambda summary: summary.created_s, reverse=True)

    def refuse_when_full(self) -> None:
        """Raise `STORE_FULL` where no further stream can be kept."""
        self._make_room()
        if self._bytes >= self._max_bytes:
            raise GatewayError(Code.STORE_FULL, retry_after_s=5)

    def kept(self, sid: str) -> Stream | None:
        """The stream of that name, whoever owns it."""
        return self._streams.get(sid)

    def all(self) -> list[Stream]:
        """Whatever is kept, the oldest first."""
        return list(self._streams.values())

    def forget(self, sid: str) -> None:
        """Keep a stream no longer, without a trace: another process makes it now."""
        stream = self._streams.get(sid)
        if stream is not None:
            self._finished[sid] = 0.0
            self._evict(sid)
            del self._gone[sid]

    def settle(self, stream: Stream) -> None:
        """Begin the retention of an ended stream."""
        if stream.sid in self._streams:
            self._finished[stream.sid] = self._clock() + self._retention_s
            self._make_room()

    def sweep(self) -> None:
        """Let go of streams whose retention is over."""
        now = self._clock()
        while self._finished:
            sid, until = next(iter(self._finished.items()))
            if until > now:
                return
            self._evict(sid)

    def _grew(self, delta: int) -> bool:
        """Note the growth of a stream; false when there is no room left even for those that run."""
        self._bytes += delta
        if self._bytes > self._max_bytes:
            self._make_room()
        return self._bytes <= self._max_bytes * HEADROOM

    def _make_room(self) -> None:
        while self._bytes >= self._max_bytes and self._finished:
            self._evict(next(iter(self._finished)))

    def _evict(self, sid: str) -> None:
        """Forget one finished stream; cursors that still read it keep it alive for themselves only."""
        del self._finished[sid]
        stream = self._streams.pop(sid)
        stream.on_growth = None
        self._bytes -= stream.bytes + stream.request_bytes
        self._keys.pop(self._keys_of.pop(sid, (stream.owner, "")), None)
        self._gone[sid] = stream.owner
        if len(self._gone) > TOMBSTONES_MAX:
            self._gone.popitem(last=False)

    @property
    def bytes_kept(self) -> int:
        """Memory that all kept streams take."""
        return self._bytes
