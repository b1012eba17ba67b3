"""Whatever happens to processes, clients and Redis: no client ever has a mixture, and each comes to one true end."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from tests.load import at_scale
from tests.model.clients import Client
from tests.model.process import Process
from tests.model.world import PROCESSES_MAX, World
from tests.redis_server import RedisServer

STEPS = 40
PHASES = [Phase.generate, Phase.shrink] if os.environ.get("SSEGW_SHRINK") else [Phase.generate]
"""A history of so few steps can be read as it is; to make it shorter takes minutes."""

SEVERAL = st.integers(0, 15)
"""Which of those that there are."""

SERVERS: list[RedisServer] = []
EPOCHS: Counter[int] = Counter()
"""Histories that held, by how many processes made the answer one after the other."""


@pytest.fixture(autouse=True)
def _server() -> Iterator[None]:
    """One Redis for all histories of a test; its connections are cut, and it refuses to write."""
    with RedisServer() as server:
        SERVERS.append(server)
        yield
        SERVERS.clear()


class Histories(RuleBasedStateMachine):
    """Draws what happens next."""

    exact = True
    world: World

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()

    @initialize(processes=st.integers(2, 3), programs=st.integers(0, 1), tight=st.booleans())
    def begin(self, processes: int, programs: int, tight: bool) -> None:
        """Some processes; the first is asked, and some clients read there."""
        world = self.world = World(SERVERS[0], self.loop, exact=self.exact, tight=tight)
        for _ in range(processes):
            world.does("a process starts", world.start())
        world.does(f"A is asked (exact {self.exact}, tight {tight})", world.open(world.processes[0]))
        for number, native in enumerate([True, True, False][: 2 + programs]):
            client, process = world.meet(native=native), world.processes[number % processes]
            world.does(f"{client.name} (native {native}) reads at {process.name}", world.connect(client, process))

    def awake(self, which: int) -> Process | None:
        """One of the processes that run; as often as not one that makes an answer."""
        there = [process for process in self.world.processes if not process.frozen]
        makers = [process for process in there if process.hub.running]
        if which % 2 and makers:
            there = makers
        return there[which // 2 % len(there)] if there else None

    def client(self, which: int) -> Client:
        """One of the clients."""
        return self.world.clients[which % len(self.world.clients)]

    @rule(which=SEVERAL, number=st.integers(1, 6))
    def say(self, which: int, number: int) -> None:
        """An answer goes on."""
        if process := self.awake(which | 1):
            self.world.does(f"{process.name} says {number} more", _now(lambda: process.say(number)))

    @rule(which=SEVERAL)
    def flush(self, which: int) -> None:
        """A round of writing."""
        if process := self.awake(which):
            self.world.does(f"{process.name} writes", process.flush())
            self.world.does("Redis is compared", self.world.compare())

    @rule(which=SEVERAL)
    def poll(self, which: int) -> None:
        """A round of reading."""
        if process := self.awake(which):
            self.world.does(f"{process.name} reads", process.poll())

    @rule(which=SEVERAL, sweeps=st.booleans())
    def look(self, which: int, sweeps: bool) -> None:
        """After the others; what is bereft is taken over."""
        if process := self.awake(which):
            work = process.sweep() if sweeps else process.look()
            self.world.does(f"{process.name} {'sweeps' if sweeps else 'looks'}", work)
            self.world.does("Redis is compared", self.world.compare())

    @rule()
    def race(self) -> None:
        """All that run look after the others at once."""
        there = [process for process in self.world.processes if not process.frozen]
        self.world.does("all look", _all(there))

    @rule(number=st.integers(0, 4))
    def time_passes(self, number: int) -> None:
        """Everything that runs does all that it does."""
        for process in [process for process in self.world.processes if not process.frozen]:
            self.world.does(f"{process.name} does everything once, saying {number}", self.world.round(process, number))
        self.world.does("Redis is compared", self.world.compare())

    @rule(which=SEVERAL)
    def beat(self, which: int) -> None:
        """A lease is renewed."""
        if process := self.awake(which):
            self.world.does(f"{process.name} renews its lease", process.beat())

    @rule(which=SEVERAL, number=st.integers(0, 3))
    def round(self, which: int, number: int) -> None:
        """All of these."""
        if process := self.awake(which):
            self.world.does(f"{process.name} does everything once, saying {number}", self.world.round(process, number))

    @precondition(lambda self: len(self.world.processes) < PROCESSES_MAX)
    @rule()
    def start(self) -> None:
        """A process comes."""
        self.world.does("a process starts", self.world.start())

    @precondition(lambda self: sum(not process.frozen for process in self.world.processes) > 1)
    @rule(which=SEVERAL, how=st.sampled_from(["kill", "kill", "drain", "stop", "lapse", "lapse"]))
    def trouble(self, which: int, how: str) -> None:
        """Something happens to a process; one always runs on."""
        process, world = self.awake(which), self.world
        assert process is not None
        if how == "kill":
            world.does(f"{process.name} is killed", world.kill(process))
        elif how == "drain":
            world.does(f"{process.name} drains", world.drain(process))
        else:
            what = f"{process.name} stands still{', and is taken for dead' if how == 'lapse' else ''}"
            world.does(what, world.freeze(process, lapse=how == "lapse"))

    @rule(said=st.integers(0, 3), writes_first=st.booleans())
    def wake(self, said: int, writes_first: bool) -> None:
        """The one that has stood still the longest goes on."""
        frozen = next((process for process in self.world.processes if process.frozen), None)
        if frozen is not None:
            what = f"{frozen.name} goes on{', writes' if writes_first else ''}, says {said}"
            self.world.does(what, self.world.wake(frozen, said, writes_first=writes_first))
            self.world.does("Redis is compared", self.world.compare())

    @rule(who=SEVERAL, which=SEVERAL)
    def connect(self, who: int, which: int) -> None:
        """A client comes, or comes back."""
        client, process = self.client(who), self.awake(which)
        if process is not None and client.line is None and not client.over and (client.native or not client.text):
            self.world.does(f"{client.name} comes to {process.name}", self.world.connect(client, process))

    @rule(who=SEVERAL)
    def leave(self, who: int) -> None:
        """A client hangs up."""
        client = self.client(who)
        if client.line is not None:
            self.world.does(f"{client.name} leaves", self.world.leave(client))

    @rule(who=SEVERAL, takes=st.booleans())
    def stall(self, who: int, takes: bool) -> None:
        """A client's socket is full, or is not any more."""
        line = self.client(who).line
        if line is not None:
            self.world.does(f"{self.client(who).name} takes {takes}", _now(line.take if takes else line.stall))

    @rule(which=SEVERAL)
    def lose_answer(self, which: int) -> None:
        """Something will be done in Redis, and its process will not know."""
        if process := self.awake(which):
            self.world.does(f"{process.name} will miss an answer", _now(process.lose_next_answer))

    @rule(what=st.sampled_from(["refuse", "refuse", "accept", "accept", "cut", "flush"]))
    def redis(self, what: str) -> None:
        """Something happens to Redis."""
        world = self.world
        if what == "cut":
            world.does("all connections to Redis break", world.cut())
        elif what == "flush":
            world.does("Redis loses everything", world.lose_everything())
        else:
            where = ["127.0.0.1", "1"] if what == "refuse" else ["NO", "ONE"]
            world.does(f"Redis will {what} writes", world.redis("REPLICAOF", *where))

    @precondition(lambda self: len(self.world.history) > 30)
    @rule(which=SEVERAL)
    def cancel(self, which: int) -> None:
        """A client has heard enough."""
        if process := self.awake(which):
            self.world.does(f"the answer is cancelled at {process.name}", self.world.cancel(process))

    def teardown(self) -> None:
        """Everybody comes to an end."""
        if not hasattr(self, "world"):
            return
        try:
            self.world.does("all is well again", self.world.finish())
            EPOCHS[max(self.world.oracle.epochs)] += 1
        finally:
            self.world.close()
            self.loop.close()


class Prefixes(Histories):
    """The same over a source that goes on in other words."""

    exact = False


async def _now(call: object) -> None:
    assert callable(call)
    call()


async def _all(processes: list[Process]) -> None:
    await asyncio.gather(*[process.look() for process in processes])


@pytest.mark.timeout(at_scale(120, 3600))
@pytest.mark.parametrize("machine", [Histories, Prefixes], ids=["exact", "prefix"])
def test_no_history_breaks_a_promise(machine: type[Histories]) -> None:
    """Text is never a mixture, exact text is whole, ends come once, and what is said elsewhere is not said here."""
    EPOCHS.clear()
    run_state_machine_as_test(
        machine,
        settings=settings(
            phases=PHASES,
            max_examples=int(os.environ.get("SSEGW_HISTORIES", at_scale(24, 400))),
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(f"{EPOCHS.total()} histories; by how many processes: {dict(sorted(EPOCHS.items()))}")
