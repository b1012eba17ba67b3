"""Rollout: whether a visitor gets streams yet, and in which variant of an experiment."""

import time
from collections.abc import Callable
from dataclasses import replace

from gateway.admission.visitor import Visitor
from gateway.errors import Code, GatewayError
from gateway.flags import STREAMING, Flag, FlagStore, Subject, Variant, decide, variant_for
from gateway.request import StreamRequest

_TWIN = "the same request with `Accept: application/json` gets the plain answer"


class Rollout:
    """The streaming flag, as the door asks it. `enabled` is this process's own switch, which wins over every flag.

    Only new streams are asked about: those that run are left alone whatever becomes of the flag.
    """

    def __init__(self, store: FlagStore, *, enabled: bool, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._enabled = enabled
        self._clock = clock

    def refuse_outsiders(self, visitor: Visitor, *, streamed: bool) -> None:
        """Raise `STREAMING_DISABLED` where this visitor gets no streams (yet); the plain answer is for everybody."""
        if not streamed:
            return
        features, flag = visitor.tenant.features, self._store.read()[STREAMING]
        if not self._enabled:
            raise GatewayError(Code.STREAMING_DISABLED, f"Streaming is switched off; {_TWIN}.")
        if not features.streaming:
            raise GatewayError(Code.STREAMING_DISABLED, f"Streaming is not switched on for this tenant; {_TWIN}.")
        at_most = features.streaming_percent
        if flag.open and at_most >= 100:
            return
        if not decide(flag, _subject(visitor), self._clock(), at_most=at_most).allowed:
            raise GatewayError(Code.STREAMING_DISABLED, f"Streaming is not yet on for this caller; {_TWIN}.")

    def variant_of(self, visitor: Visitor) -> Variant | None:
        """The arm of the experiment that the visitor is in, if there is one."""
        flag = self._store.read()[STREAMING]
        return _named(flag, variant_for(flag, _subject(visitor))) if flag.variants else None


def apply_variant(asked: StreamRequest, variant: Variant | None) -> StreamRequest:
    """`asked` as that arm of the experiment answers it: marked with its name, and by its model where it has one."""
    if variant is None:
        return asked
    return replace(asked, variant=variant.name, model=variant.model or asked.model)


def _subject(visitor: Visitor) -> Subject:
    caller = visitor.caller
    return Subject(caller.tenant, caller.user, caller.session, visitor.address)


def _named(flag: Flag, name: str) -> Variant | None:
    return next((variant for variant in flag.variants if variant.name == name), None)
