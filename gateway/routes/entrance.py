"""Entrance: the way from a question to its stream, the same for every dialect."""

import time
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from aiohttp import web

from gateway.admission.door import Door
from gateway.admission.preferences import Likings
from gateway.admission.tickets import Tickets
from gateway.admission.visitor import Visitor
from gateway.catalog import Catalog
from gateway.delivery.response import carry
from gateway.dialects.base import Dialect
from gateway.errors import Code, GatewayError
from gateway.hub import Hub, Key, Opening
from gateway.pipeline import Pipeline
from gateway.request import OnDisconnect, StreamRequest
from gateway.routes.readings import Readings
from gateway.streams.stream import Stream
from gateway.telemetry.metrics import Metrics


class Entered(NamedTuple):
    """A stream to be read; `asked_at` is when its question came, where it is this one that opened it."""

    stream: Stream
    pipeline: Pipeline
    asked_at: float | None


class Entrance:
    """Through the door, and into the hub."""

    def __init__(
        self,
        hub: Hub,
        catalog: Catalog,
        door: Door,
        likings: Likings,
        tickets: Tickets,
        readings: Readings,
        *,
        metrics: Metrics,
    ) -> None:
        self._hub = hub
        self._catalog = catalog
        self._door = door
        self._likings = likings
        self._tickets = tickets
        self._readings = readings
        self._metrics = metrics

    async def open(
        self,
        request: web.Request,
        asked: StreamRequest,
        visitor: Visitor,
        dialect: Dialect,
        *,
        arrived: float,
        streamed: bool,
        detach: bool = False,
    ) -> Entered:
        """The stream that answers `asked`: a new one, or the one that the same key opened before.

        `streamed` says that the client wants it as it grows, `detach` that it does not wait for it.
        Raises whatever the door and the hub refuse with, `UNAUTHENTICATED` where the credential was taken back, and
        `TicketUsedError` where another opening was quicker.
        """
        key = idempotency_key(request, asked)
        if detach:
            # Nobody waits, so nobody's leaving ends it. Behind the key, which knows a question however it is asked.
            asked = replace(asked, on_disconnect=OnDisconnect.DETACH)
        stored = None if visitor.caller.user is None else await self._likings.of(visitor.caller)
        asked = self._door.prepare(visitor, asked, dialect.name, streamed=streamed, stored=stored)
        pipeline = self._catalog.pipeline_for(asked)
        admit = partial(self._door.admit, visitor) if visitor.ticket or self._door.counts(visitor) else None
        open_with = partial(
            self._hub.open,
            asked,
            visitor.caller,
            pipeline,
            dialect=dialect.name,
            key=key,
            admit_s=time.monotonic() - arrived,
        )
        if visitor.ticket and admit is not None:
            async with self._tickets.used_by(visitor.ticket, admit) as admit_once:
                opening = await open_with(admit=admit_once)
        else:
            opening = await open_with(admit=admit)
        if visitor.credential:
            self._check(visitor, opening)
        if opening.fresh:
            self._metrics.answered(dialect.name, "stream" if streamed else "plain")
        if opening.permit.standing is not None:
            carry(request, self._door.standings.headers(opening.permit.standing))
        if asked.variant and (asked.preferences is None or asked.preferences.metadata is not False):
            carry(request, {"X-Variant": asked.variant})
        return Entered(opening.stream, pipeline, arrived if opening.fresh else None)

    def _check(self, visitor: Visitor, opening: Opening) -> None:
        """End what was opened by what is good no more: it was taken back before there was a stream to be found."""
        try:
            self._readings.check(visitor)
        except GatewayError as error:
            if opening.fresh:
                self._hub.fail_where(lambda stream, _: stream is opening.stream, error)
            raise


def idempotency_key(request: web.Request, asked: StreamRequest) -> Key | None:
    """The key under which the same question is never asked twice; a `message_id` with its session is one too."""
    key = request.headers.get("Idempotency-Key") or request.query.get("idempotency_key")
    if key:
        if len(key) > 255 or not key.isprintable():
            raise GatewayError(
                Code.INVALID_REQUEST, "Idempotency-Key: at most 255 printable characters", param="Idempotency-Key"
            )
        return Key(f"key:{key}", asked.fingerprint())
    if asked.message_id is not None and asked.session_id is not None:
        return Key(f"message:{asked.message_id}", asked.fingerprint())
    return None
