"""Clients of Redis: one for commands, which fail fast and are never repeated, and one that may wait for news."""

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
    parse_url,
)
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig

CONNECTIONS = 8
"""For commands; more that come at once wait for one, no longer than a command may take."""

AWAY = (RedisError, OSError)
"""What is raised when Redis does not answer, or not as it should; a time that is over is an OSError as well."""

REFUSALS = (
    "OOM",
    "LOADING",
    "READONLY",
    "MISCONF",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "NOREPLICAS",
    "BUSY",
    "NOPERM",
)
"""Answers of a Redis that is there but cannot do what it is there for."""


class Clients(NamedTuple):
    """Two clients of the same Redis."""

    commands: Redis
    """Each command is answered within its limit or fails; none is sent twice."""
    blocking: Redis
    """One connection without a limit, for XREAD BLOCK."""

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self:
            await client.aclose()
            await client.connection_pool.disconnect()


def connect(url: str, command_s: float) -> Clients:
    """Clients for `url`; nothing is connected yet. A URL cannot switch off what keeps them honest."""
    commands = _pool(url, CONNECTIONS, command_s, socket_timeout=command_s)
    blocking = _pool(url, 1, command_s, socket_timeout=None)
    return Clients(Redis(connection_pool=commands), Redis(connection_pool=blocking))


class _Fair(AbstractConnection):
    """A connection that can be left at any time.

    redis-py sends with `asyncio.wait_for`, which on Python 3.11 now and then swallows the cancellation of its caller: a
    loop that was told to end would go on for ever.
    """

    async def send_packed_command(self, command: bytes | str | Iterable[bytes], check_health: bool = True) -> None:
        limit_s, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(limit_s):
                await super().send_packed_command(command, check_health)
        except TimeoutError:
            await self.disconnect(nowait=True)
            raise RedisTimeoutError("Redis did not take a command in time") from None
        finally:
            self.socket_timeout = limit_s


class _FairTCP(_Fair, Connection):
    """Over TCP."""


class _FairTLS(_Fair, SSLConnection):
    """Over TLS."""


class _FairUnix(_Fair, UnixDomainSocketConnection):
    """Over a unix socket."""


_CLASSES: dict[str, type[AbstractConnection]] = {"redis": _FairTCP, "rediss": _FairTLS, "unix": _FairUnix}


def _pool(url: str, size: int, command_s: float, *, socket_timeout: float | None) -> BlockingConnectionPool:
    options: dict[str, Any] = {
        **parse_url(url),
        "connection_class": _CLASSES[url.partition(":")[0]],
        "max_connections": size,
        "timeout": command_s,
        "socket_connect_timeout": command_s,
        "socket_timeout": socket_timeout,
        # A command that was repeated by the library may have been done twice.
        "retry": Retry(NoBackoff(), 0),
        "retry_on_error": [],
        "health_check_interval": 0,
        "protocol": 3,
        "decode_responses": False,
        # With these notifications the pool hands out connections that still hold unread answers.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    if url.startswith("rediss://"):
        options |= {"ssl_cert_reqs": "required", "ssl_check_hostname": True}
    return BlockingConnectionPool(**options)


def away(error: BaseException) -> bool:
    """Whether Redis cannot be reached, does not answer, or takes no writes: it may be well again later."""
    if isinstance(error, (RedisConnectionError, RedisTimeoutError, TimeoutError, OSError)):
        return True
    code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
    return isinstance(error, ResponseError) and (code in REFUSALS or "max number of clients" in str(error))


async def check_policy(commands: Redis) -> str:
    """A warning when this Redis is set up to delete logs while they are needed, else nothing.

    Logs live for a limited time, so that a policy for keys that do (`volatile-…`) takes them as well. Says nothing
    where nobody may ask (`CONFIG` forbidden) or no memory limit is set.
    """
    try:
        found = await commands.config_get("maxmemory-policy", "maxmemory")
    except ResponseError:
        return ""
    said = {_text(name): _text(value) for name, value in found.items()}
    policy = said.get("maxmemory-policy", "noeviction")
    if policy == "noeviction":
        return ""
    when = "once it is full" if said.get("maxmemory", "0") != "0" else "as soon as maxmemory is set"
    return f"Redis deletes streams that are being read {when}: set maxmemory-policy to noeviction instead of {policy}"


def _text(value: str | bytes | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""
