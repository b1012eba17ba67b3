"""Unit: a gateway process that is always there; one that dies, hangs or is to be renewed is replaced by the next."""

import asyncio
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from fleet.children import FleetError
from fleet.life import Life, Times

EXIT_CONFIG = 78
"""The gateway's exit status for a wrong setting: another start would end the same."""

HURRY_S = 1.5
"""What a process is given to drain when everything ends; then it is told again, and then killed."""


class WrongSettingError(FleetError):
    """A gateway refuses its settings; the text is what it said."""


class Unit:
    """The process that serves one port. `pid` and `starts` change with each new one, `ready` says that it serves."""

    def __init__(
        self, port: int, directory: Path, environment: Mapping[str, str], say: Callable[[str], None], times: Times
    ) -> None:
        self.port = port
        self.starts = 0
        self.ready = asyncio.Event()
        self._directory = directory
        self._environment = {"PYTHONFAULTHANDLER": "1", "PYTHONUNBUFFERED": "1", **environment}
        self._told = say
        self._times = times
        self._life: Life | None = None
        self._renewing = False
        self._quick = 0
        self._served_from = float("inf")

    @property
    def pid(self) -> int | None:
        """The process id; None between two processes."""
        return self._life.pid if self._life else None

    async def run(self) -> None:
        """Keep a process there; when it is cancelled, end it. Raises WrongSettingError when it refuses its settings."""
        loop = asyncio.get_running_loop()
        while True:
            self._served_from = float("inf")
            status = await self._live()
            if self._renewing:
                self._renewing, self._quick = False, 0
            else:
                at_once = loop.time() - self._served_from < self._times.quick_s
                self._quick = self._quick + 1 if at_once else 0
                await asyncio.sleep(self._pause(status))

    async def _live(self) -> int:
        """One process, from its start to its end: its exit status."""
        self.starts += 1
        command = [sys.executable, "-m", "gateway", "serve", "--host", "127.0.0.1", "--port", str(self.port)]
        ear_at = self._directory / f"{self.port}.{self.starts}"
        self._life = life = await Life.begin(command, self._environment, ear_at, self._times)
        self._say(f"started, pid {life.pid}")
        try:
            status = await life.run(self._serving, self._say)
        finally:
            self._life = None
            self.ready.clear()
        if status == EXIT_CONFIG:
            raise WrongSettingError("\n".join(life.last_lines))
        return status

    def _serving(self, ready: bool) -> None:
        if ready:
            self._served_from = asyncio.get_running_loop().time()
            self.ready.set()
            self._say("ready")
        else:
            self.ready.clear()

    def _pause(self, status: int) -> float:
        """Seconds to the next start: the same as systemd's, but longer each time where it dies at once."""
        times = self._times
        pause_s = min(times.restart_s * 2.0 ** max(self._quick - 1, 0), times.restart_max_s)
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        again = f", {self._quick} times at once" if self._quick > 1 else ""
        self._say(f"has ended ({how}{again}); the next one starts in {pause_s:g} s")
        return pause_s

    async def restart(self) -> None:
        """SIGTERM, wait until it has ended, start the next one, wait until that is ready."""
        if self._life:
            self._renewing = True
            self._life.terminate()
        await self.ready.wait()

    def signal(self, number: int) -> int:
        """Send the process a signal, which it may not survive; its pid. Raises FleetError when there is none now."""
        if self._life is None:
            raise FleetError(f"port {self.port} has no process now")
        self._life.signal(number)
        return self._life.pid

    def _say(self, line: str) -> None:
        self._told(f"[{self.port}] {line}")
