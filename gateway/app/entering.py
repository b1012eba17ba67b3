"""What a question passes before a stream is made for it, as the settings say."""

from functools import lru_cache
from ipaddress import ip_address

from gateway.admission.charges import Charges, HouseLimits
from gateway.admission.door import Door
from gateway.admission.issuing import Issuing
from gateway.admission.ledger import Ledger
from gateway.admission.permit import Permit
from gateway.admission.questions import Questions
from gateway.admission.rollout import Rollout
from gateway.admission.standing import Standings
from gateway.admission.tenant import Limits as TenantLimits
from gateway.admission.tenants import Registry
from gateway.admission.visitor import Visitor
from gateway.admission.waiting import WaitingRoom
from gateway.app.answers import caps_by
from gateway.errors import Code, GatewayError
from gateway.hub import Hub
from gateway.limits import Limiter
from gateway.routes.readings import NO_MORE
from gateway.settings import Limits, Settings
from gateway.stores.courier import Courier
from gateway.stores.keys import Keys
from gateway.stores.limits_memory import MemoryLimiter
from gateway.stores.limits_redis import RedisLimiter
from gateway.stores.redis import RedisStore
from gateway.streams.stream import Stream
from gateway.telemetry.metrics import Metrics
from gateway.transport.guard import networks_of

ADDRESSES_KNOWN = 4096
"""Of which it is known whether they stand on the list of those without limit."""


class Entering:
    """The door, with all who keep count behind it: in Redis where processes share one."""

    def __init__(
        self,
        settings: Settings,
        shared: RedisStore | None,
        registry: Registry,
        rollout: Rollout,
        hub: Hub,
        metrics: Metrics,
    ) -> None:
        limits, queue = settings.limits, settings.queue
        self._registry = registry
        self._shared: RedisLimiter | None = None
        local = MemoryLimiter()
        limiter: Limiter = local
        if shared is not None:
            limiter = self._shared = RedisLimiter(
                Courier(shared.batch),
                Keys(settings.redis.prefix),
                local,
                instance=shared.instance,
                lease_s=limits.lease_s,
                metrics=metrics,
            )
        standings = Standings(ietf=limits.ietf_headers)
        self._room = WaitingRoom(
            limiter,
            slots=queue.slots,
            max_waiting=queue.max_waiting,
            patience_s=queue.patience_s,
            premium_run=queue.premium_run,
            tenants=lambda: len(registry.now),
            standings=standings,
            metrics=metrics,
        )
        self._charges = charges_by(limits)
        self._ledger = Ledger(limiter, making=hub.making, permit_of=hub.permit_of, fail_where=hub.fail_where)
        hub.witnesses.append(self._ledger)
        self.issuing = Issuing(limiter, self._charges, standings)
        questions = Questions(settings.input.max_chars, settings.input.max_messages)
        self.door = Door(questions, rollout, self._charges, self._room, standings, caps_by(settings.output))

    async def start(self) -> None:
        """Keep count from now on."""
        if self._shared is not None:
            self._shared.start()
        self._ledger.start()

    async def stop(self) -> None:
        """Count what is left, and no more."""
        await self._ledger.stop()
        if self._shared is not None:
            await self._shared.stop()

    def adopt(self, stream: Stream) -> Permit:
        """Leave for a stream that another process began, for which its own tenant is charged.

        Raises `UNAUTHENTICATED` where what its caller showed there is good no more.
        """
        tenants, credential = self._registry.now, stream.credential
        tenant = tenants.named(stream.owner.tenant)
        if tenant is None or not tenants.honours(credential, tenant.name):
            raise GatewayError(Code.UNAUTHENTICATED, NO_MORE)
        return self.door.adopt(Visitor(tenant, stream.owner, credential=credential), stream)


def charges_by(limits: Limits) -> Charges:
    """How questions are charged."""
    house = HouseLimits(limits.window_s, limits.requests_global, limits.concurrent_global, limits.tokens_per_day_global)
    networks = networks_of(limits.allow_networks)

    @lru_cache(maxsize=ADDRESSES_KNOWN)
    def unlimited(address: str) -> bool:
        parsed = ip_address(address)
        return any(parsed in network for network in networks)

    opened = TenantLimits(window_s=limits.window_s, requests_per_ip=limits.open_requests_per_ip)
    return Charges(house, opened=opened, unlimited=unlimited)
