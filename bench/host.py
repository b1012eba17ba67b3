"""The machine: cores, priorities, descriptors, and what it calls itself."""

import contextlib
import os
import platform
import resource
from collections.abc import Callable, Sequence
from pathlib import Path


def raise_descriptors() -> int:
    """Take all the descriptors that may be had; say how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def cores() -> list[int]:
    """The cores that this process may use."""
    return sorted(os.sched_getaffinity(0))


def placed(core: int | None, priority: int) -> Callable[[], None]:
    """What a new process does before it becomes its program: take a core, and real-time priority if above 0."""

    def place() -> None:
        if core is not None:
            os.sched_setaffinity(0, {core})
        if priority:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))

    return place


def may_use_realtime() -> bool:
    """Whether this user may give real-time priority."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    except OSError:
        return False
    return True


def described() -> dict[str, str | int]:
    """What figures depend on: processor, cores, kernel, memory."""
    return {
        "processor": _field("/proc/cpuinfo", "model name") or platform.machine(),
        "cores": len(cores()),
        "memory_mb": int((_field("/proc/meminfo", "MemTotal") or "0").split()[0]) // 1024,
        "kernel": f"{platform.system()} {platform.release()}",
    }


def _field(path: str, name: str) -> str:
    with contextlib.suppress(OSError):
        for line in Path(path).read_text("utf-8").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return ""


def plan(available: Sequence[int]) -> tuple[int | None, int | None]:
    """The core of what is measured and the core of the load; none of both where there is only one."""
    return (available[0], available[1]) if len(available) > 1 else (None, None)
