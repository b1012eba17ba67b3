"""Reading JSON bodies: strict about syntax, clear about fields, silent about values."""

import re
from typing import Annotated, Any, Literal, TypeVar

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_core import ErrorDetails

from gateway.dialects.base import JSON_NESTING_MAX
from gateway.errors import Code, GatewayError
from gateway.events import nests_deeper

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

MESSAGES_MAX = 10_000
"""More are not even looked at; how many are taken is the door's to say."""

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
"""Who may speak in a conversation (OpenAI API reference, "chat")."""

ModelT = TypeVar("ModelT", bound=BaseModel)


def _without_controls(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("must not hold control characters")
    return value


Name = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200),
    AfterValidator(_without_controls),
    Field(json_schema_extra={"pattern": r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"}),
]
"""A short identifier of the client's own: it may reach logs, headers and other systems."""


class Part(BaseModel):
    """A part of a message: text, a picture, a file. What it holds besides is its upstream's to judge."""

    model_config = ConfigDict(extra="allow")

    text: str | None = None


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`. Raises `INVALID_JSON` for anything else, however malformed or deep.

    More messages than anybody means are `INPUT_TOO_LARGE` before any of them is looked at.
    """
    value = _loaded(body)
    if not isinstance(value, dict):
        raise GatewayError(Code.INVALID_JSON, "the body must be a JSON object")
    refuse_too_many_messages(value)
    _refuse_deep(body, value)
    return value


def parse_json(text: bytes | str) -> Any:
    """The JSON value that all of `text` is. Raises `INVALID_JSON` for anything else, however malformed or deep."""
    value = _loaded(text)
    _refuse_deep(text, value)
    return value


def _loaded(text: bytes | str) -> Any:
    try:
        return orjson.loads(text)
    except (orjson.JSONDecodeError, RecursionError, ValueError) as error:
        raise GatewayError(Code.INVALID_JSON) from error


def _refuse_deep(text: bytes | str, value: Any) -> None:
    # Counting brackets is cheap; only what has many of them has to be walked through.
    opened = text.count(b"{") + text.count(b"[") if isinstance(text, bytes) else text.count("{") + text.count("[")
    if opened > JSON_NESTING_MAX and isinstance(value, (dict, list)) and nests_deeper(value, JSON_NESTING_MAX):
        raise GatewayError(Code.INVALID_JSON, f"the body nests deeper than {JSON_NESTING_MAX} levels")


def refuse_too_many_messages(value: dict[str, Any]) -> None:
    """Raise `INPUT_TOO_LARGE` for more messages than anybody means, before each of them is validated."""
    messages = value.get("messages")
    if isinstance(messages, list) and len(messages) > MESSAGES_MAX:
        raise GatewayError(Code.INPUT_TOO_LARGE, f"a question has at most {MESSAGES_MAX} messages", param="messages")


def validate(model: type[ModelT], value: dict[str, Any], *, strict: bool = True) -> ModelT:
    """`value` as a `model`; `INVALID_REQUEST` names the first field that is wrong, and never shows its value."""
    try:
        return model.model_validate(value, strict=strict)
    except ValidationError as error:
        first = _first(error)
        known = sorted(field.alias or name for name, field in model.model_fields.items())
        if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
            raise GatewayError(
                Code.INVALID_REQUEST, "unknown field; allowed are: " + ", ".join(known), allowed=known
            ) from error
        field = _where(first["loc"], known)
        message = first["msg"].removeprefix("Value error, ")
        raise GatewayError(Code.INVALID_REQUEST, f"{field or 'request'}: {message}", param=field) from error


def _first(error: ValidationError) -> ErrorDetails:
    """What is wrong with the first field that is wrong; of several readings of it the one that came furthest."""
    details = error.errors(include_url=False, include_input=False, include_context=False)
    same_field = [each for each in details if each["loc"][:1] == details[0]["loc"][:1]]
    return max(same_field, key=lambda each: len(each["loc"]))


def _where(location: tuple[int | str, ...], known: list[str]) -> str | None:
    """The path of a field, in words of ours only: names that a client made up are left out."""
    if not location or str(location[0]) not in known:
        return None
    steps = [str(location[0])]
    steps += [f"[{step}]" for step in location[1:] if isinstance(step, int)]
    return "".join(steps)
