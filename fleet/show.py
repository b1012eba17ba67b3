"""`run`: a cluster to look at, until Ctrl-C; what runs where, and what may be tried on it."""

import asyncio

from fleet.cluster import Cluster
from fleet.stopping import unless_told

LOOK_S = 1.0
TRY = """
  chat page           {url}/
  read a stream       curl -N '{url}/stream?query=How+does+resume+work'
  the same, resuming  {python} -m gateway tail --url {url} --text "How does resume work?"
  kill a process      kill -9 {pid}
  freeze one          kill -STOP {pid}
  renew one           kill -TERM {pid}

Ctrl-C ends all of it.
"""


async def show(processes: int, port: int) -> int:
    """Run until it is told to stop: 0."""
    await unless_told(_run(processes, port))
    return 0


async def _run(processes: int, port: int) -> None:
    async with Cluster(processes, port=port) as cluster:
        print(told(cluster), flush=True)
        looking = asyncio.ensure_future(_look(cluster))
        try:
            await cluster.supervisor.watch()
        finally:
            looking.cancel()
            print("ending …", flush=True)


def told(cluster: Cluster) -> str:
    """What runs where, and what to try."""
    lines = [f"\nnginx       {cluster.url} and {cluster.edge.tls_url} (own certificate)   pid {cluster.edge.pid}"]
    store = f"pid {cluster.store.pid}" if cluster.store else "not ours: it was there"
    lines.append(f"Redis       {shown(cluster.redis_url)}   {store}")
    for number, unit in enumerate(cluster.supervisor.units, 1):
        lines.append(f"gateway {number}   http://127.0.0.1:{unit.port}   pid {unit.pid}")
    first = cluster.supervisor.units[0].pid
    return "\n".join(lines) + "\n" + TRY.format(url=cluster.url, pid=first, python=".venv/bin/python")


def shown(url: str) -> str:
    """A Redis URL without its password."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"


async def _look(cluster: Cluster) -> None:
    """Say when nginx or Redis has ended: nobody starts them again."""
    watched = {"nginx": cluster.edge, "redis-server": cluster.store}
    while watched:
        await asyncio.sleep(LOOK_S)
        for name, process in list(watched.items()):
            if process is None or not process.running:
                del watched[name]
                if process is not None:
                    print(f"{name} has ended; nobody starts it again", flush=True)
