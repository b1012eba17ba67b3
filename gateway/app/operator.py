"""The operator's listener, apart from the one that clients come to."""

from aiohttp import web

from gateway.delivery.listener import SocketOptions, listen_tcp, listen_unix
from gateway.flags import FlagStore
from gateway.routes.admin import BODY_MAX, AdminRoutes, Reload
from gateway.routes.refusals import Refusals
from gateway.settings import Settings

BACKLOG = 16
LAST_ANSWERS_S = 1.0


class Operator:
    """`/admin/…` on loopback or a unix socket of its own, with a token of its own; none where none is configured."""

    def __init__(self, settings: Settings, flags: FlagStore, refusals: Refusals, reload_tenants: Reload) -> None:
        self._admin = settings.admin
        self._options = SocketOptions(settings.server.send_buffer_bytes, settings.server.user_timeout_s, BACKLOG)
        routes = AdminRoutes(
            flags,
            token=settings.admin.token.get_secret_value(),
            body_s=settings.server.body_s,
            reload_tenants=reload_tenants,
        )
        app = web.Application(middlewares=[refusals.answered, routes.guarded], client_max_size=BODY_MAX)
        app.on_response_prepare.append(refusals.sign)
        app.add_routes(routes.table())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=LAST_ANSWERS_S)

    async def start(self) -> None:
        """Listen, if that is wanted. Raises OSError where the address is not to be had."""
        admin = self._admin
        if not admin.configured:
            return
        listener = (
            listen_unix(admin.uds, self._options) if admin.uds else listen_tcp(admin.host, admin.port, self._options)
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        """Listen no more."""
        await self._runner.cleanup()
