"""Starting and stopping what is measured, and running the load against it."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from bench import host
from bench.drive import Figures
from bench.load import Load, Order
from bench.targets import ROOT, Place, Target

START_LIMIT_S = 90.0
STOP_LIMIT_S = 3.0
LOG_LINES = 15
STOPPING = {signal.SIGINT, signal.SIGTERM}
SPAWNED: list["subprocess.Popen[bytes]"] = []


class BenchError(Exception):
    """The bench cannot go on; the message says why."""


@dataclass(frozen=True)
class Bed:
    """Where processes run: cores (none: wherever), whether under real-time priority, how many descriptors."""

    target_core: int | None
    load_core: int | None
    realtime: bool
    descriptors: int

    @classmethod
    def of_this_machine(cls, realtime: bool) -> "Bed":
        """One core for what is measured and one for the load, if there are two."""
        if realtime and not host.may_use_realtime():
            raise BenchError("--rt: real-time priority is not permitted here")
        return cls(*host.plan(host.cores()), realtime, host.raise_descriptors())

    @property
    def most_streams(self) -> int:
        """Each needs two descriptors in every process that has both ends."""
        return (self.descriptors - 100) // 2


def free_port() -> int:
    """A TCP port of loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def spawn(command: list[str], place_it: Callable[[], None], **options: Any) -> "subprocess.Popen[bytes]":
    """A process that Ctrl-C does not reach. A signal that comes meanwhile waits until the process is known."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)

    def prepare() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        place_it()

    fixed: dict[str, Any] = {"cwd": ROOT, "stdin": subprocess.DEVNULL, "start_new_session": True}
    try:
        process = subprocess.Popen(command, preexec_fn=prepare, **fixed, **options)
        SPAWNED.append(process)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return process


def end_all() -> None:
    """Kill what is left of all that was spawned: a signal may have come before anybody could hold on to it."""
    for process in SPAWNED:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    SPAWNED.clear()


class Process:
    """One process of a target, in a folder of its own."""

    def __init__(self, target: Target, place: Place, bed: Bed, environment: dict[str, str]) -> None:
        self.target, self.port = target, place.port
        self.log = place.folder / "log"
        command = target.command(place)
        with self.log.open("wb") as log:
            try:
                told = target.process_environment(place, environment)
                place_it = host.placed(bed.target_core, int(bed.realtime))
                self._process = spawn(command, place_it, env=told, stdout=log, stderr=log)
            except OSError as error:
                raise BenchError(f"{target.name} cannot be started: {error}") from error
        self.pid = self._process.pid

    def wait_ready(self) -> None:
        """Until it takes connections."""
        end = time.monotonic() + START_LIMIT_S
        while time.monotonic() < end:
            self.check()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.5):
                return
            time.sleep(0.05)
        raise BenchError(f"{self.target.name} does not listen after {START_LIMIT_S:.0f} s{self._tail()}")

    def check(self) -> None:
        """Complain if it has ended."""
        code = self._process.poll()
        if code is not None:
            raise BenchError(f"{self.target.name} has ended with status {code}{self._tail()}")

    def stop(self) -> None:
        """End it and whatever it has started."""
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_LIMIT_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def _tail(self) -> str:
        lines = self.log.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]
        return "".join(f"\n  | {line}" for line in lines)


@contextlib.contextmanager
def started(target: Target, bed: Bed, copies: int, environment: dict[str, str]) -> Iterator["Stand"]:
    """The target's processes, ready, with an upstream's port that the load will take."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    upstream, processes = free_port(), list[Process]()
    try:
        for number in range(copies):
            own = folder / str(number)
            own.mkdir()
            place = Place(own, free_port(), upstream, bed.descriptors)
            processes.append(Process(target, place, bed, environment))
        for process in processes:
            process.wait_ready()
        yield Stand(target, bed, processes, upstream)
    finally:
        for process in processes:
            process.stop()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Stand:
    """A target that is up."""

    target: Target
    bed: Bed
    processes: list[Process]
    upstream: int

    def run(self, load: Load, progress: Callable[[], None] = lambda: None) -> Figures:
        """One run of the load; `progress` is called several times a second."""
        ports, pids = [process.port for process in self.processes], [process.pid for process in self.processes]
        order = Order(load, self.upstream, ports, pids, self.target.request)
        command = [sys.executable, "-m", "bench.drive", order.to_json()]
        place_it = host.placed(self.bed.load_core, int(self.bed.realtime))
        load_process = spawn(command, place_it, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, error = self._wait(load_process, progress)
        finally:
            load_process.kill()
            load_process.wait()
        for process in self.processes:
            process.check()
        if load_process.returncode:
            raise BenchError(f"the load has failed: {error.decode(errors='replace').strip()}")
        figures: Figures = orjson.loads(out)
        return figures

    @staticmethod
    def _wait(process: "subprocess.Popen[bytes]", progress: Callable[[], None]) -> tuple[bytes, bytes]:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.communicate(timeout=0.3)
            progress()
