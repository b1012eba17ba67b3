"""Counting: how many calls a piece of work takes, and what it asks of the loop."""

import asyncio
import contextlib
import gc
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context
from functools import partial
from types import FrameType
from typing import Any

from tests import wires
from tests.wires import Wire, tokens

_OURS = (__file__, wires.__file__)
_COVERAGE, _LOOP = "/coverage/", "/asyncio/base_events.py"


class Calls:
    """Calls by who is called: of Python functions, and of functions of C, the loop's and the sockets' among them."""

    def __init__(self) -> None:
        self.python: defaultdict[str, int] = defaultdict(int)
        self.c: defaultdict[str, int] = defaultdict(int)

    def told(self, per: int, what: str = "token") -> str:
        """A table of calls per token or whatever else, most first: where to look when there are too many."""
        called = [(count, f"{name} (Python)") for name, count in self.python.items()]
        called += [(count, f"{name} (C)") for name, count in self.c.items()]
        python, c = self.per(per)
        rows = [f"{count / per:9.2f}  {name}" for count, name in sorted(called, reverse=True)]
        return "\n".join([f"calls per {what}: {python:.2f} of Python functions, {c:.2f} of C", *rows])

    def per(self, count: int) -> tuple[float, float]:
        """Calls of Python functions and of C functions, for each of `count`."""
        return sum(self.python.values()) / count, sum(self.c.values()) / count

    def within(self, python: float, c: float, per: int, what: str = "token") -> None:
        """Fail with the table unless there were at most so many calls for each."""
        fits = all(found <= bound for found, bound in zip(self.per(per), (python, c), strict=True))
        assert fits, f"more than {python:g} or {c:g}\n{self.told(per, what)}"

    def note(self, frame: FrameType, event: str, argument: Any) -> None:
        """To be set as the profiler. What the script itself calls is not counted, nor what measures coverage."""
        file = frame.f_code.co_filename
        if event == "c_call" and not _is_machinery(file):
            self.c[_name_of(argument)] += 1
        elif event == "call" and not _is_machinery(file):
            self.python[f"{frame.f_globals.get('__name__')}.{frame.f_code.co_qualname}"] += 1
        elif event == "call" and frame.f_back is not None and not _is_machinery(frame.f_back.f_code.co_filename):
            # In service the loop and the transports are uvloop's, which is C.
            self.c[frame.f_code.co_qualname] += 1


def _is_machinery(file: str) -> bool:
    return file in _OURS or _COVERAGE in file or file.endswith(_LOOP)


def _name_of(function: Any) -> str:
    return str(getattr(function, "__qualname__", function))


class _Soon:
    """A callback that is due."""

    def __init__(self, callback: Callable[..., object], arguments: tuple[Any, ...], context: Context | None) -> None:
        self.cancelled = False
        self.run = partial(callback if context is None else partial(context.run, callback), *arguments)

    def cancel(self) -> None:
        """It is not to be run."""
        self.cancelled = True


class Turns:
    """Takes the place of the loop's scheduler while it is entered: what is asked of it is counted.

    Callbacks run when `play` is called, in their order, as one turn after the other of the loop would run them.
    """

    _NAMES = ("call_soon", "call_later", "call_at", "create_task", "create_future")

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self._loop: Any = asyncio.get_running_loop()
        self._soon: deque[_Soon] = deque()

    def __enter__(self) -> "Turns":
        for name in self._NAMES[1:]:
            setattr(self._loop, name, self._counting(name, getattr(self._loop, name)))
        self._loop.call_soon = self._call_soon
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._NAMES:
            delattr(self._loop, name)

    def play(self) -> None:
        """Run what is to be run soon, and what that leads to."""
        while self._soon:
            soon = self._soon.popleft()
            if not soon.cancelled:
                soon.run()

    def _call_soon(self, callback: Callable[..., object], *arguments: Any, context: Context | None = None) -> "_Soon":
        self.asked["call_soon"] += 1
        soon = _Soon(callback, arguments, context)
        self._soon.append(soon)
        return soon

    def _counting(self, name: str, usual: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **options: Any) -> Any:
            self.asked[name] += 1
            return usual(*arguments, **options)

        return counting


async def counted(work: Callable[[Turns], None]) -> tuple[Calls, Turns]:
    """Do `work` in a callback of the loop, as sockets do, and count the calls. Nothing in it is left to the loop."""
    loop = asyncio.get_running_loop()
    calls, turns, over = Calls(), Turns(), loop.create_future()

    def measure() -> None:
        try:
            with _no_collection(), turns:
                before = sys.getprofile()
                sys.setprofile(calls.note)
                try:
                    work(turns)
                finally:
                    sys.setprofile(before)
        except BaseException as error:
            over.set_exception(error)
        else:
            over.set_result(None)

    loop.call_soon(measure)
    await over
    return calls, turns


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """The garbage collector has callbacks of its own, which are not to be counted."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def count_tokens(upstreams: Iterable[Wire], first: int, turns: int, each: int = 1) -> tuple[Calls, Turns]:
    """What it takes to carry `each` tokens of each upstream in each of so many turns."""
    upstreams, last = list(upstreams), first + turns * each
    reads = [tokens(number, each) for number in range(first, last, each)]

    def work(loop: Turns) -> None:
        for read in reads:
            for upstream in upstreams:
                upstream.protocol.data_received(read)
            loop.play()

    return await counted(work)
