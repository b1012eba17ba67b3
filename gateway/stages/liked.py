"""Liked: the stages that make an answer come as its caller prefers."""

from dataclasses import replace

from gateway.request import Caps, Preferences
from gateway.stages.base import Stage
from gateway.stages.batched import Batched
from gateway.stages.discreet import Discreet

CONCISE_WORDS = 150
"""The longest that a concise answer becomes, where the model does not hear that it is to be one."""


def caps_for(preferences: Preferences, caps: Caps) -> Caps:
    """The bounds that hold beside `caps`."""
    if preferences.response != "concise" or 0 < caps.words <= CONCISE_WORDS:
        return caps
    return replace(caps, words=CONCISE_WORDS)


def stages_for(preferences: Preferences) -> list[Stage]:
    """None where they say nothing that a stage could do."""
    stages: list[Stage] = []
    if preferences.metadata is False:
        stages.append(Discreet())
    if preferences.updates == "batched":
        stages.append(Batched())
    return stages
