"""House: one process of the gateway, put together, started and stopped."""

import asyncio
import contextlib
import logging
from importlib.metadata import version

from aiohttp import web

from gateway.app.answers import make_catalog
from gateway.app.entering import Entering
from gateway.app.operator import Operator
from gateway.app.remembering import Memories
from gateway.app.rolling import Rolling
from gateway.app.sharing import shared_by
from gateway.app.telling import make_teller
from gateway.app.tenancy import Tenancy
from gateway.delivery.connection import Patience
from gateway.delivery.heart import Heart
from gateway.delivery.http import Delivery, Manners
from gateway.delivery.listener import SocketOptions, listen_tcp, listen_unix
from gateway.delivery.server import GatewayRunner, Shortcuts
from gateway.dialects.base import Dialect
from gateway.dialects.native import NativeDialect
from gateway.dialects.openai import OpenAIDialect
from gateway.hub import Hub
from gateway.routes.callers import Callers
from gateway.routes.cors import Preflights
from gateway.routes.entrance import Entrance
from gateway.routes.feedback import FeedbackRoutes
from gateway.routes.health import HealthRoutes
from gateway.routes.openai import OpenAIRoutes
from gateway.routes.openapi import DescriptionRoutes
from gateway.routes.pages import PageRoutes
from gateway.routes.preferences import PreferenceRoutes
from gateway.routes.refusals import Refusals
from gateway.routes.sessions import SessionRoutes
from gateway.routes.streams import StreamRoutes
from gateway.routes.tickets import TicketRoutes
from gateway.settings import Settings
from gateway.stores.memory import MemoryStore
from gateway.stores.redis import RedisStore
from gateway.streams.stream import Bounds
from gateway.succession import Succession
from gateway.systemd import notify, watchdog_interval_s
from gateway.telemetry.lag import LagMeter
from gateway.telemetry.prometheus import PrometheusMetrics
from gateway.turn import Turn

log = logging.getLogger(__name__)

UVLOOP_FLOOR = (0, 23)
"""Older ones close a stranger's socket after a cancelled connect (MagicStack/uvloop#645): answers go astray."""

SWEEP_S = 5.0
SPARE_CONNECTIONS_MIN = 16
"""Beyond `max_connections`, for refusals: a browser must be told to come back in a 200, so its request must be read."""

LAST_HANDLERS_S = 0.2
"""For handlers to end by themselves when all streams have ended, and again when cancelled: a client that takes nothing
must not hold up the end."""


class Gateway:
    """One process of it: `start`, then `run` until told to stop, which drains and closes."""

    def __init__(self, settings: Settings) -> None:
        installed = version("uvloop")
        if tuple(int(part) for part in installed.split(".")[:2]) < UVLOOP_FLOOR:
            raise RuntimeError(f"uvloop {installed} is not safe here; 0.23 or newer is needed")
        self.settings = settings
        self.metrics = PrometheusMetrics()
        self.urls: list[str] = []
        self._stopping = asyncio.Event()
        self._hurried = False
        self._drain: asyncio.Task[None] | None = None
        stream = settings.stream
        bounds = Bounds(
            max_bytes=stream.max_bytes, max_events=stream.max_events, max_audio_ms=int(stream.max_audio_s * 1000)
        )
        self._turn = Turn()
        self._store: MemoryStore | RedisStore = MemoryStore(
            max_bytes=stream.store_max_bytes, retention_s=stream.retention_s
        )
        self._shared: RedisStore | None = None
        if settings.redis.configured:
            self._store = self._shared = RedisStore(
                self._store, shared_by(settings), bounds, reopen=self._turn.reopen, metrics=self.metrics
            )
            self._turn.doubt = self._shared.pulse.stood_still
        self.hub = Hub(self._store, bounds=bounds, max_streams=stream.max_streams, metrics=self.metrics)
        self._tenancy = Tenancy(settings, self._shared)
        self.readings = self._tenancy.watch(self.hub)
        self.tenants = self._tenancy.registry
        self.rolling = Rolling(settings, self._shared, self.metrics)
        self.hub.witnesses.append(self.rolling.rollback)
        self._entering = Entering(settings, self._shared, self.tenants, self.rolling.rollout, self.hub, self.metrics)
        self._memories = Memories(settings, self._shared)
        self.hub.witnesses.append(self._memories.remembering)
        self.catalog = make_catalog(settings, self._turn, self._memories.remembering, self.metrics)
        delivery = settings.delivery
        self._heart = Heart(
            heartbeat_s=delivery.heartbeat_s,
            retry_min_ms=delivery.away_retry_min_ms,
            retry_max_ms=delivery.away_retry_max_ms,
            metrics=self.metrics,
        )
        self._succession: Succession | None = None
        if self._shared is not None:
            self._succession = Succession(
                self.hub,
                self._shared,
                revive=self.catalog.pipeline_for,
                tell_readers=self._heart.tell_all,
                adopt=self._entering.adopt,
                metrics=self.metrics,
            )
            self.hub.share(self._shared, self._succession)
        self._teller = make_teller(settings, self._tenancy.webhook_of, self.metrics)
        self.hub.witnesses.append(self._teller)
        self.rolling.rollback.on_rollback = self._teller.rolled_back
        self._lag = LagMeter(self.metrics)
        application, shortcuts = self._make_application()
        self._runner = GatewayRunner(
            application,
            shortcuts=shortcuts,
            metrics=self.metrics,
            admit=lambda connections: connections <= settings.server.max_connections,
            spare=max(SPARE_CONNECTIONS_MIN, settings.server.max_connections // 10),
            unix_send_buffer_bytes=settings.server.send_buffer_bytes,
            keepalive_timeout=settings.server.keepalive_s,
            shutdown_timeout=LAST_HANDLERS_S,
        )

    def _make_application(self) -> tuple[web.Application, Shortcuts]:
        settings = self.settings
        native = NativeDialect(
            default_model=self.catalog.default_model,
            grace_s=settings.stream.grace_s,
            grace_max_s=settings.stream.grace_max_s,
        )
        openai = OpenAIDialect()
        dialects: dict[str, Dialect] = {native.name: native, openai.name: openai}
        shared = self._shared
        durable = (lambda: True) if shared is None else (lambda: shared.durable)
        delivery = Delivery(self._heart, self._turn, self._manners(), self.metrics, durable)
        body_s = settings.server.body_s
        tickets = self._tenancy.tickets
        callers = Callers(self._tenancy.identity, self.tenants)
        entrance = Entrance(
            self.hub,
            self.catalog,
            self._entering.door,
            self._memories.likings,
            tickets,
            self.readings,
            metrics=self.metrics,
        )
        refusals = Refusals(dialects, self._heart.retry_ms, self.metrics)
        self._operator = Operator(settings, self.rolling.flags, refusals, self.tenants.reload)
        middlewares = [refusals.answered, Preflights(self.tenants).answered]
        app = web.Application(middlewares=middlewares, client_max_size=settings.server.max_body_bytes)
        app.on_response_prepare.append(refusals.sign)
        streams = StreamRoutes(
            self.hub,
            delivery,
            dialects,
            native,
            entrance,
            callers,
            self.readings,
            body_s=body_s,
            metrics=self.metrics,
        )
        compatible = OpenAIRoutes(self.catalog, delivery, openai, entrance, callers, self.readings, body_s=body_s)
        health = HealthRoutes(
            self.hub, self._store, self.catalog, self._heart, self._lag, self.metrics, shared=self._shared
        )
        self._feedback = FeedbackRoutes(self.hub, callers, self.rolling.rollback.rated, body_s=body_s)
        pages = PageRoutes()
        sessions = SessionRoutes(callers, self._memories.sessions)
        preferences = PreferenceRoutes(callers, self._memories.likings, body_s=body_s)
        ticketing = TicketRoutes(callers, tickets, self._entering.issuing.count, body_s=body_s)
        for routes in (ticketing, streams, compatible, self._feedback, sessions, preferences, health, pages):
            app.add_routes(routes.table())
        if settings.server.docs:
            app.add_routes(DescriptionRoutes(pages).table())
        return app, {
            ("POST", "/stream"): refusals.guard(streams.open_by_post),
            ("POST", "/v1/chat/completions"): refusals.guard(compatible.complete),
        }

    def _manners(self) -> Manners:
        delivery = self.settings.delivery
        patience = Patience(
            merge_bytes=delivery.lag_merge_bytes,
            merge_s=delivery.lag_merge_s,
            abort_bytes=delivery.lag_abort_bytes,
            write_deadline_s=delivery.write_deadline_s,
        )
        return Manners(
            patience=patience,
            retry_ms=delivery.retry_ms,
            hold_s=delivery.hold_s,
            connection_age_s=delivery.connection_age_s,
        )

    async def start(self) -> None:
        """Take the socket and serve. Raises OSError when the address, or that of the probe, is not to be had."""
        server = self.settings.server
        options = SocketOptions(server.send_buffer_bytes, server.user_timeout_s, server.backlog)
        listener = listen_unix(server.uds, options) if server.uds else listen_tcp(server.host, server.port, options)
        if self._shared is not None and self._succession is not None:
            await self._shared.start(self._succession)
        await self.rolling.start()
        await self._entering.start()
        await self._operator.start()
        self._heart.start()
        self._lag.start()
        await self._runner.setup()
        self._site = web.SockSite(self._runner, listener, backlog=server.backlog)
        await self._site.start()
        if server.uds:
            self.urls = [f"unix:{server.uds}"]
        else:
            host, port = listener.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            self.urls = [f"http://{shown}:{port}"]
        self._sweeper = asyncio.create_task(self._sweep(), name="sweeper")
        self._watchdog = asyncio.create_task(_keep_watchdog_quiet(), name="watchdog")
        notify("READY=1")

    async def run(self) -> None:
        """Serve until `stop`, then drain and close."""
        await self._stopping.wait()
        await self.close()

    def stop(self) -> None:
        """Begin to go away; asked a second time, go at once."""
        if self._stopping.is_set():
            log.warning("told twice to stop: not draining any longer")
            self._hurried = True
            if self._drain is not None:
                self._drain.cancel()
        self._stopping.set()

    async def close(self) -> None:
        """Not ready at once; viewers that come back are sent away, others served to the limit; then everything ends."""
        notify("STOPPING=1")
        self.hub.draining = True
        log.info("draining", extra={"streams": self.hub.running, "readers": len(self._heart)})
        self._drain = asyncio.create_task(self._drained(), name="drain")
        if self._hurried:
            self._drain.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._drain
        if self.hub.running:
            if self._succession is not None:
                await self._succession.hand_over()
            await self.hub.drain(0)
        self._sweeper.cancel()
        await self._operator.stop()
        await self._runner.cleanup()
        await self._teller.close(0 if self._hurried else self.settings.webhooks.drain_s)
        self.rolling.stop()
        await self._entering.stop()
        await self._memories.sessions.close()
        if self._shared is not None and self._succession is not None:
            self._succession.close()
            await self._shared.stop()
        self._watchdog.cancel()
        self._heart.stop()
        self._lag.stop()
        await self.catalog.close()
        log.info("stopped")

    async def _drained(self) -> None:
        """Wait for load balancers to see that we are not ready, stop listening, let streams end."""
        drain = self.settings.drain
        await asyncio.sleep(drain.notice_s)
        await self._site.stop()
        self._runner.retire_connections()
        if self._shared is not None:
            # Whoever is sent away should find all that it has heard where it comes to, and hear on there.
            self._shared.with_audio()
            await self._shared.written()
        if drain.send_viewers_away:
            self._heart.send_away_all("draining")
        await self.hub.run_down(drain.limit_s)
        if self._succession is not None:
            await self._succession.hand_over()
        await self.hub.drain(0)
        # The last words of the streams that just ended are on their way to their readers.
        for _ in range(100):
            if not len(self._heart):
                break
            await asyncio.sleep(0.01)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self._store.sweep()


async def _keep_watchdog_quiet() -> None:
    """A loop that stands still stops telling systemd that it lives, and is replaced."""
    interval_s = watchdog_interval_s()
    while interval_s is not None:
        notify("WATCHDOG=1")
        await asyncio.sleep(interval_s)
