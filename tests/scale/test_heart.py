"""Heartbeats and rotation over real sockets, with times made short."""

import asyncio
from urllib.parse import quote

from tests.feed import feed, question, text
from tests.house import Seen, gateway_process
from tests.load import Client, ask, ask_all, at_scale, get, over, post
from tests.scale.figures import samples, total, until

HEARTBEAT_S = 0.3
SILENT = at_scale(150, 1000)
SHORT = {"GATEWAY_DELIVERY__HEARTBEAT_S": str(HEARTBEAT_S), "GATEWAY_DRAIN__LIMIT_S": "0"}
BEAT = b"5\r\n: hb\n\r\n"
"""A comment and one newline, as a chunk of its own."""


def openai(asked: str) -> bytes:
    """An OpenAI client's question."""
    messages = [{"role": "user", "content": asked}]
    return post("/v1/chat/completions", {"model": "m", "stream": True, "messages": messages})


async def test_silence_is_filled_for_everybody_and_by_nothing_else() -> None:
    """Each connection hears a beat per period of silence, in whole chunks, whatever its dialect; talkers hear none."""
    async with feed() as service:
        with gateway_process(port=None, OPENAI_BASE_URL=service.url, **SHORT) as process:
            address, silent = ("127.0.0.1", process.port), question(2, hang=True)
            kinds = [post("/stream", {"query": silent}), get(f"/stream?query={quote(silent)}"), openai(silent)]
            talker = await ask(address, post("/stream", {"query": question(400, 20)}))
            clients = await ask_all(address, [kinds[number % 3] for number in range(SILENT)])
            await until(address, lambda found: total(found, "ssegw_readers_active") == SILENT + 1)
            began = {client: _beats(client) for client in clients}
            cpu_s = process.cpu_s
            await asyncio.sleep(6 * HEARTBEAT_S)
            cpu_s = process.cpu_s - cpu_s
            beats = [_beats(client) - began[client] for client in clients]
            found = await samples(address)
            print(f"heartbeats: {sum(beats)} for {SILENT} readers in {6 * HEARTBEAT_S:.1f} s, {cpu_s:.2f} s CPU")
    assert min(beats) >= 4
    assert max(beats) <= 7
    assert found["ssegw_heartbeats_total"] >= sum(beats)
    assert b": hb" not in talker.raw
    for client in clients:
        assert bytes(client.raw).count(b": hb") == _beats(client)
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


async def test_viewers_are_rotated_without_loss_and_posts_never() -> None:
    """An EventSource changes its connection several times within an answer; whoever would not return keeps his."""
    settings = {**SHORT, "GATEWAY_DELIVERY__CONNECTION_AGE_S": "0.6"}
    async with feed() as service:
        with gateway_process(port=None, OPENAI_BASE_URL=service.url, **settings) as process:
            address = ("127.0.0.1", process.port)
            lasting = [
                post("/stream", {"query": question(60, 20, mark="p")}),
                openai(question(60, 20, mark="o")),
                get(f"/stream?on_disconnect=cancel&query={quote(question(60, 20, mark='c'))}"),
            ]
            readers = await ask_all(address, lasting)
            viewers = await asyncio.gather(*(follow(address, question(60, 20, mark=f"v{n}.")) for n in range(20)))
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
