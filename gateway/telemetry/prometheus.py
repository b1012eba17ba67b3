"""PrometheusMetrics: the verbs as Prometheus series.

Names and buckets are OpenTelemetry's GenAI conventions where they exist, `ssegw_*` for what only a streaming
gateway knows. No label ever holds a user, session, stream or path.
"""

from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from gateway.telemetry.metrics import Account, Metrics

FIRST_TOKEN = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    15,
    20,
    30,
    60,
    120,
)
DURATION = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
LONG = (*DURATION, 163.84, 327.68, 655.36)
PER_TOKEN = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5)
CHUNK_GAP = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)
OVERHEAD = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)
LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class PrometheusMetrics(Metrics):
    """Series in a registry of its own, so that two gateways in one process do not meet."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self._children: dict[tuple[int, tuple[str, ...]], Any] = {}

        def histogram(name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(name, text, labels, registry=registry)

        self._ttft = histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "Request received to first content written to the client that asked",
            ("dialect", "provider"),
            FIRST_TOKEN,
        )
        self._first_chunk = histogram(
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            "Upstream called to its first content",
            ("provider",),
            DURATION,
        )
        self._per_token = histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Mean time per token of an answer after its first",
            ("provider",),
            PER_TOKEN,
        )
        self._gap = histogram(
            "gen_ai_client_operation_time_per_output_chunk_seconds",
            "Gaps between the upstream's pieces of content",
            ("provider",),
            CHUNK_GAP,
        )
        self._duration = histogram(
            "gen_ai_server_request_duration_seconds",
            "Life of a stream, opened to terminal event",
            ("provider", "error_type"),
            LONG,
        )
        self._tokens = histogram(
            "gen_ai_client_token_usage", "Tokens per answer", ("provider", "token_type"), tuple(map(float, TOKENS))
        )
        self._overhead = histogram("ssegw_overhead_seconds", "Time the gateway itself took", ("stage",), OVERHEAD)
        self._cancel_lag = histogram(
            "ssegw_upstream_cancel_lag_seconds", "Decision to cancel to upstream closed", (), LAG
        )
        self._loop_lag = histogram("ssegw_event_loop_lag_seconds", "How late a timer came", (), LAG)
        self._streams = gauge("ssegw_streams_active", "Streams without a terminal event", "dialect")
        self._readers = gauge("ssegw_readers_active", "Clients that read a stream now", "dialect")
        self._connections = gauge("ssegw_connections_open", "Accepted connections, streaming or not")
        self._buffer = gauge("ssegw_buffer_bytes", "Memory taken by kept logs")
        self._draining = gauge("ssegw_drain_streams_remaining", "Streams still running while the process goes away")
        self._outcomes = counter("ssegw_stream_outcomes_total", "How streams ended", "outcome")
        self._usage = counter("ssegw_usage_records_total", "Usage records, one a stream", "source")
        self._no_first = counter("ssegw_no_first_token_total", "Streams that ended before any content", "reason")
        self._left = counter("ssegw_readers_left_total", "How clients stopped reading", "ending")
        self._resumes = counter("ssegw_resume_total", "Returns to a stream", "result")
        self._replayed = counter("ssegw_replayed_events_total", "Events sent again to clients that came back")
        self._slow = counter("ssegw_slow_consumer_total", "What was done about slow readers", "action")
        self._heartbeats = counter("ssegw_heartbeats_total", "Heartbeats written")
        self._late = counter("ssegw_late_events_total", "Events dropped because their stream had ended")
        self._refusals = counter("ssegw_refusals_total", "Requests refused before the first byte", "code")
        self._log_drops = counter("ssegw_log_lines_dropped_total", "Log lines given up because nobody reads them")

    def render(self) -> bytes:
        """The text exposition format. Takes tens of milliseconds: call it off the loop."""
        return generate_latest(self.registry)

    def _of(self, metric: Any, *labels: str) -> Any:
        """The child for these labels, remembered: `labels()` takes a lock and builds a tuple each time."""
        key = (id(metric), labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def stream_opened(self, dialect: str, admit_s: float) -> None:
        self._of(self._streams, dialect).inc()
        self._of(self._overhead, "admit").observe(admit_s)

    def stream_ended(self, account: Account) -> None:
        self._of(self._streams, account.dialect).dec()
        self._of(self._outcomes, account.outcome).inc()
        self._of(self._duration, account.provider, account.error).observe(account.seconds)
        self._of(self._usage, "reported" if account.reported else "estimated").inc()
        self._of(self._tokens, account.provider, "input").observe(account.prompt_tokens)
        self._of(self._tokens, account.provider, "output").observe(account.completion_tokens)

    def output(self, provider: str, tokens: int, seconds: float) -> None:
        self._of(self._per_token, provider).observe(seconds / tokens)

    def first_chunk(self, provider: str, seconds: float) -> None:
        self._of(self._first_chunk, provider).observe(seconds)

    def chunk(self, provider: str, gap_s: float) -> None:
        self._of(self._gap, provider).observe(gap_s)

    def first_token(self, dialect: str, provider: str, seconds: float) -> None:
        self._of(self._ttft, dialect, provider).observe(seconds)

    def no_first_token(self, reason: str) -> None:
        self._of(self._no_first, reason).inc()

    def cancel_lag(self, seconds: float) -> None:
        self._cancel_lag.observe(seconds)

    def late_events(self, count: int) -> None:
        self._late.inc(count)

    def reader_attached(self, dialect: str) -> None:
        self._of(self._readers, dialect).inc()

    def reader_left(self, dialect: str, ending: str) -> None:
        self._of(self._readers, dialect).dec()
        self._of(self._left, ending).inc()

    def resumed(self, result: str, replayed: int) -> None:
        self._of(self._resumes, result).inc()
        self._replayed.inc(replayed)

    def slow_consumer(self, action: str) -> None:
        self._of(self._slow, action).inc()

    def heartbeats(self, count: int) -> None:
        self._heartbeats.inc(count)

    def connection_opened(self) -> None:
        self._connections.inc()

    def connection_closed(self) -> None:
        self._connections.dec()

    def refused(self, code: str) -> None:
        self._of(self._refusals, code).inc()

    def loop_lag(self, seconds: float) -> None:
        self._loop_lag.observe(seconds)

    def store_bytes(self, count: int) -> None:
        self._buffer.set(count)

    def drain_remaining(self, count: int) -> None:
        self._draining.set(count)

    def log_lines_dropped(self, count: int) -> None:
        self._log_drops.inc(count)
