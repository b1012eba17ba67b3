"""Liked: the stages that make an answer come as its caller prefers."""

from gateway.request import Preferences
from gateway.stages.base import Stage
from gateway.stages.batched import Batched
from gateway.stages.discreet import Discreet


def stages_for(preferences: Preferences) -> list[Stage]:
    """None where they say nothing that a stage could do."""
    stages: list[Stage] = []
    if preferences.metadata is False:
        stages.append(Discreet())
    if preferences.updates == "batched":
        stages.append(Batched())
    return stages
