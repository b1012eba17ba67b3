"""What everything that a fleet starts has in common: it ends with the fleet, and leaves no file and no port behind."""

import contextlib
import fcntl
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TETHER = Path(__file__).with_name("tether.py")
PREFIX = "sse-gateway-fleet-"
STOP_LIMIT_S = 5.0


class FleetError(Exception):
    """The fleet cannot do what it was asked to; the text is for the user."""


def tethered(command: Sequence[str], number: signal.Signals = signal.SIGKILL) -> list[str]:
    """The command so that it gets this signal when this process ends, also when it is killed.

    It must be started by a thread that lives as long as the process: the kernel looks at the thread.
    """
    return [sys.executable, "-I", "-S", str(TETHER), str(int(number)), str(os.getpid()), *command]


def found(program: str) -> str | None:
    """Where a program is, also where only root looks for it."""
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/usr/local/sbin")


def clean_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Without what sets a gateway up, except for the Redis to be used: for measurements that must not depend on it."""
    ours = ("GATEWAY_", "OPENAI_", "STREAMING_", "CIRCUIT_BREAKER_")
    kept = {name: value for name, value in environment.items() if not name.startswith(ours)}
    return {**kept, "GATEWAY_REDIS__URL": redis_url(environment)}


def redis_url(environment: Mapping[str, str]) -> str:
    """The Redis that the environment names, as the gateway's settings would read it; empty for none."""
    return environment.get("GATEWAY_REDIS__URL") or environment.get("REDIS_URL") or ""


def end(process: subprocess.Popen[bytes], limit_s: float = STOP_LIMIT_S) -> None:
    """SIGTERM, and SIGKILL for its whole group when it does not go. It must lead a group of its own."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(limit_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def free_ports(count: int, *, first: int = 0) -> list[int]:
    """Different TCP ports of loopback on which nobody listened a moment ago; from `first` upwards, if it is given."""
    with contextlib.ExitStack() as probes:
        ports: list[int] = []
        while len(ports) < count:
            if first > 65535:
                raise FleetError("no free ports are left")
            probe = probes.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", first))
                ports.append(probe.getsockname()[1])
            first += bool(first)
        return ports


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]


def listens(port: int) -> bool:
    """Whether somebody takes connections on this port of loopback."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def raise_descriptors() -> None:
    """As many descriptors as may be had, for this process and all that it starts."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def home() -> Iterator[Path]:
    """A private folder with a short name (a socket's path has 108 bytes), removed at the end.

    One that is left over from a fleet that was killed is removed by the next: it is known by its lock, which the
    kernel lets go of.
    """
    _sweep()
    path = Path(tempfile.mkdtemp(prefix=PREFIX))
    fresh = path / "lock.new"
    with fresh.open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fresh.rename(path / "lock")
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)


def _sweep() -> None:
    """Remove the folders whose fleets have ended without doing so."""
    for lock in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/lock"):
        with contextlib.suppress(OSError), lock.open("rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
