"""The figures as Markdown."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.results import Results, Spread
from bench.scenarios import SCENARIOS
from bench.search import fails, is_load_limited
from bench.targets import title_of

NONE = "–"
Cell = Callable[[Results, str, str, str], str]


@dataclass(frozen=True)
class Column:
    """A column of a table; `cell` takes the results, the scenario, the case and the target."""

    title: str
    cell: Cell


def number(figure: float) -> str:
    """With as many digits as are worth reading."""
    if isinstance(figure, int):
        return f"{figure:,}"
    digits = 0 if abs(figure) >= 100 else 1 if abs(figure) >= 10 else 2
    return f"{figure:,.{digits}f}"


def told(spread: Spread | None) -> str:
    """The median, and the spread in brackets if there is one."""
    if spread is None:
        return NONE
    if spread.count == 1 or number(spread.low) == number(spread.high):
        return number(spread.median)
    return f"{number(spread.median)} ({number(spread.low)}–{number(spread.high)})"


def figure(path: str) -> Cell:
    """The median of one figure, with its spread."""
    return lambda results, scenario, case, target: told(results.spread(scenario, case, target, path))


def medians(*paths: str) -> Cell:
    """The medians of several, in one cell."""

    def cell(results: Results, scenario: str, case: str, target: str) -> str:
        spreads = [results.spread(scenario, case, target, path) for path in paths]
        return " / ".join(number(spread.median) if spread else NONE for spread in spreads)

    return cell


def ratio(path: str) -> Cell:
    """A figure as a multiple of the base's."""
    return lambda results, scenario, case, target: told(results.ratio(scenario, case, target, path))


def _failed(results: Results, scenario: str, case: str, target: str) -> str:
    return number(max(fails(run) for run in results.runs(scenario, case, target)))


def _at_least(path: str) -> Cell:
    """A figure that the load may have limited: then it is a lower bound."""

    def cell(results: Results, scenario: str, case: str, target: str) -> str:
        runs = results.runs(scenario, case, target)
        limited = any(run.get("load_limited", is_load_limited(run)) for run in runs)
        return ("≥ " if limited else "") + told(results.spread(scenario, case, target, path))

    return cell


def _per_upstream_token(results: Results, scenario: str, case: str, target: str) -> str:
    """What one token costs with all its readers."""
    spread = results.spread(scenario, case, target, "us_per_token")
    return number(spread.median * int(case)) if spread else NONE


def _of_one_process(results: Results, scenario: str, case: str, target: str) -> str:
    """What the processes carry for the same CPU, as a share of what one carries in the same round."""
    one = results.cases(scenario)[0]
    cost = results.ratio(scenario, case, target, "us_per_token", to_case=one)
    return told(Spread(1 / cost.median, 1 / cost.high, 1 / cost.low, cost.count)) if cost else NONE


def _of_first_case(path: str) -> Cell:
    """A figure as a multiple of the same target's in the first case, in the same round."""

    def cell(results: Results, scenario: str, case: str, target: str) -> str:
        return told(results.ratio(scenario, case, target, path, to_case=results.cases(scenario)[0]))

    return cell


TOKEN = Column("CPU µs per token", figure("us_per_token"))
LATENCY = Column("Latency p50 / p99, ms", medians("latency_ms.p50", "latency_ms.p99"))
FIRST = Column("First token p50 / p99, ms", medians("ttft_ms.p50", "ttft_ms.p99"))
TOKENS = Column("Tokens/s", figure("tok_s"))
CPU = Column("CPU, %", figure("cpu_pct"))
FAILED = Column("Failed", _failed)
LOAD = Column("Load's CPU, %", figure("load_pct"))
FOREIGN = Column("Other CPU, %", figure("foreign_pct"))
MEMORY = Column("Memory, MB", figure("rss_peak_mb"))
PER_STREAM = Column("kB per stream", figure("kb_per_stream"))
HANG_UP = Column("Upstream knows after p50 / max, ms", medians("hangups.seen_ms.p50", "hangups.seen_ms.max"))
SEEN = Column("Hang-ups, of them seen", medians("hangups.aborts", "hangups.seen_ms.n"))
RATIO = Column("× {base}", ratio("us_per_token"))
REQUEST_RATIO = Column("× {base}", ratio("us_per_request"))
GREETED = Column("First event p50 / p99, ms", medians("connected_ms.p50", "connected_ms.p99"))
STREAMS = Column("Streams", figure("streams"))
PACED = [TOKENS, TOKEN, RATIO, LATENCY, FIRST, CPU, MEMORY, FAILED, LOAD, FOREIGN]
HELD = [TOKENS, CPU, TOKEN, RATIO, LATENCY, MEMORY, PER_STREAM, FAILED, LOAD, FOREIGN]
COLUMNS = {
    "S1": PACED,
    "S2": PACED,
    "S3": [STREAMS, Column("Tokens/s on one core", _at_least("tok_s")), TOKEN, LATENCY, CPU, LOAD, FOREIGN],
    "S4a": HELD,
    "S4b": HELD,
    "S5": [
        Column("Answers/s on one core", _at_least("done_s")),
        Column("CPU µs per answer", figure("us_per_request")),
        *(REQUEST_RATIO, FIRST, CPU, FAILED, LOAD, FOREIGN),
    ],
    "S6": [HANG_UP, SEEN, FAILED, FOREIGN],
    "S6b": [HANG_UP, SEEN, FAILED, CPU, FOREIGN],
    "connected": [GREETED, FIRST, CPU, FAILED, LOAD, FOREIGN],
    "idle": [CPU, MEMORY, PER_STREAM, FAILED, LOAD, FOREIGN],
    "scale": [TOKENS, TOKEN, RATIO, LATENCY, FAILED, LOAD, FOREIGN],
    "length": [TOKENS, TOKEN, RATIO, LATENCY, FAILED, LOAD, FOREIGN],
    "readers": [
        TOKENS,
        Column("CPU µs per token and reader", figure("us_per_token")),
        Column("CPU µs per token", _per_upstream_token),
        *(LATENCY, FAILED, LOAD, FOREIGN),
    ],
    "redis": [
        *(TOKENS, TOKEN),
        Column("× without", _of_first_case("us_per_token")),
        LATENCY,
        Column("Redis commands per token", figure("store.commands_per_token")),
        Column("Redis CPU µs per token", figure("store.us_per_token")),
        Column("Bytes to Redis per token", figure("store.bytes_per_token")),
        Column("Events not yet in Redis, mean / max", medians("store.exposed.mean", "store.exposed.max")),
        Column("Redis kB per finished stream", figure("store.finished.kb")),
        *(FAILED, LOAD, FOREIGN),
    ],
    "pair": [TOKENS, TOKEN, Column("Carried, of one process", _of_one_process), LATENCY, FAILED, LOAD, FOREIGN],
}
CASES = {
    "scale": "Streams",
    "length": "Tokens in a stream",
    "readers": "Readers",
    "redis": "Redis",
    "pair": "Processes",
}
HEADLINE = [TOKENS, TOKEN, RATIO, LATENCY, FIRST]


def rows_of(results: Results, scenario: str, columns: list[Column]) -> list[list[str]]:
    """The header and the rows of a scenario's table."""
    with_case = scenario in CASES
    base = title_of(results.base).split(",")[0]
    header = [CASES[scenario]] if with_case else []
    rows = [[*header, "", *(column.title.format(base=base) for column in columns)]]
    for case in results.cases(scenario):
        for target in results.targets(scenario):
            if results.runs(scenario, case, target):
                key = (results, scenario, case, target)
                named = [f"{int(case):,}" if case.isdigit() else case] if with_case else []
                rows.append([*named, title_of(target), *(column.cell(*key) for column in columns)])
    return rows


def markdown(rows: list[list[str]]) -> str:
    """A table; the first row is its header."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def table(results: Results, scenario: str) -> str:
    """One scenario's table under its heading."""
    return f"### {scenario}: {SCENARIOS[scenario].title}\n\n{markdown(rows_of(results, scenario, COLUMNS[scenario]))}"


def headline(results: Results) -> str:
    """The few figures that stand for the rest."""
    return markdown(rows_of(results, "S2", HEADLINE))


def conditions(results: Results) -> str:
    """Where, when and with what it was measured."""
    lines, before = list[str](), ""
    for session in results.sessions:
        machine, versions, options = session["machine"], session["versions"], session["options"]
        where = (
            f"  {options['placing']}. {machine['processor']}, {machine['cores']} cores, "
            f"{machine['memory_mb']:,} MB, {machine['kernel']}.\n"
            f"  {', '.join(f'{name} {version}' for name, version in versions.items())}."
        )
        rounds = f"{options['rounds']} round{'s' if options['rounds'] > 1 else ''}"
        lines.append(f"- {session['date']}, revision {session['revision'] or 'unknown'}, {rounds}.")
        lines += [where] if where != before else []
        lines += [f"  Did not run: {failure.splitlines()[0]}." for failure in session.get("failures", [])]
        before = where
    return "\n".join(lines)


def all_tables(results: Results) -> str:
    """Everything that was measured."""
    measured = [name for name in SCENARIOS if results.cases(name)]
    return "\n\n".join([conditions(results), *(table(results, name) for name in measured)])
