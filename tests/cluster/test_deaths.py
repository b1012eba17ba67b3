"""A process dies or hangs in mid-stream: its readers go on elsewhere with the exact text, and soon."""

import asyncio
import signal
from pathlib import Path

from tests.cluster.play import ALONE, FULL, faultless, play


async def test_a_process_is_killed_and_no_reader_loses_a_word(tmp_path: Path) -> None:
    """kill -9 of one of two, and nobody starts it again: the other one goes on with all of its streams."""
    async with play(tmp_path, times=ALONE) as on:
        await on.opened()
        on.watch_cpu(1)
        on.cluster.supervisor.signal(0, signal.SIGKILL)
        seen = await on.seen(survivor_cpu=await on.cpu_of_the_next(2.0))
    faultless("kill -9", seen)
    assert len(seen.cut) >= seen.all.streams // 3
    assert seen.takeovers >= len(seen.cut)
    assert seen.silence_s(0.5) < 1.0
    assert seen.silence_s(1.0) < 2.5
