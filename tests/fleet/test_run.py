"""`python -m fleet`: one command for a whole cluster, which says what runs where and ends with nothing left."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator

import aiohttp
import pytest

from fleet.children import PREFIX, clean_environment, free_port
from fleet.edge import MISSING
from fleet.show import shown
from tests.fleet.test_edge import gone
from tests.house import ROOT, see

needs_nginx = pytest.mark.skipif(MISSING, reason="nginx or openssl is not installed")
READY = "Ctrl-C ends"


@contextlib.asynccontextmanager
async def fleet(*arguments: str, **environment: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, list[str]]]:
    """`python -m fleet` with these arguments, and what it prints until it ends or says that it is ready."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fleet", *arguments),
        cwd=ROOT,
        env={**clean_environment(), **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    lines: list[str] = []
    try:
        async with asyncio.timeout(40):
            while line := (await process.stdout.readline()).decode():
                lines.append(line)
                if READY in line:
                    break
        yield process, lines
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


@needs_nginx
async def test_a_cluster_runs_with_one_command_and_ends_with_nothing_left() -> None:
    """It answers through nginx, with Redis beside it; killed processes come back; Ctrl-C ends all within seconds."""
    port = free_port()
    async with fleet("run", "--port", str(port), "--processes", "2") as (process, lines):
        said = "".join(lines)
        assert f"http://127.0.0.1:{port}" in said
        pids = [int(pid) for pid in re.findall(r"^\w.* pid (\d+)$", said, re.MULTILINE)]
        assert len(pids) == 4, said
        folder = re.search(rf"unix://(/.*/{PREFIX}\w+)/", said)
        assert folder
        async with aiohttp.ClientSession() as session:
            seen = await see(session, "GET", f"http://127.0.0.1:{port}/stream?query=resume&max_tokens=3")
        assert seen.names[-2:] == ["complete", "close"]
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(8):
            assert await process.wait() == 0
    assert all(gone(pid) for pid in pids)
    assert not os.path.exists(folder[1])  # noqa: ASYNC240  # one look


@needs_nginx
async def test_a_wrong_setting_ends_the_command_with_its_message() -> None:
    """With the status that the gateway itself has for it, and not with a start a second."""
    async with fleet("run", "--port", "0", GATEWAY_DELIVERY__HEARTBEAT_S="soon") as (process, lines):
        assert await process.wait() == 78
    assert "GATEWAY_DELIVERY__HEARTBEAT_S" in "".join(lines)


async def test_a_port_that_is_taken_is_said_at_once() -> None:
    """Before anything is started."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        async with fleet("run", "--port", str(port)) as (process, lines):
            assert await process.wait() == 1
    assert f"port {port} is taken" in "".join(lines)
    assert "started" not in "".join(lines)


def test_a_password_of_redis_is_not_printed() -> None:
    """A cluster that uses another Redis says which, and no more."""
    assert shown("redis://user:secret@redis.example:6379/0") == "redis://redis.example:6379/0"
    assert shown("unix:///tmp/redis.sock") == "unix:///tmp/redis.sock"
