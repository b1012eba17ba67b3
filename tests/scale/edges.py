"""A gateway as its clients meet it: alone, or behind a real nginx; and a balance to put both on."""

import asyncio
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.house import Process, free_port, gateway_process
from tests.load import Address, ask, post
from tests.nginx import MISSING, Nginx
from tests.scale.figures import KIB, kernel_bytes, rss_bytes, samples

needs_nginx = pytest.mark.skipif(MISSING, reason="nginx or openssl is not installed")

DIRECT = "direct"
NGINX_UNIX = pytest.param("nginx unix", marks=needs_nginx)
NGINX_TCP = pytest.param("nginx tcp", marks=needs_nginx)


@dataclass
class Edge:
    """Where clients connect, and what stands behind."""

    address: Address
    gateway: Process
    nginx: Nginx | None

    @property
    def inside(self) -> Address:
        """Where the gateway itself listens."""
        return self.gateway.uds or ("127.0.0.1", self.gateway.port)

    async def weigh(self) -> tuple[float, float]:
        """Bytes that gateway and nginx hold, the kernel's for them included; the streams' own logs left out."""
        logs = (await samples(self.inside))["ssegw_buffer_bytes"]
        gateway, nginx = await asyncio.to_thread(self._weigh)
        return gateway - logs, nginx

    def _weigh(self) -> tuple[float, float]:
        uds = self.gateway.uds
        held = rss_bytes(self.gateway.pid) + (kernel_bytes(path=uds) if uds else kernel_bytes(self.gateway.port))
        if self.nginx is None:
            return held, 0
        return held, rss_bytes(self.nginx.pid) + kernel_bytes(self.nginx.port)

    async def price(self, before: tuple[float, float], readers: int, what: str) -> tuple[float, float]:
        """What has become more since, for each of so many readers."""
        now = await self.weigh()
        gateway, nginx = (now[0] - before[0]) / readers, (now[1] - before[1]) / readers
        print(f"{what}: {gateway / KIB:.0f} KiB a reader, and {nginx / KIB:.0f} KiB at nginx")
        return gateway, nginx


@contextlib.contextmanager
def edge(kind: str, folder: Path, **settings: str) -> Iterator[Edge]:
    """A gateway process with these settings that ends at once when it is told to, and perhaps nginx in front of it."""
    where = ["--uds", str(folder / "http.sock")] if kind == "nginx unix" else []
    with contextlib.ExitStack() as stack:
        environment = {"GATEWAY_DRAIN__LIMIT_S": "0", **settings}
        process = stack.enter_context(gateway_process(*where, port=None, **environment))
        if kind == DIRECT:
            yield Edge(("127.0.0.1", process.port), process, None)
            return
        upstream = f"unix:{process.uds}" if process.uds else f"127.0.0.1:{process.port}"
        nginx = stack.enter_context(Nginx(folder, [upstream]))
        yield Edge(("127.0.0.1", nginx.port), process, nginx)


@dataclass
class Shared:
    """A gateway process for several tests, and the port on which each of them starts its own feed."""

    process: Process
    feed_port: int

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        return ("127.0.0.1", self.process.port)


@contextlib.contextmanager
def shared(**settings: str) -> Iterator[Shared]:
    """A gateway process with these settings, to be asked by several tests: a start takes longer than most of them."""
    port = free_port()
    environment = {"OPENAI_BASE_URL": f"http://127.0.0.1:{port}/v1", "GATEWAY_DRAIN__LIMIT_S": "0", **settings}
    with gateway_process(port=None, **environment) as process:
        yield Shared(process, port)


async def detached(address: Address, asked: str) -> str:
    """The id of a stream that was opened without a reader."""
    client = await ask(address, post("/stream?detach", {"query": asked}))
    async with asyncio.timeout(20):
        await client.done
    return str(json.loads(client.body)["stream_id"])
