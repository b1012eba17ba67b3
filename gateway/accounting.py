"""Accounting: what is said of a stream when it has ended: its outcome, its usage, one line in the log."""

import logging
import time
from typing import Protocol

from gateway.errors import Code
from gateway.events import DRAINING, ORPHANED, SUPERSEDED, Failed
from gateway.pipeline import Pipeline, usage_of
from gateway.streams.stream import State, Stream
from gateway.telemetry.logs import tell
from gateway.telemetry.metrics import Account, Metrics

log = logging.getLogger(__name__)

_OUTCOME_OF_REASON = {
    ORPHANED: "caller_disconnect",
    SUPERSEDED: "caller_disconnect",
    DRAINING: "gateway_drain",
}
_OUTCOME_OF_CODE = {
    Code.UPSTREAM_TRUNCATED.name: "provider_truncated",
    Code.OUTPUT_LIMIT.name: "policy_limit",
    Code.BUDGET_EXCEEDED.name: "policy_limit",
    Code.UNAUTHENTICATED.name: "policy_limit",
    Code.QUEUE_TIMEOUT.name: "queue_timeout",
    Code.STORE_FULL.name: "gateway_error",
    Code.PRODUCER_LOST.name: "gateway_error",
    Code.INTERNAL.name: "gateway_error",
}


class Witness(Protocol):
    """Is told of the streams of this process, in the turn of the loop in which it happens; must not wait or raise."""

    def opened(self, stream: Stream) -> None:
        """A stream was opened; not told of one that was taken over, or found by its idempotency key."""

    def ended(self, stream: Stream, account: Account) -> None:
        """It has its terminal event, or is another process's from now on (`stream.ended` says which)."""


def account_for(stream: Stream, pipeline: Pipeline, started: float, metrics: Metrics) -> Account:
    """Exactly one record of usage and one line in the log for each stream of this process."""
    now, usage = time.monotonic(), usage_of(stream)
    account = Account(
        stream.dialect,
        pipeline.source.name,
        outcome_of(stream),
        error_of(stream),
        now - started,
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.reported,
        pipeline.first_content_at - started if pipeline.first_content_at else None,
    )
    metrics.stream_ended(account)
    if not stream.content_events:
        metrics.no_first_token(account.outcome)
    elif usage.completion_tokens > 1 and pipeline.first_content_at:
        metrics.output(account.provider, usage.completion_tokens - 1, now - pipeline.first_content_at)
    if stream.late_events:
        metrics.late_events(stream.late_events)
    facts = {**account._asdict(), "stream_id": stream.sid, "tenant": stream.owner.tenant, "events": stream.head}
    if isinstance(stream.terminal, Failed):
        tell(log, logging.ERROR, "stream failed", facts)
    else:
        tell(log, logging.INFO, "stream ended", facts)
    return account


def outcome_of(stream: Stream) -> str:
    """How a stream ended, from the closed set of the metric `ssegw_stream_outcomes_total`."""
    terminal = stream.terminal
    if isinstance(terminal, Failed):
        if terminal.code == Code.UPSTREAM_TIMEOUT.name:
            return "provider_timeout_idle" if stream.content_events else "provider_timeout_first"
        return _OUTCOME_OF_CODE.get(terminal.code, "provider_error")
    if stream.state is State.COMPLETED:
        return "ok"
    if not stream.ended:
        return "handed_over"
    return _OUTCOME_OF_REASON.get(stream.seal_reason, "caller_cancel")


def error_of(stream: Stream) -> str:
    """The label `error_type`: the code of a failure, empty where there was none."""
    return stream.terminal.code if isinstance(stream.terminal, Failed) else ""
