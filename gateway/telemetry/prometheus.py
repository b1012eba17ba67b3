"""PrometheusMetrics: the verbs as Prometheus series.

Names and buckets are OpenTelemetry's GenAI conventions where they exist, `ssegw_*` for what only a streaming
gateway knows. No label ever holds a user, session, stream or path.
"""

from collections.abc import Callable, Iterable
from threading import Lock

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.metrics_core import Metric

from gateway.telemetry.door_series import QueueSeries, WebhookSeries
from gateway.telemetry.metrics import Account, Metrics, StoreFigures
from gateway.telemetry.rollout_series import RolloutSeries
from gateway.telemetry.series import Counts, Gauges, Series, Tallies
from gateway.telemetry.store_series import StoreSeries

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
    """Series in a registry of its own, so that two gateways in one process do not meet.

    Verbs are for the loop's thread only, but for `log_lines_dropped`; `render` and `collect` are for any.
    """

    def __init__(self) -> None:
        self._ttft = Tallies(
            "gen_ai_server_time_to_first_token_seconds",
            "Request received to first content written to the client that asked",
            ("dialect", "provider"),
            FIRST_TOKEN,
        )
        self._first_chunk = Tallies(
            "gen_ai_client_operation_time_to_first_chunk_seconds",
            "Upstream called to its first content",
            ("provider",),
            DURATION,
        )
        self._per_token = Tallies(
            "gen_ai_server_time_per_output_token_seconds",
            "Mean time per token of an answer after its first",
            ("provider",),
            PER_TOKEN,
        )
        self._gap = Tallies(
            "gen_ai_client_operation_time_per_output_chunk_seconds",
            "Gaps between the upstream's pieces of content",
            ("provider",),
            CHUNK_GAP,
        )
        self._duration = Tallies(
            "gen_ai_server_request_duration_seconds",
            "Life of a stream, opened to terminal event",
            ("provider", "error_type"),
            LONG,
        )
        self._tokens = Tallies("gen_ai_client_token_usage", "Tokens per answer", ("provider", "token_type"), TOKENS)
        self._overhead = Tallies("ssegw_overhead_seconds", "Time the gateway itself took", ("stage",), OVERHEAD)
        self._cancel_lag = Tallies(
            "ssegw_upstream_cancel_lag_seconds", "Decision to cancel to upstream closed", (), LAG
        )
        self._loop_lag = Tallies("ssegw_event_loop_lag_seconds", "How late a timer came", (), LAG)
        self._streams = Gauges("ssegw_streams_active", "Streams without a terminal event", "dialect")
        self._readers = Gauges("ssegw_readers_active", "Clients that read a stream now", "dialect")
        self._connections = Gauges("ssegw_connections_open", "Accepted connections, streaming or not")
        self._buffer = Gauges("ssegw_buffer_bytes", "Memory taken by kept logs")
        self._draining = Gauges("ssegw_drain_streams_remaining", "Streams still running while the process goes away")
        self._answers = Counts("ssegw_answers_total", "Answers, by how they are told", "dialect", "kind")
        self._outcomes = Counts("ssegw_stream_outcomes_total", "How streams ended", "outcome")
        self._usage = Counts("ssegw_usage_records_total", "Usage records, one a stream", "source")
        self._no_first = Counts("ssegw_no_first_token_total", "Streams that ended before any content", "reason")
        self._takeovers = Counts("ssegw_takeovers_total", "Streams that changed their process", "result")
        self._continuations = Counts(
            "ssegw_continuations_total", "Answers that broke off, and what came of it", "result"
        )
        self._left = Counts("ssegw_readers_left_total", "How clients stopped reading", "ending")
        self._resumes = Counts("ssegw_resume_total", "Returns to a stream", "result")
        self._replayed = Counts("ssegw_replayed_events_total", "Events sent again to clients that came back")
        self._slow = Counts("ssegw_slow_consumer_total", "What was done about slow readers", "action")
        self._heartbeats = Counts("ssegw_heartbeats_total", "Heartbeats written")
        self._late = Counts("ssegw_late_events_total", "Events dropped because their stream had ended")
        self._refusals = Counts("ssegw_refusals_total", "Requests refused before the first byte", "code")
        self._queue = QueueSeries(DURATION)
        self._webhooks = WebhookSeries()
        self._rollout = RolloutSeries()
        self._store = StoreSeries()
        self._log_drops = Counts("ssegw_log_lines_dropped_total", "Log lines given up because nobody reads them")
        self._log_lock = Lock()
        self.series = self._all_series()
        self.registry = CollectorRegistry(auto_describe=True)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        GCCollector(registry=self.registry)
        self.registry.register(self)

    def _all_series(self) -> list[Series]:
        """In the order in which they were made."""
        series: list[Series] = []
        for found in vars(self).values():
            if isinstance(found, Series):
                series.append(found)
            elif isinstance(found, (QueueSeries, WebhookSeries, RolloutSeries, StoreSeries)):
                series += found.series()
        return series

    def collect(self) -> Iterable[Metric]:
        """For the registry: all that was counted."""
        self._store.update()
        return [series.family() for series in self.series]

    def store_figures(self) -> StoreFigures | None:
        """What the shared store says of itself now; None where no store is shared."""
        return self._store.figures()

    def render(self) -> bytes:
        """The text exposition format. Takes milliseconds: call it off the loop."""
        return generate_latest(self.registry)

    def stream_opened(self, dialect: str, admit_s: float) -> None:
        self._streams[dialect] += 1
        self._overhead["admit"].add(admit_s)

    def answered(self, dialect: str, kind: str) -> None:
        self._answers[dialect, kind] += 1

    def stream_ended(self, account: Account) -> None:
        self._streams[account.dialect] -= 1
        self._outcomes[account.outcome] += 1
        self._duration[account.provider, account.error].add(account.seconds)
        self._usage["reported" if account.reported else "estimated"] += 1
        self._tokens[account.provider, "input"].add(account.prompt_tokens)
        self._tokens[account.provider, "output"].add(account.completion_tokens)

    def output(self, provider: str, tokens: int, seconds: float) -> None:
        self._per_token[provider].add(seconds / tokens)

    def first_chunk(self, provider: str, seconds: float) -> None:
        self._first_chunk[provider].add(seconds)

    def chunks(self, provider: str) -> Callable[[float], None]:
        return self._gap[provider].add

    def taken_over(self, result: str, dialect: str) -> None:
        self._takeovers[result] += 1
        if result == "continued":
            self._streams[dialect] += 1

    def continuation(self, result: str) -> None:
        self._continuations[result] += 1

    def first_token(self, dialect: str, provider: str, seconds: float) -> None:
        self._ttft[dialect, provider].add(seconds)

    def no_first_token(self, reason: str) -> None:
        self._no_first[reason] += 1

    def cancel_lag(self, seconds: float) -> None:
        self._cancel_lag[()].add(seconds)

    def late_events(self, count: int) -> None:
        self._late[()] += count

    def reader_attached(self, dialect: str) -> None:
        self._readers[dialect] += 1

    def reader_left(self, dialect: str, ending: str) -> None:
        self._readers[dialect] -= 1
        self._left[ending] += 1

    def resumed(self, result: str, replayed: int) -> None:
        self._resumes[result] += 1
        self._replayed[()] += replayed

    def slow_consumer(self, action: str) -> None:
        self._slow[action] += 1

    def heartbeats(self, count: int) -> None:
        self._heartbeats[()] += count

    def connection_opened(self) -> None:
        self._connections[()] += 1

    def connection_closed(self) -> None:
        self._connections[()] -= 1

    def refused(self, code: str) -> None:
        self._refusals[code] += 1

    def queue_waiting(self, priority: str, count: int) -> None:
        self._queue.waiting[priority] = count

    def queue_left(self, priority: str, outcome: str, seconds: float) -> None:
        self._queue.outcomes[outcome] += 1
        if outcome != "full":
            self._queue.waited[priority].add(seconds)

    def variant_ended(self, variant: str, outcome: str) -> None:
        self._rollout.variants[variant, outcome] += 1

    def rated(self, rating: int) -> None:
        self._rollout.ratings[str(rating)] += 1

    def rolled_back(self, trigger: str) -> None:
        self._rollout.rollbacks[trigger] += 1

    def loop_lag(self, seconds: float) -> None:
        self._loop_lag[()].add(seconds)

    def store_bytes(self, count: int) -> None:
        self._buffer[()] = count

    def watch_store(self, look: Callable[[], StoreFigures]) -> None:
        self._store.look = look

    def flushed(self, seconds: float) -> None:
        self._store.flush[()].add(seconds)

    def froze(self) -> None:
        self._store.freezes[()] += 1

    def webhooks_waiting(self, change: int) -> None:
        self._webhooks.waiting[()] += change

    def webhook_attempt(self, result: str) -> None:
        self._webhooks.attempts[result] += 1

    def webhooks_ended(self, outcome: str, count: int) -> None:
        if count:
            self._webhooks.outcomes[outcome] += count

    def limits_shared(self, shared: bool) -> None:
        self._store.limits[()] = shared

    def drain_remaining(self, count: int) -> None:
        self._draining[()] = count

    def log_lines_dropped(self, count: int) -> None:
        # The one verb that other threads call too: whoever logs, and the log's own.
        with self._log_lock:
            self._log_drops[()] += count
