"""Door: what a question must pass before a stream is made for it, in order."""

from dataclasses import replace

from gateway.admission.permit import FREE, Permit
from gateway.admission.questions import Questions, caps_for
from gateway.admission.rollout import Rollout
from gateway.admission.visitor import Visitor
from gateway.request import Caps, StreamRequest


class Door:
    """Refuses at once what must be refused, and gives leave for the rest."""

    def __init__(self, rollout: Rollout, questions: Questions, caps: Caps) -> None:
        self._rollout = rollout
        self._questions = questions
        self._caps = caps

    def prepare(self, visitor: Visitor, asked: StreamRequest, dialect: str, *, streamed: bool) -> StreamRequest:
        """`asked` as it is to be answered. Raises what its tenant may not, and what is too much of it."""
        asked = self._questions.accept(asked, visitor.tenant, dialect)
        if visitor.tenant.caps is not None:
            asked = replace(asked, caps=caps_for(self._caps, visitor.tenant))
        return self._rollout.prepare(visitor, asked, streamed=streamed)

    def counts(self, visitor: Visitor) -> bool:
        """Whether anything is counted for this visitor; where not, nobody's leave is needed."""
        return False

    async def admit(self, visitor: Visitor, sid: str) -> Permit:
        """Leave to make the stream `sid`, at once or when it is its turn."""
        return FREE
