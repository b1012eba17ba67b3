"""Mirrors: streams of other instances, copied through one connection however many there are."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from redis.exceptions import RedisError

from gateway.events import Status, Text
from gateway.stores.inbox import Inbox, Kind, Message
from gateway.stores.mirrors import BLOCK_MS, Mirrors
from gateway.stores.pieces import new_pieces
from gateway.stores.redis_log import RedisLog
from gateway.streams.stream import DEFAULT_BOUNDS, Stream
from tests.doubles import DONE, END, RecordingReader, stream_of
from tests.house import eventually
from tests.redis_server import RedisServer
from tests.stores.shared import KEYS, THEM, US, clients_of, log_of, write


class Here:
    """An instance that mirrors, and the instance that makes what it mirrors."""

    def __init__(
        self, server: RedisServer, log: RedisLog, mirrors: Mirrors, inbox: Inbox, messages: list[Message],
        renewed: list[str],
    ) -> None:  # fmt: skip
        self.server, self.log, self.mirrors, self.inbox = server, log, mirrors, inbox
        self.messages, self.renewed = messages, renewed

    async def made(self, *texts: str) -> Stream:
        """A stream that another instance makes and has written down."""
        stream = stream_of(*map(Text, texts))
        await write(self.log, stream, THEM)
        return stream

    async def mirrored(self, stream: Stream) -> Stream:
        """Its copy here."""
        found = await self.log.load(stream.sid)
        assert found is not None
        return self.mirrors.add(found)

    async def goes_on(self, stream: Stream, *texts: str) -> None:
        """The other instance says more."""
        before = stream.head
        stream.append([Text(text) for text in texts])
        await self.append(stream, before)

    async def append(self, stream: Stream, before: int) -> None:
        """What is behind `before`, as one entry."""
        batch = self.log.batch()
        self.log.append(batch, stream, new_pieces(stream, before, with_audio=False))
        (answer,) = await batch.send()
        assert not isinstance(answer, Exception), answer

    def connections(self) -> int:
        """That wait in Redis for something to read."""
        return sum("cmd=xread" in line for line in self.server.command("CLIENT", "LIST").splitlines())


@contextlib.asynccontextmanager
async def mirroring(server: RedisServer) -> AsyncIterator[Here]:
    """It reads until the end."""
    async with clients_of(server) as clients:
        log = log_of(clients)
        inbox = Inbox(log.courier, KEYS, US.instance)
        messages, renewed = list[Message](), list[str]()
        mirrors = Mirrors(
            clients.blocking, log, KEYS, inbox, bounds=DEFAULT_BOUNDS,
            on_message=messages.append, on_renewed=renewed.append,
        )  # fmt: skip
        here = Here(server, log, mirrors, inbox, messages, renewed)
        mirrors.start()
        try:
            yield here
        finally:
            await mirrors.stop()


@pytest.fixture
async def here(redis_server: RedisServer) -> AsyncIterator[Here]:
    """Mirrors that read, in an empty Redis."""
    async with mirroring(redis_server) as here:
        yield here


async def test_a_mirror_grows_as_its_stream_does_and_ends_with_it(here: Here) -> None:
    """Its readers are told, event for event."""
    stream = await here.made("a")
    mirror = await here.mirrored(stream)
    reader = RecordingReader()
    mirror.attach(reader)
    await here.goes_on(stream, "b", "c")
    await eventually(lambda: mirror.head == 3)
    before = stream.head
    stream.append([END])
    stream.finish(DONE)
    await here.append(stream, before)
    await eventually(lambda: mirror.ended)
    assert mirror.events() == stream.events()
    assert [seq for seq, _ in reader.told] == [2, 3, 4, 5]
    assert mirror.mirrored


async def test_all_mirrors_and_the_inbox_share_one_connection(here: Here) -> None:
    """Fifty streams are read as one."""
    streams = [await here.made("a") for _ in range(50)]
    mirrors = [await here.mirrored(stream) for stream in streams]
    for stream in streams:
        await here.goes_on(stream, "b")
    await eventually(lambda: all(mirror.head == 2 for mirror in mirrors))
    await eventually(lambda: here.connections() == 1)


async def test_a_new_mirror_is_read_at_once(here: Here) -> None:
    """The read that waits does not know of it: it is woken and does not first wait to its end."""
    await eventually(lambda: here.connections() == 1)
    stream = await here.made("a")
    mirror = await here.mirrored(stream)
    await here.goes_on(stream, "b")
    begin = asyncio.get_running_loop().time()
    await eventually(lambda: mirror.head == 2)
    assert asyncio.get_running_loop().time() - begin < BLOCK_MS / 1000 / 2
    assert here.messages == []


async def test_messages_are_heard_once_and_in_order(here: Here) -> None:
    """Whatever else is read."""
    for number in range(5):
        await here.inbox.send(US.instance, Kind.CANCEL, f"{number:022}")
    await eventually(lambda: len(here.messages) == 5)
    await asyncio.sleep(0.05)
    assert [message.sid for message in here.messages] == [f"{number:022}" for number in range(5)]


async def test_what_is_written_twice_is_read_once(here: Here) -> None:
    """A retried entry overlaps the one before it."""
    stream = await here.made("a")
    mirror = await here.mirrored(stream)
    await here.goes_on(stream, "b")
    stream.append([Text("c")])
    await here.append(stream, 1)
    await eventually(lambda: mirror.head == 3)
    assert mirror.text() == "abc"


async def test_another_epoch_renews_the_mirror(here: Here) -> None:
    """Readers of the old copy go on in the new one, and its new producer is told of them."""
    stream = await here.made("a")
    mirror = await here.mirrored(stream)
    claimed = await here.log.claim(stream.sid, expected_producer=THEM.instance, expected_epoch=1, producer=US)
    assert claimed.won
    await eventually(lambda: mirror.given_up)
    heir = mirror.successor
    assert heir is not None
    assert (heir.epoch, heir.events()) == (2, [*stream.events(), Status("continued")])
    assert here.renewed == [stream.sid]
    found = here.mirrors.get(stream.sid)
    assert found is not None
    assert (found.producer, found.stream) == (US.instance, heir)


async def test_a_gap_renews_the_mirror(here: Here) -> None:
    """Redis may have been cut off from one who wrote, and have been written again: nothing is skipped."""
    stream = await here.made("a")
    mirror = await here.mirrored(stream)
    stream.append([Text("b"), Text("c")])
    here.server.command("DEL", KEYS.log(stream.sid))
    await write(here.log, stream, THEM)
    await here.goes_on(stream, "d")
    await eventually(lambda: (mirror.successor or mirror).head == 4)
    assert (mirror.successor or mirror).text() == "abcd"


async def test_a_broken_entry_ends_its_own_mirror_only(here: Here) -> None:
    """Its readers are cut off, the others read on."""
    broken, well = [await here.made("a") for _ in range(2)]
    mirrors = [await here.mirrored(stream) for stream in (broken, well)]
    here.server.command("XADD", KEYS.log(broken.sid), "1-9", "f", "2", "p", "9", "b", "nonsense")
    await eventually(lambda: mirrors[0].given_up)
    assert mirrors[0].successor is None
    assert here.mirrors.get(broken.sid) is None
    await here.goes_on(well, "b")
    await eventually(lambda: mirrors[1].head == 2)


async def test_mirrors_that_nobody_reads_are_let_go_of(here: Here) -> None:
    """Not at once: the reader of a new one is on its way."""
    read, unread = [await here.mirrored(await here.made("a")) for _ in range(2)]
    here.mirrors.forget_unread()
    assert len(here.mirrors) == 2
    read.attach(RecordingReader())
    here.mirrors.forget_unread()
    assert [mirror.stream for mirror in here.mirrors] == [read]
    assert unread.given_up
    assert here.mirrors.bytes_kept == read.bytes + read.request_bytes


async def test_reading_goes_on_when_redis_has_died_and_come_back() -> None:
    """With what was said meanwhile, nothing of it twice; messages too."""
    with RedisServer() as server:
        async with mirroring(server) as here:
            stream = await here.made("a")
            mirror = await here.mirrored(stream)
            await here.goes_on(stream, "b")
            await eventually(lambda: mirror.head == 2)
            server.restart()
            for _ in range(10):
                # Connections that died with it are found out one by one.
                with contextlib.suppress(RedisError, OSError):
                    await here.log.check_writes()
            await here.goes_on(stream, "c")
            await here.inbox.send(US.instance, Kind.CANCEL, stream.sid)
            await eventually(lambda: mirror.head == 3 and here.messages, 8.0)
            assert mirror.text() == "abc"
            assert len(here.messages) == 1
