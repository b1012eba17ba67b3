"""Play: a cluster, the streams that are read on it, what is done to it meanwhile, and what all readers saw of that."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from fleet.checker import Figures, Verdict, check, check_log, figures
from fleet.children import clean_environment
from fleet.cluster import Cluster
from fleet.document import Document
from fleet.life import Times
from fleet.readers import History, Question, Reader, Readers, read_again
from tests.house import eventually
from tests.load import FULL, at_scale

STREAMS = at_scale(60, 1000)
TOKENS_PER_S = at_scale(20, 5)
LENGTH_S = at_scale(4, 30)
"""Of each answer."""

RAMP_PER_S = 200
LIMIT_S = 60.0
"""Longer than its answer, for a reader to come to its end."""

NEVER_S = 3600.0
ALONE = Times(restart_s=NEVER_S, watchdog_s=NEVER_S)
"""Nobody restarts a process that has died, or ends one that hangs."""

RENEW_S = 0.3


@dataclass(slots=True)
class Seen:
    """What the readers saw: all of them, and those among them who were cut off."""

    all: Figures
    cut: list[Verdict]
    takeovers: int
    takeover_s: float
    """From the first to the last stream that went on elsewhere."""
    survivor_cpu: float
    """Cores, in the seconds behind what was done."""

    def silence_s(self, share: float) -> float:
        """The longest pause that this share of those who were cut off did not exceed."""
        silences = sorted(verdict.silence_s for verdict in self.cut)
        return silences[min(int(len(silences) * share), len(silences) - 1)] if silences else 0.0


class Play:
    """A cluster on which readers read; made by `play`."""

    def __init__(self, cluster: Cluster, document: Document, questions: Sequence[Question]) -> None:
        self.cluster = cluster
        self.document = document
        self.readers = Readers(cluster.url, questions, ramp_per_s=RAMP_PER_S)
        self.tabs: list[Reader] = []
        self.said: list[str] = []
        self._reading = asyncio.create_task(self.readers.run(LENGTH_S + LIMIT_S))
        self._tabs: list[asyncio.Task[History]] = []
        self._begun: tuple[float, int, float] = (0.0, 0, 0.0)

    @property
    def histories(self) -> list[History]:
        """What those see who opened the streams."""
        return self.readers.histories

    async def opened(self) -> None:
        """Until each reader has some of its answer."""
        await eventually(
            lambda: all(any(seen.text for seen in history.events) for history in self.histories),
            10.0 + len(self.histories) / RAMP_PER_S,
        )

    def read_at(self, process: int, histories: Sequence[History]) -> list[Reader]:
        """Further readers of these streams, at one process and past nginx."""
        url = f"http://127.0.0.1:{self.cluster.ports[process]}"
        tabs = [Reader(url, one.number, one.question, sid=one.sid) for one in histories]
        self.tabs += tabs
        self._tabs += [asyncio.create_task(tab.run(LENGTH_S + LIMIT_S)) for tab in tabs]
        return tabs

    def process(self, number: int) -> int:
        """The id of a gateway's process."""
        pid = self.cluster.supervisor.units[number].pid
        assert pid is not None
        return pid

    def watch_cpu(self, number: int) -> None:
        """Measure what this process takes from now on, until `seen`."""
        self._begun = (time.monotonic(), self.process(number), cpu_s(self.process(number)))

    async def cpu_of_the_next(self, seconds: float) -> float:
        """Cores that the watched process takes in the next seconds."""
        await asyncio.sleep(seconds)
        began, pid, used = self._begun
        return (cpu_s(pid) - used) / (time.monotonic() - began)

    async def seen(self, *, survivor_cpu: float = 0.0) -> Seen:
        """When all readers have come to their ends: compared with the answers and with the log."""
        await self._reading
        tabs = await asyncio.gather(*self._tabs)
        logs = await read_again(self.cluster.url, self.histories)
        answer = self.document.answer
        pairs = zip(self.histories, logs, strict=True)
        more = [line for history, log in pairs for line in check_log(history, log, answer(log.number))]
        both = [*self.histories, *tabs]
        verdicts = [check(history, answer(history.number)) for history in both]
        moved = sorted(filter(None, map(moved_at, self.histories)))
        return Seen(
            all=figures(verdicts, more),
            cut=[verdict for verdict in verdicts if verdict.cuts],
            takeovers=len(moved),
            takeover_s=moved[-1] - moved[0] if moved else 0.0,
            survivor_cpu=survivor_cpu,
        )

    @contextlib.contextmanager
    def redis(self) -> Any:
        """A client of the cluster's Redis."""
        client = redis.Redis.from_url(self.cluster.redis_url, socket_timeout=5)
        try:
            yield client
        finally:
            client.close()

    async def close(self) -> None:
        """Nobody reads any more."""
        for task in (self._reading, *self._tabs):
            task.cancel()
        await asyncio.gather(self._reading, *self._tabs, return_exceptions=True)


@contextlib.asynccontextmanager
async def play(
    folder: Path, *, processes: int = 2, streams: int = STREAMS, times: Times | None = None, **settings: str
) -> AsyncIterator[Play]:
    """A cluster with so many streams, half of them read as a browser does; each word of an answer stands in it once."""
    document = Document(folder / "topics.md", LENGTH_S * TOKENS_PER_S)
    ours = {
        "GATEWAY_LOCAL__DOCUMENTS": str(document.path),
        "GATEWAY_LOCAL__TOKENS_PER_S": str(TOKENS_PER_S),
        "GATEWAY_LOCAL__FIRST_TOKEN_MS": "50",
        "GATEWAY_LOGS__LEVEL": "warning",
    }
    said: list[str] = []
    environment = {**clean_environment({**os.environ, "REDIS_URL": "", "GATEWAY_REDIS__URL": ""}), **ours, **settings}
    async with Cluster(processes, environment=environment, say=said.append, times=times) as cluster:
        questions = [Question(document.question(n), ("GET", "POST")[n % 2]) for n in range(streams)]
        played = Play(cluster, document, questions)
        played.said = said
        try:
            yield played
        finally:
            await played.close()


def moved_at(history: History) -> float:
    """When a client first saw that its stream had gone on elsewhere; 0 where it did not."""
    return next((seen.at for seen in history.events if seen.id and "-1-" not in seen.id), 0.0)


def cpu_s(pid: int) -> float:
    """User and system CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def told(what: str, seen: Seen) -> str:
    """The figures in one line of a table."""
    all_, silence = seen.all, seen.silence_s
    rate = f"{seen.takeovers / seen.takeover_s:.0f}" if seen.takeover_s else "-"
    refused = dict(all_.refused) or 0
    return (
        f"| {what} | {all_.streams} | {all_.lost} | {all_.repeated} | {all_.rewinds} | {refused} | {len(seen.cut)} "
        f"| {silence(0.5):.2f} / {silence(0.99):.2f} / {silence(1.0):.2f} | {all_.silence_s(1.0):.2f} "
        f"| {seen.takeovers} | {rate} | {seen.survivor_cpu:.2f} |"
    )


def faultless(what: str, seen: Seen) -> None:
    """Nobody lost, repeated or missed anything, nor was anybody turned away."""
    if FULL:
        print(told(what, seen))
    found = seen.all
    assert found.violations == [], "\n".join([*found.violations[:20], told(what, seen)])
    assert (found.lost, found.repeated, found.refused.total()) == (0, 0, 0), told(what, seen)
    assert found.ended == found.streams
