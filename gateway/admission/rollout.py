"""Rollout: whether a visitor gets streams yet, and in which variant of an experiment."""

import time
from collections.abc import Callable
from dataclasses import replace

from gateway.admission.visitor import Visitor
from gateway.errors import Code, GatewayError
from gateway.flags import STREAMING, Flag, FlagStore, Subject, Variant, is_in, variant_for
from gateway.request import StreamRequest

_TWIN = "the same request with `Accept: application/json` (of an OpenAI client: without `stream`) gets the plain answer"


class Rollout:
    """The streaming flag, as the door asks it. `enabled` is this process's own switch, which wins over every flag.

    Only new streams are asked about: those that run are left alone whatever becomes of the flag.
    """

    def __init__(self, store: FlagStore, *, enabled: bool, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._enabled = enabled
        self._clock = clock

    def prepare(self, visitor: Visitor, asked: StreamRequest, *, streamed: bool) -> StreamRequest:
        """`asked` as this visitor's arm of an experiment answers it.

        Raises `STREAMING_DISABLED` where the visitor gets no streams (yet); the plain answer is for everybody.
        """
        flag = self._store.read()[STREAMING]
        if streamed:
            features = visitor.tenant.features
            if not (self._enabled and flag.open and features.streaming and features.streaming_percent >= 100):
                self._refuse_outsider(visitor, flag)
        return apply_variant(asked, _variant_of(visitor, flag)) if flag.variants else asked

    def _refuse_outsider(self, visitor: Visitor, flag: Flag) -> None:
        features = visitor.tenant.features
        if not (self._enabled and flag.enabled):
            raise GatewayError(Code.STREAMING_DISABLED, f"Streaming is switched off; {_TWIN}.")
        if not features.streaming:
            raise GatewayError(Code.STREAMING_DISABLED, f"Streaming is not switched on for this tenant; {_TWIN}.")
        if not is_in(flag, _subject(visitor), self._clock(), at_most=features.streaming_percent):
            raise GatewayError(Code.STREAMING_DISABLED, f"Streaming is not yet on for this caller; {_TWIN}.")


def apply_variant(asked: StreamRequest, variant: Variant | None) -> StreamRequest:
    """`asked` as that arm of the experiment answers it: marked with its name, and by its model where it has one."""
    if variant is None:
        return asked
    return replace(asked, variant=variant.name, model=variant.model or asked.model)


def _variant_of(visitor: Visitor, flag: Flag) -> Variant | None:
    """Its arm of the experiment; none where that is answered by a model that its tenant may not use."""
    name, models = variant_for(flag, _subject(visitor)), visitor.tenant.features.models
    found = next((variant for variant in flag.variants if variant.name == name), None)
    if found is None or (found.model and models and found.model not in models):
        return None
    return found


def _subject(visitor: Visitor) -> Subject:
    caller = visitor.caller
    return Subject(caller.tenant, caller.user, caller.session, visitor.address)
