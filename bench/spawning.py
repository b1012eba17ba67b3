"""Processes of the bench's own: none is left behind, whatever comes in between."""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable
from typing import Any

from bench.targets import ROOT

STOPPING = {signal.SIGINT, signal.SIGTERM}
SPAWNED: list["subprocess.Popen[bytes]"] = []


class BenchError(Exception):
    """The bench cannot go on; the message says why."""


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
