"""Answer: pours what each read brought, and knows when it is over and whether it is whole."""

from collections.abc import Iterator

import pytest

from gateway.errors import Code, GatewayError
from gateway.events import Event, Metadata, Text, TextComplete
from gateway.sources.base import Batch
from gateway.sources.openai_answer import Answer, refusal
from gateway.transport.connection import Headers
from tests.doubles import ManualLoop
from tests.upstream import DONE, answer, chunk

STREAM: Headers = {b"content-type": b"text/event-stream; charset=utf-8"}
WHOLE = answer(["Hello", " world"])


class Scene:
    """An answer and what it poured, batch by batch."""

    def __init__(self) -> None:
        self.loop = ManualLoop()
        self.batches: list[Batch] = []

        async def make() -> Answer:
            return Answer(self.pour, 1000)

        self.answer = self.loop.run(make())

    def pour(self, batch: Batch) -> None:
        """Remember."""
        self.batches.append(batch)

    def reads(self, *pieces: bytes) -> None:
        """One read of the socket."""
        for piece in pieces:
            self.answer.body(piece)
        self.answer.rested()

    @property
    def poured(self) -> list[Event]:
        """Everything."""
        return [event for batch in self.batches for event in batch]

    @property
    def text(self) -> str:
        """The text of it."""
        return "".join(event for event in self.poured if isinstance(event, Text))

    def code(self) -> Code | None:
        """How it failed; None if it is whole."""
        error = self.answer.over.exception()
        assert error is None or isinstance(error, GatewayError)
        return error.code if error is not None else None


@pytest.fixture
def scene() -> Iterator[Scene]:
    """One that has not begun."""
    scene = Scene()
    yield scene
    scene.loop.close()


@pytest.mark.parametrize(
    ("status", "headers", "code"),
    [
        (200, {}, Code.UPSTREAM_PROTOCOL),
        (200, {b"content-type": b"application/json"}, Code.UPSTREAM_PROTOCOL),
        (200, {b"content-type": b"text/event-streams"}, Code.UPSTREAM_PROTOCOL),
        (200, {**STREAM, b"content-encoding": b"gzip"}, Code.UPSTREAM_PROTOCOL),
        (204, {}, Code.UPSTREAM_PROTOCOL),
        (302, {b"location": b"/"}, Code.UPSTREAM_PROTOCOL),
        (401, STREAM, Code.UPSTREAM_AUTH),
        (403, {}, Code.UPSTREAM_AUTH),
        (404, {}, Code.UPSTREAM_REJECTED),
        (407, {}, Code.UPSTREAM_UNAVAILABLE),
        (429, {}, Code.UPSTREAM_RATE_LIMITED),
        (500, {}, Code.UPSTREAM_ERROR),
        (599, {}, Code.UPSTREAM_ERROR),
        (600, {}, Code.UPSTREAM_PROTOCOL),
    ],
)
def test_what_is_no_stream_is_refused_by_its_head(scene: Scene, status: int, headers: Headers, code: Code) -> None:
    """And its body is passed over, whatever it looks like; that of a refusal may end on its own."""
    scene.answer.began(status, headers)
    assert scene.code() is code
    scene.reads(*WHOLE)
    scene.answer.ended()
    assert scene.batches == []
    assert scene.code() is code
    assert scene.answer.let_end == (status >= 300 and b"content-encoding" not in headers)


@pytest.mark.parametrize("kind", [b"text/event-stream", b"Text/Event-Stream", b"text/event-stream ;charset=UTF-8"])
@pytest.mark.parametrize("coding", [{}, {b"content-encoding": b""}, {b"content-encoding": b"Identity"}])
def test_a_stream_is_one_however_it_is_spelled(scene: Scene, kind: bytes, coding: Headers) -> None:
    """Media types and codings know no case."""
    scene.answer.began(201, {b"content-type": kind, **coding})
    assert not scene.answer.over.done()


def test_what_one_read_brought_is_poured_together(scene: Scene) -> None:
    """In as many pieces as it came; a read that says nothing pours nothing."""
    scene.answer.began(200, STREAM)
    scene.answer.rested()
    scene.reads(WHOLE[0][:20])
    assert scene.batches == []
    scene.reads(WHOLE[0][20:], WHOLE[1], WHOLE[2])
    assert scene.batches == [[Metadata({"model": "up-1"}), Text("Hello"), Text(" world")]]
    scene.reads(b": keep-alive\n\n")
    assert len(scene.batches) == 1


def test_it_is_over_with_the_upstream_s_own_marker(scene: Scene) -> None:
    """Not before; and the end of the body need not be waited for."""
    scene.answer.began(200, STREAM)
    scene.reads(*WHOLE[:-1])
    assert (scene.answer.over.done(), scene.answer.let_end) == (False, False)
    scene.reads(DONE)
    assert scene.code() is None
    assert scene.answer.let_end
    assert isinstance(scene.poured[-1], TextComplete)
    scene.reads(chunk({"content": "late"}))
    scene.answer.ended()
    assert scene.text == "Hello world"


@pytest.mark.parametrize("behind", [chunk({"content": "late"}), b"data: no JSON\n\n", b"x" * 2000])
def test_what_stands_behind_the_marker_is_not_heard(scene: Scene, behind: bytes) -> None:
    """Even in the same read."""
    scene.answer.began(200, STREAM)
    scene.reads(*WHOLE, behind)
    assert scene.text == "Hello world"
    assert isinstance(scene.poured[-1], TextComplete)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (b"data: no JSON\n\n", Code.UPSTREAM_PROTOCOL),
        (chunk({"content": 5}), Code.UPSTREAM_PROTOCOL),
        (b"data: " + b"x" * 2000, Code.UPSTREAM_PROTOCOL),
        (b'data: {"error":{"code":"429"}}\n\n', Code.UPSTREAM_RATE_LIMITED),
        (DONE, Code.UPSTREAM_TRUNCATED),
    ],
    ids=["no JSON", "no chunk", "too long", "error inside", "no finish_reason"],
)
@pytest.mark.parametrize("together", [True, False])
def test_what_arrived_before_a_fault_is_poured_before_it(scene: Scene, bad: bytes, code: Code, together: bool) -> None:
    """However the network cut it; nothing behind it is, and the connection is not to be used again."""
    scene.answer.began(200, STREAM)
    events = [*WHOLE[:3], bad, chunk({"content": "late"})]
    if together:
        scene.reads(b"".join(events))
    else:
        scene.reads(*events)
    scene.answer.failed(GatewayError(Code.UPSTREAM_UNAVAILABLE))
    assert scene.text == "Hello world"
    assert scene.code() is code
    assert not scene.answer.let_end


def test_a_body_that_ends_without_the_marker_is_cut(scene: Scene) -> None:
    """Whatever stood in it; and what it said is told."""
    scene.answer.began(200, STREAM)
    for piece in WHOLE[:-1]:
        scene.answer.body(piece)
    scene.answer.ended()
    assert scene.code() is Code.UPSTREAM_TRUNCATED
    assert scene.text == "Hello world"


def test_a_body_that_ends_in_the_read_of_its_marker_is_whole(scene: Scene) -> None:
    """Its end is told before the read is over."""
    scene.answer.began(200, STREAM)
    for piece in WHOLE:
        scene.answer.body(piece)
    scene.answer.ended()
    assert scene.code() is None
    assert scene.text == "Hello world"


@pytest.mark.parametrize("brought", [WHOLE, WHOLE[:3]], ids=["the whole answer", "a part of it"])
def test_an_outlet_that_refuses_ends_the_answer(scene: Scene, brought: list[bytes]) -> None:
    """With what it raised, though the upstream had said that it is whole; nothing more is poured."""
    scene.answer.began(200, STREAM)
    refused = GatewayError(Code.OUTPUT_LIMIT)

    def refuse(batch: Batch) -> None:
        scene.batches.append(batch)
        raise refused

    scene.answer._outlet = refuse
    scene.reads(*brought)
    scene.reads(*WHOLE)
    assert scene.answer.over.exception() is refused
    assert len(scene.batches) == 1
    assert not scene.answer.let_end


def test_after_a_cancel_nothing_is_poured(scene: Scene) -> None:
    """Nor does anybody stumble over what is still to come."""
    scene.answer.began(200, STREAM)
    scene.reads(WHOLE[1])
    scene.answer.over.cancel()
    scene.reads(*WHOLE)
    scene.answer.ended()
    scene.answer.failed(GatewayError(Code.UPSTREAM_TRUNCATED))
    assert scene.text == "Hello"


def test_a_proxy_s_refusal_is_no_status_for_our_client() -> None:
    """A 407 would have it look for a proxy of its own."""
    assert refusal(407, {}).status == 502
    assert refusal(404, {}).status == 404
