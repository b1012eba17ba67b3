"""An event that cannot be put into words: it costs the reader whose dialect stumbles, and nobody else."""

import asyncio
import logging
from collections.abc import Sequence

import aiohttp
import pytest

from gateway.delivery.packing import SsePacking, TextWriter
from gateway.dialects.base import TextLayout
from gateway.dialects.openai import OpenAIEncoder
from gateway.events import Record, Text
from gateway.sse import Frame
from tests.house import eventually, house, see
from tests.journeys.asking import ask_native
from tests.upstream import answer, streamed, upstream

TOKENS = ["Hello ", "poison ", "world"]


@pytest.mark.parametrize("gap_s", [0.05, 0.0], ids=["while it comes", "on catching up"])
async def test_an_encoder_that_fails_ends_one_reading_and_is_logged_once(
    gap_s: float, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its client sees a cut and not a silence without end; the log and its other readers go on."""
    text_writer = SsePacking.text_writer

    def stumbling(self: SsePacking, layout: TextLayout) -> TextWriter:
        write = text_writer(self, layout)

        def stumble(seq: int, token: str) -> bytes:
            if not layout.event and "poison" in token:
                raise TypeError("no words for this")
            return write(seq, token)

        return stumble

    encode = OpenAIEncoder.encode

    def stumbling_too(self: OpenAIEncoder, record: Record) -> Sequence[Frame]:
        if isinstance(record.event, Text) and "poison" in record.event:
            raise TypeError("no words for this")
        return encode(self, record)

    # Text of its own, and text that has been folded.
    monkeypatch.setattr(SsePacking, "text_writer", stumbling)
    monkeypatch.setattr(OpenAIEncoder, "encode", stumbling_too)
    async with (
        upstream(streamed(answer(TOKENS), gap_s)) as service,
        house(OPENAI_BASE_URL=service.url) as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as session,
    ):
        first = await see(session, "POST", "/stream", json={"query": "hi"}, upto=4)
        where = first.headers["Location"]
        async with asyncio.timeout(5):
            good, bad = await asyncio.gather(see(session, "GET", where), see(session, "GET", f"{where}?dialect=openai"))
            assert bad.cut
            assert (good.text, good.names.count("complete"), good.cut) == ("".join(TOKENS), 1, False)
            await eventually(lambda: gateway.hub.running == 0)
            assert (await ask_native(session, gateway)).text == "".join(TOKENS)
    faults = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.name for record in faults] == ["gateway.delivery.connection"]
