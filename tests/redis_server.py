"""A real redis-server of its own directory, to be killed, frozen, filled and flushed by tests."""

import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.house import free_port

START_LIMIT_S = 10.0


class RedisServer:
    """redis-server on a unix socket, or with `tcp` on a free port of 127.0.0.1; appends to its file, evicts nothing.

    Its data outlives `kill` and `restart`, as it does in production. Everything here waits, none of it is awaited.
    """

    def __init__(self, *, tcp: bool = False, maxmemory: str = "0") -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise RuntimeError("redis-server is not installed; it is one of the system packages of tools/setup.sh")
        self._program = program
        self._maxmemory = maxmemory
        self._directory = Path(tempfile.mkdtemp(prefix="redis-"))
        self._port = free_port() if tcp else 0
        self._socket = self._directory / "redis.sock"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self._port}/0" if tcp else f"unix://{self._socket}"
        self._control = redis.Redis.from_url(
            self.url, socket_timeout=5, retry=Retry(NoBackoff(), 0), decode_responses=True
        )

    def __enter__(self) -> "RedisServer":
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self._process is not None, "redis-server is not running"
        return self._process.pid

    def start(self) -> "RedisServer":
        """Run it, and wait until it has read its data and answers."""
        where = ["--port", str(self._port), "--bind", "127.0.0.1", "--unixsocket", str(self._socket)]
        keeps = ["--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--dir", str(self._directory)]
        # Looks at its clock often: a pause of its clients ends when it does.
        bounds = ["--maxmemory", self._maxmemory, "--maxmemory-policy", "noeviction", "--hz", "100"]
        self._process = subprocess.Popen(
            [self._program, *where, *keeps, *bounds, "--daemonize", "no", "--logfile", "redis.log"],
            cwd=self._directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + START_LIMIT_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"redis-server did not start: {self._said()}")
            time.sleep(0.005)
        return self

    def _answers(self) -> bool:
        try:
            return bool(self._control.ping())
        except redis.RedisError:
            return False

    def _said(self) -> str:
        log = self._directory / "redis.log"
        return log.read_text()[-500:] if log.exists() else "nothing"

    def command(self, *words: Any) -> Any:
        """The answer to one command, over a connection of the test's own."""
        return self._control.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py has no types there

    def freeze(self) -> None:
        """SIGSTOP: connections stand, nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, as a crash: what it had acknowledged is in its file all the same."""
        self._signal(signal.SIGKILL)
        self._wait()

    def stop(self) -> None:
        """SIGTERM, as an operator would."""
        self._signal(signal.SIGTERM)
        self._wait()

    def restart(self) -> "RedisServer":
        """Kill it and start it again over the same data."""
        self.kill()
        return self.start()

    def close(self) -> None:
        """End it whatever state it is in, and remove its directory."""
        self._control.close()
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _wait(self) -> None:
        if self._process is not None:
            self._process.wait(10)
            self._process = None
        self._control.connection_pool.disconnect()
