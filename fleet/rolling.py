"""`rolling`: renews the gateways one by one under open streams, and counts what their readers notice."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from bench.progress import Progress
from fleet.checker import Figures, check, check_log, figures
from fleet.children import clean_environment, home
from fleet.cluster import Cluster
from fleet.document import Document
from fleet.readers import Question, Readers, read_again
from fleet.stopping import unless_told

TOKENS_PER_S = 4
RAMP_PER_S = 200
DRAIN_S = 2
RESTART_S = 8.0
"""What renewing one process should take: drain, start, and the pause after it."""

PAUSE_S = 3.0
"""Between two restarts, so that those who were sent away are back."""

SPARE_S = 20.0
LATE_S = 120.0
"""How much longer than its answer a reader waits for the end."""

SHOWN = 20


class Procedure:
    """One rolling restart: so many processes, so many streams whose answers (`length_s`) outlast all of it."""

    def __init__(self, processes: int, streams: int, length_s: float | None = None) -> None:
        self._processes = processes
        self._streams = streams
        self._length_s = length_s or streams / RAMP_PER_S + processes * RESTART_S + SPARE_S
        self._progress = Progress(5 + self._length_s + 5, sys.stderr)
        self._log_lines = 0
        self.outlasted = 0
        """Streams that were still being read when the last process was back."""

    async def run(self) -> Figures:
        """All of it: the figures."""
        with home() as folder:
            document = Document(folder / "topics.md", int(self._length_s * TOKENS_PER_S))
            async with self._ticking(), self._cluster(document.path) as cluster:
                return await self._measured(cluster, document)

    def _cluster(self, path: Path) -> Cluster:
        settings = {
            "GATEWAY_LOCAL__DOCUMENTS": str(path),
            "GATEWAY_LOCAL__TOKENS_PER_S": str(TOKENS_PER_S),
            "GATEWAY_OUTPUT__MAX_WORDS": "0",
            "GATEWAY_DRAIN__LIMIT_S": str(DRAIN_S),
            "GATEWAY_LOGS__LEVEL": "error",
        }
        self._progress.begin("starting nginx, Redis and the gateways", 5)
        return Cluster(self._processes, environment={**clean_environment(), **settings}, say=self._said)

    async def _measured(self, cluster: Cluster, document: Document) -> Figures:
        self._progress.end()
        # Browsers and other clients, in turns.
        questions = [Question(document.question(n), ("GET", "POST")[n % 2]) for n in range(self._streams)]
        readers = Readers(cluster.url, questions, ramp_per_s=RAMP_PER_S)
        reading = asyncio.create_task(readers.run(self._length_s + LATE_S))
        try:
            await self._restarts(cluster, readers)
            self._progress.begin("reading the answers to their ends", SPARE_S)
            histories = await reading
        finally:
            reading.cancel()
        self._progress.end()
        self._progress.begin("comparing with the log", 5)
        # What has no id was never opened, and is a violation already.
        kept = [history for history in histories if history.sid]
        logs = await read_again(cluster.url, kept)
        pairs = zip(kept, logs, strict=True)
        more = [line for history, log in pairs for line in check_log(history, log, document.answer(log.number))]
        return figures([check(history, document.answer(history.number)) for history in histories], more)

    async def _restarts(self, cluster: Cluster, readers: Readers) -> None:
        self._progress.begin(f"opening {self._streams} streams", self._streams / RAMP_PER_S)
        await asyncio.sleep(self._streams / RAMP_PER_S + 1)
        self._progress.end()
        loop = asyncio.get_running_loop()
        for number, unit in enumerate(cluster.supervisor.units):
            self._progress.begin(f"restarting gateway {number + 1}", RESTART_S)
            began = loop.time()
            await cluster.supervisor.restart(number)
            self._said(f"[{unit.port}] renewed in {loop.time() - began:.1f} s; {readers.reading} streams are open")
            await asyncio.sleep(PAUSE_S)
            self._progress.end()
        self.outlasted = readers.reading

    @contextlib.asynccontextmanager
    async def _ticking(self) -> AsyncIterator[None]:
        """The bar moves."""

        async def tick() -> None:
            while True:
                await asyncio.sleep(0.25)
                self._progress.tick()

        task = asyncio.create_task(tick())
        try:
            yield
        finally:
            task.cancel()
            self._progress.close()

    def _said(self, line: str) -> None:
        """Pass it on; of a flood of errors only the beginning."""
        self._log_lines += "] {" in line
        if "] {" not in line or self._log_lines <= SHOWN:
            self._progress.say(line)


async def rolling(processes: int, streams: int) -> int:
    """Do it and say what came of it: 0 when nobody noticed, 1 when somebody did, 130 when it was stopped."""
    procedure = Procedure(processes, streams)
    found = await unless_told(procedure.run())
    if found is None:
        return 130
    print(told(found, procedure.outlasted))
    return 1 if faults(found, procedure.outlasted) else 0


def faults(found: Figures, outlasted: int) -> list[str]:
    """What keeps the verdict from being good."""
    faults = []
    if not outlasted:
        faults.append("no stream outlasted the restarts")
    if found.refused:
        faults.append(f"{found.refused.total()} answers were not 200")
    if found.violations:
        faults.append(f"{len(found.violations)} violations")
    return faults


def told(found: Figures, outlasted: int) -> str:
    """The figures as a small table, and the verdict."""
    statuses = ", ".join(f"{status}: {count}" for status, count in sorted(found.refused.items()))
    silences = " / ".join(f"{found.silence_s(share):.2f}" for share in (0.5, 0.99, 1.0))
    rows = [
        ("Streams", f"{found.streams:,}"),
        ("… that reached their end", f"{found.ended:,}"),
        ("… open behind the last restart", f"{outlasted:,}"),
        ("Lost events", f"{found.lost:,}"),
        ("Repeated events", f"{found.repeated:,}"),
        ("Answers that were not 200", f"{found.refused.total():,}" + (f" ({statuses})" if statuses else "")),
        ("Rewinds", f"{found.rewinds:,}"),
        ("Continued by another process", f"{found.continued:,}"),
        ("Connections, of them cut", f"{found.calls:,}, {found.cuts:,}"),
        ("Longest silence p50 / p99 / max, s", silences),
    ]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:{width}}  {value}" for name, value in rows]
    shown = [f"  {line}" for line in found.violations[:SHOWN]]
    if len(found.violations) > SHOWN:
        shown.append(f"  … and {len(found.violations) - SHOWN:,} more")
    verdict = "; ".join(faults(found, outlasted)) or "nothing lost, nothing repeated, every answer 200"
    return "\n".join(["", *lines, *shown, f"verdict: {verdict}"])
