"""Identity: who asks, by what a request shows; free of any framework."""

from collections.abc import Mapping
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from gateway.admission.addresses import Proxies, all_here, is_here
from gateway.admission.attempts import Attempts, StaleError
from gateway.admission.origins import is_foreign, is_local_name, is_same_origin
from gateway.admission.tenant import OPEN, OPEN_NAME
from gateway.admission.tenants import Registry, Tenants
from gateway.admission.tickets import Tickets, TicketUsedError
from gateway.admission.visitor import Trust, Visitor
from gateway.dialects.fields import Name
from gateway.errors import Code, GatewayError
from gateway.request import STRANGERS, Caller

SESSION_MIN = 16
"""Characters of a stranger's session id: it is all that keeps one of them from another's streams."""

NOT_IN_QUERIES = frozenset(("api_key", "key", "access_token", "token", "authorization"))
"""What stands in a query stands in logs, histories and referrers. A ticket may: it is of no use to a second one."""

DOTS_OF_A_TOKEN = 2
"""Between the parts of a JSON Web Token (RFC 7515, compact serialization); anything else need not be read as one."""

_NAME = TypeAdapter(Name)
CHALLENGE = {"WWW-Authenticate": "Bearer"}


class Shown(NamedTuple):
    """What a request shows of who asks. `headers` and `query` find a name's first value, headers in any case.

    `peer` is the address at the other end of the socket, empty for a unix socket; `forwarded` is all that came as
    `X-Forwarded-For`; `host` is the name under which the gateway was asked.
    """

    headers: Mapping[str, str]
    query: Mapping[str, str]
    peer: str = ""
    forwarded: str = ""
    host: str = ""


class Identity:
    """Tells visitors by their keys, tokens, tickets and public hashes. Whatever is wrong with one is the same 401."""

    def __init__(self, registry: Registry, tickets: Tickets, proxies: Proxies, attempts: Attempts) -> None:
        self._registry = registry
        self._tickets = tickets
        self._proxies = proxies
        self._attempts = attempts

    async def identify(self, shown: Shown) -> Visitor:
        """Who asks, as far as headers and query say.

        Raises `CREDENTIAL_IN_QUERY`, `UNAUTHENTICATED`, `RATE_LIMITED`, `FORBIDDEN`, `ORIGIN_NOT_ALLOWED`;
        `INVALID_REQUEST` for names that are none, and `STORE_AWAY` where a ticket cannot be looked up.
        """
        if shown.query and not NOT_IN_QUERIES.isdisjoint(map(str.lower, shown.query)):
            raise GatewayError(Code.CREDENTIAL_IN_QUERY)
        tenants = self._registry.now
        address = self._proxies.client(shown.peer, shown.forwarded)
        if tenants.is_open:
            proxied = bool(shown.forwarded) and self._proxies.trusts_peer(shown.peer)
            return _open(shown, address, proxied=proxied)
        visitor = await self._known(tenants, shown, address)
        if visitor is None:
            raise GatewayError(Code.UNAUTHENTICATED, headers=CHALLENGE)
        _check_origin(visitor, shown.headers.get("Origin"))
        return speaks_for(visitor, _name(shown, "user_id", "X-User-Id"), _name(shown, "session_id", "X-Session-Id"))

    async def _known(self, tenants: Tenants, shown: Shown, address: str) -> Visitor | None:
        """By the strongest of what is shown."""
        scheme, _, secret = shown.headers.get("Authorization", "").partition(" ")
        kind, secret = scheme.lower(), secret.strip()
        if kind == "bearer":
            return self._by_secret(tenants, secret, address, secret.count(".") == DOTS_OF_A_TOKEN)
        if key := shown.headers.get("X-API-Key"):
            return self._by_secret(tenants, key, address, False)
        # Neither is counted: any page can have its visitor's browser show a wrong one in a query, and so shut it out.
        if ticket := secret if kind == "ticket" else shown.query.get("ticket"):
            return await self._by_ticket(tenants, ticket, address)
        if public := shown.headers.get("X-Tenant-Hash") or shown.query.get("tenant_hash"):
            return _by_hash(tenants, public, address)
        return None

    def _by_secret(self, tenants: Tenants, secret: str, address: str, is_token: bool) -> Visitor | None:
        """By a key, or a token. One that is neither is counted, and its address waits; but never for a good key.

        Raises `RATE_LIMITED` before any signature is looked at, which costs much more than the digest of a key.
        """
        visitor = _by_key(tenants, secret, address)
        if visitor is not None:
            return visitor
        wait_s = self._attempts.wait_s(address)
        if wait_s:
            raise GatewayError(Code.RATE_LIMITED, "too many attempts that failed", retry_after_s=wait_s)
        if is_token:
            try:
                visitor = _by_token(tenants, secret, address)
            except StaleError:
                return None
        if visitor is None:
            self._attempts.failed(address)
        return visitor

    async def _by_ticket(self, tenants: Tenants, shown: str, address: str) -> Visitor | None:
        """As whom it was made for; what it was made by must still be good."""
        found = await self._tickets.find(shown)
        if found is None or not tenants.honours(found[1].credential, found[1].tenant):
            return None
        digest, ticket = found
        tenant = tenants.named(ticket.tenant)
        if tenant is None:
            return None
        caller = Caller(ticket.tenant, ticket.user, ticket.session)
        return Visitor(tenant, caller, address, ticket.credential, digest, ticket.sid, Trust.PROVED)

    async def lets_read(self, visitor: Visitor, sid: str, owner: Caller) -> None:
        """Raise `STREAM_NOT_FOUND` where the visitor may not attach to, or cancel, the stream `sid` of `owner`.

        A ticket that is not used yet is used for it, and is good for no other from then on.
        """
        if not visitor.may_read_what(owner):
            raise GatewayError(Code.STREAM_NOT_FOUND)
        if visitor.ticket and visitor.bound != sid:
            try:
                await self._tickets.bind(visitor.ticket, sid)
            except TicketUsedError:
                raise GatewayError(Code.STREAM_NOT_FOUND) from None


def speaks_for(visitor: Visitor, user: str | None, session: str | None) -> Visitor:
    """The visitor as the user and the session that are named, where it may be. Raises `FORBIDDEN` where it may not."""
    caller, trust = visitor.caller, visitor.trust
    if trust is Trust.STRANGER:
        user = None
        session = None if session is None else STRANGERS + session
    elif session is not None:
        session = caller.kept_as(session)
    if (user is None or user == caller.user) and (session is None or session == caller.session):
        return visitor
    if trust is Trust.PROVED:
        if user is not None and user != caller.user:
            raise GatewayError(Code.FORBIDDEN, "user_id is not the user that the credential is for", param="user_id")
        if caller.session is not None:
            raise GatewayError(
                Code.FORBIDDEN, "session_id is not the session that the credential is for", param="session_id"
            )
    return visitor._replace(caller=Caller(caller.tenant, user or caller.user, session or caller.session))


def check_session(visitor: Visitor) -> None:
    """A stranger's session keeps it from other strangers: `INVALID_REQUEST` where it could be guessed."""
    if visitor.trust is Trust.STRANGER and len(visitor.caller.shown_session or "") < SESSION_MIN:
        raise GatewayError(
            Code.INVALID_REQUEST, f"session_id: at least {SESSION_MIN} characters, by chance", param="session_id"
        )


def _open(shown: Shown, address: str, *, proxied: bool) -> Visitor:
    """Anybody on this machine; but no page of another server in a browser on it, under whatever name it asks.

    `proxied` says that a proxy that is trusted has passed it on: which names lead here is that one's to say.
    """
    if not is_here(address) or (shown.forwarded and not all_here(shown.forwarded)):
        raise GatewayError(Code.FORBIDDEN, "only this machine is served until tenants are configured")
    if not (proxied or is_local_name(shown.host)) and shown.peer:
        raise GatewayError(Code.FORBIDDEN, "only localhost is served until tenants are configured")
    origin, site = shown.headers.get("Origin"), shown.headers.get("Sec-Fetch-Site", "")
    if origin is None:
        foreign = is_foreign(site)
    else:
        foreign = not is_same_origin(origin, shown.host, site, proxied=bool(shown.forwarded))
    if foreign:
        raise GatewayError(Code.ORIGIN_NOT_ALLOWED)
    user, session = _name(shown, "user_id", "X-User-Id"), _name(shown, "session_id", "X-Session-Id")
    return Visitor(OPEN, Caller(OPEN_NAME, user, session), address)


def _by_key(tenants: Tenants, key: str, address: str) -> Visitor | None:
    grant = tenants.by_key(key)
    return grant and Visitor(grant.tenant, Caller(grant.tenant.name), address, grant.credential)


def _by_hash(tenants: Tenants, public: str, address: str) -> Visitor | None:
    grant = tenants.by_hash(public)
    return grant and Visitor(grant.tenant, Caller(grant.tenant.name), address, grant.credential, trust=Trust.STRANGER)


def _by_token(tenants: Tenants, token: str, address: str) -> Visitor | None:
    found = tenants.by_token(token)
    if found is None:
        return None
    (tenant, credential), claims = found
    try:
        user = _NAME.validate_python(claims.user)
        session = _NAME.validate_python(claims.session) if claims.session else None
    except ValidationError:
        return None
    return Visitor(tenant, Caller(tenant.name, user, session), address, credential, trust=Trust.PROVED)


def _check_origin(visitor: Visitor, origin: str | None) -> None:
    """A page must be one of the tenant's: always where its address is what a stranger is let in by."""
    listed = visitor.tenant.origins
    if origin in listed:
        return
    if visitor.trust is Trust.STRANGER or (origin is not None and listed):
        raise GatewayError(Code.ORIGIN_NOT_ALLOWED)


def _name(shown: Shown, parameter: str, header: str) -> str | None:
    """A name of the client's own. A query serves browsers, whose EventSource cannot set headers."""
    value = (shown.query and shown.query.get(parameter)) or shown.headers.get(header)
    if not value:
        return None
    try:
        return _NAME.validate_python(value)
    except ValidationError:
        raise GatewayError(
            Code.INVALID_REQUEST, f"{parameter}: 1 to 200 characters, none of them control characters", param=parameter
        ) from None
