"""What the door costs a request: the same calls that a route makes, in this process, without a socket."""

import asyncio
import gc
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import jwt

from bench.store import Store, find_redis
from gateway.admission.identity import Shown, speaks_for
from gateway.admission.keys import digest_of, new_key, written
from gateway.app.entering import Entering
from gateway.app.rolling import Rolling
from gateway.app.sharing import shared_by
from gateway.app.tenancy import Tenancy
from gateway.cli import GC_THRESHOLDS
from gateway.hub import Hub
from gateway.request import OnDisconnect, StreamRequest
from gateway.settings import Settings, load
from gateway.stores.memory import MemoryStore
from gateway.stores.redis import RedisStore
from gateway.streams.ids import new_sid
from gateway.streams.stream import DEFAULT_BOUNDS
from gateway.telemetry.metrics import Metrics

REQUESTS = 4000
"""In one measurement; a tenth of them before it, to warm up."""

Figures = dict[str, Any]
QUESTION = StreamRequest(
    messages=({"role": "user", "content": "How does resume work when the network is lost?"},),
    model="local",
    on_disconnect=OnDisconnect.GRACE,
    grace_s=30.0,
    session_id="session-of-the-bench",
)
ISSUER, AUDIENCE, ALGORITHM = "https://issuer.example", "chat", "HS256"


class Bearer:
    """A tenant with every limit that a request can be counted against, and two ways to be known as its caller."""

    def __init__(self, folder: Path) -> None:
        self._secret = secrets.token_urlsafe(48)
        self.key = new_key()
        self.file = folder / "tenants.toml"
        self.file.touch(0o600)
        self.file.write_text(
            f"""
[tenants.bench]
keys = ["{written(digest_of(self.key))}"]
[tenants.bench.limits]
requests = 1000000000
requests_per_user = 1000000000
requests_per_session = 1000000000
requests_per_ip = 1000000000
concurrent = 100000
concurrent_per_client = 100000
tokens_per_day = 1000000000
[tenants.bench.jwt]
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
algorithms = ["{ALGORITHM}"]
key = "{self._secret}"
"""
        )

    def token(self) -> str:
        """A token of the tenant's own, good for an hour."""
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "user", "exp": int(time.time()) + 3600}
        return jwt.encode(claims, self._secret, ALGORITHM)


class Way:
    """A request's way through the door: who it is, what it may, what it is counted against, and out again."""

    def __init__(self, settings: Settings, shared: RedisStore | None, headers: dict[str, str]) -> None:
        metrics = Metrics()
        hub = Hub(
            MemoryStore(max_bytes=1 << 28, retention_s=1), bounds=DEFAULT_BOUNDS, max_streams=1 << 20, metrics=metrics
        )
        tenancy, rolling = Tenancy(settings, shared), Rolling(settings, None, metrics)
        self._door = Entering(settings, shared, tenancy.registry, rolling.rollout, hub, metrics).door
        self._identity = tenancy.identity
        self._shown = Shown(headers, {}, "127.0.0.1", "", "127.0.0.1")

    async def go(self) -> None:
        """Once."""
        visitor = speaks_for(await self._identity.identify(self._shown), QUESTION.user_id, QUESTION.session_id)
        self._door.prepare(visitor, QUESTION, "native", streamed=True)
        permit = await self._door.admit(visitor, new_sid())
        if permit.standing is not None:
            self._door.standings.headers(permit.standing)
        permit.release()

    async def cost_us(self, requests: int) -> float:
        """CPU of this process for one request, in microseconds."""
        for _ in range(requests // 10):
            await self.go()
        began = time.process_time()
        for _ in range(requests):
            await self.go()
        return (time.process_time() - began) / requests * 1e6


def measure(rounds: int, requests: int = REQUESTS) -> Figures:
    """Each way in turn, so often; medians of CPU in microseconds, and with Redis what it was asked for a request."""
    gc.collect()
    gc.freeze()
    # As a gateway that serves has it.
    gc.set_threshold(*GC_THRESHOLDS)
    return asyncio.run(_measure(rounds, requests))


async def _measure(rounds: int, requests: int) -> Figures:
    with _folder() as folder:
        bearer = Bearer(folder)
        tenants = {"GATEWAY_TENANTS__FILE": str(bearer.file)}
        by_key, by_token = ({"Authorization": f"Bearer {secret}"} for secret in (bearer.key, bearer.token()))
        ways = {
            "no tenants": Way(load(None, {}), None, {}),
            "a key, all limits": Way(load(None, tenants), None, by_key),
            "a token, all limits": Way(load(None, tenants), None, by_token),
        }
        store = Store(folder / "store", lambda: None) if find_redis() else None
        try:
            shared: RedisStore | None = None
            if store is not None:
                settings = load(None, {**tenants, "REDIS_URL": store.url})
                shared = RedisStore(
                    MemoryStore(max_bytes=1 << 28, retention_s=1),
                    shared_by(settings),
                    DEFAULT_BOUNDS,
                    reopen=lambda: None,
                    metrics=Metrics(),
                )
                ways["a key, all limits, in Redis"] = Way(settings, shared, by_key)
            costs: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(rounds):
                for name, way in ways.items():
                    costs[name].append(await way.cost_us(requests))
            figures: Figures = {name: {"us": round(median(each), 1)} for name, each in costs.items()}
            if store is not None:
                figures["a key, all limits, in Redis"] |= await _asked(store, ways["a key, all limits, in Redis"])
            return figures
        finally:
            if store is not None:
                store.stop()


async def _asked(store: Store, way: Way, requests: int = 200) -> Figures:
    """Scripts that Redis ran for one request on its way: what it had to wait for."""
    before = _scripts(store)
    for _ in range(requests):
        await way.go()
    return {"round_trips": round((_scripts(store) - before) / requests, 2)}


def _scripts(store: Store) -> int:
    stats: dict[str, Any] = store.client.info("commandstats")
    return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="bench-door-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def table(figures: Figures) -> str:
    """The figures as Markdown."""
    lines = ["| The door, for a request that shows | CPU µs | Round trips to Redis |", "| --- | --- | --- |"]
    lines += [f"| {name} | {told['us']} | {told.get('round_trips', 0)} |" for name, told in figures.items()]
    return "\n".join(lines)
