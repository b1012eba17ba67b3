"""Store: a private redis-server that ends with the fleet; its data is in the fleet's folder and goes with it."""

import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from fleet.children import FleetError, end, found, tethered

START_LIMIT_S = 10.0


class Store:
    """redis-server on a unix socket in a folder of its own: `url` is what `REDIS_URL` is to be.

    It never evicts (what is evicted would be an answer's end missing), and writes its file every second, as a Redis
    of streams should.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.socket = self.directory / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.log = self.directory / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        if self._process is None:
            raise FleetError("redis-server is not running")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Return when it answers; with the data of a former start, if there was one."""
        self.directory.mkdir(parents=True, exist_ok=True)
        command = [
            found("redis-server") or "redis-server",
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--unixsocketperm",
            "700",
        ]
        command += ["--dir", str(self.directory), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]
        command += ["--maxmemory-policy", "noeviction", "--daemonize", "no"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(tethered(command), stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + START_LIMIT_S
        while not self.answers():
            if not self.running or time.monotonic() > deadline:
                self.stop()
                raise FleetError(f"redis-server did not start: {self.log.read_text()}")
            time.sleep(0.01)

    def answers(self) -> bool:
        """Whether it takes commands, which it does not while it loads its file."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(str(self.socket))
                probe.sendall(b"PING\r\n")
                return probe.recv(16).startswith(b"+PONG")
            except OSError:
                return False

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGKILL, SIGSTOP, SIGCONT."""
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self) -> None:
        """End it; harmless when it has ended. What it wrote stays in its folder."""
        process, self._process = self._process, None
        if process is not None:
            end(process)
