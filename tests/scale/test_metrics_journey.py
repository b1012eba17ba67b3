"""What the metrics say after a day's mix of endings, and that a stuck reader of the log stops nothing."""

import asyncio
import json
import re
import socket
from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families

from tests.house import gateway_process
from tests.load import Client, ask, ask_all, get, over, post, request
from tests.scale.figures import becomes, dashboard, fetch, samples, total, until
from tests.upstream import Call, Step, answer, chunk, chunked, streamed, upstream

FIRST_TOKEN = "gen_ai_server_time_to_first_token_seconds_count"
CANARY = "canary-7f3a"
LABELS = {
    "dialect",
    "provider",
    "outcome",
    "source",
    "reason",
    "ending",
    "result",
    "action",
    "code",
    "error_type",
    "kind",
}
LABELS |= {"stage", "token_type", "le", "generation", "implementation", "major", "minor", "patchlevel", "version"}


def script(call: Call) -> Iterable[Step]:
    """What the question says is what happens."""
    wanted = call.body["messages"][-1]["content"].split()[0]
    if wanted == "refuse":
        return [b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"]
    if wanted == "cut":
        return ["headers", chunked(chunk({"content": "half"})), "fin"]
    if wanted == "hang":
        return ["headers", chunked(chunk({"content": "one"})), "hang"]
    if wanted == "silence":
        return ["headers", "hang"]
    return streamed(answer(["Hello", " world"]))


def native(wanted: str, **fields: str) -> bytes:
    """A native question of a user whose name must appear nowhere."""
    return post("/stream", {"query": f"{wanted} {CANARY}", "user_id": CANARY, "session_id": CANARY, **fields})


def openai(wanted: str, stream: bool = True) -> bytes:
    """The same in the other dialect."""
    messages = [{"role": "user", "content": f"{wanted} {CANARY}"}]
    return post("/v1/chat/completions", {"model": CANARY, "stream": stream, "messages": messages, "user": CANARY})


async def hearing(address: tuple[str, int], asked: bytes) -> Client:
    """A client that has got the first token."""
    client = await ask(address, asked)
    async with asyncio.timeout(20):
        while b'"one"' not in client.raw:
            await client.reads(len(client.times) + 1)
    return client


async def test_every_stream_is_counted_once_however_it_ends() -> None:
    """Outcomes, usage, first tokens of those who asked; gauges back at zero; no name of anybody in any label."""
    async with upstream(script) as service:
        with gateway_process(OPENAI_BASE_URL=service.url, GATEWAY_LOGS__LEVEL="error") as process:
            address = ("127.0.0.1", process.port)
            await over(await ask_all(address, [native("fine")] * 3 + [openai("fine")] * 2 + [openai("fine", False)]))
            await over(await ask_all(address, [native("refuse"), openai("refuse"), native("cut"), openai("cut")]))
            for asked in (native("hang", on_disconnect="cancel"), openai("hang")):
                (await hearing(address, asked)).close()
            silent = await ask_all(address, [native("silence", on_disconnect="cancel")] * 2)
            await until(address, lambda found: len(service.calls) == 14)
            for client in silent:
                client.close()
            await _one_stream_of_several_readers(address)
            await service.stop()
            await until(address, lambda found: found["ssegw_event_loop_lag_seconds_count"] > 0)
            await _check_counts(await becomes(address, ssegw_streams_active=0, ssegw_readers_active=0))
            await _check_labels(address)
            await _check_json(address)
            status, body = await fetch(address, "/health/streaming")
            away = json.loads(body)["dependencies"]["upstream"]
            assert (status, away["status"], away["code"]) == (503, "away", "UPSTREAM_UNAVAILABLE")
            assert away["latency_ms"] >= 0
            assert json.loads(body)["dependencies"]["store"]["status"] == "ok"
        assert b"Traceback" not in process.stderr


async def _one_stream_of_several_readers(address: tuple[str, int]) -> None:
    """Opened by one who leaves it, read by three others, cancelled by its owner."""
    opener = await hearing(address, native("hang"))
    sid, who = opener.headers["x-stream-id"], f"user_id={CANARY}&session_id={CANARY}"
    others = await ask_all(address, [get(f"/stream/{sid}?{who}")] * 3)
    for client in others:
        await client.reads(1)
    opener.close()
    cancelled = await ask(address, request("DELETE", f"/stream/{sid}?{who}", Connection="close"))
    await over([*others, cancelled])
    assert {client.seen().data("complete")[0]["finish_reason"] for client in others} == {"cancelled"}


async def _check_counts(found: dict[str, float]) -> None:
    wanted = {"ok": 6, "provider_error": 2, "provider_truncated": 2, "caller_disconnect": 4, "caller_cancel": 1}
    assert {name: found[f"ssegw_stream_outcomes_total{{outcome={name}}}"] for name in wanted} == wanted
    assert total(found, "ssegw_stream_outcomes_total") == 15
    assert total(found, "ssegw_usage_records_total") == 15
    assert found["ssegw_usage_records_total{source=reported}"] == 6
    assert total(found, "gen_ai_server_request_duration_seconds_count") == 15
    # Openers who were written content: not the JSON answer, not the later readers of a stream, and once for each.
    assert found[f"{FIRST_TOKEN}{{dialect=native,provider=openai}}"] == 3 + 1 + 1 + 1
    assert found[f"{FIRST_TOKEN}{{dialect=openai,provider=openai}}"] == 2 + 1 + 1
    assert total(found, "ssegw_no_first_token_total") == 4
    assert total(found, "ssegw_readers_left_total") == 3 + 2 + 3 + 4 + 4


async def _check_labels(address: tuple[str, int]) -> None:
    _, body = await fetch(address, "/metrics")
    exposition = body.decode()
    assert CANARY not in exposition
    families = list(text_string_to_metric_families(exposition))
    found = [sample for family in families for sample in family.samples]
    assert {name for sample in found for name in sample.labels} <= LABELS
    assert not [value for sample in found for value in sample.labels.values() if re.search(r"[0-9A-Za-z]{22}", value)]
    assert len(found) < 2000


async def _check_json(address: tuple[str, int]) -> None:
    figures = await dashboard(address)
    assert figures["streams_active"] == figures["readers"] == 0
    assert figures["draining"] is False
    assert figures["store_bytes"] > 0
    assert figures["series"]["ssegw_stream_outcomes_total"]["ok"] == 6
    assert figures["series"]["ssegw_event_loop_lag_seconds_count"]["all"] > 0


async def test_a_stuck_reader_of_the_log_stops_nothing(documents: str) -> None:
    """Nobody reads standard error: streams go on, lines are given up and counted, and the end is in time and clean."""
    local = {"GATEWAY_LOCAL__DOCUMENTS": documents, "GATEWAY_LOCAL__TOKENS_PER_S": "10"}
    with gateway_process(port=None, GATEWAY_DRAIN__LIMIT_S="0", **local) as process:
        address = ("127.0.0.1", process.port)
        assert (await fetch(address, "/health/streaming"))[0] == 200
        reader = await ask(address, post("/stream", {"query": "verse of elm"}))
        await reader.reads(2)
        before = await samples(address)
        # Each writes two lines, "opened" and "ended": more than the pipe and the queue hold.
        await asyncio.to_thread(_open_many, address, 5600)
        found = await until(address, lambda found: found["ssegw_log_lines_dropped_total"] > 0)
        heard = len(reader.times)
        await reader.reads(heard + 3)
        assert not reader.done.done()
        lag, count = "ssegw_event_loop_lag_seconds_bucket{le=1.0}", "ssegw_event_loop_lag_seconds_count"
        assert found[count] - before[count] == found[lag] - before[lag]
        process.terminate()
        await over([reader])
        assert await asyncio.to_thread(process._process.wait, 10) == 0
    assert reader.seen().data("complete")[0]["finish_reason"] == "draining"


def _open_many(address: tuple[str, int], count: int) -> None:
    """As many short streams without readers, ten requests at a time on one connection."""
    asked = post("/stream?detach", {"query": "hi", "max_tokens": 1}) * 10
    with socket.create_connection(address, timeout=20) as sock:
        for _ in range(count // 10):
            sock.sendall(asked)
            got = b""
            while got.count(b"HTTP/1.1 202") < 10:
                got += sock.recv(65536)
