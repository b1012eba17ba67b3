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

import orjson

from bench import host
from bench.drive import Figures
from bench.load import Load, Order
from bench.spawning import BenchError, free_port, spawn
from bench.store import Sampler, Store
from bench.targets import Place, Target

START_LIMIT_S = 90.0
STOP_LIMIT_S = 3.0
LOG_LINES = 15


@dataclass(frozen=True)
class Bed:
    """Where processes run: cores (none: wherever), whether under real-time priority, how many descriptors."""

    target_core: int | None
    load_core: int | None
    realtime: bool
    descriptors: int
    store_core: int | None = None
    """Of a Redis: one of its own, if there are three."""

    @classmethod
    def of_this_machine(cls, realtime: bool) -> "Bed":
        """One core for what is measured and one for the load, if there are two."""
        if realtime and not host.may_use_realtime():
            raise BenchError("--rt: real-time priority is not permitted here")
        cores = host.cores()
        target_core, load_core = host.plan(cores)
        store_core = cores[2] if len(cores) > 2 else load_core
        return cls(target_core, load_core, realtime, host.raise_descriptors(), store_core)

    @property
    def most_streams(self) -> int:
        """Each needs two descriptors in every process that has both ends."""
        return (self.descriptors - 100) // 2


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
    upstream, processes, store = free_port(), list[Process](), None
    try:
        if target.store:
            store = Store(folder / "store", host.placed(bed.store_core, int(bed.realtime)))
            environment = {"REDIS_URL": store.url, **environment}
        for number in range(copies):
            own = folder / str(number)
            own.mkdir()
            place = Place(own, free_port(), upstream, bed.descriptors)
            processes.append(Process(target, place, bed, environment))
        for process in processes:
            process.wait_ready()
        yield Stand(target, bed, processes, upstream, store)
    finally:
        for process in processes:
            process.stop()
        if store is not None:
            store.stop()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class Stand:
    """A target that is up."""

    target: Target
    bed: Bed
    processes: list[Process]
    upstream: int
    store: Store | None = None

    def run(self, load: Load, progress: Callable[[], None] = lambda: None) -> Figures:
        """One run of the load; `progress` is called several times a second."""
        ports, pids = [process.port for process in self.processes], [process.pid for process in self.processes]
        order = Order(load, self.upstream, ports, pids, self.target.request)
        command = [sys.executable, "-m", "bench.drive", order.to_json()]
        place_it = host.placed(self.bed.load_core, int(self.bed.realtime))
        sampler = Sampler(self.store, ports[0], load) if self.store is not None else None
        load_process = spawn(command, place_it, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            out, error = self._wait(load_process, [progress, *([sampler.look] if sampler else [])])
        finally:
            load_process.kill()
            load_process.wait()
        for process in self.processes:
            process.check()
        if load_process.returncode:
            raise BenchError(f"the load has failed: {error.decode(errors='replace').strip()}")
        figures: Figures = orjson.loads(out)
        return figures if sampler is None else {**figures, "store": sampler.told(figures["tok_s"])}

    @staticmethod
    def _wait(process: "subprocess.Popen[bytes]", meanwhile: list[Callable[[], None]]) -> tuple[bytes, bytes]:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.communicate(timeout=0.3)
            for look in meanwhile:
                look()
