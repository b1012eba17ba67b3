"""What is measured with which load."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bench.load import Load

LONG = 1_000_000
"""Tokens of a stream that is not to end."""


@dataclass(frozen=True)
class Case:
    """One load of a scenario. `targets` are those for which it makes sense, all if there are none."""

    load: Load
    name: str = ""
    targets: tuple[str, ...] = ()
    copies: int = 1
    """Processes of the target, which share its core."""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scenario:
    """Some cases under one name; `most` is how many streams the machine allows."""

    name: str
    title: str
    cases: Callable[[int], list[Case]]
    search: bool = False
    """The number of streams is searched for, beginning with that of the only case."""


OURS = ("nginx", "relay", "gateway", "native")


def paced(streams: int, end_s: float = 9.0) -> Load:
    """Streams of 200 tokens at 50 a second, begun over the 4 s that one lasts; counted when all of them run."""
    return Load(streams, ramp_per_s=streams / 4, warm_s=4.5, end_s=end_s)


def hold(streams: int, rate: float, window_s: float = 6.0) -> Load:
    """Streams that do not end; opened as fast as a gateway can be asked to, counted when all are open."""
    ramp = min(1200.0, streams / 2)
    warm_s = streams / ramp + 3
    return Load(streams, rate=rate, tokens=LONG, ramp_per_s=ramp, warm_s=warm_s, end_s=warm_s + window_s)


def _churn(_: int) -> list[Case]:
    return [Case(Load(64, rate=0, tokens=10, ttft_ms=0, reuse=True, warm_s=1, end_s=3.5))]


def _hang_ups(_: int) -> list[Case]:
    return [Case(Load(60, rate=20, ttft_ms=100, ramp_per_s=120, warm_s=0.5, end_s=3, abort_share=0.5))]


def _busy_hang_ups(_: int) -> list[Case]:
    return [Case(Load(500, ramp_per_s=125, warm_s=4.5, end_s=9, abort_share=0.01))]


def _idle(most: int) -> list[Case]:
    """After its first token a stream is silent; in the window each gets one heartbeat from a gateway that sends any."""
    load = hold(min(9900, most), rate=0.0001, window_s=16)
    return [Case(load, targets=OURS)]


def _scale(most: int) -> list[Case]:
    """Five thousand tokens a second, spread over ever more streams."""
    counts = [count for count in (100, 500, 2000) if count < most] + [min(9900, most)]
    return [Case(hold(count, 5000 / count), str(count), OURS) for count in counts]


def _length(_: int) -> list[Case]:
    """Five thousand tokens a second in two streams. Of the longest ones, only the last quarter counts."""
    short = [
        Case(Load(2, rate=2500, tokens=tokens, ttft_ms=0, warm_s=2, end_s=7), str(tokens), OURS)
        for tokens in (10, 100, 1000, 10_000)
    ]
    # A hundred thousand stamps are more text than an answer may have by default.
    limit = {"GATEWAY_STREAM__MAX_OUTPUT_BYTES": str(1 << 24)}
    load = Load(2, rate=2500, tokens=100_000, ttft_ms=0, warm_s=30, end_s=40)
    return [*short, Case(load, "100000", OURS, environment=limit)]


def _readers(_: int) -> list[Case]:
    return [
        Case(Load(50, tokens=500, ramp_per_s=20, warm_s=4, end_s=9, readers=count), str(count), ("native",))
        for count in (1, 2, 4, 8)
    ]


def _pair(_: int) -> list[Case]:
    return [
        Case(paced(500), "one process", ("gateway",)),
        Case(paced(500), "two processes", ("gateway",), copies=2),
    ]


def _redis(_: int) -> list[Case]:
    """S2's rate in streams of 500 tokens, which last 10 s and begin over 10 s."""
    load = Load(500, tokens=500, ramp_per_s=50, warm_s=11, end_s=17)
    return [
        Case(load, "no", ("gateway_redis",), environment={"REDIS_URL": ""}),
        Case(load, "yes", ("gateway_redis",)),
    ]


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("S1", "100 streams × 50 tokens/s", lambda _: [Case(paced(100))]),
        Scenario("S2", "500 streams × 50 tokens/s", lambda _: [Case(paced(500))]),
        Scenario("S3", "the most streams × 50 tokens/s on one core", lambda _: [Case(paced(500))], search=True),
        Scenario("S4a", "2,000 streams × 1 token/s", lambda most: [Case(hold(min(2000, most), 1))]),
        Scenario("S4b", "9,900 streams × 1 token/s", lambda most: [Case(hold(min(9900, most), 1))]),
        Scenario("S5", "short answers, one after the other", _churn),
        Scenario("S6", "half of 60 clients hang up after the first token", _hang_ups),
        Scenario("S6b", "the same of some clients, at S2's load", _busy_hang_ups),
        Scenario("connected", "the first event, at S2's load", lambda _: [Case(paced(500), targets=("native",))]),
        Scenario("idle", "9,900 silent streams", _idle),
        Scenario("scale", "5,000 tokens/s over ever more streams", _scale),
        Scenario("length", "5,000 tokens/s in ever longer streams", _length),
        Scenario("readers", "readers of one stream", _readers),
        Scenario("redis", "what a shared store costs at S2's rate, in streams of 500 tokens", _redis),
        Scenario("pair", "two processes on one core, at S2's load", _pair),
    )
}
QUICK = ("S2", "S5", "S6")
