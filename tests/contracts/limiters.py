"""Limiters of both kinds for tests: several that share one count, and the time that passes for them."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from gateway.limits import Budget, Charge, Limiter, Slots, Window
from gateway.stores.batch import Batch
from gateway.stores.courier import Courier
from gateway.stores.keys import Keys
from gateway.stores.limits_memory import MemoryLimiter
from gateway.stores.limits_redis import RedisLimiter
from gateway.stores.redis_client import connect
from gateway.telemetry.metrics import Metrics

KEYS = Keys("limits-test")
HOUR_S = 3600.0


class Server(Protocol):
    """A Redis that somebody has started."""

    url: str


def window(limit: int, who: str = "1.2.3.4", scope: str = "ip", window_s: float = HOUR_S) -> Window:
    """A window, of an hour: longer than any test, so that time stands still in it."""
    return Window(scope, who, limit, window_s)


def slots(limit: int, who: str = "acme", scope: str = "tenant", *, waits: bool = False) -> Slots:
    """Slots of a tenant, which nobody waits for."""
    return Slots(scope, who, limit, waits)


def budget(limit: int, who: str = "acme") -> Budget:
    """Tokens of a tenant."""
    return Budget("tenant", who, limit)


def charge(*parts: Window | Slots | Budget) -> Charge:
    """All of them as one."""
    return Charge(
        tuple(part for part in parts if isinstance(part, Window)),
        tuple(part for part in parts if isinstance(part, Slots)),
        tuple(part for part in parts if isinstance(part, Budget)),
    )


async def taken(limiter: Limiter, sid: str, *parts: Window | Slots | Budget, may_wait: bool = False) -> bool:
    """Whether the stream is taken."""
    return (await limiter.charge(sid, charge(*parts), may_wait=may_wait)).refused is None


@asynccontextmanager
async def redis_limiter(
    server: Server,
    *,
    lease_s: float = 20.0,
    instance: str = "one",
    command_s: float = 2.0,
    metrics: Metrics | None = None,
    clock: Callable[[], float] | None = None,
    running: bool = True,
) -> AsyncIterator[RedisLimiter]:
    """One process's, with connections of its own."""
    clients = connect(server.url, command_s)
    local = MemoryLimiter() if clock is None else MemoryLimiter(clock=clock)
    limiter = RedisLimiter(
        Courier(lambda: Batch(clients.commands, command_s)),
        KEYS,
        local,
        instance=instance,
        lease_s=lease_s,
        metrics=metrics or Metrics(),
    )
    if running:
        limiter.start()
    try:
        yield limiter
    finally:
        if running:
            await limiter.stop()
        await clients.aclose()


async def settled(limiter: Limiter) -> None:
    """What is told a little later has been told."""
    if isinstance(limiter, RedisLimiter):
        await limiter._work_off()
        await asyncio.sleep(0)
