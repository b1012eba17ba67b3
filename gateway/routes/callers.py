"""Who asks. With no tenants configured there is one open tenant, and users and sessions are who they say they are."""

from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from gateway.admission.tenant import OPEN, OPEN_NAME
from gateway.admission.visitor import Visitor
from gateway.dialects.fields import Name
from gateway.errors import Code, GatewayError
from gateway.request import Caller, StreamRequest

_NAME = TypeAdapter(Name)


def visitor_of(request: web.Request, asked: StreamRequest | None = None) -> Visitor:
    """Who asks. Anybody on this machine is the open tenant's."""
    return Visitor(OPEN, caller_of(request, asked))


def caller_of(request: web.Request, asked: StreamRequest | None = None) -> Caller:
    """The caller, from the question where there is one, else from the query or the headers.

    A query (`user_id`, `session_id`) serves browsers, whose EventSource cannot set `X-User-Id` and `X-Session-Id`.
    """
    user = asked.user_id if asked is not None else None
    session = asked.session_id if asked is not None else None
    return Caller(
        OPEN_NAME,
        user or _name(request, "user_id", "X-User-Id"),
        session or _name(request, "session_id", "X-Session-Id"),
    )


def _name(request: web.Request, parameter: str, header: str) -> str | None:
    value = request.query.get(parameter) or request.headers.get(header)
    if not value:
        return None
    try:
        return _NAME.validate_python(value)
    except ValidationError:
        raise GatewayError(
            Code.INVALID_REQUEST, f"{parameter}: 1 to 200 characters, none of them control characters", param=parameter
        ) from None
