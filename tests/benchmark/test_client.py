"""The load client finds every token in whatever arrives, and counts every ending as what it is."""

import pytest

from bench.answer import Answer, BadAnswerError
from bench.client import Client
from bench.drive import Watch, figures, run
from bench.load import Load, Order, Request
from bench.loop import Loop
from bench.spawning import free_port
from bench.upstream import Upstream
from tests.benchmark.parts import END, HEAD, Script, chunk, scripted, token


def driven(port: int, **load: object) -> dict[str, object]:
    """The figures of a load on that port."""
    wanted: dict[str, object] = {"streams": 1, "tokens": 2, "once": True, "end_s": 10, **load}
    return run(Order(Load(**wanted), free_port(), [port], []))  # type: ignore[arg-type]


def ends(*scripts: Script, **load: object) -> dict[str, int]:
    """How the streams ended that were answered with these scripts."""
    with scripted(*scripts) as port:
        told = driven(port, streams=len(scripts), **load)["ends"]
    assert isinstance(told, dict)
    return told


def test_every_token_is_found_in_any_cut() -> None:
    """Pieces of every length, in chunks that split the stamps too."""
    first, second = b"t0000000000000001 ", b"t0000000000000002 "
    body = b"data: {tt1 t12 " + first + b"}\n\ndata: " + second + b"t"
    for size in range(1, len(body)):
        chunks = b"".join(chunk(body[at : at + size]) for at in range(0, len(body), size))
        whole = HEAD + chunks + END
        for cut in (1, 7, len(whole)):
            answer, found = Answer(), list[bytes]()
            for at in range(0, len(whole), cut):
                found += answer.feed(whole[at : at + cut])
            assert found == [first[1:-1], second[1:-1]]
            assert answer.done


def test_a_piece_of_one_token_is_told_apart() -> None:
    """Only one whole chunk with one whole stamp says where the next one's stamp will be."""
    answer = Answer()
    answer.feed(HEAD)
    assert not answer.place
    piece = chunk(b"data: t0000000000000001 \n\n")
    answer.feed(piece)
    assert piece[answer.place : answer.place + 2] == b"t0"
    for other in (piece + piece, piece[:9], piece[9:], chunk(b": hb\n")):
        answer.feed(other)
        assert not answer.place
    answer.feed(piece)
    assert answer.place


def test_a_bad_answer_is_no_answer() -> None:
    """Another status, no size of a chunk, no end of a head."""
    for data in (b"HTTP/1.1 503 No\r\n\r\nsorry", HEAD + b"zz\r\n", b"x" * 70_000):
        with pytest.raises(BadAnswerError):
            Answer().feed(data)


def test_a_length_or_the_connection_may_end_a_body() -> None:
    """Not every server sends chunks."""
    measured = Answer()
    measured.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 18\r\nConnection: close\r\n\r\n")
    assert len(measured.feed(b"t0000000000000001 ")) == 1
    assert measured.done
    assert not measured.keep
    endless = Answer()
    endless.feed(b"HTTP/1.1 200 OK\r\n\r\nt0000000000000001 ")
    assert endless.closed()
    assert not Answer().closed()


def test_endings_are_counted_as_what_they_are() -> None:
    """Whole, short, refused with a status, broken off."""
    assert ends([HEAD, token(), token(), END]) == {"completed": 1}
    assert ends([HEAD, token(), END]) == {"short": 1}
    assert ends([b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"]) == {"failed_http": 1}
    assert ends([HEAD, token()]) == {"failed_broken": 1}
    assert driven(free_port())["ends"] == {"failed_connect": 1}


def test_latency_is_the_time_since_the_stamp() -> None:
    """Tokens that were sent a while ago are at least so late; the first one counts for the first token's time."""
    with scripted([0.05, HEAD, token(300), token(400), END]) as port:
        told = driven(port)
    latency, ttft = told["latency_ms"], told["ttft_ms"]
    assert isinstance(latency, dict)
    assert isinstance(ttft, dict)
    assert latency["n"] == told["tokens"] == 2
    assert latency["p50"] >= 300
    assert 400 <= latency["max"] < 10_000
    assert ttft["p50"] >= 50


def test_the_first_event_of_the_native_dialect_is_timed() -> None:
    """Where there is one."""
    greeting = chunk(b'event: connected\ndata: {"stream_id":"a"}\n\n')
    with scripted([HEAD, 0.02, greeting, token(), token(), END]) as port:
        connected = driven(port)["connected_ms"]
    assert isinstance(connected, dict)
    assert connected["n"] == 1
    assert connected["p50"] >= 20


def test_a_connection_is_kept_and_opened_again_when_the_server_has_closed_it() -> None:
    """The second request goes out on the first connection, is not heard there, and is asked again."""
    whole: Script = [HEAD, token(), token(), END]
    with scripted(whole, whole, [HEAD]) as port:
        told = driven(port, once=False, reuse=True, end_s=1.5)["ends"]
    assert isinstance(told, dict)
    assert told["completed"] == 2


def test_the_load_is_what_was_ordered() -> None:
    """Both sides in one loop without anything between them: streams are replaced, all tokens arrive, some hang up."""
    loop, load = (
        Loop(),
        Load(20, rate=200, tokens=10, ttft_ms=1, ramp_per_s=200, warm_s=0.2, end_s=0.8, abort_share=0.3),
    )
    upstream = Upstream(loop, rate=load.rate, tokens=load.tokens, ttft_ms=load.ttft_ms)
    client = Client(loop, load, Request(), [upstream.port])
    watch = Watch(loop, client, [])
    loop.run(upstream, client, watch)
    told = figures(client, upstream, watch)
    client.close()
    upstream.close()
    loop.close()
    assert set(told["ends"]) == {"completed", "aborted"}
    assert told["most_open"] == 20
    assert told["tokens"] > 100
    assert told["hangups"]["aborts"] == told["ends"]["aborted"]
    assert told["hangups"]["seen_ms"]["n"] == told["hangups"]["aborts"]
    assert told["load_pct"] > 0


def test_other_readers_attach_to_the_stream() -> None:
    """Each asks for the stream's own path, by the id that came with the first one's head."""
    named = HEAD.replace(b"\r\n\r\n", b"\r\nX-Stream-Id: abc\r\n\r\n")
    script: Script = [named, 0.1, token(), token(), END]
    with scripted(script, [HEAD, token(), token(), END], [HEAD, token(), token(), END]) as port:
        told = driven(port, readers=3)
    assert told["ends"] == {"completed": 3}
