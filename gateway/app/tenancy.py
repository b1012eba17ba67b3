"""Tenants, and how their callers are told: as the settings and the tenants file say."""

import logging
from pathlib import Path

from gateway.admission.addresses import Proxies, is_here
from gateway.admission.attempts import Attempts
from gateway.admission.identity import Identity
from gateway.admission.permit import Permit
from gateway.admission.tenant import Limits, WebhookTarget
from gateway.admission.tenants import Registry, Tenants
from gateway.admission.tenants_file import TenantsError
from gateway.admission.tickets import TICKET_S, Tickets
from gateway.app.answers import HOME
from gateway.app.telling import webhook_check
from gateway.errors import Code, GatewayError
from gateway.hub import Hub
from gateway.routes.readings import NO_MORE, Readings
from gateway.settings import Limits as LimitSettings
from gateway.settings import Settings, SettingsError
from gateway.stores.keys import Keys
from gateway.stores.redis import RedisStore
from gateway.stores.tickets_memory import MemoryTickets
from gateway.stores.tickets_redis import RedisTickets
from gateway.streams.stream import Stream
from gateway.tickets import TicketStore

log = logging.getLogger(__name__)

DEFAULT_TENANTS = Path("config", "tenants.toml")


class Tenancy:
    """The tenants in force, their tickets, and who is whom. Raises `SettingsError` where their file is not usable."""

    def __init__(self, settings: Settings, shared: RedisStore | None) -> None:
        self.registry = registry_of(settings)
        self.tickets = Tickets(_ticket_store(settings, shared))
        proxies = Proxies(settings.server.trusted_proxies)
        self.identity = Identity(self.registry, self.tickets, proxies, Attempts())

    def webhook_of(self, tenant: str) -> WebhookTarget | None:
        """Where that tenant is told of its streams, as it is said now."""
        found = self.registry.now.named(tenant)
        return None if found is None else found.webhook

    def watch(self, hub: Hub) -> Readings:
        """After a change, end what runs for a credential that is good no more, and cut those who read by it: it may
        have been lost to somebody. Gives what keeps them.
        """
        readings = Readings(hub, self.registry)

        def changed(tenants: Tenants) -> None:
            def doomed(stream: Stream, permit: Permit) -> bool:
                return not tenants.honours(permit.credential, stream.owner.tenant)

            cut = readings.changed(tenants)
            ended = hub.fail_where(doomed, GatewayError(Code.UNAUTHENTICATED, NO_MORE))
            if ended or cut:
                log.info("streams ended with their credentials", extra={"streams": ended, "readers": cut})

        self.registry.on_change = changed
        return readings


def registry_of(settings: Settings) -> Registry:
    """The tenants. Raises `SettingsError` where their file is not usable, or all the world would be an open tenant."""
    named, server = settings.tenants.file, settings.server
    try:
        registry = Registry(
            HOME / (named or DEFAULT_TENANTS),
            optional=not named,
            limits=limits_by(settings.limits),
            check=webhook_check(settings),
        )
    except TenantsError as error:
        raise SettingsError(str(error)) from None
    if registry.now.is_open and not server.uds and not _is_local(server.host):
        raise SettingsError(
            "server.host: without a tenants file only loopback addresses can be listened on; see tenants.file"
        )
    return registry


def limits_by(limits: LimitSettings) -> Limits:
    """What holds for a tenant that does not say."""
    return Limits(
        window_s=limits.window_s,
        requests_per_user=limits.requests_per_user,
        requests_per_session=limits.requests_per_session,
        requests_per_ip=limits.requests_per_ip,
        concurrent_per_client=limits.concurrent_per_client,
    )


def _is_local(host: str) -> bool:
    return host == "localhost" or bool(host and is_here(host))


def _ticket_store(settings: Settings, shared: RedisStore | None) -> TicketStore:
    stream = settings.stream
    running_s = stream.total_s + stream.follower_s + stream.grace_max_s
    used_s = running_s + stream.retention_s
    if shared is None:
        return MemoryTickets(unused_s=TICKET_S, used_s=used_s)
    return RedisTickets(shared.courier, Keys(settings.redis.prefix), unused_s=TICKET_S, used_s=used_s)
