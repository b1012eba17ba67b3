"""A process hangs and nobody ends it: when it wakes up, what others have taken over is not its own any more."""

import asyncio
import signal
from pathlib import Path

from tests.cluster.play import faultless, moved_at, play
from tests.cluster.stage import ALONE, TOKENS_PER_S, stage
from tests.house import eventually
from tests.load import ask_all, at_scale, get, over

STREAMS = at_scale(20, 200)
FROZEN_S = at_scale(3, 10)
LATE_S = at_scale(3, 5)
LENGTH_S = FROZEN_S + LATE_S
AT_ONCE_S = 2.0


async def test_a_zombie_delivers_nothing(tmp_path: Path) -> None:
    """SIGSTOP, others go on with half of the streams, SIGCONT: not a byte of those; the others go on here."""
    words = LENGTH_S * TOKENS_PER_S
    async with stage(tmp_path, times=ALONE, words=words) as here, play(here, STREAMS, here.url(0)) as on:
        await on.opened()
        wanted, unwanted = on.histories[::2], on.histories[1::2]
        address = ("127.0.0.1", here.cluster.ports[0])
        listening = await ask_all(address, [get(f"/stream/{one.sid}") for one in wanted])
        await asyncio.gather(*(one.reads(2) for one in listening))
        here.signal(0, signal.SIGSTOP)
        await asyncio.sleep(0.2)
        elsewhere = on.read_at(1, wanted)
        await asyncio.sleep(FROZEN_S)
        await eventually(lambda: all(map(moved_at, elsewhere)), LATE_S)
        heard = [bytes(one.raw) for one in listening]
        here.signal(0, signal.SIGCONT)
        await over(listening, AT_ONCE_S)
        assert [bytes(one.raw) for one in listening] == heard
        seen = await on.seen()
        assert not any(moved_at(one) for one in unwanted)
    faultless("SIGSTOP, unsupervised", seen)
    assert all(moved_at(one) for one in wanted)
