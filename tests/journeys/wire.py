"""Requests byte by byte, good and hostile, and what must hold of every refusal."""

import asyncio
import logging
import re
from typing import Any

import orjson
import pytest

from gateway.app.house import Gateway

SECRET = "Zq7SECRET"
"""Part of every hostile value: wherever it turns up again, something was echoed or logged."""

STREAM, CHAT = "/stream", "/v1/chat/completions"
GOOD: dict[str, dict[str, Any]] = {
    STREAM: {"query": "hi"},
    CHAT: {"model": "local", "messages": [{"role": "user", "content": "hi"}]},
}
SID = "0" * 22


def body_of(path: str, **fields: Any) -> bytes:
    """A good question, but for these fields."""
    return orjson.dumps({**GOOD[path], **fields})


def post(path: str, body: bytes, *headers: str, length: object = None, kind: str = "application/json") -> bytes:
    """A POST, byte by byte as it is told."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", *headers]
    lines.append(f"Content-Length: {len(body) if length is None else length}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def bare(line: str, *headers: str) -> bytes:
    """A request without a body."""
    return "\r\n".join((f"{line} HTTP/1.1", "Host: localhost", *headers)).encode("latin-1") + b"\r\n\r\n"


async def answer_to(gateway: Gateway, request: bytes, *, then_close: bool = False) -> tuple[int, bytes, bytes]:
    """Status, head and body of the answer to these bytes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.urls[0].rsplit(":", 1)[1]))
    try:
        writer.write(request)
        if then_close:
            writer.write_eof()
        async with asyncio.timeout(5):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", head)
            body = await reader.readexactly(int(length[1])) if length else b""
        return int(head.split(b" ", 2)[1]), head, body
    finally:
        writer.close()


async def assert_refused(
    gateway: Gateway, request: bytes, status: int, code: str, dialect: str, caplog: pytest.LogCaptureFixture
) -> None:
    """That status and code in that dialect's own shape; nothing opened, echoed, or logged as a fault of ours."""
    got, head, body = await answer_to(gateway, request)
    said = orjson.loads(body)
    assert (got, (said["error"] if dialect == CHAT else said)["code"]) == (status, code), (head, body)
    if dialect == CHAT:
        assert set(said["error"]) == {"message", "type", "param", "code"}
    else:
        assert {"status", "code", "message", "error", "retryable", "timestamp"} <= set(said)
    assert SECRET.encode() not in head + body
    assert b"\r\nContent-Type: application/json" in head
    assert gateway.hub.running == 0
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING or record.exc_info]
    assert SECRET not in caplog.text
    assert "stream opened" not in caplog.text
