"""Probe: a listener that says which process it is, so that a refused connection means that this process is dead."""

import asyncio
import functools
import hashlib
import ipaddress
import os
import socket
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple, cast

ASK_S = 0.3
"""For an answer: a process that lives gives it in about a millisecond, also while it drains."""

HELLO_MAX_BYTES = 64
"""More than this in one line is not what a gateway says."""


class Verdict(Enum):
    """What asking for an instance showed."""

    ALIVE = auto()
    """It said its id."""
    DEAD = auto()
    """Nobody listens there any more, or somebody else does. Ids are never used again, so this stays true."""
    SILENT = auto()
    """No answer: frozen, busy, far away or behind a firewall."""


class Probe:
    """Says `instance` and a newline to whoever connects. To be closed last of all, behind the draining."""

    def __init__(self, instance: str, host: str, port: int = 0) -> None:
        self._hello = f"{instance}\n".encode()
        self._host = host
        self._port = port
        self._server: asyncio.Server | None = None
        self.address = ""
        """Where it listens, for `ask`; empty before `start`."""

    async def start(self) -> None:
        """Listen, at any free port if it is 0. Raises OSError where that cannot be."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Hello(self._hello), self._host, self._port)
        host, port = self._server.sockets[0].getsockname()[:2]
        self.address = str(_Address(_within_reach(host), port, place()))

    async def close(self) -> None:
        """Be dead to all who ask."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()


class _Hello(asyncio.Protocol):
    def __init__(self, hello: bytes) -> None:
        self._hello = hello

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast(asyncio.WriteTransport, transport).write(self._hello)
        transport.close()


async def ask(address: str, instance: str, limit_s: float = ASK_S, *, met: bool = False) -> Verdict:
    """Whether `instance` lives at `address`, after `limit_s` seconds at most. Never raises.

    From another machine or container a refusal may be a firewall's, or come from a stranger with the same private
    address. It is believed only if `met`: if this instance has answered from there before.
    """
    try:
        there = _parse(address)
    except ValueError:
        return Verdict.SILENT
    elsewhere = there.place != place()
    if elsewhere and ipaddress.ip_address(there.host).is_loopback:
        return Verdict.SILENT
    verdict = await _verdict(there, instance, limit_s)
    return Verdict.SILENT if verdict is Verdict.DEAD and elsewhere and not met else verdict


async def _verdict(there: "_Address", instance: str, limit_s: float) -> Verdict:
    try:
        async with asyncio.timeout(limit_s):
            said = await _heard(there.host, there.port)
    except (ConnectionRefusedError, ConnectionResetError, asyncio.LimitOverrunError):
        return Verdict.DEAD
    except (OSError, EOFError):
        return Verdict.SILENT
    return Verdict.ALIVE if said == f"{instance}\n".encode() else Verdict.DEAD


async def _heard(host: str, port: int) -> bytes:
    """The first line that is said there."""
    reader, writer = await asyncio.open_connection(host, port, limit=HELLO_MAX_BYTES)
    try:
        return await reader.readuntil(b"\n")
    finally:
        writer.transport.abort()


class _Address(NamedTuple):
    """`host:port@place`; the host is an IP address, so that no name has to be resolved."""

    host: str
    port: int
    place: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}@{self.place}"


def _parse(text: str) -> _Address:
    """Raises ValueError for what is not an address."""
    where, _, place = text.partition("@")
    host, _, port = where.rpartition(":")
    host = host.strip("[]")
    ipaddress.ip_address(host)
    if not 0 < int(port) < 65536:
        raise ValueError("not a port")
    return _Address(host, int(port), place)


def _within_reach(host: str) -> str:
    """A wildcard is no place to connect to; from here its loopback is, and from elsewhere nothing is known."""
    address = ipaddress.ip_address(host)
    if not address.is_unspecified:
        return host
    return "127.0.0.1" if address.version == 4 else "::1"


@functools.cache
def place() -> str:
    """What all processes share that have the same loopback: a machine, or a container's network."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        network = os.stat("/proc/self/ns/net").st_ino
    except OSError:
        return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:12]
    return hashlib.sha256(f"{boot}{network}".encode()).hexdigest()[:12]
