"""The benchmark's mock model speaks the protocol of the real one, at the pace that it was told."""

import json
import socket
import time
from typing import Any

import pytest

from bench.answer import Answer
from tests.benchmark.parts import upstream


def ask(port: int, **body: Any) -> socket.socket:
    """A connection on which the body was posted."""
    connection = socket.create_connection(("127.0.0.1", port), 10)
    post(connection, **body)
    return connection


def post(connection: socket.socket, **body: Any) -> None:
    """One more request on a connection."""
    payload = json.dumps(body).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(payload)
    connection.sendall(head + payload)


def read(connection: socket.socket) -> tuple[list[Any], list[int]]:
    """The events of a whole answer, and the stamps of its tokens."""
    answer, raw, stamps = Answer(), b"", list[int]()
    while not answer.done:
        data = connection.recv(65536)
        assert data
        raw += data
        stamps += [int(stamp) for stamp in answer.feed(data)]
    lines = [line[6:] for line in raw.split(b"\n") if line.startswith(b"data: ")]
    assert lines.pop() == b"[DONE]"
    return [json.loads(line) for line in lines], stamps


@pytest.mark.parametrize("rate", [500.0, 0.0])
def test_an_answer_is_what_openai_sends(rate: float) -> None:
    """A role, the tokens that were asked for, an ending, the usage where it is wanted, and the end marker."""
    with upstream(rate=rate, ttft_ms=1) as model:
        with ask(model.port, stream=True, max_tokens=5, stream_options={"include_usage": True}) as connection:
            events, stamps = read(connection)
        assert {event["object"] for event in events} == {"chat.completion.chunk"}
        assert len({event["id"] for event in events}) == 1
        assert events[0]["choices"][0]["delta"]["role"] == "assistant"
        contents = [event["choices"][0]["delta"]["content"] for event in events[1:6]]
        assert contents == [f"t{stamp:016} " for stamp in stamps]
        assert events[6]["choices"][0]["finish_reason"] == "stop"
        assert events[7]["usage"]["completion_tokens"] == 5


def test_connections_are_kept_and_a_plain_answer_is_plain() -> None:
    """One request after the other on one connection; usage only where it is asked for."""
    with upstream(rate=0, tokens=3) as model, ask(model.port, stream=True) as connection:
        assert len(read(connection)[0]) == 5
        post(connection, stream=False)
        head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
        assert b"application/json" in head
        assert json.loads(body)["object"] == "chat.completion"
        post(connection, stream=True, max_tokens=1)
        assert len(read(connection)[1]) == 1


def test_tokens_come_no_faster_than_the_rate() -> None:
    """The stamps lie a step apart, after the random moment of the second one."""
    with upstream(rate=100, ttft_ms=20) as model:
        began = time.monotonic_ns()
        with ask(model.port, stream=True, max_tokens=5) as connection:
            _, stamps = read(connection)
    assert stamps[0] - began >= 20e6
    assert stamps == sorted(stamps)
    assert stamps[4] - stamps[1] >= 25e6


def test_a_client_that_hangs_up_is_noticed() -> None:
    """By the stamp of its first token, while it is silent."""
    with upstream(rate=0.1, ttft_ms=1) as model:
        with ask(model.port, stream=True) as connection:
            answer, stamps = Answer(), list[bytes]()
            while not stamps:
                stamps += answer.feed(connection.recv(65536))
        left = time.monotonic_ns()
        while not model.hung_up:
            time.sleep(0.001)
        assert model.hangups.keys() == {int(stamps[0])}
        assert model.hangups[int(stamps[0])] >= left - 1e9


def test_a_client_that_does_not_read_loses_nothing() -> None:
    """What its socket does not take is sent when it does."""
    with upstream(rate=0) as model, ask(model.port, stream=True, max_tokens=50_000) as connection:
        while not model.blocked:
            time.sleep(0.001)
        assert len(read(connection)[1]) == 50_000
