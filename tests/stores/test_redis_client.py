"""The clients of Redis: they fail fast, repeat nothing, and never give one caller another one's answer."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.stores.batch import Batch
from gateway.stores.redis_client import CONNECTIONS, Clients, away, check_policy, connect
from tests.redis_server import RedisServer
from tests.stores.shared import clients_of

TENANTS = ("acme", "globex")


@pytest.fixture
async def clients(redis_server: RedisServer) -> AsyncIterator[Clients]:
    """Clients of an empty Redis."""
    async with clients_of(redis_server) as clients:
        yield clients


Answers = list[Any]


async def _single(commands: Redis, tenant: str) -> Answers:
    return [await commands.get(tenant)]


async def _batch(commands: Redis, tenant: str) -> Answers:
    batch = Batch(commands, 1.0)
    for _ in range(3):
        batch.add("GET", tenant)
    return await batch.send()


async def _pipeline(commands: Redis, tenant: str) -> Answers:
    async with commands.pipeline(transaction=True) as pipe:
        pipe.get(tenant)
        pipe.get(tenant)
        return list(await pipe.execute())


Ask = Callable[[Redis, str], Awaitable[Answers]]


@pytest.mark.parametrize("ask", [_single, _batch, _pipeline], ids=["command", "batch", "transaction"])
async def test_a_thousand_cancelled_commands_give_nobody_a_foreign_answer(clients: Clients, ask: Ask) -> None:
    """Redis pauses, two tenants give up in the middle, and whoever asks next on their connections gets his own answer.

    The pool is as it was: as many can ask at once as ever.
    """
    for tenant in TENANTS:
        await clients.commands.set(tenant, f"secret of {tenant}")
    answers: list[tuple[str, bytes]] = []

    async def read(tenant: str) -> None:
        answers.extend((tenant, value) for value in await ask(clients.commands, tenant))

    for turn in range(50):
        await clients.commands.client_pause(15)
        tasks = [asyncio.ensure_future(read(TENANTS[n % 2])) for n in range(20)]
        for _ in range(turn % 7):
            await asyncio.sleep(0)
        await asyncio.sleep(0.001 * (turn % 5))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(read(TENANTS[n % 2]) for n in range(4)))
    assert len(answers) >= 200
    assert all(value == f"secret of {tenant}".encode() for tenant, value in answers)
    pool: Any = clients.commands.connection_pool
    held = [await pool.get_connection() for _ in range(CONNECTIONS)]
    for connection in held:
        await pool.release(connection)


async def test_a_frozen_redis_is_given_up_in_time() -> None:
    """Whatever is asked, and however: nothing waits longer than a command may take, nothing is asked twice."""
    with RedisServer() as server:
        async with clients_of(server, 0.2) as clients:
            await clients.commands.ping()
            server.freeze()
            for ask in (_single, _batch, _pipeline):
                began = time.monotonic()
                with pytest.raises((RedisTimeoutError, RedisConnectionError)) as caught:
                    await ask(clients.commands, "x")
                assert time.monotonic() - began < 0.6
                assert away(caught.value)
            server.thaw()
            assert await _single(clients.commands, "x") == [None]


async def test_a_dead_redis_fails_at_once_and_is_found_again() -> None:
    """Over TCP too; connections that died with it are not used again."""
    with RedisServer(tcp=True) as server:
        async with clients_of(server, 0.5) as clients:
            await clients.commands.set("x", "1")
            server.kill()
            for ask in (_single, _batch, _pipeline):
                began = time.monotonic()
                with pytest.raises(RedisError) as caught:
                    await ask(clients.commands, "x")
                assert time.monotonic() - began < 0.3
                assert away(caught.value)
            server.start()
            assert await _batch(clients.commands, "x") == [b"1"] * 3


async def test_waiting_for_news_has_no_limit_and_a_connection_of_its_own(redis_server: RedisServer) -> None:
    """Commands go on meanwhile, also when each may take less than the wait."""
    async with clients_of(redis_server, 0.1) as clients:
        waiting = asyncio.ensure_future(clients.blocking.xread({"log": "0-0"}, block=0))
        await asyncio.sleep(0.25)
        assert not waiting.done()
        await clients.commands.xadd("log", {"f": "1"}, id="1-1")
        assert await waiting


async def test_more_callers_than_connections_wait_for_one(clients: Clients) -> None:
    """Instead of an error, as long as it is their turn in time."""
    answers = await asyncio.gather(*(_batch(clients.commands, "nothing") for _ in range(10 * CONNECTIONS)))
    assert answers == [[None] * 3] * 10 * CONNECTIONS


async def test_a_refused_command_stands_among_the_answers(clients: Clients) -> None:
    """The others are done, in order; the connection is as good as before."""
    batch = Batch(clients.commands, 1.0)
    batch.add("SET", "x", "no number")
    batch.add("INCR", "x")
    batch.add("GET", "x")
    answers = await batch.send()
    assert isinstance(answers[1], ResponseError)
    assert not away(answers[1])
    assert (answers[0], answers[2]) == (b"OK", b"no number")
    assert await Batch(clients.commands, 1.0).send() == []


@pytest.mark.parametrize(
    "set_up",
    [
        ("CONFIG", "SET", "maxmemory", "1"),
        ("REPLICAOF", "127.0.0.1", "1"),
    ],
    ids=["full", "read-only"],
)
async def test_a_redis_that_takes_no_writes_is_away(set_up: tuple[str, ...]) -> None:
    """It will take them again; that is not our mistake."""
    with RedisServer() as server:
        async with clients_of(server) as clients:
            server.command(*set_up)
            with pytest.raises(ResponseError) as caught:
                await clients.commands.set("x", "y")
            assert away(caught.value)


async def test_a_redis_with_too_many_clients_is_away() -> None:
    """Known at once, without attempts in the background."""
    with RedisServer() as server:
        server.command("CONFIG", "SET", "maxclients", "1")
        async with clients_of(server) as clients:
            began = time.monotonic()
            with pytest.raises(RedisError) as caught:
                await clients.commands.get("x")
            assert away(caught.value)
            assert time.monotonic() - began < 0.5


@pytest.mark.parametrize(
    "error",
    [
        ResponseError("LOADING Redis is loading the dataset in memory"),
        ResponseError("MISCONF Errors writing to the AOF file"),
        ResponseError("READONLY You can't write against a read only replica. script: 1f, on @user_script:5."),
        OSError(111, "refused"),
        TimeoutError(),
    ],
    ids=str,
)
def test_what_passes_by_itself_is_away(error: Exception) -> None:
    """As Redis and the kernel say it."""
    assert away(error)


def test_mistakes_are_not_away() -> None:
    """Ours would not pass by waiting."""
    assert not away(ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"))
    assert not away(ResponseError("ERR syntax error"))
    assert not away(ValueError("LOADING"))


@pytest.mark.parametrize(
    ("policy", "warned"), [("noeviction", False), ("allkeys-lru", True), ("volatile-ttl", True), ("volatile-lru", True)]
)
async def test_a_policy_that_eats_logs_is_warned_of(policy: str, warned: bool) -> None:
    """Logs have a time to live, so that the volatile ones eat them too."""
    with RedisServer(maxmemory="100mb") as server:
        server.command("CONFIG", "SET", "maxmemory-policy", policy)
        async with clients_of(server) as clients:
            said = await check_policy(clients.commands)
    assert (policy in said) is warned
    assert bool(said) is warned


async def test_nothing_is_said_where_nobody_may_ask() -> None:
    """Hosted ones forbid `CONFIG`."""
    with RedisServer() as server:
        server.command("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        server.command("ACL", "SETUSER", "default", "-config")
        async with clients_of(server) as clients:
            assert await check_policy(clients.commands) == ""


async def test_a_url_cannot_switch_verification_or_limits_off() -> None:
    """Neither the certificate's, nor its name's, nor what keeps commands from being repeated."""
    url = "rediss://:secret@localhost:1/3?ssl_cert_reqs=none&ssl_check_hostname=False&socket_timeout=60&retry_on_timeout=yes"
    clients = connect(url, 0.2)
    for client, limit in ((clients.commands, 0.2), (clients.blocking, None)):
        pool: Any = client.connection_pool
        connection = pool.make_connection()
        context = connection.ssl_context.get()
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert connection.socket_timeout == limit
        assert connection.retry.get_retries() == 0
        assert connection.db == 3
    await clients.aclose()
