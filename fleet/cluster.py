"""Cluster: nginx, Redis and supervised gateway processes on loopback, all there from entering to leaving."""

import contextlib
import os
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from fleet.children import FleetError, free_ports, home, listens, raise_descriptors, redis_url
from fleet.edge import Nginx
from fleet.life import Times
from fleet.store import Store
from fleet.supervisor import Supervisor


class Cluster:
    """`processes` gateways that share one Redis, behind the shipped nginx configuration.

    `port` is nginx's, 0 for any free one; the gateways take the next free ones. `environment` is what the gateways
    get; where it names a Redis, that one is used and none is started. `say` is told what happens, line by line.
    """

    def __init__(
        self,
        processes: int = 3,
        *,
        port: int = 0,
        environment: Mapping[str, str] | None = None,
        say: Callable[[str], None] = print,
        times: Times | None = None,
        workers: int = 1,
    ) -> None:
        self._wanted = processes
        self._port = port
        self._environment = dict(os.environ if environment is None else environment)
        self._say = say
        self._times = times
        self._workers = workers
        self._stack = contextlib.AsyncExitStack()
        self.store: Store | None = None
        self.edge: Nginx
        self.supervisor: Supervisor

    @property
    def url(self) -> str:
        """Where clients ask."""
        return self.edge.url

    @property
    def ports(self) -> list[int]:
        """Where the gateways listen."""
        return [unit.port for unit in self.supervisor.units]

    @property
    def redis_url(self) -> str:
        """The Redis that is used."""
        return self.store.url if self.store else redis_url(self._environment)

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, at)

    async def _start(self, stack: contextlib.AsyncExitStack) -> None:
        raise_descriptors()
        if self._port and listens(self._port):
            raise FleetError(f"port {self._port} is taken; choose another")
        folder = stack.enter_context(home())
        if not redis_url(self._environment):
            self.store = stack.enter_context(Store(folder / "redis"))
        environment = {**self._environment, "GATEWAY_REDIS__URL": self.redis_url, "GATEWAY_SERVER__UDS": ""}
        ports = free_ports(self._wanted, first=self._port and self._port + 1)
        supervisor = Supervisor(ports, folder, environment, self._say, self._times)
        # nginx comes last and goes first: it sends nobody to a gateway that is not there.
        self.supervisor = await stack.enter_async_context(supervisor)
        upstreams = [f"127.0.0.1:{port}" for port in ports]
        self.edge = stack.enter_context(Nginx(folder / "nginx", upstreams, port=self._port, workers=self._workers))
