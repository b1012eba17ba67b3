"""Which charts are drawn of the figures."""

from pathlib import Path

from bench import svg
from bench.results import ORDER, Results, Spread
from bench.svg import Bar, Line
from bench.tables import number
from bench.targets import title_of


def colour(target: str) -> int:
    """One target has one colour everywhere."""
    return ORDER.index(target) if target in ORDER else len(ORDER) - 1


def charts(results: Results) -> dict[str, str]:
    """SVG by the name of its file; only of what was measured."""
    base = title_of(results.base).split(",")[0]
    drawn = {}
    if results.cases("S2"):
        drawn["cost.svg"] = svg.bars(f"CPU per token, {base} = 1 (500 streams × 50 tokens/s)", _ratios(results))
        drawn["latency.svg"] = svg.bars("Latency p50 and p99, ms (500 streams × 50 tokens/s)", _latencies(results))
    if results.cases("scale"):
        title = f"CPU per token, {base} = 1, over the number of streams (5,000 tokens/s in all)"
        if series := _over_cases(results, "scale"):
            drawn["scale.svg"] = svg.lines(title, series, "streams")
    if results.cases("S3"):
        drawn["capacity.svg"] = svg.bars("Tokens a second on one core", _capacities(results))
    return drawn


def write_charts(results: Results, folder: Path) -> list[str]:
    """Draw them into a folder; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = charts(results)
    for name, text in drawn.items():
        (folder / name).write_text(text, "utf-8")
    return list(drawn)


def _bar(target: str, spread: Spread, *, more: str = "", unit: str = "") -> Bar:
    return Bar(title_of(target) + more, spread.median, number(spread.median) + unit, colour(target))


def _ratios(results: Results) -> list[Bar]:
    found = [(target, results.ratio("S2", "", target, "us_per_token")) for target in results.targets("S2")]
    return [_bar(target, spread) for target, spread in found if spread]


def _latencies(results: Results) -> list[Bar]:
    found = [
        (target, name, results.spread("S2", "", target, f"latency_ms.{name}"))
        for target in results.targets("S2")
        for name in ("p50", "p99")
    ]
    return [_bar(target, spread, more=f", {name}", unit=" ms") for target, name, spread in found if spread]


def _capacities(results: Results) -> list[Bar]:
    found = [(target, results.spread("S3", "", target, "tok_s")) for target in results.targets("S3")]
    return [_bar(target, spread) for target, spread in found if spread]


def _over_cases(results: Results, scenario: str) -> list[Line]:
    found = []
    for target in results.targets(scenario):
        ratios = [(case, results.ratio(scenario, case, target, "us_per_token")) for case in results.cases(scenario)]
        points = [(float(case), spread.median) for case, spread in ratios if spread]
        found += [Line(title_of(target), points, colour(target))] if points else []
    return found
