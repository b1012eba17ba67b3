"""A client that is gone without a word is noticed, and its stream is not paid for any longer."""

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.feed import feed, question
from tests.house import eventually, gateway_process
from tests.load import all_closed, ask, mute, post
from tests.scale.edges import Shared, shared
from tests.scale.figures import becomes, samples, until
from tests.scale.wire import Wire, why_not
from tests.tenancy import ACME_KEY, write

WHY_NOT = why_not()
USER_TIMEOUT_S = 2.0


def asked(rate: float, tokens: int = 100_000, size: int = 6, **headers: str) -> bytes:
    """A stream that ends with its reader."""
    return post("/stream", {"query": question(tokens, rate, size), "on_disconnect": "cancel"}, **headers)


@pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
async def test_a_peer_that_vanished_is_given_up_after_the_user_timeout(tmp_path: Path) -> None:
    """No FIN and no RST ever comes; tokens remain unacknowledged; the upstream is closed with the connection."""
    async with feed() as service:
        settings = {"OPENAI_BASE_URL": service.url, "GATEWAY_SERVER__USER_TIMEOUT_S": str(USER_TIMEOUT_S)}
        # It listens where others can reach it, so it must know who may ask.
        settings["GATEWAY_TENANTS__FILE"] = str(write(tmp_path))
        with Wire() as wire, gateway_process("--host", wire.here, port=None, **settings) as process:
            with all_closed([wire.connect(process.port)]) as (client,):
                client.sendall(asked(20, Authorization=f"Bearer {ACME_KEY}"))
                await eventually(lambda: service.answering == 1)
                assert b"200 OK" in client.recv(4096)
                wire.cut()
                cut = time.monotonic()
                await eventually(lambda: service.answering == 0, 20)
                took = time.monotonic() - cut
            print(f"vanished: noticed after {took:.1f} s with a user timeout of {USER_TIMEOUT_S:.0f} s")
            # Linux looks at it when it sends again, so up to one retransmission later.
            assert took <= USER_TIMEOUT_S + 2.5
            assert took >= USER_TIMEOUT_S - 0.5


@pytest.fixture(scope="module")
def patient() -> Iterator[Shared]:
    """A gateway for which the kernel does not find those who are gone; it has nothing to complain of in the end."""
    times = {"GATEWAY_DELIVERY__WRITE_DEADLINE_S": "1", "GATEWAY_SERVER__USER_TIMEOUT_S": "60"}
    with shared(GATEWAY_LOGS__LEVEL="warning", **times) as gateway:
        yield gateway
    assert gateway.process.stderr == b""


async def test_a_half_closed_client_that_takes_nothing_is_cut_at_the_write_deadline(patient: Shared) -> None:
    """It has said that it asks nothing more, and still has to take what was sent."""
    async with feed(patient.feed_port) as service:
        with all_closed([mute(patient.address, asked(1000, size=200)) for _ in range(5)]) as clients:
            await eventually(lambda: service.answering == 5)
            await asyncio.sleep(0.5)  # until the buffers are full
            for client in clients:
                client.shutdown(socket.SHUT_WR)
            half = time.monotonic()
            await eventually(lambda: service.answering == 0, 20)
            assert time.monotonic() - half < 1.25 + 1
            await becomes(patient.address, ssegw_connections_open=1, ssegw_streams_active=0)


async def test_leaving_is_noticed_at_once(patient: Shared) -> None:
    """FIN, RST and half-close of clients that read, also while nothing is sent: the upstream is closed at once."""
    gone, took = "ssegw_stream_outcomes_total{outcome=caller_disconnect}", []
    silent = post("/stream", {"query": question(3, hang=True), "on_disconnect": "cancel"})
    async with feed(patient.feed_port) as service:
        before = await samples(patient.address)
        for number in range(12):
            client = await ask(patient.address, silent if number % 2 else asked(100))
            await client.reads(2)
            await eventually(lambda: service.answering == 1)
            assert client.transport is not None
            left = time.monotonic()
            (client.close, client.reset, client.transport.write_eof)[number % 3]()
            await eventually(lambda: service.answering == 0)
            took.append(time.monotonic() - left)
            client.close()
        print(f"leaving: upstream closed after {sorted(took)[6] * 1e3:.0f} ms (median)")
        assert max(took) < 1
        found = await until(patient.address, lambda found: found["ssegw_connections_open"] == 1)
    assert found[gone] - before.get(gone, 0) == 12
