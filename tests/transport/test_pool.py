"""The pool: whose turn it is, what is used again, and that a permit comes back whatever becomes of its question."""

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator

import pytest

from gateway.errors import Code, GatewayError
from gateway.transport.connection import UpstreamConnection
from gateway.transport.dial import Dialler
from gateway.transport.pool import WHOLE_BODY_MAX_BYTES, Pool
from gateway.transport.route import Route
from gateway.turn import Turn
from tests.doubles import ManualLoop
from tests.transport.line import Heard, ScriptedTransport, chunks, head, sized

CONNECT_S, KEEPALIVE_S = 5.0, 60.0
ROUTE = Route("127.0.0.1", 1, "", "")
CHUNKED = chunks(b"Hello")


async def at_once() -> None:
    """Dialling takes no time."""


class ScriptedPool(Pool):
    """Dials connections without a network; `dialling` is what dialling one takes, or why it fails."""

    def __init__(self, loop: ManualLoop, max_connections: int) -> None:
        super().__init__(
            ROUTE, Turn(loop), connect_s=CONNECT_S, max_connections=max_connections, keepalive_s=KEEPALIVE_S
        )
        self._loop = loop
        self.dialling: Callable[[], Awaitable[None]] = at_once
        self.transports: dict[UpstreamConnection, ScriptedTransport] = {}

    async def _dial(self) -> UpstreamConnection:
        await self.dialling()
        connection = UpstreamConnection(self._turn, self._release)
        transport = self.transports[connection] = ScriptedTransport(self._loop)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        return connection


class Scene:
    """A pool, and what its upstream does on each connection."""

    def __init__(self, max_connections: int = 1) -> None:
        self.loop = ManualLoop()
        self.pool = ScriptedPool(self.loop, max_connections)

    def ask(self, heard: Heard | None = None) -> UpstreamConnection:
        """Ask; the connection on which it was asked."""
        return self.loop.run(self.pool.ask(b"question", heard or Heard()))

    def says(self, connection: UpstreamConnection, data: bytes) -> None:
        """The upstream sends this."""
        connection.data_received(data)
        self.loop.turn()

    def loses(self, connection: UpstreamConnection) -> None:
        """The upstream hangs up."""
        self.pool.transports[connection].lose(None)
        self.loop.turn()

    def used(self) -> UpstreamConnection:
        """A connection on which a question was asked and answered."""
        connection = self.ask()
        self.says(connection, CHUNKED)
        return connection

    def closed(self, connection: UpstreamConnection) -> bool:
        """Whether it was closed."""
        return self.pool.transports[connection].is_closing()

    def has_a_permit(self) -> bool:
        """Whether a question can be asked without waiting; its answer is over at once."""
        before = self.loop.time()
        try:
            self.says(self.ask(), CHUNKED)
        except GatewayError:
            return False
        return self.loop.time() == before


def raised(scene: Scene) -> Code:
    """How asking fails."""
    with pytest.raises(GatewayError) as error:
        scene.ask()
    return error.value.code


@pytest.fixture
def scene() -> Iterator[Scene]:
    """With a single permit."""
    scene = Scene()
    yield scene
    scene.pool.close()
    scene.loop.turn()
    scene.loop.close()


@pytest.fixture
def wide() -> Iterator[Scene]:
    """With permits enough."""
    scene = Scene(max_connections=10)
    yield scene
    scene.pool.close()
    scene.loop.turn()
    scene.loop.close()


# Used again.


def test_the_connection_used_last_is_taken_first(wide: Scene) -> None:
    """So that the others can grow old."""
    one, two, three = wide.ask(), wide.ask(), wide.ask()
    for connection in (two, three, one):
        wide.says(connection, CHUNKED)
    assert [wide.ask(), wide.ask(), wide.ask()] == [one, three, two]
    assert len(wide.pool.transports) == 3
    assert wide.ask() not in (one, two, three)


def test_an_idle_connection_that_was_lost_is_passed_over(wide: Scene) -> None:
    """And one of which bytes came unasked, though they are not even worked off."""
    one, two, three = wide.ask(), wide.ask(), wide.ask()
    for connection in (one, two, three):
        wide.says(connection, CHUNKED)
    wide.loses(three)
    two.data_received(head("Connection: close", status="HTTP/1.1 408 Request Timeout"))
    heard = Heard()
    again = wide.ask(heard)
    assert again is one
    assert wide.closed(two)
    wide.says(again, CHUNKED)
    assert heard.whole == b"Hello"


def test_idle_connections_are_closed_when_nobody_needs_them(wide: Scene) -> None:
    """Each `keepalive_s` after its own last use, whatever the others are used for."""
    one, two = wide.ask(), wide.ask()
    wide.says(one, CHUNKED)
    wide.loop.advance(KEEPALIVE_S / 2)
    wide.says(two, CHUNKED)
    wide.loop.advance(KEEPALIVE_S / 2 - 1)
    assert not wide.closed(one)
    wide.loop.advance(2)
    assert (wide.closed(one), wide.closed(two)) == (True, False)
    wide.loop.advance(KEEPALIVE_S / 2 - 2)
    assert not wide.closed(two)
    wide.loop.advance(2)
    assert wide.closed(two)


def test_an_idle_connection_that_is_used_begins_anew(wide: Scene) -> None:
    """Its age counts from its last use."""
    two = wide.used()
    wide.loop.advance(KEEPALIVE_S - 1)
    assert wide.used() is two
    wide.loop.advance(KEEPALIVE_S - 1)
    assert not wide.closed(two)
    wide.loop.advance(2)
    assert wide.closed(two)


def test_no_timer_runs_where_nothing_is_idle(wide: Scene) -> None:
    """Nor is one left when all has been closed, whoever closed it."""
    one, two = wide.used(), wide.ask()
    wide.says(two, CHUNKED)
    wide.loses(one)
    wide.loop.advance(2 * KEEPALIVE_S)
    assert wide.closed(two)
    assert not wide.loop._scheduled  # type: ignore[attr-defined]  # there is no public way to ask


def test_a_connection_in_use_is_not_closed_for_its_age(wide: Scene) -> None:
    """An answer may take as long as it takes."""
    wide.used()
    heard = Heard()
    connection = wide.ask(heard)
    wide.loop.advance(10 * KEEPALIVE_S)
    wide.says(connection, CHUNKED)
    assert heard.whole == b"Hello"


# Permits.


def test_who_waits_for_a_permit_gets_the_next_one(scene: Scene) -> None:
    """And with it the connection that has become free."""
    first = scene.ask()

    async def ask() -> UpstreamConnection:
        scene.loop.call_later(CONNECT_S - 1, first.data_received, CHUNKED)
        return await scene.pool.ask(b"question", Heard())

    assert scene.loop.run(ask()) is first
    assert len(scene.pool.transports) == 1


def test_nobody_waits_for_a_permit_for_ever(scene: Scene) -> None:
    """As long as for a connection, then it is UPSTREAM_TIMEOUT."""
    connection, began = scene.ask(), scene.loop.time()
    assert raised(scene) is Code.UPSTREAM_TIMEOUT
    assert scene.loop.time() == pytest.approx(began + CONNECT_S, abs=0.1)
    scene.says(connection, CHUNKED)
    assert scene.has_a_permit()


def over(scene: Scene) -> None:
    scene.used()


def lost_before_the_answer(scene: Scene) -> None:
    scene.loses(scene.ask())


def lost_within_the_answer(scene: Scene) -> None:
    connection = scene.ask()
    scene.says(connection, CHUNKED[:-5])
    scene.loses(connection)


def lost_after_the_answer(scene: Scene) -> None:
    scene.loses(scene.used())


def not_http(scene: Scene) -> None:
    scene.says(scene.ask(), b"SSH-2.0-OpenSSH_9.9\r\n")


def closed_by_its_upstream(scene: Scene) -> None:
    scene.says(scene.ask(), sized(b"Hello", "Connection: close"))


def until_close(scene: Scene) -> None:
    connection = scene.ask()
    scene.says(connection, head() + b"Hello")
    scene.loses(connection)


def more_than_an_answer(scene: Scene) -> None:
    scene.says(scene.ask(), CHUNKED + CHUNKED)


def left(scene: Scene, data: bytes, *, at_end: bool, then: bytes = b"") -> None:
    heard = Heard()
    connection = scene.ask(heard)
    scene.says(connection, data)

    async def leave() -> None:
        connection.leave(heard, at_end=at_end)

    scene.loop.run(leave())
    if then:
        scene.says(connection, then)
    scene.loop.advance(1)


def nothing_is_idle(scene: Scene) -> None:
    """So that a connection must be dialled."""
    for connection in scene.pool.transports:
        scene.loses(connection)


def dialling_fails(scene: Scene) -> None:
    async def fail() -> None:
        raise GatewayError(Code.UPSTREAM_UNAVAILABLE)

    scene.pool.dialling = fail
    nothing_is_idle(scene)
    assert raised(scene) is Code.UPSTREAM_UNAVAILABLE
    scene.pool.dialling = at_once


def cancelled_while_dialling(scene: Scene) -> None:
    scene.pool.dialling = lambda: asyncio.sleep(100)
    nothing_is_idle(scene)
    cancelled(scene, after_s=1)
    scene.pool.dialling = at_once


def cancelled_while_waiting(scene: Scene) -> None:
    connection = scene.ask()
    cancelled(scene, after_s=1)
    scene.says(connection, CHUNKED)


def cancelled_as_the_permit_comes(scene: Scene) -> None:
    connection = scene.ask()

    async def both() -> None:
        task = asyncio.create_task(scene.pool.ask(b"question", Heard()))
        await asyncio.sleep(1)
        connection.data_received(CHUNKED)
        scene.pool._turn._run()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    scene.loop.run(both())


def cancelled(scene: Scene, after_s: float) -> None:
    async def cancel() -> None:
        task = asyncio.create_task(scene.pool.ask(b"question", Heard()))
        scene.loop.call_later(after_s, task.cancel)
        await asyncio.wait([task])
        assert task.cancelled()

    scene.loop.run(cancel())


ENDINGS: dict[str, Callable[[Scene], None]] = {
    "answer over": over,
    "lost before the answer": lost_before_the_answer,
    "lost within it": lost_within_the_answer,
    "lost after it": lost_after_the_answer,
    "no HTTP": not_http,
    "Connection: close": closed_by_its_upstream,
    "until close": until_close,
    "a second answer": more_than_an_answer,
    "left early": lambda scene: left(scene, CHUNKED[:-5], at_end=False),
    "left unanswered": lambda scene: left(scene, b"HTTP/1.1 ", at_end=False),
    "left at the end, which came": lambda scene: left(scene, CHUNKED[:-5], at_end=True, then=CHUNKED[-5:]),
    "left at the end, which did not": lambda scene: left(scene, CHUNKED[:-5], at_end=True),
    "left after the end": lambda scene: left(scene, CHUNKED, at_end=False),
    "not dialled": dialling_fails,
    "cancelled while dialling": cancelled_while_dialling,
    "cancelled while waiting": cancelled_while_waiting,
    "cancelled as the permit came": cancelled_as_the_permit_comes,
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_a_permit_comes_back_once_in_every_ending(scene: Scene, ending: Callable[[Scene], None]) -> None:
    """Neither is one lost, after which nobody could ask, nor are two made of one."""
    for _ in range(2):
        ending(scene)
        assert scene.has_a_permit()
    connection = scene.ask()
    assert raised(scene) is Code.UPSTREAM_TIMEOUT
    scene.says(connection, CHUNKED)


# Closing.


def test_closing_closes_what_is_idle_now_and_later(wide: Scene) -> None:
    """Answers that are going on may end; no timer is left."""
    idle, heard = wide.used(), Heard()
    busy = wide.ask()
    wide.says(busy, CHUNKED)
    busy = wide.ask(heard)
    wide.pool.close()
    wide.loop.turn()
    assert wide.closed(idle) == (idle is not busy)
    assert not wide.closed(busy)
    wide.says(busy, CHUNKED)
    assert heard.whole == b"Hello"
    assert wide.closed(busy)
    assert not [timer for timer in wide.loop._scheduled if not timer.cancelled()]  # type: ignore[attr-defined]  # as above


# Short answers, as a whole.


def fetched(scene: Scene, *said: bytes, lost: bool = False, limit_s: float = 5.0) -> tuple[int, bytes] | Code:
    """Status and body of a short answer, or how it fails."""

    async def fetch() -> tuple[int, bytes] | Code:
        task = asyncio.create_task(scene.pool.fetch(b"question", limit_s))
        await asyncio.sleep(0.1)
        *_, connection = scene.pool.transports
        for data in said:
            connection.data_received(data)
            await asyncio.sleep(0.01)
        if lost:
            scene.pool.transports[connection].lose(None)
        try:
            status, _, body = await task
        except GatewayError as error:
            return error.code
        return status, body

    return scene.loop.run(fetch())


def test_a_short_answer_is_fetched_whole(scene: Scene) -> None:
    """In however many pieces; on a new connection, for a kept one may be dead while the upstream is well."""
    assert fetched(scene, head("Content-Length: 11"), b"Hello", b" world") == (200, b"Hello world")
    assert fetched(scene, CHUNKED) == (200, b"Hello")
    assert len(scene.pool.transports) == 2


@pytest.mark.parametrize(
    ("said", "lost", "code"),
    [
        ([], False, Code.UPSTREAM_TIMEOUT),
        ([head("Content-Length: 5"), b"Hell"], False, Code.UPSTREAM_TIMEOUT),
        ([], True, Code.UPSTREAM_UNAVAILABLE),
        ([head("Content-Length: 5"), b"Hell"], True, Code.UPSTREAM_TRUNCATED),
        ([b"no HTTP at all"], False, Code.UPSTREAM_PROTOCOL),
        ([head(), b"x" * WHOLE_BODY_MAX_BYTES, b"x"], False, Code.UPSTREAM_PROTOCOL),
    ],
    ids=["silence", "half", "lost", "cut", "no HTTP", "too large"],
)
def test_a_short_answer_that_fails_is_told_and_its_permit_comes_back(
    scene: Scene, said: list[bytes], lost: bool, code: Code
) -> None:
    """And its connection is closed: who knows what is still to come on it."""
    assert fetched(scene, *said, lost=lost) is code
    scene.loop.turn()
    assert all(map(scene.closed, scene.pool.transports))
    assert scene.has_a_permit()


# Dialling, on real sockets where there are any.


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConnectionRefusedError(), Code.UPSTREAM_UNAVAILABLE),
        (socket.gaierror(), Code.UPSTREAM_UNAVAILABLE),
        (OSError("no file descriptors"), Code.UPSTREAM_UNAVAILABLE),
        (TimeoutError(), Code.UPSTREAM_TIMEOUT),
        (ssl.SSLCertVerificationError(), Code.UPSTREAM_TLS),
        (GatewayError(Code.UPSTREAM_UNAVAILABLE), Code.UPSTREAM_UNAVAILABLE),
        (None, Code.UPSTREAM_TIMEOUT),
    ],
    ids=["refused", "DNS", "OS", "timeout", "TLS", "proxy", "silence"],
)
async def test_why_a_connection_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None, code: Code
) -> None:
    """Each time again: the single permit comes back."""

    async def connect(self: Dialler) -> socket.socket:
        if error is None:
            await asyncio.sleep(100)
        raise error or AssertionError

    monkeypatch.setattr(Dialler, "connect", connect)
    pool = Pool(ROUTE, Turn(), connect_s=0.05, max_connections=1, keepalive_s=1)
    for _ in range(2):
        with pytest.raises(GatewayError) as failed:
            await pool.ask(b"question", Heard())
        assert failed.value.code is code
    pool.close()


async def test_a_connection_that_is_lost_as_it_is_made_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The question was not sent, and the single permit comes back."""
    made = UpstreamConnection.connection_made

    def lost(self: UpstreamConnection, transport: asyncio.BaseTransport) -> None:
        made(self, transport)
        self.connection_lost(None)
        transport.close()

    async def connect(self: Dialler) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.close()
        return ours

    monkeypatch.setattr(UpstreamConnection, "connection_made", lost)
    monkeypatch.setattr(Dialler, "connect", connect)
    pool = Pool(ROUTE, Turn(), connect_s=5, max_connections=1, keepalive_s=1)
    for _ in range(2):
        heard = Heard()
        with pytest.raises(GatewayError) as failed:
            await pool.ask(b"question", heard)
        assert failed.value.code is Code.UPSTREAM_UNAVAILABLE
        assert not heard.calls
    await asyncio.sleep(0.01)
