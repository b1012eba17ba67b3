"""Asking a process whether it lives: refused means dead, silence means nothing."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from gateway.stores.probe import Probe, Verdict, ask, place
from tests.house import eventually, free_port
from tests.peer import Peer

Run = Callable[[Coroutine[Any, Any, Any]], Any]

ME = "00112233445566aa"
OTHER = "ffeeddccbbaa9988"


@pytest.fixture(params=[asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """The loop of the tests, and that of the service."""
    chosen: Run = request.param
    return chosen


@asynccontextmanager
async def probing(instance: str = ME, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Probe]:
    """A probe of this process."""
    probe = Probe(instance, host, port)
    await probe.start()
    try:
        yield probe
    finally:
        await probe.close()


@asynccontextmanager
async def stranger(*pieces: bytes, hangs_up: bool = True) -> AsyncIterator[str]:
    """The address of something else that says `pieces` to whoever connects."""

    def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        for piece in pieces:
            writer.write(piece)
        if hangs_up:
            writer.close()

    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}@{place()}"
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()


def test_one_that_says_its_id_is_alive(run: Run) -> None:
    """The ordinary case, by IPv4 and IPv6; one that listens everywhere is asked on the loopback."""
    hosts = {"127.0.0.1": "127.0.0.1:", "::1": "[::1]:", "0.0.0.0": "127.0.0.1:", "::": "[::1]:"}

    async def scenario() -> None:
        for host, asked in hosts.items():
            async with probing(host=host) as probe:
                assert probe.address.startswith(asked)
                assert await ask(probe.address, ME) is Verdict.ALIVE, host

    run(scenario())


def test_a_killed_process_is_dead_at_once(run: Run) -> None:
    """kill -9: the kernel refuses for it."""
    with Peer(ME) as peer:
        assert run(ask(peer.address, ME)) is Verdict.ALIVE
        peer.kill()
        begun = time.monotonic()
        assert run(ask(peer.address, ME)) is Verdict.DEAD
        assert time.monotonic() - begun < 0.2


def test_a_frozen_process_is_silent_within_the_limit(run: Run) -> None:
    """SIGSTOP: the kernel takes the connection, nobody speaks; when it goes on, it lives."""
    with Peer(ME) as peer:
        peer.freeze()
        begun = time.monotonic()
        assert run(ask(peer.address, ME, 0.1)) is Verdict.SILENT
        assert 0.09 < time.monotonic() - begun < 0.4
        peer.thaw()
        assert run(ask(peer.address, ME, 5)) is Verdict.ALIVE


def test_a_port_that_another_instance_took_over_is_a_death(run: Run) -> None:
    """Ids are never used again: who says another one is not the one asked for."""
    with Peer(ME, free_port()) as peer:
        peer.kill()
        with Peer(OTHER, peer.port) as heir:
            assert heir.port == peer.port
            assert run(ask(peer.address, ME)) is Verdict.DEAD
            assert run(ask(peer.address, OTHER)) is Verdict.ALIVE


@pytest.mark.parametrize(
    ("pieces", "hangs_up", "verdict"),
    [
        ((), True, Verdict.SILENT),
        ((), False, Verdict.SILENT),
        ((ME.encode()[:7],), True, Verdict.SILENT),
        ((ME.encode()[:7], ME.encode()[7:], b"\n"), False, Verdict.ALIVE),
        ((b"220 mail.example ESMTP\r\n",), False, Verdict.DEAD),
        ((b"x" * 1_000_000,), True, Verdict.DEAD),
    ],
    ids=["hangs up", "says nothing", "half an id", "in pieces", "another service", "no end of it"],
)
def test_what_is_said_decides(run: Run, pieces: tuple[bytes, ...], hangs_up: bool, verdict: Verdict) -> None:
    """No answer proves nothing; another answer proves that the port is another's."""

    async def scenario() -> None:
        async with stranger(*pieces, hangs_up=hangs_up) as address:
            assert await ask(address, ME, 0.2) is verdict

    run(scenario())


@pytest.mark.parametrize(
    "address", ["", "@", "nonsense", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:99999", "localhost:1", ":1@x"]
)
def test_what_is_no_address_is_silent(run: Run, address: str) -> None:
    """Whatever stands in Redis, asking never raises."""
    assert run(ask(address, ME)) is Verdict.SILENT


def test_the_loopback_of_another_machine_is_not_ours(run: Run) -> None:
    """Two hosts with default settings must not take each other for dead because their own loopback refuses."""
    address = f"127.0.0.1:{free_port()}"
    assert run(ask(f"{address}@{place()}", ME)) is Verdict.DEAD
    assert run(ask(f"{address}@another", ME, met=True)) is Verdict.SILENT


def test_a_refusal_from_elsewhere_counts_only_of_one_that_has_answered() -> None:
    """A firewall that rejects would otherwise be the death of every process behind it."""
    # 0.0.0.0 is no loopback by name, but the kernel refuses for it.
    address = f"0.0.0.0:{free_port()}@another"
    assert asyncio.run(ask(address, ME)) is Verdict.SILENT
    assert asyncio.run(ask(address, ME, met=True)) is Verdict.DEAD


def test_asking_leaves_no_sockets(run: Run) -> None:
    """Neither on our side nor on that of the one who is asked, whatever the answer was."""

    def open_sockets() -> int:
        count = 0
        for link in os.listdir("/proc/self/fd"):
            try:
                count += os.readlink(f"/proc/self/fd/{link}").startswith("socket:")
            except OSError:
                continue
        return count

    async def scenario() -> None:
        async with probing() as probe, stranger(hangs_up=False) as silent:
            await ask(probe.address, ME)
            before = open_sockets()
            answers = await asyncio.gather(*(ask(probe.address, ME) for _ in range(50)))
            assert set(answers) == {Verdict.ALIVE}
            await asyncio.gather(*(ask(silent, ME, 0.05) for _ in range(50)))
            # The silent one's own ends are its own.
            await eventually(lambda: open_sockets() <= before + 50)

    run(scenario())
