"""Health and metrics: is the process alive, does it take traffic, how are its dependencies."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import web

from gateway.catalog import Catalog
from gateway.delivery.heart import Heart
from gateway.errors import GatewayError
from gateway.hub import Hub
from gateway.streams.store import LogStore, SharedStore
from gateway.telemetry.lag import LagMeter
from gateway.telemetry.prometheus import PrometheusMetrics

CHECK_S = 2.0
CHECKED_FOR_S = 5.0
"""A dependency is asked at most this often, however many ask us."""


class HealthRoutes:
    """`/health/*` and `/metrics*`."""

    def __init__(
        self,
        hub: Hub,
        store: LogStore,
        catalog: Catalog,
        heart: Heart,
        lag: LagMeter,
        metrics: PrometheusMetrics,
        shared: SharedStore | None = None,
    ) -> None:
        self._shared = shared
        self._hub = hub
        self._store = store
        self._catalog = catalog
        self._heart = heart
        self._lag = lag
        self._metrics = metrics
        self._started = time.monotonic()
        self._checked: tuple[float, dict[str, Any]] = (0.0, {})
        self._check = asyncio.Lock()

    def table(self) -> list[web.RouteDef]:
        """The routes."""
        return [
            web.get("/health/live", self.live),
            web.get("/health/ready", self.ready),
            web.get("/health/streaming", self.streaming),
            web.get("/metrics", self.prometheus),
            web.get("/metrics/streaming", self.dashboard),
        ]

    async def live(self, request: web.Request) -> web.Response:
        """The loop turns: 200."""
        return _json({"status": "live"})

    async def ready(self, request: web.Request) -> web.Response:
        """200 while the process takes new streams, 503 once it drains, or may take none while the store is away."""
        if self._hub.draining:
            return _json({"status": "draining"}, 503)
        if self._shared is not None and not self._shared.takes_streams:
            return _json({"status": "store_away"}, 503)
        return _json({"status": "ready"})

    async def streaming(self, request: web.Request) -> web.Response:
        """Each dependency with its latency; 503 when one is away. Without versions or addresses."""
        async with self._check:
            if time.monotonic() - self._checked[0] > CHECKED_FOR_S or not self._checked[1]:
                found = {"upstream": await _timed(self._catalog.check)}
                if self._shared is not None:
                    found["redis"] = await _timed(self._shared.check)
                self._checked = (time.monotonic(), found)
        dependencies = {**self._checked[1], "store": {"status": "ok", "bytes": self._store.bytes_kept}}
        well = all(found["status"] == "ok" for found in dependencies.values())
        body = {"status": "ok" if well else "degraded", "dependencies": dependencies, "streams": self._hub.running}
        return _json(body, 200 if well else 503)

    async def prometheus(self, request: web.Request) -> web.Response:
        """The text exposition format, rendered in a thread: it takes longer than a stream should wait."""
        self._metrics.store_bytes(self._store.bytes_kept)
        body = await asyncio.to_thread(self._metrics.render)
        return web.Response(body=body, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def dashboard(self, request: web.Request) -> web.Response:
        """The few figures that a dashboard shows."""
        samples = await asyncio.to_thread(self._samples)
        own = {
            "streams_active": self._hub.running,
            "readers": len(self._heart),
            "store_bytes": self._store.bytes_kept,
            "loop_lag_s": round(self._lag.last_s, 6),
            "uptime_s": round(time.monotonic() - self._started, 1),
            "draining": self._hub.draining,
        }
        shared = self._metrics.store_figures()
        return _json({**own, **({"shared_store": shared._asdict()} if shared is not None else {}), **samples})

    def _samples(self) -> dict[str, Any]:
        """Counters by their labels, histograms as count and sum."""
        found: dict[str, Any] = {}
        for family in self._metrics.registry.collect():
            if not family.name.startswith(("ssegw_", "gen_ai_")):
                continue
            for sample in family.samples:
                if sample.name.endswith(("_bucket", "_created")):
                    continue
                label = ",".join(sample.labels.values())
                found.setdefault(sample.name, {})[label or "all"] = sample.value
        return {"series": found}


async def _timed(check: Callable[[], Any]) -> dict[str, Any]:
    began = time.monotonic()
    try:
        async with asyncio.timeout(CHECK_S):
            await check()
    except GatewayError as error:
        return {"status": "away", "code": error.code.name, "latency_ms": _ms_since(began)}
    except TimeoutError:
        return {"status": "away", "code": "TIMEOUT", "latency_ms": _ms_since(began)}
    return {"status": "ok", "latency_ms": _ms_since(began)}


def _ms_since(began: float) -> float:
    return round((time.monotonic() - began) * 1000, 3)


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return web.Response(status=status, body=orjson.dumps(body), headers=headers, content_type="application/json")
