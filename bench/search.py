"""How many streams a target holds: more until it fails, then between, then the same again to be sure."""

from collections.abc import Callable

from bench.drive import Figures
from bench.load import Load

RUNS = 6
LATENCY_LIMIT_MS = 250
LEAST_SHARE = 0.95
STEP = 0.06
RETREAT = 0.95
BUSY_SHARE = 0.9
"""Of a core, how much a target can use and still be in time."""
CONFIRM_RUNS = 8
LOAD_LIMIT_PCT = 90
TARGET_BUSY_PCT = 85


def fails(figures: Figures) -> int:
    """Streams that did not end as they should."""
    return sum(count for how, count in figures["ends"].items() if how not in ("completed", "aborted"))


def is_load_limited(figures: Figures) -> bool:
    """Whether it was the load, and not the target, that had no CPU left to do more."""
    return bool(figures["load_pct"] > LOAD_LIMIT_PCT or figures["cpu_pct"] < TARGET_BUSY_PCT)


def nominal(load: Load) -> float:
    """Tokens a second that arrive if nothing is lost."""
    lasts_s = load.tokens / load.rate
    return load.streams * load.rate * lasts_s / (lasts_s + load.ttft_ms / 1000)


def holds(load: Load, figures: Figures) -> bool:
    """All tokens in time, and no failure."""
    p99 = figures["latency_ms"].get("p99", LATENCY_LIMIT_MS)
    in_time = p99 < LATENCY_LIMIT_MS and figures["tok_s"] > LEAST_SHARE * nominal(load)
    return bool(in_time and not fails(figures))


def _next(good: int, bad: int, figures: Figures, rate: float) -> int:
    """More, or between, or what the cost of a token promises when nothing held yet."""
    if not bad:
        return good * 5 // 4 + 1
    if good:
        return (good + bad) // 2
    promised = BUSY_SHARE * 1e6 / (figures["us_per_token"] or 1e6) / rate
    return max(1, min(bad * 3 // 4, int(promised)))


def search(first: int, load_of: Callable[[int], Load], measure: Callable[[Load], Figures], runs: int) -> list[Figures]:
    """So many runs at the greatest number of streams that holds; none if there is no such number.

    A run says `load_limited` if it was the load that gave out at the level that failed: the target may hold more then.
    """
    good, bad, best, limited = 0, 0, list[Figures](), False
    streams = first
    for _ in range(RUNS):
        load = load_of(streams)
        figures = measure(load)
        if holds(load, figures):
            good, best = streams, [figures]
        else:
            bad, limited = streams, is_load_limited(figures)
        if good and bad and bad - good <= max(1, STEP * good):
            break
        streams = _next(good, bad, figures, load.rate)
    for _ in range(CONFIRM_RUNS):
        if not good or len(best) >= runs:
            break
        load = load_of(good)
        figures = measure(load)
        good, best = (good, [*best, figures]) if holds(load, figures) else (int(good * RETREAT), [])
    return [{**figures, "load_limited": limited} for figures in best]
