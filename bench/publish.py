"""Puts figures into the documents: the raw ones as JSON, tables between markers, charts as files."""

import json
import re
from pathlib import Path

from bench import tables
from bench.charts import write_charts
from bench.results import Results, Session
from bench.targets import ROOT

FIGURES = Path("docs/benchmarks.json")
CHARTS = Path("docs/benchmarks")
BEGIN, END = "<!-- bench: {name} -->", "<!-- bench: end -->"
ALT = {
    "cost.svg": "Bars: CPU per token, as multiples of the plain relay's",
    "latency.svg": "Bars: latency of a token, median and 99th percentile",
    "scale.svg": "Lines: CPU per token over the number of streams",
    "capacity.svg": "Bars: tokens a second on one core",
}


def between(text: str, name: str, content: str) -> str:
    """The text with this between its markers of that name."""
    begin = BEGIN.format(name=name)
    pattern = re.compile(f"{re.escape(begin)}\n.*?{re.escape(END)}", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"there is no {begin} followed by {END}")
    return pattern.sub(lambda _: f"{begin}\n{content}\n{END}", text)


def pages(results: Results, charts: list[str], root: Path = ROOT) -> dict[Path, str]:
    """The documents as they should read with these figures."""
    readme, page = root / "README.md", root / "docs" / "benchmarks.md"
    pictures = "\n".join(f"![{ALT[name]}]({CHARTS.name}/{name})" for name in charts)
    body = f"{tables.all_tables(results)}\n\n{pictures}"
    return {
        readme: between(readme.read_text("utf-8"), "headline", f"\n{tables.headline(results)}\n"),
        page: between(page.read_text("utf-8"), "figures", f"\n{body}\n"),
    }


def publish(results: Results, root: Path = ROOT) -> None:
    """Write all of it."""
    if not results.cases("S2"):
        raise ValueError("there are no figures of S2, which the README shows")
    (root / FIGURES).write_text(dumped(results.sessions), "utf-8")
    drawn = write_charts(results, root / CHARTS)
    for path, text in pages(results, drawn, root).items():
        path.write_text(text, "utf-8")


def dumped(sessions: list[Session]) -> str:
    """JSON with a line for each run, so that changes can be read."""
    told = []
    for session in sessions:
        head = json.dumps({name: value for name, value in session.items() if name != "runs"}, ensure_ascii=False)
        runs = ",\n".join(json.dumps(run, ensure_ascii=False) for run in session["runs"])
        told.append(f'{head[:-1]}, "runs": [\n{runs}\n]}}')
    return '{"sessions": [\n' + ",\n".join(told) + "\n]}\n"
