"""Kept: one stream of this process and how far it is written down in Redis. No I/O."""

import logging
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any

from gateway.events import Event
from gateway.stores.batch import Batch
from gateway.stores.pieces import all_pieces, new_pieces
from gateway.stores.redis_client import away
from gateway.stores.redis_log import MISSING, SUPERSEDED, Producer, RedisLog, is_stale
from gateway.streams.stream import Stream

log = logging.getLogger(__name__)


class Outcome(Enum):
    """What an answer of Redis means for a stream."""

    WRITTEN = auto()
    """All that was sent stands there."""
    AGAIN = auto()
    """There is something to be written, now."""
    DOUBTFUL = auto()
    """Redis has more than was thought: it must be asked whose."""
    TAKEN = auto()
    """Another process has the stream."""
    AWAY = auto()
    """Redis takes no writes now."""
    HOPELESS = auto()
    """This stream cannot be written, whatever is tried."""


class Kept:
    """A stream and its place in Redis. As a reader it only says that there is something new."""

    __slots__ = (
        "_begun", "_bytes", "_bytes_max", "_forget", "_note", "_sent", "_sent_bytes", "_sent_whole", "_tries",
        "dialect", "dirty", "flushed", "provider", "stream", "whole",
    )  # fmt: skip

    def __init__(
        self,
        stream: Stream,
        *,
        dialect: str,
        provider: str,
        max_bytes: int,
        note: Callable[["Kept", bool], None],
        forget: Callable[[Stream], None],
    ) -> None:
        self.stream = stream
        self.dialect = dialect
        self.provider = provider
        self.dirty = False
        """Whether it waits to be written."""
        self.flushed = 0
        """Everything up to here stands in Redis."""
        self.whole = True
        """Whether all of it is to be written, not only what is new."""
        self._note = note
        self._forget = forget
        self._begun = stream.begun
        self._bytes = 0
        self._bytes_max = max_bytes
        self._sent = 0
        self._sent_bytes = 0
        self._sent_whole = False
        self._tries = 0

    # As a reader.

    def appended(self, first: int, events: Sequence[Event]) -> None:
        """Called for each token: it is as short as can be."""
        if self.dirty and self._begun and self.stream.terminal is None:
            return
        urgent = not self._begun or self.stream.terminal is not None
        self._begun = self.stream.begun
        self._note(self, urgent)

    def superseded(self) -> None:
        """It goes on elsewhere."""
        self._forget(self.stream)

    # Writing.

    def put(self, batch: Batch, redis_log: RedisLog, producer: Producer, *, with_audio: bool) -> bool:
        """Put into `batch` what is not in Redis yet, as one command; false when that is nothing."""
        stream = self.stream
        self.dirty = False
        if stream.head == self.flushed and not self.whole:
            return False
        folded = self._bytes > self._bytes_max
        self._sent_whole = self.whole or folded or self.flushed + 1 < stream.exact_from
        self._sent = stream.head
        if self._sent_whole:
            pieces = all_pieces(stream, with_audio=with_audio, folded=folded)
            redis_log.write(batch, stream, pieces, producer, dialect=self.dialect, provider=self.provider)
        else:
            pieces = new_pieces(stream, self.flushed, with_audio=with_audio)
            if stream.terminal is not None:
                redis_log.finish(batch, stream, pieces, producer)
            else:
                redis_log.append(batch, stream, pieces)
        self._sent_bytes = sum(len(piece.body) for piece in pieces)
        return True

    @property
    def complete(self) -> bool:
        """Whether it has ended and nothing of it is left to write."""
        return self.stream.ended and not self.whole and self.flushed == self.stream.head

    def settle(self, reply: Any) -> Outcome:
        """What the answer to the last command means."""
        if reply == SUPERSEDED:
            return Outcome.DOUBTFUL
        if reply is None or reply == MISSING:
            return self.rewrite()
        if isinstance(reply, bytes):
            return self._written()
        if is_stale(reply):
            return Outcome.DOUBTFUL
        if away(reply):
            return Outcome.AWAY
        self._tries += 1
        log.error("Redis refuses a stream: %s", reply, extra={"stream_id": self.stream.sid})
        return self.rewrite() if self._tries == 1 else Outcome.HOPELESS

    def _written(self) -> Outcome:
        if self._sent_whole:
            # What does not fit even when it is folded must not be written whole again for each new event.
            self._bytes = self._sent_bytes
            self._bytes_max = max(self._bytes_max, 2 * self._bytes)
        else:
            self._bytes += self._sent_bytes
        self.flushed, self.whole, self._tries = self._sent, False, 0
        return Outcome.WRITTEN

    def rewrite(self) -> Outcome:
        """All of it is to be written again."""
        self.whole = True
        return Outcome.AGAIN

    def compare(self, held: tuple[int, str] | None, top: tuple[int, int] | None, instance: str) -> Outcome:
        """What follows from what Redis has of it: epoch and producer, epoch and seq of the last entry."""
        epoch = self.stream.epoch
        if held is not None and (held[0] > epoch or (held[0] == epoch and held[1] != instance)):
            return Outcome.TAKEN
        if held is None or held[0] < epoch or top is None or top[0] != epoch:
            return self.rewrite()
        self.flushed, self.whole = min(top[1], self.stream.head), False
        return Outcome.WRITTEN if self.flushed == self.stream.head else Outcome.AGAIN
