"""Stage: a cluster for several journeys, one after the other; when it is taken down nothing of it may be left."""

import contextlib
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import redis

from fleet.children import clean_environment
from fleet.cluster import Cluster
from fleet.document import Document
from fleet.life import Times
from fleet.store import Store
from tests.fleet.test_edge import gone
from tests.house import eventually
from tests.load import at_scale

TOKENS_PER_S = at_scale(20, 5)
LENGTH_S = at_scale(2, 30)
"""Of each answer of the built-in source."""

SPARE_DESCRIPTORS = 8
"""Connections to Redis, which stay open: eight for commands at most."""

NEVER_S = 3600.0
ALONE = Times(restart_s=NEVER_S, restart_max_s=NEVER_S, watchdog_s=NEVER_S)
"""Nobody replaces a process that has died, or ends one that hangs."""


@dataclass(slots=True)
class Stage:
    """A cluster, what its built-in source says, and what its supervisor has said."""

    cluster: Cluster
    document: Document
    said: list[str]
    before: dict[int, int] = field(default_factory=dict)
    """Descriptors of each process before anything was asked of it."""

    @property
    def store(self) -> Store:
        """The cluster's own Redis."""
        assert self.cluster.store is not None
        return self.cluster.store

    def url(self, process: int) -> str:
        """One of the processes, past nginx."""
        return f"http://127.0.0.1:{self.cluster.ports[process]}"

    def pid(self, process: int) -> int:
        """Of a gateway that runs."""
        pid = self.cluster.supervisor.units[process].pid
        assert pid is not None
        return pid

    def signal(self, process: int, number: int) -> None:
        """Send it to one of the gateways."""
        self.cluster.supervisor.signal(process, number)

    @contextlib.contextmanager
    def redis(self) -> Iterator[redis.Redis]:
        """A client of the cluster's Redis."""
        client = redis.Redis.from_url(self.cluster.redis_url, socket_timeout=5)
        try:
            yield client
        finally:
            client.close()

    async def leaves_no_descriptors(self) -> None:
        """Without nginx each process that was never replaced has those back that it began with."""
        self.cluster.edge.stop()
        for pid in set(self.before).intersection(filter(None, self.cluster.supervisor.pids)):
            limit = self.before[pid] + SPARE_DESCRIPTORS
            await eventually(lambda pid=pid, limit=limit: descriptors(pid) <= limit, 10.0)


@contextlib.asynccontextmanager
async def stage(
    folder: Path,
    *,
    processes: int = 2,
    times: Times | None = None,
    words: int = LENGTH_S * TOKENS_PER_S,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Stage]:
    """A cluster whose built-in source says so many words, each of which stands in the answer once."""
    document = Document(folder / "topics.md", words)
    said: list[str] = []
    environment = {
        **clean_environment({name: value for name, value in os.environ.items() if not name.endswith("REDIS__URL")}),
        "REDIS_URL": "",
        "GATEWAY_LOCAL__DOCUMENTS": str(document.path),
        "GATEWAY_LOCAL__TOKENS_PER_S": str(TOKENS_PER_S),
        "GATEWAY_LOCAL__FIRST_TOKEN_MS": "50",
        "GATEWAY_OUTPUT__MAX_WORDS": "0",
        "GATEWAY_LOGS__LEVEL": "warning",
        **(settings or {}),
    }
    async with Cluster(processes, environment=environment, say=said.append, times=times) as cluster:
        here = Stage(cluster, document, said)
        here.before = {pid: descriptors(pid) for pid in filter(None, cluster.supervisor.pids)}
        yield here
        pids = _processes(here)
        await here.leaves_no_descriptors()
    assert all(gone(pid) for pid in pids)
    assert not cluster.edge.directory.parent.exists()


def descriptors(pid: int) -> int:
    """Open file descriptors of a process."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def _processes(here: Stage) -> Sequence[int]:
    """All that run now: gateways, nginx and its workers, Redis."""
    edge = here.cluster.edge
    workers = Path(f"/proc/{edge.pid}/task/{edge.pid}/children").read_text().split()
    return [*filter(None, here.cluster.supervisor.pids), edge.pid, *map(int, workers), here.store.pid]
