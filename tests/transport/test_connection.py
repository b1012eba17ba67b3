"""One connection to an upstream: whose bytes are whose, when it is used again, and what its listener hears."""

from collections.abc import Iterator

import pytest

from gateway.transport.connection import HEAD_MAX_BYTES, TRAILER_MAX_BYTES, TRAILER_S
from tests.transport.line import Heard, Line, chunks, head, sized

CHUNKED = chunks(b"Hello", b" world")


@pytest.fixture
def line() -> Iterator[Line]:
    """A fresh one."""
    with Line() as line:
        yield line


def heard_whole(heard: Heard, body: bytes) -> bool:
    """Whether an answer was told with this body and nothing else."""
    return heard.names in (["began", "body", "ended"], ["began", "ended"]) and heard.whole == body


@pytest.mark.parametrize(
    "answer",
    [
        CHUNKED,
        sized(b"Hello world"),
        sized(b"Hello world", "X-A: 1", "x-b:2  "),
        chunks(b"Hello world", trailers=["X-Late: 1"]),
        head("Link: </x>", status="HTTP/1.1 103 Early Hints") + CHUNKED,
        head("Connection: keep-alive", "Content-Length: 11", status="HTTP/1.0 200 OK") + b"Hello world",
        b"HTTP/1.1 200\r\nTransfer-Encoding: Chunked\r\n\r\nb;extension=1\r\nHello world\r\n0\r\n\r\n",
    ],
    ids=["chunked", "sized", "headers", "trailers", "interim", "1.0 kept alive", "extension"],
)
def test_however_an_answer_is_cut_it_is_the_same(answer: bytes) -> None:
    """At each place, and byte by byte; and the connection can be used again, and only once."""
    told = []
    for pieces in [(answer[:cut], answer[cut:]) for cut in range(1, len(answer))] + [
        tuple(answer[at : at + 1] for at in range(len(answer))),
        (answer,),
    ]:
        with Line() as line:
            heard = line.ask()
            line.says(*pieces)
            assert heard_whole(heard, b"Hello world")
            assert line.released == [line.connection]
            assert line.connection.usable
            told.append(heard.calls)
    assert all(calls == told[0] for calls in told)


def test_the_question_is_sent_as_it_is_and_the_head_told(line: Line) -> None:
    """Names in small letters, of a repeated header the last, the status as it came."""
    heard = line.ask(b"POST / HTTP/1.1\r\n\r\n")
    line.says(head("A: 1", "a: 2", "CONTENT-length: 0", status="HTTP/1.1 429 No"))
    assert line.transport.written == b"POST / HTTP/1.1\r\n\r\n"
    assert heard.calls == [("began", 429, {b"a": b"2", b"content-length": b"0"}), ("ended",)]


def test_each_read_that_brings_something_is_rested_once(line: Line) -> None:
    """So that what came together is poured together."""
    heard = line.ask()
    line.says(head("Content-Length: 9"), b"abc", b"def")
    assert heard.rests == 2
    line.says(b"ghi")
    assert heard.names == ["began", "body", "ended"]


def test_interim_answers_are_passed_over(line: Line) -> None:
    """However many, and nothing of their heads is taken for the answer's."""
    heard = line.ask()
    line.says(head(status="HTTP/1.1 100 Continue"), head("X: 1", status="HTTP/1.1 103 Early Hints") * 3)
    assert heard.calls == []
    assert not line.connection.usable
    line.says(sized(b"ok"))
    assert heard.calls == [("began", 200, {b"content-length": b"2"}), ("body", b"ok"), ("ended",)]


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"HTTP/1.1 999999 No\r\n\r\n",
        head("Content-Length: 5", "Transfer-Encoding: chunked"),
        head("Content-Length: 5", "Content-Length: 6"),
        head("Content-Length: five"),
        head("no colon"),
        head("Upgrade: h2c", "Connection: Upgrade", status="HTTP/1.1 101 Switching Protocols"),
        head(status="HTTP/1.1 101 Switching Protocols") + b"more",
        head("Transfer-Encoding: chunked") + b"five\r\n",
    ],
    ids=["no HTTP", "status", "two framings", "two lengths", "length", "header", "upgrade", "101", "chunk"],
)
def test_what_is_no_answer_is_told_at_once_and_never_used_again(line: Line, said: bytes) -> None:
    """UPSTREAM_PROTOCOL, once, and the connection is closed."""
    heard = line.ask()
    line.says(said)
    assert heard.calls[-1] == ("failed", "UPSTREAM_PROTOCOL")
    line.says(b"more")
    assert heard.names.count("failed") == 1
    assert line.transport.is_closing()
    assert line.released == [line.connection]


def test_a_head_may_not_go_on_for_ever(line: Line) -> None:
    """One header without end, or interim answers without end."""
    heard = line.ask()
    line.says(head()[:-2] + b"X: ", *[b"x" * 4096] * (HEAD_MAX_BYTES // 4096 - 1))
    assert heard.calls == []
    line.says(b"x" * 4096)
    assert heard.calls == [("failed", "UPSTREAM_PROTOCOL")]
    with Line() as other:
        heard = other.ask()
        other.says(*[head(status="HTTP/1.1 103 Early Hints") * 40] * (HEAD_MAX_BYTES // 1000))
        assert heard.calls == [("failed", "UPSTREAM_PROTOCOL")]
        assert other.transport.is_closing()


def test_a_long_body_is_no_long_head(line: Line) -> None:
    """What is bounded is the head."""
    heard = line.ask()
    line.says(head("Transfer-Encoding: chunked"), *[b"1000\r\n" + b"x" * 4096 + b"\r\n"] * 40)
    assert len(heard.whole) == 40 * 4096
    assert heard.names == ["began", "body"]


# Used again, or not.


def test_a_connection_is_used_again_and_keeps_nothing(line: Line) -> None:
    """Neither headers nor trailers of one answer are taken for the next one's."""
    first = line.ask()
    line.says(chunks(b"one", trailers=["Content-Type: text/html", "Retry-After: 9"]))
    second = line.ask()
    line.says(sized(b"two"))
    assert heard_whole(first, b"one")
    assert second.calls == [("began", 200, {b"content-length": b"3"}), ("body", b"two"), ("ended",)]
    assert line.released == [line.connection] * 2


@pytest.mark.parametrize(
    "answer",
    [
        sized(b"Hello", "Connection: close"),
        head("Content-Length: 5", status="HTTP/1.0 200 OK") + b"Hello",
    ],
    ids=["Connection: close", "HTTP/1.0"],
)
def test_a_connection_that_is_to_be_closed_is_closed(line: Line, answer: bytes) -> None:
    """At once, without waiting for the upstream to do it; its question is over when it is lost."""
    heard = line.ask()
    line.says(answer)
    assert heard_whole(heard, b"Hello")
    assert line.transport.is_closing()
    assert not line.connection.usable
    assert line.released == [line.connection]


def test_a_question_that_was_answered_unread_is_not_followed_by_another(line: Line) -> None:
    """The upstream may never read the rest of it: the next question would wait behind it for ever."""
    heard = line.ask()
    line.transport.unread = 1
    line.says(sized(b"too large"))
    assert heard_whole(heard, b"too large")
    assert line.transport.is_closing()
    assert line.released == [line.connection]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_body_may_go_on_until_the_connection_ends(line: Line, version: str) -> None:
    """Then its end is the answer's; nothing else would be."""
    heard = line.ask()
    line.says(head(status=f"HTTP/{version} 200 OK"), b"Hello", b" world")
    assert heard.names == ["began", "body"]
    line.hangs_up()
    assert heard_whole(heard, b"Hello world")
    assert line.released == [line.connection]


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_an_answer_without_a_body_ends_with_its_head(line: Line, status: str) -> None:
    """And the connection can be used again."""
    heard = line.ask()
    line.says(head(status=f"HTTP/1.1 {status}"))
    assert heard.names == ["began", "ended"]
    assert line.connection.usable


# Lost.


@pytest.mark.parametrize("error", [None, ConnectionResetError()], ids=["FIN", "RST"])
@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"", "UPSTREAM_UNAVAILABLE"),
        (b"HTTP/1.1 200 OK\r\nContent-", "UPSTREAM_UNAVAILABLE"),
        (head(status="HTTP/1.1 100 Continue"), "UPSTREAM_UNAVAILABLE"),
        (head("Content-Length: 9"), "UPSTREAM_TRUNCATED"),
        (head("Content-Length: 9") + b"Hello", "UPSTREAM_TRUNCATED"),
        (CHUNKED[:-2], "UPSTREAM_TRUNCATED"),
    ],
    ids=["nothing", "half a head", "interim", "head", "half a body", "chunks without an end"],
)
def test_a_connection_that_is_lost_too_early_is_no_answer(
    line: Line, said: bytes, code: str, error: Exception | None
) -> None:
    """Before the head it was not there; after it the answer is cut. Told once, and the question is over."""
    heard = line.ask()
    line.says(said) if said else None
    line.hangs_up(error)
    assert heard.calls[-1] == ("failed", code)
    assert set(heard.names[:-1]) <= {"began", "body"}
    assert line.released == [line.connection]
    assert not line.connection.usable


def test_a_body_until_close_that_is_reset_is_cut(line: Line) -> None:
    """Only an orderly end says that it is whole."""
    heard = line.ask()
    line.says(head(), b"Hello")
    line.hangs_up(ConnectionResetError())
    assert heard.calls[-1] == ("failed", "UPSTREAM_TRUNCATED")


def test_what_arrived_before_the_end_is_told_before_it(line: Line) -> None:
    """Though both were noticed in the same turn."""
    heard = line.ask()
    line.reads(head(), b"Hello")
    line.hangs_up()
    assert heard_whole(heard, b"Hello")


def test_a_connection_lost_after_its_answer_troubles_nobody(line: Line) -> None:
    """It is released once, and cannot be used."""
    heard = line.ask()
    line.says(CHUNKED)
    line.hangs_up(ConnectionResetError())
    assert heard_whole(heard, b"Hello world")
    assert line.released == [line.connection]
    assert not line.connection.usable


# Whose bytes are whose.


@pytest.mark.parametrize("second", [sized(b"evil"), b"HTTP/1.1 200 OK\r\nX-Evil: 1\r\n", b"H", b"evil"])
@pytest.mark.parametrize("apart", [False, True], ids=["one read", "two reads"])
def test_what_comes_behind_an_answer_never_reaches_the_next_question(line: Line, second: bytes, apart: bool) -> None:
    """Nor the listener of the first: a connection that says more than it was asked is closed."""
    heard = line.ask()
    if apart:
        line.reads(CHUNKED, second)
    else:
        line.reads(CHUNKED + second)
    line.loop.turn()
    assert heard_whole(heard, b"Hello world")
    assert line.transport.is_closing()
    assert not line.connection.usable
    assert line.released == [line.connection]


def test_bytes_on_an_idle_connection_close_it(line: Line) -> None:
    """Fresh from the dialler, or used before."""
    line.says(b"220 mail.example ESMTP\r\n")
    assert line.transport.is_closing()
    with Line() as other:
        other.ask()
        other.says(CHUNKED)
        assert other.connection.usable
        other.says(head(status="HTTP/1.1 408 Request Timeout"))
        assert other.transport.is_closing()
        assert other.released == [other.connection]


def test_a_connection_is_not_usable_once_something_was_read(line: Line) -> None:
    """An upstream's 408 to an idle connection must not become the answer to what is asked in the same turn."""
    line.ask()
    line.says(CHUNKED)
    line.reads(sized(b"", "Connection: close"))
    assert not line.connection.usable
    line.loop.turn()
    assert line.transport.is_closing()


# Left.


def test_who_leaves_early_closes(line: Line) -> None:
    """The upstream shall know at once, and nothing more is heard."""
    heard = line.ask()
    line.says(head("Transfer-Encoding: chunked"), b"5\r\nHello\r\n")
    line.connection.leave(heard, at_end=False)
    assert line.transport.is_closing()
    line.says(b"5\r\nworld\r\n0\r\n\r\n")
    assert heard.whole == b"Hello"
    assert heard.names == ["began", "body"]
    assert line.released == [line.connection]


def test_who_leaves_at_the_end_lets_it_come(line: Line) -> None:
    """Then the connection is used again, and no timer is left that could close it under the next question."""
    heard = line.ask()
    line.says(CHUNKED[:-5])
    line.leave(heard, at_end=True)
    assert (line.connection.usable, line.released) == (False, [])
    line.says(CHUNKED[-5:])
    assert line.connection.usable
    assert line.released == [line.connection]
    assert heard.names == ["began", "body"]
    second = line.ask()
    line.loop.advance(10 * TRAILER_S)
    line.says(sized(b"again"))
    assert heard_whole(second, b"again")


def test_the_end_is_waited_for_in_bounded_time(line: Line) -> None:
    """What does not come in a moment is not worth a connection."""
    heard = line.ask()
    line.says(CHUNKED[:-5])
    line.leave(heard, at_end=True)
    line.loop.advance(TRAILER_S * 0.9)
    assert not line.transport.is_closing()
    line.loop.advance(TRAILER_S * 0.2)
    assert line.transport.is_closing()
    assert line.released == [line.connection]


def test_the_end_is_waited_for_in_bounded_size(line: Line) -> None:
    """An error page of any length is not read to its end; how long its head was does not count."""
    heard = line.ask()
    line.says(
        head()[:-2], b"X: ", b"x" * TRAILER_MAX_BYTES, b"\r\n", f"Content-Length: {10 * TRAILER_MAX_BYTES}".encode()
    )
    line.says(b"\r\n\r\n")
    line.leave(heard, at_end=True)
    line.says(b"x" * TRAILER_MAX_BYTES)
    assert not line.transport.is_closing()
    line.says(b"x")
    assert line.transport.is_closing()
    assert line.released == [line.connection]
    assert "failed" not in heard.names


def test_who_left_does_not_hear_of_the_loss(line: Line) -> None:
    """Nor of anything else."""
    heard = line.ask()
    line.says(CHUNKED[:-5])
    line.leave(heard, at_end=True)
    line.hangs_up(ConnectionResetError())
    assert heard.names == ["began", "body"]
    assert line.released == [line.connection]


@pytest.mark.parametrize("at_end", [True, False])
def test_leaving_an_answer_that_is_over_does_nothing_to_the_next_question(line: Line, at_end: bool) -> None:
    """The connection may be another's by then."""
    first = line.ask()
    line.says(CHUNKED)
    line.leave(first, at_end=at_end)
    second = line.ask()
    line.leave(first, at_end=at_end)
    line.loop.advance(10 * TRAILER_S)
    line.says(sized(b"two"))
    assert heard_whole(second, b"two")


@pytest.mark.parametrize("at_end", [True, False])
def test_leaving_a_lost_connection_does_nothing(line: Line, at_end: bool) -> None:
    """It is over already."""
    heard = line.ask()
    line.hangs_up()
    line.leave(heard, at_end=at_end)
    line.connection.drop()
    assert heard.names == ["failed"]
    assert line.released == [line.connection]
