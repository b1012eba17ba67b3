"""What processes have used, read from /proc."""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Use:
    """CPU seconds so far and resident memory now."""

    cpu_s: float = 0.0
    rss_mb: float = 0.0


def family(pids: list[int]) -> list[int]:
    """These processes and all that descend from them."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))):
            parents[int(entry)] = int(fields[1])
    found = list(pids)
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid and child not in found]
    return found


def use_of(pids: list[int]) -> Use:
    """What these processes have used together; one that has ended counts nothing."""
    ticks, pages = 0, 0
    for pid in pids:
        fields = _stat(pid)
        if fields:
            ticks += int(fields[11]) + int(fields[12])
            pages += int(fields[21])
    return Use(ticks / TICKS_PER_S, pages * PAGE_BYTES / 1048576)


def machine_cpu_s() -> float:
    """CPU seconds that the whole machine has spent on anything: what was neither idle nor taken by a hypervisor.

    Idle time is measured, while busy time is only sampled at the clock's ticks, and a load that a clock drives hides
    between them.
    """
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    idle, waiting, steal = fields[3], fields[4], fields[7]
    return time.monotonic() * (os.cpu_count() or 1) - (idle + waiting + steal) / TICKS_PER_S


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on, the state."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return []
