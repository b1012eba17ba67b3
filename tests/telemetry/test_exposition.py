"""What `/metrics` says: the whole text for a script of verbs, and that one scrape never contradicts itself."""

import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.metrics import Account, Metrics, StoreFigures
from gateway.telemetry.prometheus import PrometheusMetrics

EXPECTED = Path(__file__).parent / "exposition.txt"
OURS = ("gen_ai_", "ssegw_")


def play(metrics: Metrics) -> None:
    """Every verb; values below, on, between and beyond the bounds of their buckets; more than one label each."""
    for dialect, provider, error in (("native", "local", ""), ("openai", "openai", "UPSTREAM_TIMEOUT")):
        for seconds in (0.0, 0.00005, 0.001, 0.0011, 0.5, 1.0, 1.01, 700.0):
            metrics.stream_opened(dialect, seconds)
            metrics.first_chunk(provider, seconds)
            metrics.chunks(provider)(seconds)
            metrics.first_token(dialect, provider, seconds)
            metrics.output(provider, 4, seconds)
            metrics.cancel_lag(seconds)
            metrics.loop_lag(seconds)
            metrics.reader_attached(dialect)
        for tokens in (0, 1, 65536, 65537, 5_000_000):
            outcome = "provider_timeout_first" if error else "ok"
            metrics.stream_ended(Account(dialect, provider, outcome, error, 0.5, tokens, tokens + 1, not error))
        metrics.reader_left(dialect, "finished")
    metrics.reader_left("native", "gone")
    metrics.no_first_token("provider_timeout_first")
    metrics.taken_over("continued", "native")
    metrics.taken_over("lost", "native")
    metrics.continuation("continued")
    metrics.continuation("refused")
    metrics.late_events(3)
    metrics.resumed("kept", 7)
    metrics.resumed("gap", 0)
    metrics.resumed("rewind", 0)
    metrics.slow_consumer("merged")
    metrics.heartbeats(5)
    for _ in range(3):
        metrics.connection_opened()
    metrics.connection_closed()
    metrics.refused("NOT_FOUND")
    metrics.queue_waiting("premium", 2)
    for outcome, seconds in (("granted", 0.5), ("timeout", 30.0), ("full", 0.0)):
        metrics.queue_left("premium", outcome, seconds)
    metrics.variant_ended("small", "ok")
    metrics.rated(5)
    metrics.rolled_back("error_rate")
    metrics.store_bytes(123456)
    metrics.drain_remaining(2)
    metrics.watch_store(lambda: StoreFigures(640, 98765, 21, durable=True, mirrors=4))
    metrics.flushed(0.003)
    metrics.froze()
    metrics.webhooks_waiting(4)
    metrics.webhook_attempt("ok")
    metrics.webhook_attempt("blocked")
    metrics.webhooks_ended("delivered", 1)
    metrics.webhooks_ended("lost", 0)
    metrics.log_lines_dropped(11)


def told(metrics: PrometheusMetrics) -> str:
    """The gateway's own part of the text, with the times of creation, which differ each time, left out."""
    lines = metrics.render().decode().splitlines(keepends=True)
    own = "".join(line for line in lines if line.removeprefix("# HELP ").removeprefix("# TYPE ").startswith(OURS))
    return re.sub(r"(?m)^(\w+_created\S*) 1\.\d+e\+09$", r"\1 THEN", own)


def test_the_text_is_as_it_always_was() -> None:
    """Names, help, types, labels, buckets, values and their order: dashboards and alerts of others stand on them."""
    metrics = PrometheusMetrics()
    play(metrics)
    assert told(metrics) == EXPECTED.read_text()


def test_what_has_no_labels_is_there_from_the_start() -> None:
    """A counter that appears with its first event hides that event from `rate()`."""
    bare = told(PrometheusMetrics())
    assert "\nssegw_heartbeats_total 0.0\n" in bare
    assert '\nssegw_event_loop_lag_seconds_bucket{le="+Inf"} 0.0\n' in bare
    types = {line for line in EXPECTED.read_text().splitlines() if line.startswith("# TYPE") and "_created" not in line}
    assert types <= set(bare.splitlines())


def test_every_histogram_counts_what_is_in_its_last_bucket() -> None:
    """And its buckets never shrink from one bound to the next."""
    metrics = PrometheusMetrics()
    play(metrics)
    families = [f for f in text_string_to_metric_families(metrics.render().decode()) if f.type == "histogram"]
    assert len(families) == 11
    for family in families:
        for labels, buckets in _buckets(family).items():
            assert buckets == sorted(buckets)
            assert buckets[-1] == _count(family, labels)


Labels = tuple[tuple[str, str], ...]


def _count(family: Metric, labels: Labels) -> float:
    (count,) = (s.value for s in family.samples if s.name.endswith("_count") and tuple(s.labels.items()) == labels)
    return count


def _buckets(family: Metric) -> dict[Labels, list[float]]:
    """The buckets of a histogram in the order in which they are told, by their other labels."""
    found: dict[Labels, list[float]] = {}
    for sample in family.samples:
        if sample.name.endswith("_bucket"):
            labels = tuple((name, value) for name, value in sample.labels.items() if name != "le")
            found.setdefault(labels, []).append(sample.value)
    return found


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(0.00001)
    yield
    sys.setswitchinterval(interval_s)


@pytest.mark.usefixtures("restless")
def test_a_scrape_amid_the_writing_agrees_with_itself() -> None:
    """Count and last bucket are the same in each scrape, and neither goes back from one scrape to the next."""
    metrics = PrometheusMetrics()
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            for number in range(200):
                metrics.chunks(f"provider{number % 20}")(number / 100)
                metrics.refused(f"CODE{number}")

    before: dict[object, float] = {}
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(30):
            for family in metrics.collect():
                for labels, buckets in _buckets(family).items():
                    assert buckets[-1] == _count(family, labels) >= before.get((family.name, labels), 0)
                    before[family.name, labels] = buckets[-1]
    finally:
        done.set()
        writer.join()


@pytest.mark.usefixtures("restless")
def test_lines_dropped_by_several_threads_are_all_counted() -> None:
    """Whoever logs may drop a line, and so may the log's own thread."""
    metrics = PrometheusMetrics()

    def drop() -> None:
        for _ in range(20_000):
            metrics.log_lines_dropped(1)

    threads = [threading.Thread(target=drop) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics.registry.get_sample_value("ssegw_log_lines_dropped_total") == 80_000
