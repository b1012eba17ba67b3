"""Plain: an answer as one JSON object, for clients that cannot stream or do not want to."""

from collections.abc import Sequence
from contextlib import closing

import orjson
from aiohttp import web

from gateway.delivery.collector import Collector
from gateway.delivery.http import refuse_ended, stream_headers
from gateway.delivery.waiter import successor_of
from gateway.dialects.base import Dialect
from gateway.events import Event
from gateway.streams.stream import Stream

HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def wants_plain(request: web.Request) -> bool:
    """Whether a client asks for JSON and takes no events.

    Who accepts anything (`*/*`), as many client libraries do beside JSON, is answered with a stream: it takes both, and
    a stream is what the route is for (RFC 9110, section 12.5.1).
    """
    accept = request.headers.get("Accept", "")
    return "application/json" in accept and "text/event-stream" not in accept and "*/*" not in accept


async def answer_plainly(stream: Stream, dialect: Dialect) -> web.Response:
    """The answer once it is whole, or the error that ended it: half an answer is none."""
    events = await _all_of(stream)
    while stream.given_up:
        stream = successor_of(stream)
        events = await _all_of(stream)
    refuse_ended(stream)
    body = orjson.dumps(dialect.fold(stream, events), default=str)
    headers = {**HEADERS, **stream_headers(stream)}
    return web.Response(body=body, content_type="application/json", headers=headers)


async def _all_of(stream: Stream) -> Sequence[Event]:
    """Every event of a stream, once it has ended or is given up."""
    with closing(Collector(stream)) as collector:
        return await collector.whole()
