"""Bench: a hub with what it needs, and scripted sources to run on it."""

from typing import Any

from gateway.events import Completed, Text
from gateway.hub import Hub, Key, Opening
from gateway.pipeline import Pipeline
from gateway.request import Caller
from gateway.stores.memory import MemoryStore
from gateway.streams.stream import DEFAULT_BOUNDS, Stream
from gateway.telemetry.metrics import Account
from tests.doubles import ALICE, END, HANG, RecordingMetrics, ScriptedSource, Step, question
from tests.house import eventually

WHOLE: tuple[Step, ...] = ([Text("a"), Text("b")], [END])
ENDLESS: tuple[Step, ...] = ([Text("a")], HANG)


class Bench:
    """A hub with what it needs."""

    def __init__(self, max_streams: int = 100, max_bytes: int = 1 << 20) -> None:
        self.metrics = RecordingMetrics()
        self.store = MemoryStore(max_bytes=max_bytes, retention_s=600)
        self.hub = Hub(self.store, bounds=DEFAULT_BOUNDS, max_streams=max_streams, metrics=self.metrics)
        self.sources: list[ScriptedSource] = []

    async def open(
        self, *script: Step, key: str | None = None, caller: Caller = ALICE, text: str = "hi", **request: Any
    ) -> Opening:
        """Open a stream that plays `script`."""
        source = ScriptedSource(*(script or ENDLESS))
        self.sources.append(source)
        pipeline = Pipeline(source, metrics=self.metrics)
        asked = question(text, **request)
        named = Key(key, asked.fingerprint()) if key is not None else None
        return await self.hub.open(asked, caller, pipeline, dialect="native", key=named)

    @property
    def accounts(self) -> list[Account]:
        """All that were given."""
        return [account for (account,) in self.metrics.of("stream_ended")]


async def over(stream: Stream, limit_s: float = 2.0) -> Stream:
    """Wait for its last event."""
    await eventually(lambda: stream.ended, limit_s)
    return stream


def ending(stream: Stream) -> tuple[str, str]:
    """Status and reason of a stream that completed or was cancelled."""
    assert isinstance(stream.terminal, Completed)
    return stream.terminal.status, stream.terminal.finish_reason
