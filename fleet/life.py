"""Life: one gateway process from its start to its end, watched as systemd watches it (sd_notify(3), WatchdogSec)."""

import asyncio
import contextlib
import signal
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from fleet.children import ROOT, tethered

TICK_S = 0.05
"""How often is looked whether a process has spoken."""

LAST_LINES = 20


@dataclass(frozen=True, slots=True)
class Times:
    """The times of systemd/gateway@.service, in seconds; and how the pauses grow where a process dies at once."""

    start_s: float = 20.0
    watchdog_s: float = 2.0
    abort_s: float = 0.2
    stop_s: float = 45.0
    restart_s: float = 0.2
    restart_max_s: float = 5.0
    quick_s: float = 5.0
    """One that has served for less has died at once."""
    hurry_s: float = 1.5
    """What a process is given to drain when everything ends."""


class Life:
    """One process. `on_ready` is told when it serves and when it no longer does, `say` each line that it writes."""

    def __init__(self, process: asyncio.subprocess.Process, ear: socket.socket, times: Times) -> None:
        self._process = process
        self._ear = ear
        self._times = times
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time() + times.start_s
        self._on_ready: Callable[[bool], None] = lambda _: None
        self.pid = process.pid
        self.ready = False
        self.stopping = False
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)

    @classmethod
    async def begin(cls, command: Sequence[str], environment: Mapping[str, str], ear_at: Path, times: Times) -> Self:
        """Start it; `ear_at` is where it is listened to, a path that nobody else uses."""
        ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ear.bind(str(ear_at))
        ear.setblocking(False)
        told = {"NOTIFY_SOCKET": str(ear_at), "WATCHDOG_USEC": str(int(times.watchdog_s * 1e6))}
        try:
            process = await asyncio.create_subprocess_exec(
                *tethered(command),
                cwd=ROOT,
                env={**environment, **told},
                stdin=asyncio.subprocess.DEVNULL,
                # What it says to somebody who starts it by hand: its address, which is not the one to ask here.
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                # Ctrl-C goes to the whole group of a terminal, but only the supervisor is to decide.
                start_new_session=True,
            )
        except BaseException:
            ear.close()
            raise
        return cls(process, ear, times)

    async def run(self, on_ready: Callable[[bool], None], say: Callable[[str], None]) -> int:
        """Until it has ended: its exit status. One that is silent for too long is ended; so is it when cancelled."""
        self._on_ready = on_ready
        lines = asyncio.create_task(self._pass_on(say))
        ended = asyncio.create_task(self._process.wait())
        try:
            while not ended.done():
                await asyncio.wait({ended}, timeout=TICK_S)
                # First what it has said: perhaps it was us who stood still.
                self._hear()
                if self._loop.time() >= self._due and not ended.done():
                    say(f"no sign of life for too long ({self._patience()}): aborting it")
                    await self._abort(ended)
            await lines
            return ended.result()
        finally:
            await self._end(ended)
            await asyncio.wait({lines}, timeout=TICK_S)
            lines.cancel()
            self._close()

    async def _end(self, ended: asyncio.Task[int]) -> None:
        """Within seconds: it may drain for a moment, is told a second time, and then it is killed."""
        try:
            for _ in range(2):
                if not ended.done():
                    self.terminate()
                    await asyncio.wait({ended}, timeout=self._times.hurry_s)
        finally:
            if not ended.done():
                self.signal(signal.SIGKILL)
                await asyncio.wait({ended})

    def _close(self) -> None:
        """Its socket and the socket's file."""
        Path(self._ear.getsockname()).unlink(missing_ok=True)
        self._ear.close()

    def terminate(self) -> None:
        """SIGTERM: it drains, for as long as systemd would let it. A second time ends the drain."""
        self._leaving()
        self.signal(signal.SIGTERM)

    def signal(self, number: int) -> None:
        """Send it a signal; nothing happens when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def _leaving(self) -> None:
        """From now on it is not watched, but has a time to go."""
        if not self.stopping:
            self.stopping, self.ready = True, False
            self._on_ready(False)
            self._due = self._loop.time() + self._times.stop_s

    def _patience(self) -> str:
        if self.stopping:
            return f"{self._times.stop_s:g} s to stop"
        return f"{self._times.watchdog_s:g} s" if self.ready else f"{self._times.start_s:g} s to start"

    def _hear(self) -> None:
        """Take what it has said to its supervisor."""
        with contextlib.suppress(BlockingIOError):
            while True:
                said = self._ear.recv(4096).decode("utf-8", "replace").split("\n")
                if "STOPPING=1" in said:
                    self._leaving()
                if self.stopping:
                    continue
                if "READY=1" in said:
                    self.ready = True
                    self._on_ready(True)
                if self.ready:
                    self._due = self._loop.time() + self._times.watchdog_s

    async def _abort(self, ended: asyncio.Task[int]) -> None:
        """SIGABRT for the stacks of a process that hangs; SIGKILL for one that is stopped and does not take it."""
        self.signal(signal.SIGABRT)
        await asyncio.wait({ended}, timeout=self._times.abort_s)
        if not ended.done():
            self.signal(signal.SIGKILL)
            await ended

    async def _pass_on(self, say: Callable[[str], None]) -> None:
        """Its log, line by line, however long they are."""
        out = self._process.stderr
        assert out is not None
        rest = ""
        while chunk := await out.read(65536):
            *lines, rest = (rest + chunk.decode("utf-8", "replace")).split("\n")
            for line in lines:
                self._line(line, say)
        if rest:
            self._line(rest, say)

    def _line(self, line: str, say: Callable[[str], None]) -> None:
        self.last_lines.append(line)
        say(line)
