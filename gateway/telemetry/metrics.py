"""Metrics in the words of the domain. This class is the null object: every verb, and no effect."""

from collections.abc import Callable
from typing import NamedTuple


class Account(NamedTuple):
    """What is to be said of a stream that has ended. `reported` is false where tokens were estimated."""

    dialect: str
    provider: str
    outcome: str
    error: str
    seconds: float
    prompt_tokens: int
    completion_tokens: int
    reported: bool
    first_content_s: float | None = None
    """From its beginning to its first content; None where none was made here."""


class StoreFigures(NamedTuple):
    """What is to be said of a store that processes share. Bytes and commands are since the start of the process."""

    commands: int
    """That wrote streams down."""
    written_bytes: int
    exposed_events: int
    """Events of running streams that would be lost with this process."""
    durable: bool
    """Whether the store takes what is written."""
    mirrors: int
    """Streams of other processes that are copied here."""


class Metrics:
    """What the house tells of itself. Times are in seconds; every label comes from a closed set."""

    def stream_opened(self, dialect: str, admit_s: float) -> None:
        """A stream was created, `admit_s` after its request arrived."""

    def answered(self, dialect: str, kind: str) -> None:
        """A question was let in, whose answer is told as a `stream` or `plain`, as one JSON object."""

    def stream_ended(self, account: Account) -> None:
        """A stream has its terminal event; exactly once for each stream, however it ended."""

    def taken_over(self, result: str, dialect: str) -> None:
        """A stream changed its process.

        One whose process is gone was `continued` here, or `lost`, or `refused` because its credential is good no more,
        or another process was faster (`raced`); one of ours is made by another process now (`superseded`).
        """

    def output(self, provider: str, tokens: int, seconds: float) -> None:
        """`tokens` were made in `seconds` after the first one."""

    def first_chunk(self, provider: str, seconds: float) -> None:
        """The upstream's first content arrived."""

    def chunks(self, provider: str) -> Callable[[float], None]:
        """To be called with the gap in seconds whenever more content arrived from the upstream: once for each token."""
        return _nothing

    def continuation(self, result: str) -> None:
        """An answer that broke off was `continued` to its end, `failed` again, or was `refused`: not open to more."""

    def first_token(self, dialect: str, provider: str, seconds: float) -> None:
        """The first content was written to the client that asked."""

    def no_first_token(self, reason: str) -> None:
        """A stream ended before any content, so that `first_token` tells nothing of it."""

    def cancel_lag(self, seconds: float) -> None:
        """From the decision to cancel to the upstream's connection being closed."""

    def late_events(self, count: int) -> None:
        """Events that came after the end and were dropped."""

    def reader_attached(self, dialect: str) -> None:
        """A client began to read a stream."""

    def reader_left(self, dialect: str, ending: str) -> None:
        """It reads no more."""

    def resumed(self, result: str, replayed: int) -> None:
        """Somebody came back to a stream.

        `kept`, `gap`, `reset`, `rewind`, `snapshot`, `finished`, `expired` or `denied`.
        """

    def slow_consumer(self, action: str) -> None:
        """A slow reader's text was merged, or its connection aborted."""

    def heartbeats(self, count: int) -> None:
        """So many heartbeats were written."""

    def connection_opened(self) -> None:
        """A TCP or unix connection was accepted."""

    def connection_closed(self) -> None:
        """It is gone."""

    def refused(self, code: str) -> None:
        """A request was answered with an error before the first byte of a stream."""

    def queue_waiting(self, priority: str, count: int) -> None:
        """So many of a class (`premium`, `standard`, `background`) wait for their turn now."""

    def queue_left(self, priority: str, outcome: str, seconds: float) -> None:
        """Somebody waits no more, after so long.

        `granted`, `left`, `timeout`, `handed_over` (waits on in another process), or `full`: there was no place.
        """

    def variant_ended(self, variant: str, outcome: str) -> None:
        """A stream in that arm of an experiment has ended."""

    def rated(self, rating: int) -> None:
        """A client said how good an answer was, from 1 to 5."""

    def rolled_back(self, trigger: str) -> None:
        """This process took a rollout back: `error_rate`, `first_token`, `total`, `cost` or `rating`."""

    def loop_lag(self, seconds: float) -> None:
        """How late a timer came: what every stream waited."""

    def store_bytes(self, count: int) -> None:
        """Memory taken by logs."""

    def watch_store(self, look: Callable[[], StoreFigures]) -> None:
        """`look` tells of the shared store, in any thread; it is asked when somebody wants to know."""

    def flushed(self, seconds: float) -> None:
        """What was new was written to the shared store, or could not be."""

    def froze(self) -> None:
        """The process stood still for so long that others may have taken its streams."""

    def webhooks_waiting(self, change: int) -> None:
        """So many messages more, or fewer, have not been taken by their receivers."""

    def webhook_attempt(self, result: str) -> None:
        """One was sent, and this came of it: one of `gateway.webhooks.post.RESULTS`."""

    def webhooks_ended(self, outcome: str, count: int) -> None:
        """So many were `delivered`, `refused`, `failed` for good, `dropped` because too many waited or nobody wants
        them any more, or `lost` with the process.
        """

    def limits_shared(self, shared: bool) -> None:
        """Whether limits are counted among all processes, or by each for itself while the shared store is away."""

    def drain_remaining(self, count: int) -> None:
        """Streams still running while the process goes away."""

    def log_lines_dropped(self, count: int) -> None:
        """Log lines given up because the log's reader does not read."""


def _nothing(gap_s: float) -> None:
    """The null object's recorder."""
