"""Catalog: which pipeline serves a request, and which names are offered."""

from types import SimpleNamespace

import pytest

from gateway.catalog import MODELS_KEPT_S, Catalog
from gateway.errors import Code, GatewayError
from gateway.pipeline import Pipeline
from gateway.request import StreamRequest
from gateway.sources.base import Source
from gateway.telemetry.metrics import Metrics
from tests.doubles import ManualClock, ScriptedSource, question


class Offering(ScriptedSource):
    """A source that can name its models, and counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    async def models(self) -> list[str]:
        """Three of them."""
        self.asked += 1
        return ["a", "m", "b"]


def catalog(source: Offering, *models: str) -> Catalog:
    """Of this source."""

    def make(source: Source, asked: StreamRequest) -> Pipeline:
        return Pipeline(source, metrics=Metrics())

    return Catalog(source, source, make, models=list(models), default_model="m")


def test_every_request_has_a_pipeline_of_its_own() -> None:
    """Around the same source."""
    source = Offering()
    served = catalog(source)
    one, other = served.pipeline_for(question()), served.pipeline_for(question())
    assert one is not other
    assert one.source is other.source is source


def test_a_closed_list_of_models_is_closed() -> None:
    """An unknown name is refused with the list; without a list every name is the upstream's to judge."""
    with pytest.raises(GatewayError) as raised:
        catalog(Offering(), "a", "b").pipeline_for(question())
    assert (raised.value.code, raised.value.param, raised.value.allowed) == (Code.UNKNOWN_MODEL, "model", ["a", "b"])
    assert catalog(Offering()).pipeline_for(question(model="anything"))


async def test_the_upstream_is_asked_for_its_models_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """The default first, none twice; a list of our own needs no asking."""
    clock, source = ManualClock(), Offering()
    monkeypatch.setattr("gateway.catalog.time", SimpleNamespace(monotonic=clock))
    served = catalog(source)
    assert [await served.models() for _ in range(3)] == [["m", "a", "b"]] * 3
    assert source.asked == 1
    clock.advance(MODELS_KEPT_S)
    await served.models()
    assert source.asked == 2
    assert await catalog(source, "x", "m").models() == ["m", "x"]
    assert source.asked == 2


async def test_health_and_closing_are_the_source_s() -> None:
    """Passed on."""
    served = catalog(Offering())
    await served.check()
    await served.close()
