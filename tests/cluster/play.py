"""Play: streams that are read while something is done to the cluster, and what all readers saw of it."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet.checker import Figures, Verdict, check, check_log, figures
from fleet.readers import History, Question, Reader, Readers, read_again
from tests.cluster.stage import LENGTH_S, Stage
from tests.load import FULL, at_scale

STREAMS = at_scale(60, 1000)
RAMP_PER_S = 200
LIMIT_S = 120.0
"""Longer than its answer, for a reader to come to its end."""

BEGUN_S = 0.3
CPU_S = at_scale(1, 5)
"""How long the survivor is watched."""


@dataclass(slots=True)
class Seen:
    """What the readers saw: all of them, and those among them who were cut off."""

    all: Figures
    cut: list[Verdict]
    moved: list[float]
    """When each stream was first seen to go on elsewhere."""
    cores: float
    """What the survivor took in the seconds behind what was done."""

    def silence_s(self, share: float) -> float:
        """The longest pause that this share of those who were cut off did not exceed."""
        silences = sorted(verdict.silence_s for verdict in self.cut)
        return silences[min(int(len(silences) * share), len(silences) - 1)] if silences else 0.0


class Play:
    """Readers on a stage; made by `play`."""

    def __init__(self, stage: Stage, url: str, questions: Sequence[Question]) -> None:
        self._stage = stage
        self._readers = Readers(url, questions, ramp_per_s=RAMP_PER_S)
        self._reading = asyncio.create_task(self._readers.run(LENGTH_S + LIMIT_S))
        self._tabs: list[asyncio.Task[History]] = []
        self._cores: asyncio.Task[float] | None = None

    @property
    def histories(self) -> list[History]:
        """What those see who opened the streams."""
        return self._readers.histories

    async def opened(self) -> None:
        """Until each reader has some of its answer."""
        waiting = self.histories
        async with asyncio.timeout(20.0 + len(waiting) / RAMP_PER_S):
            while waiting:
                await asyncio.sleep(0.05)
                waiting = [one for one in waiting if not any(seen.name == "text" for seen in one.events)]
        # In mid-stream: an answer that has only just begun is in no other process's reach before its first write.
        await asyncio.sleep(BEGUN_S)

    def read_at(self, process: int, histories: Sequence[History]) -> list[History]:
        """Further readers of these streams, at one process and past nginx: what they see."""
        tabs = [Reader(self._stage.url(process), one.number, one.question, sid=one.sid) for one in histories]
        self._tabs += [asyncio.create_task(tab.run(LENGTH_S + LIMIT_S)) for tab in tabs]
        return [tab.history for tab in tabs]

    def watch(self, process: int) -> None:
        """Measure what a process takes in the next seconds."""
        self._cores = asyncio.create_task(_cores(self._stage.pid(process)))

    async def ended(self) -> tuple[list[History], list[History]]:
        """When all readers have come to their ends: what they saw, and what the log holds of each stream."""
        await self._reading
        histories = [*self.histories, *await asyncio.gather(*self._tabs)]
        # What has no id was never opened: that is found in its history.
        return histories, await read_again(self._stage.cluster.url, [one for one in self.histories if one.sid])

    async def seen(self) -> Seen:
        """The same compared: with the answers, and with the log."""
        histories, logs = await self.ended()
        answer = self._stage.document.answer
        pairs = zip([one for one in self.histories if one.sid], logs, strict=True)
        more = [line for history, log in pairs for line in check_log(history, log, answer(log.number))]
        verdicts = [check(history, answer(history.number)) for history in histories]
        return Seen(
            all=figures(verdicts, more),
            cut=[verdict for verdict in verdicts if verdict.cuts],
            moved=sorted(filter(None, map(moved_at, self.histories))),
            cores=await self._cores if self._cores else 0.0,
        )

    async def close(self) -> None:
        """Nobody reads any more."""
        tasks = [task for task in (self._reading, self._cores, *self._tabs) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def play(stage: Stage, streams: int = STREAMS, url: str | None = None) -> AsyncIterator[Play]:
    """So many streams, half of them read as a browser does; through nginx, or from one process at `url`."""
    questions = [Question(stage.document.question(n), ("GET", "POST")[n % 2]) for n in range(streams)]
    played = Play(stage, url or stage.cluster.url, questions)
    try:
        yield played
    finally:
        await played.close()


def moved_at(history: History) -> float:
    """When a client first saw that its stream had gone on elsewhere; 0 where it did not."""
    return next((seen.at for seen in history.events if seen.id and "-1-" not in seen.id), 0.0)


def busy() -> bool:
    """Whether others keep this machine so busy that no time measured on it says anything."""
    return os.getloadavg()[0] > 2 * (os.cpu_count() or 1)


async def _cores(pid: int) -> float:
    began, used = time.monotonic(), _cpu_s(pid)
    await asyncio.sleep(CPU_S)
    return (_cpu_s(pid) - used) / (time.monotonic() - began)


def _cpu_s(pid: int) -> float:
    """User and system CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


COLUMNS = (
    "streams, lost, repeated, rewinds, not 200, cut, p50 / p99 / max silence of these, of all, moved, per s, cores"
)


def told(what: str, seen: Seen) -> str:
    """The figures in one line of a table; see `COLUMNS`."""
    found, moved, silence_s = seen.all, seen.moved, seen.silence_s
    lasted_s = moved[-1] - moved[0] if moved else 0.0
    figures = [
        *(found.streams, found.lost, found.repeated, found.rewinds, dict(found.refused) or 0, len(seen.cut)),
        f"{silence_s(0.5):.2f} / {silence_s(0.99):.2f} / {silence_s(1.0):.2f}",
        *(f"{found.silence_s(1.0):.2f}", len(moved), f"{len(moved) / lasted_s:.0f}" if lasted_s else "-"),
        f"{seen.cores:.2f}",
    ]
    return f"| {what} | " + " | ".join(map(str, figures)) + " |"


def faultless(what: str, seen: Seen) -> None:
    """Nobody lost, repeated or missed anything, nor was anybody turned away."""
    line = told(what, seen)
    if FULL:
        print(f"\n{line}")
    found = seen.all
    assert found.violations == [], "\n".join([f"{len(found.violations)} violations", *found.violations[:20], line])
    assert (found.lost, found.repeated, found.refused.total()) == (0, 0, 0), line
    assert found.ended == found.streams, line
