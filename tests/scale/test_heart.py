"""Heartbeats and rotation over real sockets, with times made short."""

import asyncio
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.feed import feed, question, text
from tests.house import Seen
from tests.load import Client, ask, ask_all, at_scale, get, over, post
from tests.scale.edges import Shared, shared
from tests.scale.figures import samples, total, until

HEARTBEAT_S = 0.3
SILENT = at_scale(150, 1000)
BEAT = b"5\r\n: hb\n\r\n"
"""A comment and one newline, as a chunk of its own."""


def openai(asked: str) -> bytes:
    """An OpenAI client's question."""
    messages = [{"role": "user", "content": asked}]
    return post("/v1/chat/completions", {"model": "m", "stream": True, "messages": messages})


@pytest.fixture(scope="module")
def quick() -> Iterator[Shared]:
    """A gateway whose heart beats quickly, and whose viewers grow old quickly."""
    times = {"GATEWAY_DELIVERY__HEARTBEAT_S": str(HEARTBEAT_S), "GATEWAY_DELIVERY__CONNECTION_AGE_S": "0.6"}
    with shared(**times) as gateway:
        yield gateway


async def test_silence_is_filled_for_everybody_and_by_nothing_else(quick: Shared) -> None:
    """Each connection hears a beat per period of silence, in whole chunks, in any dialect; a talker hears none."""
    loop = asyncio.get_running_loop()
    async with feed(quick.feed_port):
        silent = question(2, hang=True)
        viewer = get(f"/stream?on_disconnect=cancel&query={quote(silent)}")  # one that is not rotated
        kinds = [post("/stream", {"query": silent, "on_disconnect": "cancel"}), viewer, openai(silent)]
        talker = await ask(quick.address, post("/stream", {"query": question(400, 20), "on_disconnect": "cancel"}))
        clients = await ask_all(quick.address, [kinds[number % 3] for number in range(SILENT)])
        await until(quick.address, lambda found: total(found, "ssegw_readers_active") == SILENT + 1)
        before, began, cpu_s = [_beats(client) for client in clients], loop.time(), quick.process.cpu_s
        await asyncio.sleep(6 * HEARTBEAT_S)
        beats = [_beats(client) - so_far for client, so_far in zip(clients, before, strict=True)]
        periods, cpu_s = (loop.time() - began) / HEARTBEAT_S, quick.process.cpu_s - cpu_s
        found = await samples(quick.address)
        print(f"heartbeats: {sum(beats)} for {SILENT} readers in {periods:.1f} periods, {cpu_s:.2f} s CPU")
        for client in (*clients, talker):
            client.close()
        await until(quick.address, lambda found: total(found, "ssegw_streams_active") == 0)
    assert min(beats) >= 0.6 * periods
    assert max(beats) <= periods + 1
    assert found["ssegw_heartbeats_total"] >= sum(beats)
    # The talker's tokens come from this very process: where that stood still, its silence was a real one.
    assert talker.body.count(b": hb") <= min(beats) // 2
    for client in clients:
        assert client.body.count(b": hb") == _beats(client)
        assert b": hb\n\n" not in client.body


def _beats(client: Client) -> int:
    return bytes(client.raw).count(BEAT)


async def follow(address: tuple[str, int], asked: str) -> list[Seen]:
    """What a browser's EventSource does: come back with the last id, until there is nothing to come back to."""
    last, seen = "", list[Seen]()
    while True:
        client = await ask(address, get(f"/stream?query={quote(asked)}", **({"Last_Event_ID": last} if last else {})))
        async with asyncio.timeout(20):
            await client.done
        seen.append(client.seen())
        if "complete" in seen[-1].names:
            return seen
        last = seen[-1].logged[-1].id if seen[-1].logged else last


async def test_viewers_are_rotated_without_loss_and_posts_never(quick: Shared) -> None:
    """An EventSource changes its connection several times within an answer; whoever would not return keeps his."""
    async with feed(quick.feed_port) as service:
        lasting = [
            post("/stream", {"query": question(60, 20, mark="p")}),
            openai(question(60, 20, mark="o")),
            get(f"/stream?on_disconnect=cancel&query={quote(question(60, 20, mark='c'))}"),
        ]
        readers = await ask_all(quick.address, lasting)
        viewers = await asyncio.gather(*(follow(quick.address, question(60, 20, mark=f"v{n}.")) for n in range(20)))
        await over(readers)
        assert service.asked == 23
    for number, connections in enumerate(viewers):
        together = Seen(200, {}, [event for seen in connections for event in seen.events])
        assert together.text == text(60, mark=f"v{number}.")
        # A farewell has no id of its own, so a client takes it for the last one's.
        logged = [event for event in together.logged if '"state":"rotate"' not in event.data]
        assert [int(event.id.rpartition("-")[2]) for event in logged] == list(range(1, len(logged) + 1))
        assert len(connections) >= 3
        for seen in connections[:-1]:
            assert not seen.cut
            assert seen.data("close")[0]["reason"] == seen.data("status")[-1]["state"] == "rotate"
            assert b"retry: " in seen.body
    posted, completed, cancelling = (reader.seen() for reader in readers)
    assert (posted.text, cancelling.text) == (text(60, mark="p"), text(60, mark="c"))
    assert completed.events[-1].data == "[DONE]"
