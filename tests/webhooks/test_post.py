"""One attempt over real sockets: what each answer means, and that no receiver can hold or flood us."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from gateway.transport.guard import networks_of
from gateway.webhooks.post import RESULTS, HttpPost, Reply, judged, seconds_of
from tests.house import free_port
from tests.receiver import LOOPBACK, Receiver
from tests.upstream import Step, Upstream

NETWORKS = networks_of([LOOPBACK])
HEADERS = {"webhook-id": "m"}


@pytest.mark.parametrize(
    ("status", "result"),
    [
        *((status, "ok") for status in (200, 201, 202, 204, 299)),
        *((status, "redirected") for status in (300, 301, 302, 303, 304, 307, 308)),
        *((status, "refused") for status in (400, 401, 403, 404, 405, 409, 411, 413, 422, 451)),
        *((status, "busy") for status in (408, 429)),
        *((status, "failing") for status in (500, 502, 503, 504, 599, 600, 101)),
        (410, "gone"),
    ],
)
def test_what_each_status_means(status: int, result: str) -> None:
    """A closed set of results."""
    assert judged(status, "").result == result
    assert result in RESULTS


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_receiver_may_say_when_to_come_back(status: int) -> None:
    """In seconds or as a date."""
    assert judged(status, "7") == Reply(judged(status, "").result, 7.0)


@pytest.mark.parametrize("value", ["", "-5", "soon", "1e9", "٣", "1.5", "Mon, 99 Foo 2026", "nan"])
def test_a_retry_after_that_is_none_is_not_heeded(value: str) -> None:
    """Nor does it break anything."""
    assert seconds_of(value) == 0


def test_a_retry_after_may_be_a_date() -> None:
    """One in the past asks for nothing; a number of any length is one."""
    now = datetime.now(UTC)
    assert 80 < seconds_of(format_datetime(now + timedelta(seconds=90), usegmt=True)) <= 90
    assert seconds_of(format_datetime(now - timedelta(seconds=90), usegmt=True)) == 0
    assert seconds_of("9" * 400) > 1e6


async def attempt(url: str, *, timeout_s: float = 5.0, body: bytes = b"{}") -> Reply:
    """One, by a client of its own."""
    post = HttpPost(NETWORKS, timeout_s=timeout_s)
    try:
        return await post(url, body, HEADERS)
    finally:
        await post.close()


async def test_a_message_arrives_as_it_is() -> None:
    """Body and headers; one connection serves several."""
    async with Receiver() as receiver:
        post = HttpPost(NETWORKS, timeout_s=5)
        for _ in range(3):
            assert await post(receiver.url, b'{"a": 1}', HEADERS) == Reply("ok")
        await post.close()
    delivery = receiver.got[0]
    assert (delivery.path, delivery.body) == ("/hook", b'{"a": 1}')
    assert delivery.headers["webhook-id"] == "m"
    assert delivery.headers["user-agent"] == "sse-gateway"
    assert "cookie" not in delivery.headers


async def test_a_receiver_that_hangs_is_left_after_the_time_it_has() -> None:
    """However it hangs: before its answer, or in the head of it."""
    scripts: list[list[Step]] = [["hang"], [b"HTTP/1.1 200 OK\r\nX-", "hang"]]
    for script in scripts:
        async with Upstream(script) as receiver:
            began = time.monotonic()
            assert await attempt(receiver.url, timeout_s=0.2) == Reply("timeout")
            assert time.monotonic() - began < 2


async def test_the_body_of_an_answer_is_not_read() -> None:
    """One without end is as good as none."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n"
    async with Upstream([head, *[b"x" * 65536] * 100, "hang"]) as receiver:
        began = time.monotonic()
        assert await attempt(receiver.url, timeout_s=2) == Reply("ok")
        assert time.monotonic() - began < 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
        b"SMTP ready\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"",
    ],
    ids=["large head", "no HTTP", "no status", "nothing"],
)
async def test_an_answer_that_is_none_is_a_failure(answer: bytes) -> None:
    """Never an exception."""
    async with Upstream([answer, "fin"]) as receiver:
        assert await attempt(receiver.url) == Reply("unreachable")


async def test_nobody_there_is_a_failure() -> None:
    """A port on which nobody listens."""
    assert await attempt(f"http://127.0.0.1:{free_port()}/") == Reply("unreachable")


async def test_a_certificate_that_is_not_good_is_a_failure_of_its_own() -> None:
    """Here: there is none, because the receiver speaks no TLS."""
    async with Receiver() as receiver:
        assert await attempt(receiver.url.replace("http:", "https:")) == Reply("tls")
    assert receiver.got == []
