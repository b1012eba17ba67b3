"""The house under test: in this process for speed, or as a process of its own for the truth."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from gateway.app.house import Gateway
from gateway.settings import load
from gateway.sse import Parser, ServerEvent

ROOT = Path(__file__).parent.parent
FAST = {"GATEWAY_LOCAL__FIRST_TOKEN_MS": "0", "GATEWAY_LOCAL__TOKENS_PER_S": "0", "GATEWAY_DRAIN__LIMIT_S": "0"}
LONG = {"GATEWAY_OUTPUT__MAX_WORDS": "1000000"}
"""Answers are counted, but may be as long as their test needs them."""


@contextlib.asynccontextmanager
async def house(**environment: str) -> AsyncIterator[Gateway]:
    """A gateway on a free port in this loop; `OPENAI_BASE_URL=…`, `GATEWAY_STREAM__SILENCE_S=…` set it up."""
    gateway = Gateway(load(None, {"GATEWAY_SERVER__PORT": "0", **FAST, **LONG, **environment}))
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.close()


@dataclass
class Seen:
    """What one client saw: the events of one connection and how it ended."""

    status: int
    headers: Any
    events: list[ServerEvent] = field(default_factory=list)
    body: bytes = b""
    cut: bool = False

    @property
    def logged(self) -> list[ServerEvent]:
        """Events that carry an id of their own, in order."""
        return [e for e in self.events if e.event not in ("connected", "close") and e.id]

    @property
    def names(self) -> list[str]:
        """The names of the events, in order."""
        return [event.event for event in self.events]

    @property
    def text(self) -> str:
        """The text as a client keeps it: `replace` sets, everything else appends."""
        text = ""
        for event in self.events:
            if event.event == "text":
                data = orjson.loads(event.data)
                text = data["token"] if data.get("replace") else text + data["token"]
        return text

    def data(self, name: str) -> list[dict[str, Any]]:
        """The data of all events of that name."""
        return [orjson.loads(event.data) for event in self.events if event.event == name]

    def json(self) -> Any:
        """The body as JSON."""
        return orjson.loads(self.body)


async def see(
    session: aiohttp.ClientSession, method: str, url: str, *, upto: int | None = None, **options: Any
) -> Seen:
    """Make a request and read its events, all of them or the first `upto`, then hang up."""
    async with session.request(method, url, **options) as response:
        seen = Seen(response.status, response.headers)
        if response.content_type != "text/event-stream":
            seen.body = await response.read()
            return seen
        parser = Parser(16 * 1024 * 1024)
        try:
            async for chunk in response.content.iter_any():
                seen.body += chunk
                seen.events += parser.feed(chunk)
                if upto is not None and len(seen.events) >= upto:
                    del seen.events[upto:]
                    response.close()
                    return seen
        except (aiohttp.ClientError, ConnectionError):
            seen.cut = True
        return seen


class Process:
    """A gateway process; `base` is its URL."""

    def __init__(self, *arguments: str, port: int | None = None, **environment: str) -> None:
        self.port = port or free_port()
        host = arguments[arguments.index("--host") + 1] if "--host" in arguments else "127.0.0.1"
        self.base = f"http://{host}:{self.port}"
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("GATEWAY_", "OPENAI_", "STREAMING_"))}
        self.uds = arguments[arguments.index("--uds") + 1] if "--uds" in arguments else None
        where = () if self.uds else ("--port", str(self.port))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve", *where, *arguments],
            env={**clean, **LONG, **environment},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.pid = self._process.pid
        self.stderr = b""

    def wait_ready(self, limit_s: float = 20.0) -> "Process":
        """Until `/health/ready` says 200."""
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            if self._process.poll() is not None:
                raise RuntimeError(f"the gateway exited: {self._process.communicate()[1].decode()}")
            try:
                if self._is_ready():
                    return self
            except OSError:
                pass
            time.sleep(0.05)
        raise RuntimeError("the gateway did not become ready")

    def _is_ready(self) -> bool:
        if self.uds is None:
            with urllib.request.urlopen(f"{self.base}/health/ready", timeout=1) as answer:
                return bool(answer.status == 200)
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            probe.connect(self.uds)
            probe.sendall(b"GET /health/ready HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
            return probe.recv(12).endswith(b"200")

    def terminate(self) -> None:
        """SIGTERM: drain."""
        self._process.send_signal(signal.SIGTERM)

    def hang_up(self) -> None:
        """SIGHUP: read again what can be read again."""
        self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()

    def wait(self, limit_s: float = 40.0) -> int:
        """The exit status."""
        _, self.stderr = self._process.communicate(timeout=limit_s)
        return self._process.returncode

    def close(self) -> None:
        """End it whatever state it is in."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self.wait(5)
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    @property
    def rss_bytes(self) -> int:
        """Resident memory."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no VmRSS")

    @property
    def descriptors(self) -> int:
        """Open file descriptors."""
        return len(list(Path(f"/proc/{self.pid}/fd").iterdir()))

    @property
    def cpu_s(self) -> float:
        """User and system CPU seconds so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def gateway_process(*arguments: str, port: int | None = None, **environment: str) -> Iterator[Process]:
    """A gateway process that is ready, ended at the end."""
    process = Process(*arguments, port=port, **environment)
    try:
        yield process.wait_ready()
    finally:
        process.close()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def eventually(condition: Any, limit_s: float = 5.0) -> None:
    """Wait until `condition()` is true."""
    async with asyncio.timeout(limit_s):
        while not condition():  # noqa: ASYNC110  # what is waited for has no event to wait on
            await asyncio.sleep(0.005)
