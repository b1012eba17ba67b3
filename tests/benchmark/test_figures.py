"""What the benchmark makes of its figures: medians, ratios within a round, tables, charts, the search for the most."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from bench import publish, tables
from bench.charts import charts
from bench.drive import Figures
from bench.load import Load, Order, Request
from bench.results import Results, Spread, load, value
from bench.samples import Samples
from bench.scenarios import SCENARIOS, paced
from bench.search import search
from bench.targets import ROOT
from tests.benchmark.parts import run_of, session_of


def test_the_median_stands_with_its_spread() -> None:
    """The middle value, the least and the greatest; nothing where nothing was measured."""
    assert Spread.of([3, 1, 2]) == Spread(2, 1, 3, 3)
    assert Spread.of([]) is None
    assert tables.told(Spread.of([20.0, 10.0, 40.0])) == "20.0 (10.0–40.0)"
    assert tables.told(Spread.of([2000])) == "2,000"
    assert tables.told(None) == "–"
    assert value(run_of("nginx"), "latency_ms.p99") == 2.0
    assert value(run_of("nginx"), "latency_ms.p1") is None


def test_a_ratio_is_taken_within_its_round() -> None:
    """The median of ratios is not the ratio of medians, and a round without a base has none."""
    costs = {"nginx": [10.0, 20.0, 40.0], "gateway": [30.0, 40.0, 60.0, 999.0]}
    runs = [run_of(name, n, us_per_token=cost) for name, all_ in costs.items() for n, cost in enumerate(all_, 1)]
    assert Results([session_of(*runs)]).ratio("S2", "", "gateway", "us_per_token") == Spread(2, 1.5, 3, 3)
    apart = [session_of(run) for run in runs]
    assert Results(apart).ratio("S2", "", "gateway", "us_per_token") is None


def test_without_nginx_the_bare_relay_is_the_base() -> None:
    """And the table's column says so."""
    results = Results([session_of(run_of("relay"), run_of("gateway", us_per_token=30.0))])
    assert results.base == "relay"
    assert "× asyncio relay" in tables.headline(results)
    assert "| 1.50 |" in tables.headline(results)


def test_quantiles_are_those_of_all_samples() -> None:
    """In milliseconds, of nanoseconds in any order."""
    samples = Samples()
    for number in range(1000, 0, -1):
        samples.add(number * 1_000_000)
    told = samples.in_ms()
    assert (told["n"], told["p50"], told["p99"], told["max"]) == (1000, 501, 991, 1000)
    assert Samples().in_ms() == {"n": 0}


def test_every_scenario_has_its_table() -> None:
    """Whatever was measured is told, with a row for each target and case."""
    runs = []
    for name, scenario in SCENARIOS.items():
        for case in scenario.cases(9900):
            runs += [run_of(target, scenario=name, case=case.name) for target in case.targets or ("nginx", "native")]
    told = tables.all_tables(Results([session_of(*runs)]))
    assert all(f"### {name}: " in told for name in SCENARIOS)
    for name in SCENARIOS:
        rows = tables.rows_of(Results([session_of(*runs)]), name, tables.COLUMNS[name])
        assert len({len(row) for row in rows}) == 1
        assert len(rows) == 1 + sum(run["scenario"] == name for run in runs)


def test_a_rate_that_the_load_has_limited_is_a_lower_bound() -> None:
    """The target had CPU left."""
    runs = [run_of("nginx", scenario="S5", cpu_pct=40.0), run_of("gateway", scenario="S5", cpu_pct=99.0)]
    rows = tables.rows_of(Results([session_of(*runs)]), "S5", tables.COLUMNS["S5"])
    assert [row[1] for row in rows[1:]] == ["≥ 100", "100"]


def test_charts_are_drawings() -> None:
    """Well-formed, with a title, and legible on dark pages too."""
    runs = [run_of(target, scenario=name) for target in ("nginx", "gateway") for name in ("S2", "S3")]
    runs += [run_of(name, scenario="scale", case=case) for name in ("nginx", "gateway") for case in ("100", "9900")]
    drawn = charts(Results([session_of(*runs)]))
    assert drawn.keys() == publish.ALT.keys()
    for text in drawn.values():
        assert ElementTree.fromstring(text).find("{http://www.w3.org/2000/svg}title") is not None
        assert "prefers-color-scheme: dark" in text


@pytest.mark.parametrize(("first", "most"), [(100, 400), (1000, 400), (400, 400), (3, 1)])
def test_the_search_finds_the_most_that_holds(first: int, most: int) -> None:
    """From below and from above, within its step, and so many runs pass there."""
    asked = []

    def measure(wanted: Load) -> Figures:
        asked.append(wanted.streams)
        late = 1.0 if wanted.streams <= most else 1000.0
        return run_of("x", streams=wanted.streams, tok_s=wanted.streams * 49.5, latency_ms={"p99": late}, cpu_pct=99.0)

    found = search(first, paced, measure, 3)
    assert len(found) == 3
    streams = {figures["streams"] for figures in found}
    assert len(streams) == 1
    assert most * 0.6 <= streams.pop() <= most
    assert not any(figures["load_limited"] for figures in found)


def test_a_search_that_begins_far_too_high_goes_by_the_cost() -> None:
    """A target that costs 200 µs a token is asked for what that allows, instead of a little less each time."""
    asked = []

    def measure(wanted: Load) -> Figures:
        asked.append(wanted.streams)
        late = 1.0 if wanted.streams <= 90 else 1000.0
        return run_of(
            "x", streams=wanted.streams, tok_s=wanted.streams * 49.5, latency_ms={"p99": late}, us_per_token=200.0
        )

    assert search(5000, paced, measure, 1)[0]["streams"] == 90
    assert asked[:2] == [5000, 90]


def test_a_search_that_finds_nothing_says_nothing() -> None:
    """A target that fails with one stream holds none."""
    assert search(4, paced, lambda wanted: run_of("x", ends={"short": 1}), 3) == []


def test_an_order_survives_its_journey() -> None:
    """What one process hands to another is what it meant."""
    order = Order(Load(3, rate=1.5), 1, [2], [3], Request("/stream", {"A": "b"}, {"query": "x"}))
    assert Order.from_json(order.to_json()) == order


def test_the_documents_hold_what_the_figures_say() -> None:
    """Tables, headline and charts are those that `publish` makes of the published figures."""
    results = Results(load([ROOT / publish.FIGURES]))
    drawn = charts(results)
    for path, text in publish.pages(results, list(drawn)).items():
        assert path.read_text("utf-8") == text, path.name
    for name, text in drawn.items():
        assert (ROOT / publish.CHARTS / name).read_text("utf-8") == text, name
    assert (ROOT / publish.FIGURES).read_text("utf-8") == publish.dumped(results.sessions)


def test_publishing_writes_between_the_markers_only(tmp_path: Path) -> None:
    """What stands around them stays; a page without markers is refused."""
    (tmp_path / "docs").mkdir()
    for path, name in ((tmp_path / "README.md", "headline"), (tmp_path / "docs" / "benchmarks.md", "figures")):
        path.write_text(f"before\n<!-- bench: {name} -->\nold\n<!-- bench: end -->\nafter\n")
    publish.publish(Results([session_of(run_of("nginx"))]), tmp_path)
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("before\n")
    assert readme.endswith("after\n")
    assert "old" not in readme
    assert "| nginx, plain relay | 24,750 |" in readme
    assert (tmp_path / "docs" / "benchmarks" / "cost.svg").exists()
    (tmp_path / "README.md").write_text("nothing")
    with pytest.raises(ValueError, match="headline"):
        publish.publish(Results([session_of(run_of("nginx"))]), tmp_path)
