"""Prometheus series: every verb has one, names and labels are closed sets."""

import asyncio
import inspect

from gateway.telemetry.lag import LagMeter
from gateway.telemetry.metrics import Account, Metrics, StoreFigures
from gateway.telemetry.prometheus import PrometheusMetrics

VERBS = [name for name, _ in inspect.getmembers(Metrics, inspect.isfunction) if not name.startswith("_")]
ACCOUNT = Account("native", "local", "ok", "", 1.5, 10, 20, True)
STORE = StoreFigures(commands=7, written_bytes=4096, exposed_events=12, durable=True, mirrors=3)


def _call(metrics: Metrics, verb: str) -> None:
    """Call a verb with plausible arguments, by the types it declares."""
    samples = {"str": "x", "float": 0.5, "int": 2, "bool": True, "Account": ACCOUNT, "Callable": lambda: STORE}
    parameters = inspect.signature(getattr(Metrics, verb)).parameters.values()
    annotations = [p.annotation if isinstance(p.annotation, str) else p.annotation.__name__ for p in parameters][1:]
    getattr(metrics, verb)(*(samples[annotation] for annotation in annotations))


def test_every_verb_moves_a_series() -> None:
    """A verb that only the null object knows would be a silent hole."""
    for verb in VERBS:
        metrics = PrometheusMetrics()
        before = metrics.render()
        _call(metrics, verb)
        assert metrics.render() != before, verb
        _call(Metrics(), verb)


def test_a_stream_that_came_and_went_leaves_its_account() -> None:
    """Gauge back at zero, one outcome, one usage record, tokens and duration."""
    metrics = PrometheusMetrics()
    metrics.stream_opened("native", 0.001)
    metrics.stream_ended(ACCOUNT)
    value = metrics.registry.get_sample_value
    assert value("ssegw_streams_active", {"dialect": "native"}) == 0
    assert value("ssegw_stream_outcomes_total", {"outcome": "ok"}) == 1
    assert value("ssegw_usage_records_total", {"source": "reported"}) == 1
    assert value("gen_ai_client_token_usage_sum", {"provider": "local", "token_type": "output"}) == 20
    assert value("gen_ai_server_request_duration_seconds_sum", {"provider": "local", "error_type": ""}) == 1.5


def test_two_gateways_in_a_process_do_not_share_series() -> None:
    """Each has a registry of its own."""
    one, other = PrometheusMetrics(), PrometheusMetrics()
    one.refused("NOT_FOUND")
    assert other.registry.get_sample_value("ssegw_refusals_total", {"code": "NOT_FOUND"}) is None


def test_the_shared_store_is_looked_at_when_somebody_asks() -> None:
    """Nothing is counted while streams are written: its plain figures are read at each scrape, and are always new."""
    metrics, told = PrometheusMetrics(), [STORE]
    metrics.watch_store(lambda: told[0])
    value = metrics.registry.get_sample_value
    assert value("ssegw_store_commands_total") == 7
    assert value("ssegw_store_written_bytes_total") == 4096
    told[0] = STORE._replace(commands=9, exposed_events=0, durable=False, mirrors=0)
    assert value("ssegw_store_commands_total") == 9
    assert [value(f"ssegw_store_{name}") for name in ("exposed_events", "durable", "mirrors")] == [0, 0, 0]


def test_without_a_shared_store_nobody_is_told_that_it_is_away() -> None:
    """An alert on `ssegw_store_durable == 0` must not fire on processes that have no such store."""
    metrics = PrometheusMetrics()
    assert metrics.registry.get_sample_value("ssegw_store_durable") is None
    assert metrics.store_figures() is None


async def test_loop_lag_is_measured() -> None:
    """A meter that runs has seen something after its first interval."""
    metrics = PrometheusMetrics()
    meter = LagMeter(metrics)
    meter.start()
    await asyncio.sleep(0.3)
    meter.stop()
    count = metrics.registry.get_sample_value("ssegw_event_loop_lag_seconds_count")
    assert count is not None
    assert count >= 1
    assert meter.last_s >= 0
