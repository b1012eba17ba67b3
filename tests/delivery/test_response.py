"""The head of a stream's answer, and what aiohttp may do with an answer that it did not write."""

import inspect
import re

import pytest
from aiohttp import web
from aiohttp.http import HttpVersion10, HttpVersion11
from aiohttp.test_utils import make_mocked_request
from aiohttp.web_protocol import RequestHandler

from gateway.delivery.response import HEADERS, StreamedResponse, answer
from gateway.telemetry.logs import request_id

SID = "a" * 22


def asked(*, minor: int = 1, close: bool = False) -> web.Request:
    """A request of HTTP/1.0 or 1.1, perhaps the last one of its connection."""
    request = make_mocked_request("POST", "/stream", version=HttpVersion11 if minor else HttpVersion10)
    # The mocked message says the same of every request.
    request._message = request._message._replace(should_close=close)
    return request


def test_aiohttp_asks_no_more_of_an_answer_than_it_offers() -> None:
    """It is prepared and ended, and asked whether another request may follow: nothing else."""
    source = inspect.getsource(RequestHandler.finish_response)
    assert set(re.findall(r"\bresp\.(\w+)", source)) == {"prepare", "write_eof"}
    assert set(re.findall(r"\bresp\.(\w+)", inspect.getsource(RequestHandler.start))) == {"keep_alive"}


@pytest.mark.parametrize(
    ("minor", "close", "chunked", "again"),
    [(1, False, True, True), (1, True, True, False), (0, False, False, False), (0, True, False, False)],
)
def test_a_head_says_how_its_body_ends(minor: int, close: bool, chunked: bool, again: bool) -> None:
    """In chunks where the client knows them, else with the connection."""
    response, head, in_chunks = answer(asked(minor=minor, close=close), SID)
    lines = head.decode().split("\r\n")
    assert lines[0] == f"HTTP/1.{minor} 200 OK"
    assert lines[-2:] == ["", ""]
    assert in_chunks is chunked is ("Transfer-Encoding: chunked" in lines)
    assert response.keep_alive is again is ("Connection: close" not in lines)


def test_a_head_names_the_stream_and_the_request() -> None:
    """And the headers of every stream, each once."""
    request_id.set("good.id-12345")
    _, head, _ = answer(asked(), SID)
    fields = [line.split(": ", 1) for line in head.decode().split("\r\n")[1:-2]]
    given = dict(fields)
    assert len(given) == len(fields)
    assert HEADERS.items() <= given.items()
    assert (given["X-Stream-Id"], given["Location"]) == (SID, f"/stream/{SID}")
    assert (given["X-Request-Id"], given["Server"]) == ("good.id-12345", "sse-gateway")
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", given["Date"])


async def test_an_answer_counts_as_begun_and_nothing_is_written_for_it() -> None:
    """Nobody else may choose its head."""
    response = StreamedResponse(keep_alive=True)
    assert response.prepared
    assert await response.prepare(asked()) is None
    await response.write_eof()
