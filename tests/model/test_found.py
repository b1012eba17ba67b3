"""Histories that once broke a promise."""

import asyncio
from collections.abc import Iterator

import pytest

from tests.model.process import Process
from tests.model.world import World
from tests.redis_server import RedisServer


@pytest.fixture
def world(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[World]:
    """Two processes; the first is asked, and a client reads there."""
    loop = asyncio.new_event_loop()
    with World(redis_server, loop, exact=request.param, tight=True) as world:
        world.does("A starts", world.start())
        world.does("B starts", world.start())
        world.does("A is asked", world.open(world.processes[0]))
        world.does("a client reads at A", world.connect(world.meet(native=True), world.processes[0]))
        yield world
    loop.close()


exactly = pytest.mark.parametrize("world", [True], indirect=True, ids=["exact"])
freely = pytest.mark.parametrize("world", [False], indirect=True, ids=["prefix"])


@exactly
def test_a_fact_that_stands_before_all_text_is_not_said_again(world: World) -> None:
    """An exact source repeats it; twice in the log, it would put every place of what follows one too far."""
    a, b = world.processes
    world.does("A says the fact", _said(a.say, 1))
    world.does("A writes", a.flush())
    world.does("A says a word that is lost with it", _said(a.say, 1))
    world.does("A is killed", world.kill(a))
    world.does("the client comes to B", world.connect(world.clients[0], b))
    world.does("all is well again", world.finish())


@freely
def test_a_claim_whose_answer_was_lost_leaves_nobody_waiting(world: World) -> None:
    """Redis names this process as the producer, which knows nothing of it until it reads so."""
    a, b = world.processes
    client = world.meet(native=True)
    world.does("another client reads at B", world.connect(client, b))
    world.does("A is killed", world.kill(a))
    world.does("B will miss an answer", _said(b.lose_next_answer))
    world.does("B looks", b.look())
    world.does("B reads", b.poll())
    world.does("all is well again", world.finish())
    assert client.terminals == ["complete completed"]


@freely
def test_a_claim_whose_answer_was_lost_is_looked_after_where_nobody_reads(world: World) -> None:
    """All who read do so elsewhere, and find that the producer lives."""
    a, b = world.processes
    client = world.clients[0]
    world.does("C starts", world.start())
    c = world.processes[2]
    world.does("the client leaves", world.leave(client))
    world.does("A writes", a.flush())
    world.does("A stands still, and is taken for dead", world.freeze(a, lapse=True))
    world.does("B knows of it", _mirrored(b, world.oracle.sid))
    world.does("B will miss an answer", _said(b.lose_next_answer))
    world.does("B sweeps", b.sweep())
    world.does("B reads", b.poll())
    world.does("A goes on", world.wake(a, 0, writes_first=False))
    world.does("A writes", a.flush())
    world.does("the client comes to C", world.connect(client, c))
    world.does("all is well again", world.finish())
    assert client.terminals == ["complete completed"]


async def _mirrored(process: Process, sid: str) -> None:
    await process.store.look_up(sid)


@exactly
def test_what_was_folded_before_it_was_written_keeps_its_places(world: World) -> None:
    """A mirror that read the beginning cannot count through a piece that stands for several places."""
    a, b = world.processes
    world.does("the client leaves", world.leave(world.clients[0]))
    world.does("the client comes to B", world.connect(world.clients[0], b))
    world.does("A says everything", _said(a.say, 99))
    world.does("A writes", a.flush())
    world.does("B reads", b.poll())
    world.does("all is well again", world.finish())


@exactly
def test_what_ends_in_the_moment_of_waking_is_not_told(world: World) -> None:
    """The last words and the end come at once, before anybody can have asked whose the stream is."""
    a, b = world.processes
    reader = world.meet(native=True)
    world.does("another client reads at B", world.connect(reader, b))
    world.does("A writes", a.flush())
    world.does("A stands still, and is taken for dead", world.freeze(a, lapse=True))
    world.does("B looks", b.look())
    world.does("A goes on, and comes to the end", world.wake(a, 99, writes_first=False))
    world.does("all is well again", world.finish())


@exactly
def test_what_was_taken_over_is_not_begun_again_by_a_sweep(world: World) -> None:
    """It still stands among the streams of the dead until this has been noted."""
    a, b = world.processes
    world.does("A writes", a.flush())
    world.does("A is killed", world.kill(a))
    world.does("the client comes to B", world.connect(world.clients[0], b))
    world.does("B says some", _said(b.say, 4))
    world.does("B sweeps", b.sweep())
    world.does("B says some", _said(b.say, 4))
    world.does("all is well again", world.finish())
    assert max(world.oracle.epochs) == 2


async def _said(call: object, *arguments: int) -> None:
    assert callable(call)
    call(*arguments)
