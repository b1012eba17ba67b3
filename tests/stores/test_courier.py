"""Courier: whatever one of those whose questions it carries does wrong, the others hear their answers."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.stores.batch import Batch
from gateway.stores.courier import Courier
from gateway.stores.scripts import Script
from tests.redis_server import RedisServer

LIMIT_S = 2.0


def carried(commands: Redis) -> Courier:
    """What carries questions to this Redis."""
    return Courier(lambda: Batch(commands, 0.5))


def echo(word: str) -> Callable[[Batch], None]:
    """Asks for its own word."""
    return lambda batch: batch.add("ECHO", word)


def half_said(batch: Batch) -> None:
    """Fails when a command and a script of it are in the batch already."""
    batch.add("SET", "half-said", "1")
    batch.run(Script("enroll"), ["half-said-too"], ["x", "1", "0", 1])
    raise ValueError("a word that no command can have")


async def test_who_cannot_say_its_question_is_told_alone(commands: Redis, redis_server: RedisServer) -> None:
    """The others in the same round trip have their own answers, and nothing of it is done by halves."""
    courier = carried(commands)
    questions = (echo("before"), half_said, echo("after"))
    async with asyncio.timeout(LIMIT_S):
        heard = await asyncio.gather(*map(courier.carry, questions), return_exceptions=True)
    assert isinstance(heard[1], ValueError)
    assert [heard[0], heard[2]] == [[b"before"], [b"after"]]
    assert redis_server.command("DBSIZE") == 0


async def test_it_goes_on_after_a_question_that_cannot_be_said(commands: Redis) -> None:
    """Also where nobody else was there: the next one is carried as ever."""
    courier = carried(commands)
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(ValueError, match="no command"):
            await courier.carry(half_said)
        assert await courier.carry(echo("next")) == [b"next"]


async def test_where_there_is_no_batch_all_are_told_and_the_next_is_carried(commands: Redis) -> None:
    """What makes batches may fail as what sends them may."""
    faults: list[Exception] = [RuntimeError("no batch"), RedisConnectionError("away")]

    def batch() -> Batch:
        if faults:
            raise faults.pop(0)
        return Batch(commands, 0.5)

    courier = Courier(batch)
    async with asyncio.timeout(LIMIT_S):
        for fault in (RuntimeError, RedisConnectionError):
            heard: list[Any] = await asyncio.gather(*map(courier.carry, (echo("a"), echo("b"))), return_exceptions=True)
            assert [type(each) for each in heard] == [fault, fault]
        assert await courier.carry(echo("c")) == [b"c"]
