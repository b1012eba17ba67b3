"""An upstream that lies, stalls, breaks off or talks nonsense: its failure is told as one, in every dialect."""

import logging
from email.utils import formatdate
from time import time
from typing import NamedTuple

import pytest

from tests.house import house
from tests.journeys.asking import ask_all, assert_all_failed
from tests.upstream import DONE, Step, chunk, chunked, upstream


def head(status: str = "200 OK", kind: str = "text/event-stream", *more: str) -> bytes:
    """The head of an answer that is ended by closing the connection."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", "Connection: close", *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


SSE = head()
JSON = "application/json"
HE = chunk({"content": "Hé"})
STOP = chunk({}, "stop")
BEATS: list[Step] = [b": hb\n\n", 0.05] * 40
PAGE: list[Step] = [b"x" * 65_536] * 400
HALF = b'data: {"choices":[{"index":0,"delta":{"content":"\xc3'
"""Cut inside an event, and inside a character of it."""


def after_text(data: bytes) -> list[Step]:
    """A token, then `data` as an event, then an ending as if nothing had been."""
    return [SSE, HE, data, STOP, DONE, "fin"]


def delta(json: str) -> bytes:
    """An event around a delta that need not be right."""
    return b'data: {"choices":[{"index":0,"delta":%b}]}\n\n' % json.encode()


class Fault(NamedTuple):
    """What the upstream does, and what its callers are told; `text` is what they had got before."""

    steps: list[Step]
    code: str
    status: int
    text: str = ""


def truncated(*steps: Step, text: str = "") -> Fault:
    """No terminal marker, hence no success."""
    return Fault(list(steps), "UPSTREAM_TRUNCATED", 502, text)


def nonsense(*steps: Step, text: str = "") -> Fault:
    """Not the protocol."""
    return Fault(list(steps), "UPSTREAM_PROTOCOL", 502, text)


def refused(status: str, code: str) -> Fault:
    """An HTTP status, with a page that says more than anybody should read."""
    return Fault([head(status, JSON), b'{"error":{"message":"key sk-secret"}}', "fin"], code, int(status[:3]))


FAULTS = {
    "status 400": refused("400 no", "UPSTREAM_REJECTED"),
    "status 401": refused("401 no", "UPSTREAM_AUTH"),
    "status 403": refused("403 no", "UPSTREAM_AUTH"),
    "status 404": refused("404 no", "UPSTREAM_REJECTED"),
    "status 429": refused("429 no", "UPSTREAM_RATE_LIMITED"),
    "status 500": refused("500 no", "UPSTREAM_ERROR"),
    "status 502": refused("502 no", "UPSTREAM_ERROR"),
    "status 503": refused("503 no", "UPSTREAM_ERROR"),
    "error page that is cut": Fault([head("401 no", JSON, "Content-Length: 99"), b"x", "fin"], "UPSTREAM_AUTH", 401),
    "error page that stalls": Fault([head("500 no"), b"x", "hang"], "UPSTREAM_ERROR", 500),
    "error page without end": Fault([head("500 no"), *PAGE, "hang"], "UPSTREAM_ERROR", 500),
    "redirect": nonsense(head("302 Found", "text/html", "Location: http://127.0.0.1:1/"), "fin"),
    "no such status": nonsense(head("700 no"), "fin"),
    "no content": nonsense(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n", "fin"),
    "no HTTP": nonsense(b"SSH-2.0-OpenSSH_9\r\n", "fin"),
    "endless header": nonsense(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000_000, "fin"),
    "a page": nonsense(head("200 OK", "text/html"), b"<h1>secret</h1>", "fin"),
    "JSON": nonsense(head("200 OK", JSON), b'{"choices":[]}', "fin"),
    "no content type": nonsense(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", HE, STOP, DONE, "fin"),
    "stall before headers": Fault(["hang"], "UPSTREAM_TIMEOUT", 504),
    "stall before a token": Fault([SSE, chunk({"role": "assistant"}), "hang"], "UPSTREAM_TIMEOUT", 504),
    "stall between tokens": Fault([SSE, HE, "hang"], "UPSTREAM_TIMEOUT", 504, "Hé"),
    "only heartbeats": Fault([SSE, *BEATS, "hang"], "UPSTREAM_TIMEOUT", 504),
    "heartbeats after a token": Fault([SSE, HE, *BEATS, "hang"], "UPSTREAM_TIMEOUT", 504, "Hé"),
    "end before headers": Fault(["fin"], "UPSTREAM_UNAVAILABLE", 502),
    "reset before headers": Fault(["rst"], "UPSTREAM_UNAVAILABLE", 502),
    "empty stream": truncated(SSE, "fin"),
    "no terminal marker": truncated(SSE, HE, STOP, "fin", text="Hé"),
    "no blank line behind the marker": truncated(SSE, HE, STOP, DONE[:-1], "fin", text="Hé"),
    "end in mid-character": truncated(SSE, HE, HALF, "fin", text="Hé"),
    "reset in mid-character": truncated(SSE, HE, HALF, "rst", text="Hé"),
    "end in mid-chunk": truncated("headers", chunked(HE), b"ff\r\n" + HALF, "fin", text="Hé"),
    "reset in mid-chunk": truncated("headers", chunked(HE), b"ff\r\n" + HALF, "rst", text="Hé"),
    "end between chunks": truncated("headers", chunked(HE), chunked(STOP), "fin", text="Hé"),
    "short of its Content-Length": truncated(
        head("200 OK", "text/event-stream", "Content-Length: 999"), HE, "fin", text="Hé"
    ),
    "[DONE] without finish_reason": truncated(SSE, HE, DONE, "fin", text="Hé"),
    "only [DONE]": truncated(SSE, DONE, "fin"),
    "choices null and no end": truncated(SSE, HE, b'data: {"choices":null}\n\n', "fin", text="Hé"),
    "unasked gzip": nonsense(head("200 OK", "text/event-stream", "Content-Encoding: gzip"), b"\x1f\x8b", "fin"),
    "gzipped error": Fault([head("401 no", JSON, "Content-Encoding: gzip"), b"\x1f\x8b", "fin"], "UPSTREAM_AUTH", 401),
    "endless trailer": truncated("headers", chunked(HE), b"0\r\nX: " + b"x" * 10_000_000, "hang", text="Hé")._replace(
        code="UPSTREAM_PROTOCOL"
    ),
    "invalid UTF-8": nonsense(*after_text(b'data: {"choices":[{"delta":{"content":"\xc3("}}]}\n\n'), text="Hé"),
    "not JSON": nonsense(*after_text(b"data: hello\n\n"), text="Hé"),
    "an empty event": nonsense(*after_text(b"data:\n\n"), text="Hé"),
    "a list": nonsense(*after_text(b"data: []\n\n"), text="Hé"),
    "wrong shape": nonsense(*after_text(delta('"x"')), text="Hé"),
    "nested too deep to read": nonsense(*after_text(delta("[" * 100_000)), text="Hé"),
    "nested too deep to write": nonsense(*after_text(delta('{"x":' + "[" * 300 + "]" * 300 + "}")), text="Hé"),
    "a surrogate": nonsense(*after_text(delta('{"content":"\\ud800"}')), text="Hé"),
    "a name of wrong type": nonsense(*after_text(delta('{"tool_calls":[{"function":{"name":3}}]}')), text="Hé"),
    "a citation of wrong type": nonsense(*after_text(delta('{"annotations":["x"]}')), text="Hé"),
    "usage of wrong type": nonsense(*after_text(b'data: {"usage":{"prompt_tokens":1e300}}\n\n'), text="Hé"),
    "a second answer": nonsense(*after_text(b'data: {"choices":[{"index":1,"delta":{}}]}\n\n'), text="Hé"),
    "10 MB in a line": nonsense(SSE, HE, b"data: " + b"x" * 10_000_000 + b"\n\n", DONE, "fin", text="Hé"),
    "10 MB in an event": nonsense(SSE, HE, (b"data: " + b"x" * 999 + b"\n") * 10_000, b"\n", "fin", text="Hé"),
    "10 MB in a comment": nonsense(SSE, HE, b":" + b"x" * 10_000_000, "fin", text="Hé"),
    "an error inside": Fault(after_text(b'data: {"error":{"message":"sk-secret"}}\n\n'), "UPSTREAM_ERROR", 502, "Hé"),
    "an error first": Fault([SSE, b'data: {"error":"sk-secret"}\n\n', "fin"], "UPSTREAM_ERROR", 502),
    "a limit inside": Fault([SSE, b'data: {"error":{"code":429}}\n\n', "fin"], "UPSTREAM_RATE_LIMITED", 429),
    "an error by name": Fault(after_text(b'event: error\ndata: {"message":"x"}\n\n'), "UPSTREAM_ERROR", 502, "Hé"),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_a_fault_of_the_upstream_is_told_as_itself_and_never_as_success(
    fault: Fault, caplog: pytest.LogCaptureFixture
) -> None:
    """Text that came before it is kept, the terminal error is the last word, and nothing leaks or stays behind."""
    times = {"GATEWAY_STREAM__FIRST_TOKEN_S": "0.6", "GATEWAY_STREAM__SILENCE_S": "0.3"}
    async with upstream(fault.steps) as service, house(OPENAI_BASE_URL=service.url, **times) as gateway:
        answers = await ask_all(gateway)
        assert_all_failed(answers, fault.code, fault.status, fault.text)
        assert gateway.hub.running == 0
    assert not any("secret" in seen.body.decode() for seen in answers)
    assert "secret" not in caplog.text
    assert not any(record.exc_info for record in caplog.records)
    assert sum(record.levelno >= logging.ERROR for record in caplog.records) == len(answers)
    assert len(service.calls) == len(answers)


@pytest.mark.parametrize(
    ("said", "passed_on"),
    [
        ("7", "7"),
        ("0", "1"),
        ("9" * 400, "3600"),
        (formatdate(time() + 86_400, usegmt=True), "3600"),
        (formatdate(time() - 86_400, usegmt=True), "1"),
        ("soon", None),
        ("-5", None),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
        ("Wed, 21 Oct 2026 07:28:00 +99999999999999999999", None),
    ],
)
async def test_retry_after_is_passed_on_within_an_hour_and_only_where_it_says_something(
    said: str, passed_on: str | None
) -> None:
    """Seconds or a date; an absurd one is cut to an hour, one that cannot be read is left out."""
    steps: list[Step] = [head("429 no", JSON, f"Retry-After: {said}"), b"{}", "fin"]
    async with upstream(steps) as service, house(OPENAI_BASE_URL=service.url) as gateway:
        answers = await ask_all(gateway)
    assert_all_failed(answers, "UPSTREAM_RATE_LIMITED", 429)
    assert [seen.headers.get("Retry-After") for seen in answers[1:]] == [passed_on] * 2
