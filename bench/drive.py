"""The process of the load: the mock upstream and the clients in one thread, and a watch that measures.

Both sides share a loop. On a machine of two cores they share a core anyway, and so nothing is spent on switching
between them. `python -m bench.drive ORDER` does one run and prints its figures as a line of JSON.
"""

import gc
import sys
import time
from dataclasses import dataclass
from typing import Any, Self

import orjson

from bench import host, processes
from bench.client import Client
from bench.load import Order
from bench.loop import Loop
from bench.samples import Samples
from bench.upstream import Upstream

SAMPLE_NS = 250_000_000
LINGER_S = 1.0
Figures = dict[str, Any]


@dataclass(frozen=True)
class Moment:
    """The time, and the CPU seconds spent until then: by the load, by what is measured, by the whole machine."""

    clock_s: float = 0.0
    load_s: float = 0.0
    theirs_s: float = 0.0
    machine_s: float = 0.0

    @classmethod
    def now(cls, pids: list[int]) -> Self:
        """What it is now."""
        theirs_s = processes.use_of(pids).cpu_s
        return cls(time.monotonic(), time.process_time(), theirs_s, processes.machine_cpu_s())

    def since(self, other: "Moment") -> "Moment":
        """The differences."""
        return Moment(
            *(self.clock_s - other.clock_s, self.load_s - other.load_s),
            *(self.theirs_s - other.theirs_s, self.machine_s - other.machine_s),
        )


class Watch:
    """Samples memory all the time, and everything where the figures begin and cease to count."""

    def __init__(self, loop: Loop, client: Client, pids: list[int]) -> None:
        self._loop, self._client = loop, client
        self._pids = processes.family(pids)
        self._began_ns = time.monotonic_ns()
        self._warm_ns, self._end_ns = (self._began_ns + int(at * 1e9) for at in (client.load.warm_s, client.load.end_s))
        self.due_ns = self._began_ns
        self.base_mb = self.peak_mb = processes.use_of(self._pids).rss_mb
        self.before = self.after = Moment()
        self.finished = False

    def tick(self, now: int) -> None:
        """Whatever its time has come for."""
        if self.finished:
            return self._loop.stop()
        self.peak_mb = max(self.peak_mb, processes.use_of(self._pids).rss_mb)
        if not self._client.tally.counting and now >= self._warm_ns:
            self._pids = processes.family(self._pids)
            self.before = Moment.now(self._pids)
            self._client.tally.count()
        if now >= self._end_ns or self._client.finished:
            return self._finish(now)
        self.due_ns = min(now + SAMPLE_NS, self._end_ns)
        if now < self._warm_ns:
            self.due_ns = min(self.due_ns, self._warm_ns)
        return None

    def _finish(self, now: int) -> None:
        """Take the last figures. Where clients hung up, the upstream has a moment more to notice."""
        self.after = Moment.now(self._pids)
        self._client.tally.stop()
        self.finished = True
        if not self._client.load.abort_share:
            return self._loop.stop()
        self.due_ns = now + int(LINGER_S * 1e9)
        return self._client.close()


def figures(client: Client, upstream: Upstream, watch: Watch) -> Figures:
    """All that a run has told."""
    tally, spent = client.tally, watch.after.since(watch.before)
    tokens, window_s = len(tally.latency), max(spent.clock_s, 1e-9)
    foreign_s = spent.machine_s - spent.theirs_s - spent.load_s
    return {
        "streams": client.load.streams,
        "most_open": client.most_open,
        "window_s": round(window_s, 3),
        "tokens": tokens,
        "tok_s": round(tokens / window_s, 1),
        "done_s": round(tally.done / window_s, 2),
        "latency_ms": tally.latency.in_ms(),
        "ttft_ms": tally.ttft.in_ms(),
        "connected_ms": tally.connected.in_ms(),
        "ends": dict(tally.ends),
        "trouble": tally.trouble,
        "cpu_pct": round(100 * spent.theirs_s / window_s, 2),
        "us_per_token": round(1e6 * spent.theirs_s / tokens, 3) if tokens else None,
        "us_per_request": round(1e6 * spent.theirs_s / tally.done, 1) if tally.done else None,
        "load_pct": round(100 * spent.load_s / window_s, 1),
        "foreign_pct": round(100 * foreign_s / window_s, 1),
        "rss_base_mb": round(watch.base_mb, 1),
        "rss_peak_mb": round(watch.peak_mb, 1),
        "kb_per_stream": round((watch.peak_mb - watch.base_mb) * 1024 / max(client.most_open, 1), 2),
        "upstream": upstream.told(),
        "hangups": hangups(client.tally.aborts, upstream.hangups),
    }


def hangups(aborts: dict[int, int], seen: dict[int, int]) -> Figures:
    """How long it took until the upstream saw a client hang up."""
    delays = Samples()
    for stamp, at in aborts.items():
        if stamp in seen:
            delays.add(seen[stamp] - at)
    return {"aborts": len(aborts), "seen_ms": delays.in_ms()}


def run(order: Order) -> Figures:
    """One run."""
    loop, load = Loop(), order.load
    try:
        upstream = Upstream(loop, order.upstream_port, rate=load.rate, tokens=load.tokens, ttft_ms=load.ttft_ms)
    except OSError as error:
        raise OSError(f"the upstream's port {order.upstream_port} cannot be had: {error.strerror}") from error
    client = Client(loop, load, order.request, order.ports)
    watch = Watch(loop, client, order.pids)
    gc.collect()
    gc.disable()
    try:
        loop.run(upstream, client, watch)
        return figures(client, upstream, watch)
    finally:
        client.close()
        upstream.close()
        loop.close()
        gc.enable()


def main() -> int:
    """Run the order that the command line holds."""
    host.raise_descriptors()
    try:
        told = run(Order.from_json(sys.argv[1]))
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    sys.stdout.buffer.write(orjson.dumps(told) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
