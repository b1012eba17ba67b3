"""Door: what a question must pass before a stream is made for it, in order."""

from gateway.admission.charges import NOTHING, Charges
from gateway.admission.permit import Permit
from gateway.admission.rollout import Rollout
from gateway.admission.tenant import Tenant
from gateway.admission.tenants import Registry
from gateway.admission.visitor import Visitor
from gateway.admission.waiting import WaitingRoom
from gateway.request import StreamRequest
from gateway.streams.stream import Stream


class Door:
    """Refuses at once what must be refused, and gives leave for the rest."""

    def __init__(self, rollout: Rollout, charges: Charges, room: WaitingRoom, tenants: Registry) -> None:
        self._rollout = rollout
        self._charges = charges
        self._room = room
        self._tenants = tenants

    def prepare(self, visitor: Visitor, asked: StreamRequest, dialect: str, *, streamed: bool) -> StreamRequest:
        """`asked` as it is to be answered. Raises what its tenant may not, and what is too much of it."""
        return self._rollout.prepare(visitor, asked, streamed=streamed)

    def counts(self, visitor: Visitor) -> bool:
        """Whether anything is counted for this visitor; where not, nobody's leave is needed."""
        return self._room.bounded or self._charges.of(visitor) is not NOTHING

    async def admit(self, visitor: Visitor, sid: str) -> Permit:
        """Leave to make the stream `sid`, at once or when it is its turn."""
        charge, priority = self._charges.of(visitor), visitor.tenant.priority
        return await self._room.admit(sid, charge, priority, visitor.credential)

    def adopt(self, stream: Stream) -> Permit:
        """Leave to go on with a stream that another process began, which keeps its slots or waits on."""
        tenant = self._tenants.now.named(stream.owner.tenant) or Tenant(stream.owner.tenant)
        return self._room.adopt(stream, self._charges.of(Visitor(tenant, stream.owner)), tenant.priority)
