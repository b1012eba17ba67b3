"""Door: what a question must pass before a stream is made for it, in order."""

from dataclasses import replace

from gateway.admission.charges import Charges
from gateway.admission.permit import FREE, Permit
from gateway.admission.preferences import preferring
from gateway.admission.questions import Questions, caps_of
from gateway.admission.rollout import Rollout
from gateway.admission.standing import Standings
from gateway.admission.tenant import OPEN
from gateway.admission.visitor import Visitor
from gateway.admission.waiting import WaitingRoom
from gateway.request import Caps, Preferences, StreamRequest
from gateway.streams.stream import Stream


class Door:
    """Refuses at once what must be refused, and gives leave for the rest."""

    def __init__(
        self,
        questions: Questions,
        rollout: Rollout,
        charges: Charges,
        room: WaitingRoom,
        standings: Standings,
        caps: Caps,
    ) -> None:
        self._questions = questions
        self._rollout = rollout
        self._charges = charges
        self._room = room
        self._caps = caps
        self._counts_all = room.bounded or charges.count_everybody
        self.standings = standings

    def prepare(
        self,
        visitor: Visitor,
        asked: StreamRequest,
        dialect: str,
        *,
        streamed: bool,
        stored: Preferences | None = None,
    ) -> StreamRequest:
        """`asked` as it is to be answered; `stored` is how its user likes it.

        Raises what its tenant may not, and what is too much of it.
        """
        tenant = visitor.tenant
        asked = self._questions.accept(asked, tenant, dialect)
        asked = self._rollout.prepare(visitor, asked, streamed=streamed)
        if tenant.caps is not None:
            asked = replace(asked, caps=caps_of(self._caps, tenant))
        if asked.preferences is None and stored is None and tenant.preferences is None:
            return asked
        return preferring(asked, stored, tenant.preferences)

    def counts(self, visitor: Visitor) -> bool:
        """Whether anything is counted for this visitor; where not, nobody's leave is needed."""
        return self._counts_all or visitor.tenant is not OPEN

    async def admit(self, visitor: Visitor, sid: str) -> Permit:
        """Leave to make the stream `sid`, at once or when it is its turn. Raises as `WaitingRoom.admit` does."""
        if not self.counts(visitor):
            return FREE
        charge, tenant = self._charges.of(visitor), visitor.tenant
        return await self._room.admit(sid, charge, tenant.priority, visitor.credential, tenant.name)

    def adopt(self, visitor: Visitor, stream: Stream) -> Permit:
        """Leave to go on with a stream that another process began for this visitor."""
        if not self.counts(visitor):
            return FREE
        charge, tenant = self._charges.of(visitor, stream.clients), visitor.tenant
        return self._room.adopt(stream, charge, tenant.priority, visitor.credential, tenant.name)
