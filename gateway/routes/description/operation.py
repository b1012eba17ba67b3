"""Operation: one route as it is described, in a few lines of data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from gateway.errors import Code

Schema = Mapping[str, Any]

EVENT_STREAM = "text/event-stream"
JSON = "application/json"


class Wording(Enum):
    """In whose words an operation answers: the shape of its errors."""

    NATIVE = "native"
    OPENAI = "openai"
    EITHER = "either"
    """As its `dialect` parameter says."""


def ref(name: str) -> Schema:
    """A schema of the components."""
    return {"$ref": f"#/components/schemas/{name}"}


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that is no error: its status, its bodies by media type (none: an empty one), its own headers."""

    status: int
    meaning: str
    bodies: Mapping[str, Schema] = field(default_factory=dict)
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """A method on a path.

    `parameters` are names in `parameters.PARAMETERS`, or `question` for all fields of one; `codes` are errors before
    the first byte beside those that every request can meet. `is_open` asks for no credential, and what `passes_on` an
    upstream's own status can have any.
    """

    method: str
    path: str
    tag: str
    name: str
    summary: str
    answers: tuple[Answer, ...]
    codes: tuple[Code, ...] = ()
    parameters: tuple[str, ...] = ()
    body: str = ""
    needs_body: bool = True
    example: Mapping[str, Any] | None = None
    wording: Wording = Wording.NATIVE
    detail: str = ""
    is_open: bool = False
    passes_on: bool = False


def whole(status: int, meaning: str, schema: str, *headers: str) -> Answer:
    """An answer that is one JSON body, of a schema of the components."""
    return Answer(status, meaning, {JSON: ref(schema)}, headers)
