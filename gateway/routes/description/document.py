"""The OpenAPI 3.1 document, made once of the described operations. It names no versions of libraries and no hosts."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from gateway.errors import Code
from gateway.routes.description.bodies import SCHEMAS
from gateway.routes.description.operation import JSON, Answer, Operation, Wording, ref
from gateway.routes.description.operations import OPERATIONS
from gateway.routes.description.parameters import HEADERS, LIMITED, PARAMETERS, question_parameters

Json = dict[str, Any]

_ALWAYS = (Code.BAD_HTTP, Code.HEADERS_TOO_LARGE, Code.INTERNAL, Code.OVERLOADED)
_EXPECTATION_FAILED = 417
_LIMITS = {Code.RATE_LIMITED, Code.TOO_MANY_STREAMS, Code.BUDGET_EXCEEDED}
_ALSO = ("X-Request-Id",)

_LINKS: Json = {
    name: {"operationId": name, "parameters": {"sid": "$response.header.X-Stream-Id"}}
    for name in ("readStream", "cancelStream", "rateStream")
}

TAGS = {
    "Streams": "Open, read, resume and cancel answers that outlive their connections.",
    "Conversations": "What is remembered, and how answers are liked.",
    "OpenAI": "For OpenAI's own clients, unchanged.",
    "Operation": "For those who look after the gateway.",
    "Pages": "For people.",
}

SECURITY: dict[str, Json] = {
    "key": {"type": "http", "scheme": "bearer", "description": "An API key of the tenant, from a backend."},
    "keyHeader": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key."},
    "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": "The tenant's own token."},
    "tenantHash": {
        "type": "apiKey",
        "in": "header",
        "name": "X-Tenant-Hash",
        "description": "The tenant's public name, no secret: good only with an `Origin` of the tenant's list.",
    },
    "tenantHashInQuery": {"type": "apiKey", "in": "query", "name": "tenant_hash", "description": "The same name."},
    "ticket": {
        "type": "apiKey",
        "in": "query",
        "name": "ticket",
        "description": "A ticket, for browsers that cannot set headers: opens one stream, then reads that one again.",
    },
}

_ABOUT = """\
A streaming gateway for LLM chat: answers are Server-Sent Events that can be resumed.

Every error is told in one shape, with a code from a closed set. A path that is not listed is 404 `NOT_FOUND`; another \
method on one that is, 405 `METHOD_NOT_ALLOWED` with `Allow`. Where no tenants are configured no credential is needed, \
and only clients on the same machine are served."""


def document(operations: Iterable[Operation] = OPERATIONS) -> Json:
    """The whole of it, as JSON values."""
    paths: defaultdict[str, Json] = defaultdict(dict)
    for operation in operations:
        paths[operation.path][operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "sse-gateway", "version": "1", "description": _ABOUT},
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": meaning} for name, meaning in TAGS.items()],
        "security": [{name: []} for name in SECURITY] + [{}],
        "paths": dict(paths),
        "components": {
            "schemas": {name: make() for name, make in SCHEMAS.items()},
            "headers": HEADERS,
            "parameters": PARAMETERS,
            "securitySchemes": SECURITY,
        },
    }


def _described(operation: Operation) -> Json:
    said: Json = {"tags": [operation.tag], "operationId": operation.name, "summary": operation.summary}
    if operation.detail:
        said["description"] = operation.detail
    said["parameters"] = list(_parameters((*operation.parameters, "X-Request-Id")))
    if operation.body:
        said["requestBody"] = {
            "required": operation.needs_body,
            "content": {JSON: {"schema": ref(operation.body), "example": operation.example}},
        }
    said["responses"] = _responses(operation)
    if operation.is_open:
        said["security"] = []
    return said


def _parameters(names: Iterable[str]) -> Iterable[Json]:
    for name in names:
        if name == "question":
            yield from question_parameters()
        else:
            yield {"$ref": f"#/components/parameters/{name}"}


def _responses(operation: Operation) -> Json:
    found = {str(answer.status): _answer(operation, answer) for answer in operation.answers}
    for status, codes in sorted(_statuses(operation).items()):
        refused = _refusal(status, codes, operation.wording)
        if status not in found:
            found[status] = refused
            continue
        # Whoever answers 503 of its own accord does so in a body of its own.
        kinds = found[status]["content"][JSON]["schema"], refused["content"][JSON]["schema"]
        found[status]["content"] = {JSON: {"schema": {"anyOf": list(kinds)}}}
    return found


def _answer(operation: Operation, answer: Answer) -> Json:
    limited = LIMITED if Code.TOO_MANY_STREAMS in operation.codes else ()
    said: Json = {"description": answer.meaning, "headers": _headers((*_ALSO, *answer.headers, *limited))}
    if answer.bodies:
        said["content"] = {kind: {"schema": schema} for kind, schema in answer.bodies.items()}
        if "X-Stream-Id" in answer.headers:
            said["links"] = _LINKS
    return said


def _statuses(operation: Operation) -> Mapping[str, list[Code]]:
    """The errors of an operation by status. An upstream's own status may be any: it is passed on."""
    found: defaultdict[str, list[Code]] = defaultdict(list)
    for code in dict.fromkeys((*operation.codes, *_ALWAYS)):
        found[str(code.status)].append(code)
    found[str(_EXPECTATION_FAILED)] = [Code.BAD_HTTP]
    if operation.passes_on:
        for status, codes in found.items():
            codes += [code for code in _passed_on(status) if code not in codes]
        found |= {"4XX": list(_passed_on("4XX")), "5XX": list(_passed_on("5XX"))}
    return found


def _passed_on(status: str) -> tuple[Code, ...]:
    if status in ("401", "403"):
        return (Code.UPSTREAM_AUTH,)
    return (Code.UPSTREAM_REJECTED,) if status.startswith("4") else (Code.UPSTREAM_ERROR,)


def _refusal(status: str, codes: list[Code], wording: Wording) -> Json:
    headers = [*_ALSO, "x-should-retry"]
    if any(code.retryable for code in codes):
        headers.append("Retry-After")
    if Code.UNAUTHENTICATED in codes:
        headers.append("WWW-Authenticate")
    if _LIMITS.intersection(codes):
        headers += LIMITED
    return {
        "description": _meaning(status, codes),
        "headers": _headers(headers),
        "content": {JSON: {"schema": _error([code.name for code in codes], wording)}},
    }


def _meaning(status: str, codes: list[Code]) -> str:
    title = {"4XX": "The upstream's own status", "5XX": "The upstream's own status"}.get(status)
    told = "\n".join(f"- `{code.name}`: {code.meaning}" for code in codes)
    return f"{title or HTTPStatus(int(status)).phrase}\n\n{told}"


def _error(codes: list[str], wording: Wording) -> Json:
    native: Json = {"allOf": [ref("Error"), {"properties": {"code": {"enum": codes}}}]}
    inner = {"properties": {"error": {"properties": {"code": {"enum": codes}}}}}
    openai: Json = {"allOf": [ref("OpenAIError"), inner]}
    kinds = {Wording.NATIVE: [native], Wording.OPENAI: [openai], Wording.EITHER: [native, openai]}[wording]
    return kinds[0] if len(kinds) == 1 else {"anyOf": kinds}


def _headers(names: Iterable[str]) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
