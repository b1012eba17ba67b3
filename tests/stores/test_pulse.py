"""A process that stood still says nothing more before it has looked around."""

import asyncio
import time
from functools import partial

from gateway.stores.pulse import Pulse, uptime
from tests.doubles import ManualClock, ManualLoop


class Watched:
    """A pulse with a limit of one second, and what it told."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.freezes: list[float] = []
        self.pulse = Pulse(1.0, self.freezes.append, clock=self.clock)

    def stands_still(self, seconds: float) -> bool:
        """Whether nothing may go out in the first turn afterwards."""
        self.clock.advance(seconds)
        return self.pulse.stood_still()


def test_a_loop_that_turns_may_write() -> None:
    """However long it lives: only a gap between two turns counts."""
    watched = Watched()
    assert not any(watched.stands_still(1.0) for _ in range(100))
    assert watched.freezes == []


def test_nothing_goes_out_behind_a_freeze_until_it_is_resumed() -> None:
    """The first turn after it is already held back, and `on_freeze` is told once."""
    watched = Watched()
    assert watched.stands_still(1.01)
    assert all(watched.stands_still(0.3) for _ in range(10))
    assert [round(seconds, 2) for seconds in watched.freezes] == [1.01]
    assert watched.pulse.resume()
    assert not watched.stands_still(0.3)


def test_what_was_found_out_before_another_freeze_does_not_count() -> None:
    """Others may have taken the streams in the second one: whoever is told has to look again."""
    watched = Watched()
    watched.stands_still(2.0)
    watched.stands_still(3.0)
    assert not watched.pulse.resume()
    assert watched.freezes == [2.0, 3.0]
    assert watched.pulse.resume()


def test_a_freeze_between_the_last_turn_and_the_resumption_counts() -> None:
    """No turn has noticed it yet, so `resume` itself looks at the clock."""
    watched = Watched()
    watched.stands_still(2.0)
    watched.clock.advance(4.0)
    assert not watched.pulse.resume()
    assert watched.freezes == [2.0, 4.0]


def test_each_freeze_is_told() -> None:
    """After a resumption the next one counts again."""
    watched = Watched()
    watched.stands_still(2.0)
    watched.pulse.resume()
    watched.stands_still(3.0)
    assert watched.freezes == [2.0, 3.0]


def test_whoever_is_told_may_resume_at_once() -> None:
    """Where there is nothing to find out: no stream is shared."""
    clock = ManualClock()
    pulse = Pulse(1.0, lambda _: None, clock=clock)
    pulse.on_freeze = lambda _: resumed.append(pulse.resume())
    resumed: list[bool] = []
    clock.advance(2.0)
    assert not pulse.stood_still()
    assert resumed == [True]


def test_an_idle_loop_is_watched_too() -> None:
    """Its own timer looks three times in the limit, so that an idle loop never looks like a frozen one."""
    loop = ManualLoop()
    freezes: list[float] = []
    pulse = Pulse(1.0, freezes.append, clock=loop.time)

    async def scenario() -> None:
        await asyncio.sleep(5)
        pulse.start()
        await asyncio.sleep(100)
        assert not pulse.stood_still()
        loop.clock.advance(2.0)
        await asyncio.sleep(0.5)
        assert len(freezes) == 1
        pulse.resume()
        pulse.stop()
        await asyncio.sleep(100)
        assert not pulse.suspended

    loop.run(scenario())
    loop.close()


def test_the_clock_goes_on_while_the_machine_is_suspended() -> None:
    """On Linux; where nothing was ever suspended, only the name of the clock shows it."""
    assert isinstance(uptime, partial)
    assert uptime.args == (time.CLOCK_BOOTTIME,)
