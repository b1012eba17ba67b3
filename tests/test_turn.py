"""Turns: read together, worked off together, written together; and what one stumbles over is nobody else's."""

import asyncio
import logging
from collections.abc import Callable, Iterator

import pytest

from gateway.turn import READ_MAX_BYTES, Turn
from tests.doubles import ManualLoop


class Diary:
    """Reads and writes with names, in the order in which they were made."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.lines: list[str] = []

    def read(self, name: str, size: int = 1, then: Callable[[], None] | None = None) -> None:
        """Something is read."""

        def take(data: bytes) -> None:
            assert len(data) == size
            self.lines.append(f"read {name}")
            if then is not None:
                then()

        self.turn.read(take, b"x" * size)

    def write(self, name: str, then: Callable[[], None] | None = None) -> None:
        """Somebody has something to write."""
        self.turn.wrote(Writer(self.lines, name, then))


class Writer:
    """Writes its name."""

    def __init__(self, lines: list[str], name: str, then: Callable[[], None] | None) -> None:
        self._lines = lines
        self._name = name
        self._then = then

    def let_go(self) -> None:
        """Into the diary."""
        self._lines.append(f"wrote {self._name}")
        if self._then is not None:
            self._then()


def stumble() -> None:
    """What no reader and no writer should do."""
    raise RuntimeError("stumbled")


@pytest.fixture
def loop() -> Iterator[ManualLoop]:
    """A loop of which each turn is taken by hand."""
    loop = ManualLoop()
    yield loop
    loop.close()


@pytest.fixture
def diary(loop: ManualLoop) -> Diary:
    """An empty one."""
    return Diary(Turn(loop))


def nothing_is_scheduled(loop: ManualLoop) -> bool:
    """Whether the loop could sleep."""
    return not loop._ready and not loop._scheduled  # type: ignore[attr-defined]  # there is no public way to ask


def test_reads_are_worked_off_in_the_order_of_arrival(loop: ManualLoop, diary: Diary) -> None:
    """Not at once, but in the same turn."""
    for name in "abc":
        diary.read(name)
    assert diary.lines == []
    loop.turn(1)
    assert diary.lines == ["read a", "read b", "read c"]
    assert nothing_is_scheduled(loop)


def test_writes_come_behind_all_reads_of_their_turn(loop: ManualLoop, diary: Diary) -> None:
    """Also those that reads lead to, and those that came first."""
    diary.write("first")
    diary.read("a", then=lambda: diary.write("of a"))
    diary.read("b", then=lambda: diary.write("of b"))
    loop.turn(1)
    assert diary.lines == ["read a", "read b", "wrote first", "wrote of a", "wrote of b"]
    loop.turn()
    assert len(diary.lines) == 5
    assert nothing_is_scheduled(loop)


def test_a_read_that_leads_to_a_read_is_worked_off_in_the_same_turn(loop: ManualLoop, diary: Diary) -> None:
    """Before anything is written."""
    diary.read("a", then=lambda: diary.read("c"))
    diary.read("b")
    diary.write("last")
    loop.turn(1)
    assert diary.lines == ["read a", "read b", "read c", "wrote last"]


def test_a_write_that_leads_to_more_has_another_turn(loop: ManualLoop, diary: Diary) -> None:
    """So that nobody keeps a turn from ending."""
    diary.write("a", then=lambda: diary.write("of a", then=lambda: diary.read("c")))
    diary.write("b")
    loop.call_soon(diary.lines.append, "another turn")
    loop.turn()
    assert diary.lines == ["wrote a", "wrote b", "another turn", "wrote of a", "read c"]
    assert nothing_is_scheduled(loop)


def test_who_stumbles_stumbles_alone(loop: ManualLoop, diary: Diary, caplog: pytest.LogCaptureFixture) -> None:
    """The others get theirs, in this turn and in the next; and it is logged."""
    for name in "ab":
        diary.read(name, then=stumble)
        diary.write(name, then=stumble)
    diary.read("c")
    diary.write("c")
    with caplog.at_level(logging.ERROR):
        loop.turn(1)
    assert diary.lines == ["read a", "read b", "read c", "wrote a", "wrote b", "wrote c"]
    assert [record.message for record in caplog.records] == ["a read failed"] * 2 + ["a write failed"] * 2
    diary.read("d")
    loop.turn(1)
    assert diary.lines[-1] == "read d"
    assert nothing_is_scheduled(loop)


def test_much_is_worked_off_as_it_comes(loop: ManualLoop, diary: Diary) -> None:
    """In order, without waiting for the turn's end; what is written waits for it all the same."""
    half = READ_MAX_BYTES // 2
    diary.read("a", half, then=lambda: diary.write("of a"))
    diary.read("b", half)
    assert diary.lines == []
    diary.read("c")
    assert diary.lines == ["read a", "read b", "read c"]
    diary.read("d", half)
    assert len(diary.lines) == 3
    loop.turn(1)
    assert diary.lines == ["read a", "read b", "read c", "read d", "wrote of a"]
    assert nothing_is_scheduled(loop)


def test_each_turn_begins_to_count_anew(loop: ManualLoop, diary: Diary) -> None:
    """What was worked off does not weigh on what is read later."""
    for _ in range(3):
        diary.read("a", READ_MAX_BYTES)
        loop.turn(1)
    diary.read("b", 1)
    diary.read("c", READ_MAX_BYTES - 1)
    assert diary.lines == ["read a"] * 3
    loop.turn(1)
    assert diary.lines[3:] == ["read b", "read c"]


def test_it_knows_for_whom_it_holds_something(loop: ManualLoop) -> None:
    """By the very method of the very object, until it is worked off."""
    turn, one, other = Turn(loop), list[bytes](), list[bytes]()
    held: list[bool] = []
    turn.read(one.append, b"a")
    assert turn.holds(one.append)
    assert not turn.holds(one.remove)
    turn.read(lambda _: held.append(turn.holds(one.append)), b"b")
    loop.turn(1)
    assert held == [False]
    assert one == [b"a"]
    assert not turn.holds(one.append)
    assert not turn.holds(other.append)


async def test_without_a_loop_it_takes_the_running_one() -> None:
    """It can be made before there is one."""
    diary = Diary(Turn())
    diary.read("a")
    diary.write("b")
    await asyncio.sleep(0)
    assert diary.lines == ["read a", "wrote b"]


# In doubt.


class Doubt:
    """Whether this process may still speak for its streams."""

    def __init__(self) -> None:
        self.is_in_doubt = False
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.is_in_doubt


@pytest.fixture
def doubt(diary: Diary) -> Doubt:
    """None yet."""
    diary.turn.doubt = doubt = Doubt()
    return doubt


def test_nothing_is_written_while_the_turn_is_in_doubt(loop: ManualLoop, diary: Diary, doubt: Doubt) -> None:
    """What was read is worked off all the same; it all waits, in order, and nothing is scheduled meanwhile."""
    doubt.is_in_doubt = True
    diary.read("a", then=lambda: diary.write("A"))
    loop.turn()
    diary.write("B")
    loop.turn()
    assert diary.lines == ["read a"]
    assert nothing_is_scheduled(loop)
    doubt.is_in_doubt = False
    diary.turn.reopen()
    assert diary.lines == ["read a", "wrote A", "wrote B"]


def test_what_comes_while_in_doubt_waits_for_the_reopening(loop: ManualLoop, diary: Diary, doubt: Doubt) -> None:
    """The doubt does not end by itself, even where it is not asked again; behind it everything is as before."""
    doubt.is_in_doubt = True
    assert diary.turn.in_doubt()
    doubt.is_in_doubt = False
    diary.read("a")
    diary.write("A")
    loop.turn()
    assert (diary.lines, diary.turn.in_doubt()) == ([], True)
    diary.turn.reopen()
    assert (diary.lines, diary.turn.in_doubt()) == (["read a", "wrote A"], False)
    diary.write("B")
    loop.turn(1)
    assert diary.lines[-1] == "wrote B"


def test_a_doubt_that_comes_back_closes_again(loop: ManualLoop, diary: Diary, doubt: Doubt) -> None:
    """A process may stand still twice before it has found out about the first time."""
    doubt.is_in_doubt = True
    diary.write("A")
    loop.turn()
    diary.turn.reopen()
    assert diary.lines == []
    doubt.is_in_doubt = False
    diary.turn.reopen()
    diary.turn.reopen()
    assert diary.lines == ["wrote A"]


def test_a_reopening_without_a_doubt_does_nothing(loop: ManualLoop, diary: Diary, doubt: Doubt) -> None:
    """What is due is done in its turn."""
    diary.write("A")
    diary.turn.reopen()
    assert diary.lines == []
    loop.turn(1)
    assert diary.lines == ["wrote A"]


def test_much_that_is_read_in_doubt_is_worked_off_and_not_kept(loop: ManualLoop, diary: Diary, doubt: Doubt) -> None:
    """The bound on what waits to be worked off holds then too."""
    doubt.is_in_doubt = True
    assert diary.turn.in_doubt()
    diary.read("a", READ_MAX_BYTES)
    diary.read("b")
    assert diary.lines == ["read a", "read b"]
