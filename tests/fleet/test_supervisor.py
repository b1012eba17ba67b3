"""The supervisor: what dies or hangs is replaced, what it started ends with it, and a wrong setting is said once."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet.children import clean_environment, free_ports
from fleet.life import Times
from fleet.supervisor import Supervisor
from fleet.unit import WrongSettingError
from tests.house import ROOT, eventually

STARTED_S = 15.0
SUPERVISE = """
import asyncio, sys
from pathlib import Path
from fleet.children import clean_environment, free_ports
from fleet.supervisor import Supervisor

async def main():
    async with Supervisor(free_ports(2), Path(sys.argv[1]), clean_environment(), lambda _: None) as supervisor:
        print(*supervisor.pids, flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


@contextlib.asynccontextmanager
async def supervised(
    folder: Path, count: int = 1, times: Times | None = None, **settings: str
) -> AsyncIterator[tuple[Supervisor, list[str]]]:
    """So many gateways that are ready, and what has been said of them."""
    lines: list[str] = []
    environment = {**clean_environment(), "GATEWAY_DRAIN__LIMIT_S": "0", **settings}
    async with Supervisor(free_ports(count), folder, environment, lines.append, times) as supervisor:
        yield supervisor, lines


def alive(pid: int | None) -> bool:
    """Whether there is such a process that has not ended; one that nobody has asked about yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


async def test_a_process_that_is_killed_is_replaced(tmp_path: Path) -> None:
    """By one that serves the same port, after the unit's pause."""
    async with supervised(tmp_path, 2) as (supervisor, lines):
        before = list(supervisor.pids)
        supervisor.signal(0, signal.SIGKILL)
        await eventually(lambda: supervisor.units[0].starts == 2, STARTED_S)
        async with asyncio.timeout(STARTED_S):
            await supervisor.until_ready()
        assert supervisor.pids[0] not in before
        assert supervisor.pids[1] == before[1]
        assert any("killed by SIGKILL" in line for line in lines)


async def test_a_process_that_stands_still_is_killed_and_replaced(tmp_path: Path) -> None:
    """Two seconds without a sign of life, one for its stacks, and it is gone, though it takes no SIGABRT."""
    async with supervised(tmp_path) as (supervisor, lines):
        unit = supervisor.units[0]
        began = time.monotonic()
        frozen = supervisor.signal(0, signal.SIGSTOP)
        await eventually(lambda: unit.starts == 2, 3.5)
        assert time.monotonic() - began > 1
        assert not alive(frozen)
        assert any("no sign of life" in line for line in lines)
        async with asyncio.timeout(STARTED_S):
            await supervisor.until_ready()


async def test_a_healthy_process_is_left_alone(tmp_path: Path) -> None:
    """It beats within half of the patience, so that an idle one outlives several of them."""
    async with supervised(tmp_path, times=Times(watchdog_s=0.4)) as (supervisor, _):
        pid = supervisor.pids[0]
        await asyncio.sleep(1.5)
        assert supervisor.pids == [pid]


async def test_a_restart_waits_until_the_next_one_serves(tmp_path: Path) -> None:
    """One after the other can be renewed, and the others never notice."""
    async with supervised(tmp_path, 2) as (supervisor, _):
        before = list(supervisor.pids)
        async with asyncio.timeout(STARTED_S):
            await supervisor.restart(1)
        assert supervisor.units[1].ready.is_set()
        assert supervisor.pids[0] == before[0]
        assert supervisor.pids[1] not in before
        assert not alive(before[1])


async def test_a_process_that_dies_at_once_is_started_less_and_less_often(tmp_path: Path) -> None:
    """And each time it is said how it ended, how often, and when the next one comes."""
    times = Times(restart_s=0.01, restart_max_s=0.05)
    async with supervised(tmp_path, times=times) as (supervisor, lines):
        unit = supervisor.units[0]
        for starts in range(2, 6):
            supervisor.signal(0, signal.SIGKILL)
            await eventually(lambda starts=starts: unit.starts == starts and unit.pid, STARTED_S)
        pauses = [line.rpartition("starts in ")[2] for line in lines if "next one" in line]
        assert pauses == ["0.01 s", "0.02 s", "0.04 s", "0.05 s"]
        assert any("4 times at once" in line for line in lines)


async def test_a_wrong_setting_ends_all_with_its_message(tmp_path: Path) -> None:
    """Another start would end the same."""
    with pytest.raises(WrongSettingError, match="heartbeat"):
        async with asyncio.timeout(STARTED_S), supervised(tmp_path, 2, GATEWAY_DELIVERY__HEARTBEAT_S="soon"):
            pass


async def test_nothing_is_left_when_it_ends(tmp_path: Path) -> None:
    """Neither a process that stands still, nor a socket."""
    async with supervised(tmp_path, 2) as (supervisor, _):
        pids = list(supervisor.pids)
        supervisor.signal(0, signal.SIGSTOP)
    assert not any(alive(pid) for pid in pids)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
async def test_what_it_started_ends_with_its_process(tmp_path: Path, number: signal.Signals) -> None:
    """Also when that is killed and can do nothing about it."""
    command = [sys.executable, "-c", SUPERVISE, str(tmp_path)]
    supervisor = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=subprocess.PIPE)
    assert supervisor.stdout is not None
    pids = [int(pid) for pid in (await supervisor.stdout.readline()).split()]
    assert len(pids) == 2
    assert all(alive(pid) for pid in pids)
    supervisor.send_signal(number)
    await supervisor.wait()
    await eventually(lambda: not any(alive(pid) for pid in pids))
