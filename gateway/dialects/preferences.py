"""Preferences as clients write them: in a question, and at `/preferences`."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from gateway.dialects.fields import validate
from gateway.errors import GatewayError
from gateway.request import Preferences


class PreferencesBody(BaseModel):
    """Each may be left out, or be null: then nothing is said of it."""

    model_config = ConfigDict(extra="forbid")

    updates: Literal["realtime", "batched"] | None = None
    response: Literal["detailed", "concise"] | None = None
    metadata: bool | None = None


def parse_preferences(value: dict[str, Any], within: str = "preferences.") -> Preferences:
    """What they say. Raises `INVALID_REQUEST`, which names the field that is wrong."""
    try:
        said = validate(PreferencesBody, value)
    except GatewayError as error:
        param = within + error.param if error.param else within.removesuffix(".") or None
        message = (within if error.param else "preferences: ") + error.message
        raise GatewayError(error.code, message, param=param, allowed=error.allowed) from None
    return Preferences(said.updates or "", said.response or "", said.metadata)


def told(preferences: Preferences) -> dict[str, str | bool | None]:
    """The same in JSON; null where nothing was said."""
    return {
        "updates": preferences.updates or None,
        "response": preferences.response or None,
        "metadata": preferences.metadata,
    }
