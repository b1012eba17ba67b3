"""The parameters and headers of the routes, each described once."""

from typing import Any

from pydantic import TypeAdapter

from gateway.dialects.fields import Name
from gateway.dialects.native import STRUCTURED
from gateway.routes.description.bodies import question_schema
from gateway.routes.description.operation import JSON
from gateway.streams.ids import PLACE_PATTERN, SID_PATTERN

Json = dict[str, Any]

NAME: Json = {**TypeAdapter(Name).json_schema(), "minLength": 0}
"""Where it is empty it is not given."""
_TOKEN: Json = {"type": "string", "pattern": "^[ -~]{1,255}$"}


def _at(where: str, name: str, meaning: str, schema: Json, **more: Any) -> Json:
    return {"name": name, "in": where, "description": meaning, "schema": schema, **more}


_SID = "Xw5VhRpgjs3aM2k8LdNzQe"
_KEY = "Where it came before, the answer is the stream that it opened then; nothing is asked twice."
_PLACE: Json = {"type": "string", "pattern": f"^({PLACE_PATTERN})?$"}

PARAMETERS: dict[str, Json] = {
    "sid": _at(
        "path",
        "sid",
        "The stream's id.",
        {"type": "string", "pattern": f"^{SID_PATTERN}$"},
        required=True,
        example=_SID,
    ),
    "session": _at("path", "session", "The session's id.", {**NAME, "minLength": 1}, required=True, example="s-1"),
    "file": _at(
        "path", "name", "A file of the pages.", {"type": "string", "minLength": 1}, required=True, example="docs.css"
    ),
    "dialect": _at(
        "query",
        "dialect",
        "How events and errors are written. The question itself is native in both cases.",
        {"enum": ["native", "openai"], "default": "native"},
    ),
    "events": _at(
        "query",
        "events",
        "`unnamed` puts the names of events into their data, for clients that only hear `message`.",
        {"enum": ["named", "unnamed"], "default": "named"},
    ),
    "detach": _at(
        "query",
        "detach",
        "Answer 202 at once, and let the answer be made without a reader. It needs no value.",
        {"type": "string"},
        allowEmptyValue=True,
    ),
    "last_event_id": _at("query", "last_event_id", "As the header `Last-Event-ID`, which wins.", _PLACE),
    "Last-Event-ID": _at("header", "Last-Event-ID", "The last id that was seen: what follows it is sent.", _PLACE),
    "idempotency_key": _at("query", "idempotency_key", "As the header `Idempotency-Key`, which wins.", _TOKEN),
    "Idempotency-Key": _at("header", "Idempotency-Key", _KEY, _TOKEN),
    "user_id": _at("query", "user_id", "The user, for clients that cannot set headers.", NAME),
    "user": _at("query", "user_id", "The user, for clients that cannot set headers.", NAME, example="u-1"),
    "session_id": _at("query", "session_id", "The session, for clients that cannot set headers.", NAME),
    "X-User-Id": _at("header", "X-User-Id", "The user, where the question names none.", NAME),
    "X-Session-Id": _at("header", "X-Session-Id", "The session, where the question names none.", NAME),
    "X-Request-Id": _at(
        "header",
        "X-Request-Id",
        "Your name for this request, for the logs: 8 to 64 letters, digits, dots, dashes. Anything else is ignored.",
        {"type": "string"},
    ),
}


def question_parameters() -> list[Json]:
    """The fields of a native question as parameters of a query; those with structure are JSON."""
    found = []
    for name, schema in question_schema()["properties"].items():
        about = {"name": name, "in": "query", "description": schema["description"]}
        if name == "query":
            about["example"] = "How does resume work?"
        shape = _without_null(schema)
        if name in STRUCTURED:
            found.append({**about, "content": {JSON: {"schema": shape}}})
        else:
            found.append({**about, "schema": shape})
    return found


def _without_null(schema: Json) -> Json:
    """A parameter that is not given is left out; there is no null in a query."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    rest = {name: value for name, value in schema.items() if name not in ("anyOf", "description")}
    if not kinds:
        return rest
    return {**rest, **kinds[0]} if len(kinds) == 1 else {**rest, "anyOf": kinds}


def _given(meaning: str, schema: Json) -> Json:
    return {"description": meaning, "schema": schema}


_COUNT: Json = {"type": "integer", "minimum": 0}

HEADERS: dict[str, Json] = {
    "X-Request-Id": _given("Finds this request in the logs.", {"type": "string"}),
    "X-Stream-Id": _given("The stream's id.", {"type": "string", "pattern": f"^{SID_PATTERN}$"}),
    "Location": _given("Where to read the stream again.", {"type": "string", "pattern": f"^/stream/{SID_PATTERN}$"}),
    "Retry-After": _given("Seconds to wait before asking again.", {"type": "integer", "minimum": 1}),
    "WWW-Authenticate": _given("How to say who asks.", {"type": "string"}),
    "x-should-retry": _given("`false` where a client library must not ask again unasked.", {"const": "false"}),
    "X-RateLimit-Limit": _given("Requests in the window that is nearest to its limit.", _COUNT),
    "X-RateLimit-Remaining": _given("Requests that are left in it.", _COUNT),
    "X-RateLimit-Reset": _given("When all of it is free again, in seconds of Unix time.", _COUNT),
    "RateLimit-Policy": _given("The same limit as the IETF's draft writes it.", {"type": "string"}),
    "RateLimit": _given("What is left of it, and for how many seconds.", {"type": "string"}),
}

CALLER = ("X-User-Id", "X-Session-Id")
NAMED = ("user_id", "session_id")
RESUME = ("Last-Event-ID", "last_event_id")
KEYED = ("Idempotency-Key", "idempotency_key")
LIMITED = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "RateLimit-Policy", "RateLimit")
OF_A_STREAM = ("X-Stream-Id", "Location")
