"""Identity: what a request shows, and whom that makes of it."""

from pathlib import Path

import pytest

from gateway.admission.attempts import FAILURES_MAX
from gateway.admission.identity import NOT_IN_QUERIES, Shown, check_session, speaks_for
from gateway.admission.keys import digest_of, new_key, written
from gateway.admission.tenant import OPEN
from gateway.admission.tickets import TicketUsedError
from gateway.admission.visitor import Trust, Visitor
from gateway.errors import Code, GatewayError
from gateway.request import STRANGERS, Caller
from tests.admission.test_tokens import BAD
from tests.tenancy import (
    ACME_HASH,
    ACME_KEY,
    ACME_PAGE,
    OTHER_SESSION,
    RIVAL_KEY,
    RIVAL_PAGE,
    SESSION,
    Desk,
    bearer,
    token,
    write,
)

PEER = "203.0.113.7"
HASHED = {"X-Tenant-Hash": ACME_HASH, "Origin": ACME_PAGE}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """With two tenants."""
    return Desk(tmp_path)


def shown(headers: dict[str, str] | None = None, peer: str = PEER, forwarded: str = "", **query: str) -> Shown:
    """A request with these."""
    return Shown(headers or {}, query, peer, forwarded, "localhost:8080")


async def code_of(desk: Desk, what: Shown) -> Code:
    """Of the refusal."""
    with pytest.raises(GatewayError) as refused:
        await desk.identity.identify(what)
    return refused.value.code


@pytest.mark.parametrize(
    "headers", [bearer(ACME_KEY), {"X-API-Key": ACME_KEY}, {"Authorization": f"bearer  {ACME_KEY}"}]
)
async def test_a_key_speaks_for_whichever_user_it_names(desk: Desk, headers: dict[str, str]) -> None:
    """A backend is believed, whether it says it in a header, a query or its question."""
    visitor = await desk.identity.identify(shown({**headers, "X-User-Id": "alice", "X-Session-Id": "s"}))
    assert visitor.tenant.name == "acme"
    assert visitor.caller == Caller("acme", "alice", "s")
    assert visitor.address == PEER
    assert speaks_for(visitor, "bob", None).caller == Caller("acme", "bob", "s")
    named = await desk.identity.identify(shown(headers, user_id="carol"))
    assert named.caller.user == "carol"


async def test_a_token_speaks_for_its_user_only(desk: Desk) -> None:
    """Who names another is known, and may not."""
    visitor = await desk.identity.identify(shown({**bearer(token()), "X-User-Id": "alice", "X-Session-Id": "s"}))
    assert visitor.caller == Caller("acme", "alice", "s")
    assert speaks_for(visitor, "alice", None) is visitor
    with pytest.raises(GatewayError) as refused:
        speaks_for(visitor, "bob", None)
    assert refused.value.code is Code.FORBIDDEN
    assert await code_of(desk, shown({**bearer(token()), "X-User-Id": "bob"})) is Code.FORBIDDEN
    assert await code_of(desk, shown(bearer(token()), user_id="bob")) is Code.FORBIDDEN


@pytest.mark.parametrize("name", BAD)
async def test_every_token_that_is_wrong_has_the_same_answer(desk: Desk, name: str) -> None:
    """One status, one message, one challenge: nobody learns how far it came."""
    with pytest.raises(GatewayError) as refused:
        await desk.identity.identify(shown(bearer(BAD[name])))
    error = refused.value
    assert (error.code, error.message, dict(error.headers)) == (
        Code.UNAUTHENTICATED,
        Code.UNAUTHENTICATED.meaning,
        {"WWW-Authenticate": "Bearer"},
    )


async def test_a_public_hash_is_a_stranger_with_a_session(desk: Desk) -> None:
    """It is no secret, so that no user is believed of it, and a session must be hard to guess."""
    visitor = await desk.identity.identify(shown({**HASHED, "X-User-Id": "alice", "X-Session-Id": SESSION}))
    assert visitor.trust is Trust.STRANGER
    assert visitor.caller == Caller("acme", None, STRANGERS + SESSION)
    assert speaks_for(visitor, "alice", OTHER_SESSION).caller == Caller("acme", None, STRANGERS + OTHER_SESSION)
    in_query = await desk.identity.identify(shown({"Origin": ACME_PAGE}, tenant_hash=ACME_HASH, session_id=SESSION))
    assert in_query.caller == visitor.caller


@pytest.mark.parametrize("session", [None, "s", "fifteen-letters"])
async def test_a_strangers_session_must_be_hard_to_guess(desk: Desk, session: str | None) -> None:
    """It is all that keeps strangers apart."""
    visitor = await desk.identity.identify(shown(HASHED, **({"session_id": session} if session else {})))
    with pytest.raises(GatewayError) as refused:
        check_session(visitor)
    assert (refused.value.code, refused.value.param) == (Code.INVALID_REQUEST, "session_id")


@pytest.mark.parametrize(
    "origin",
    [
        None, "null", "", RIVAL_PAGE, "http://www.acme.example", "https://acme.example", "https://www.acme.example.evil.org",
        "https://evil-www.acme.example", "https://www.acme.example:8443", "https://WWW.acme.example", f"{ACME_PAGE}/",
    ],
)  # fmt: skip
async def test_a_public_hash_is_good_from_the_tenants_own_pages_only(desk: Desk, origin: str | None) -> None:
    """By exact match; not even without an origin, which only programs leave out."""
    headers = {"X-Tenant-Hash": ACME_HASH} | ({"Origin": origin} if origin is not None else {})
    assert await code_of(desk, shown(headers, session_id=SESSION)) is Code.ORIGIN_NOT_ALLOWED


@pytest.mark.parametrize("credential", [bearer(ACME_KEY), bearer(token())])
async def test_a_page_that_is_not_the_tenants_may_not_use_its_credentials(
    desk: Desk, credential: dict[str, str]
) -> None:
    """However it came to have them."""
    assert (await desk.identity.identify(shown({**credential, "Origin": ACME_PAGE}))).tenant.name == "acme"
    assert await code_of(desk, shown({**credential, "Origin": RIVAL_PAGE})) is Code.ORIGIN_NOT_ALLOWED
    assert await code_of(desk, shown({**credential, "Origin": "null"})) is Code.ORIGIN_NOT_ALLOWED


async def test_a_tenant_without_pages_does_not_ask_where_a_key_comes_from(tmp_path: Path) -> None:
    """It has said nothing of browsers; none of them can read the answer anyway."""
    desk = Desk(tmp_path, f"[tenants.a]\nkeys = ['{written(digest_of(ACME_KEY))}']\n")
    assert await desk.identity.identify(shown({**bearer(ACME_KEY), "Origin": RIVAL_PAGE}))


NOTHING_GOOD = {
    "nothing": {},
    "a key that is none": bearer(new_key()),
    "a key that is none, in its own header": {"X-API-Key": new_key()},
    "a key and something behind it": bearer(ACME_KEY + "x"),
    "a key by another name": {"Authorization": f"Basic {ACME_KEY}"},
    "a key without a scheme": {"Authorization": ACME_KEY},
    "an empty bearer": {"Authorization": "Bearer "},
    "a scheme alone": {"Authorization": "Bearer"},
    "a hash that is none": {**HASHED, "X-Tenant-Hash": "somebody-else"},
    "a ticket that is none": {"Authorization": "Ticket abc"},
    "a key in the place of a ticket": {"Authorization": f"Ticket {ACME_KEY}"},
    "a digest in the place of a key": bearer("sha256:" + "0" * 64),
    "letters that are none": bearer("\udc80\udcff"),
}


@pytest.mark.parametrize("name", NOTHING_GOOD)
async def test_who_shows_nothing_good_is_not_let_in(desk: Desk, name: str) -> None:
    """The same 401 whatever it was."""
    assert await code_of(desk, shown(NOTHING_GOOD[name])) is Code.UNAUTHENTICATED


async def test_a_good_key_beside_a_bad_hash_is_good(desk: Desk) -> None:
    """The strongest thing decides, and the weaker ones are not looked at."""
    visitor = await desk.identity.identify(shown({**bearer(ACME_KEY), "X-Tenant-Hash": "rival-public-1"}))
    assert visitor.tenant.name == "acme"
    assert visitor.trust is Trust.BELIEVED


@pytest.mark.parametrize("name", [*sorted(NOT_IN_QUERIES), "API_KEY", "Token"])
async def test_a_credential_in_a_query_is_refused_even_if_it_is_good(desk: Desk, name: str) -> None:
    """Queries stand in logs; whoever sends them there should hear of it at once."""
    assert await code_of(desk, shown(bearer(ACME_KEY), **{name: ACME_KEY})) is Code.CREDENTIAL_IN_QUERY


async def test_who_fails_too_often_is_not_even_looked_at(desk: Desk) -> None:
    """429 and a time to wait, before any signature is checked; other addresses are not counted in."""
    for _ in range(FAILURES_MAX):
        assert await code_of(desk, shown(bearer(new_key()))) is Code.UNAUTHENTICATED
    for headers in (bearer(new_key()), {"X-API-Key": new_key()}, bearer(token())):
        with pytest.raises(GatewayError) as refused:
            await desk.identity.identify(shown(headers))
        assert (refused.value.code, refused.value.retry_after_s) == (Code.RATE_LIMITED, 60)
    assert await desk.identity.identify(shown(bearer(token()), peer="203.0.113.8"))
    desk.clock.advance(61)
    assert await desk.identity.identify(shown(bearer(token())))


async def test_a_good_key_a_ticket_and_a_public_hash_never_wait_for_what_others_showed(desk: Desk) -> None:
    """A backend's users, or a neighbour behind the same address, must not be able to shut it out."""
    ticket = await ticket_of(desk, bearer(ACME_KEY), user_id="alice")
    for _ in range(FAILURES_MAX):
        assert await code_of(desk, shown(bearer(new_key()))) is Code.UNAUTHENTICATED
    for headers, query in (
        (bearer(ACME_KEY), {}),
        ({"X-API-Key": ACME_KEY}, {}),
        ({}, {"ticket": ticket}),
        (HASHED, {"session_id": SESSION}),
    ):
        assert (await desk.identity.identify(shown(headers, **query))).tenant.name == "acme"


NO_GUESSES: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "nothing": ({}, {}),
    "a token whose time is over": (bearer(BAD["expired"]), {}),
    "a ticket that is none, which any page can have a browser show": ({}, {"ticket": "x"}),
    "a ticket in a header": ({"Authorization": "Ticket x"}, {}),
    "a public hash that is none": ({}, {"tenant_hash": "x"}),
}


@pytest.mark.parametrize("name", NO_GUESSES)
async def test_what_is_no_guess_at_a_secret_shuts_nobody_out(desk: Desk, name: str) -> None:
    """It is refused as often as it comes, and not counted."""
    headers, query = NO_GUESSES[name]
    for _ in range(FAILURES_MAX + 5):
        assert await code_of(desk, shown(headers, **query)) is Code.UNAUTHENTICATED
    assert await desk.identity.identify(shown(bearer(token())))


async def test_failures_count_for_the_client_behind_a_trusted_proxy(desk: Desk) -> None:
    """Not for the proxy, behind which everybody else is too; and nobody can blame another by a header of its own."""
    for _ in range(FAILURES_MAX):
        await code_of(desk, shown(bearer(new_key()), peer="10.0.0.1", forwarded="6.6.6.6, 198.51.100.1"))
    assert await code_of(desk, shown(bearer(token()), peer="10.0.0.1", forwarded="198.51.100.1")) is Code.RATE_LIMITED
    assert await desk.identity.identify(shown(bearer(token()), peer="10.0.0.1", forwarded="6.6.6.6"))
    assert await desk.identity.identify(shown(bearer(token()), peer="10.0.0.1"))


async def test_names_that_are_none_are_refused(desk: Desk) -> None:
    """They would stand in logs and in other systems."""
    assert await code_of(desk, shown({**bearer(ACME_KEY), "X-User-Id": "a\x1bb"})) is Code.INVALID_REQUEST
    assert await code_of(desk, shown(bearer(ACME_KEY), session_id="x" * 201)) is Code.INVALID_REQUEST


# Tickets.


async def ticket_of(desk: Desk, headers: dict[str, str], **query: str) -> str:
    """A ticket for who shows these."""
    return (await desk.tickets.issue(await desk.identity.identify(shown(headers, **query)))).ticket


@pytest.mark.parametrize("how", ["query", "header"])
async def test_a_ticket_is_its_user_and_session_and_no_other(desk: Desk, how: str) -> None:
    """As they were when it was made."""
    ticket = await ticket_of(desk, bearer(ACME_KEY), user_id="alice", session_id=SESSION)
    header = {"Authorization": f"Ticket {ticket}"} if how == "header" else {}
    query = {"ticket": ticket} if how == "query" else {}
    visitor = await desk.identity.identify(shown(header, **query))
    assert visitor.caller == Caller("acme", "alice", SESSION)
    assert visitor.ticket
    assert ticket not in repr(visitor)
    for other in ({"user_id": "bob"}, {"session_id": OTHER_SESSION}):
        assert await code_of(desk, shown(header, **query, **other)) is Code.FORBIDDEN


async def test_a_ticket_for_no_user_is_not_for_any(desk: Desk) -> None:
    """Whoever made it could have named one."""
    ticket = await ticket_of(desk, HASHED, session_id=SESSION)
    assert await code_of(desk, shown(ticket=ticket, user_id="alice")) is Code.FORBIDDEN


async def test_a_ticket_ends_with_what_it_was_made_by(desk: Desk, tmp_path: Path) -> None:
    """A key that is withdrawn takes its tickets along."""
    ticket = await ticket_of(desk, bearer(ACME_KEY), user_id="alice")
    other = await ticket_of(desk, bearer(RIVAL_KEY))
    write(tmp_path, f"[tenants.rival]{desk.path.read_text().partition('[tenants.rival]')[2]}")
    assert await desk.registry.reload() == ""
    assert await code_of(desk, shown(ticket=ticket)) is Code.UNAUTHENTICATED
    assert (await desk.identity.identify(shown(ticket=other))).tenant.name == "rival"


async def test_a_ticket_reads_the_stream_that_it_opened_and_no_other(desk: Desk) -> None:
    """Not even another one of the same user; an unused one is used by attaching."""
    alice = Caller("acme", "alice", SESSION)
    ticket = await ticket_of(desk, bearer(ACME_KEY), user_id="alice", session_id=SESSION)
    visitor = await desk.identity.identify(shown(ticket=ticket))
    with pytest.raises(GatewayError, match="STREAM_NOT_FOUND"):
        await desk.identity.lets_read(visitor, "hers", Caller("acme", "bob"))
    await desk.identity.lets_read(visitor, "one", alice)
    again = await desk.identity.identify(shown(ticket=ticket))
    assert again.bound == "one"
    for who in (visitor, again):
        await desk.identity.lets_read(who, "one", alice)
        with pytest.raises(GatewayError, match="STREAM_NOT_FOUND"):
            await desk.identity.lets_read(who, "two", alice)
    with pytest.raises(TicketUsedError) as used:
        await desk.tickets.bind(again.ticket, "two")
    assert used.value.sid == "one"


OWNERS = {
    "the tenant's": Caller("acme"),
    "alice's": Caller("acme", "alice", "s"),
    "the session's": Caller("acme", None, STRANGERS + SESSION),
    "the other session's": Caller("acme", None, STRANGERS + OTHER_SESSION),
    "another tenant's": Caller("rival", "alice", SESSION),
    "another tenant's own": Caller("rival"),
}
READS = {
    "a key": (Visitor(OPEN, Caller("acme")), {"the tenant's"}),
    "a key for alice": (Visitor(OPEN, Caller("acme", "alice")), {"the tenant's", "alice's"}),
    "a token of alice's": (Visitor(OPEN, Caller("acme", "alice", SESSION), trust=Trust.PROVED), {"alice's"}),
    "a stranger": (Visitor(OPEN, Caller("acme", None, STRANGERS + SESSION), trust=Trust.STRANGER), {"the session's"}),
    "a stranger without a session": (Visitor(OPEN, Caller("acme"), trust=Trust.STRANGER), set()),
}


@pytest.mark.parametrize("who", READS)
def test_who_reads_what(who: str) -> None:
    """What a backend opened for nobody in particular is no page's to read, however it learnt of it."""
    visitor, readable = READS[who]
    assert {name for name, owner in OWNERS.items() if visitor.may_read_what(owner)} == readable


# The open tenant.


@pytest.fixture
def open_desk(tmp_path: Path) -> Desk:
    """Without a tenants file, behind a proxy on this machine."""
    return Desk(tmp_path, None, trusted=("unix",))


@pytest.mark.parametrize(
    ("peer", "forwarded", "served"),
    [
        ("127.0.0.1", "", True),
        ("::1", "", True),
        ("", "", True),
        ("", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("203.0.113.7", "", False),
        ("203.0.113.7", "127.0.0.1", False),
        ("", "203.0.113.7", False),
        ("127.0.0.1", "203.0.113.7", False),
        ("127.0.0.1", "127.0.0.1, 203.0.113.7", False),
        ("127.0.0.1", "garbage", False),
    ],
)
async def test_the_open_tenant_is_for_this_machine(open_desk: Desk, peer: str, forwarded: str, served: bool) -> None:
    """Nor for those behind a proxy on it, trusted or not: what makes one less is believed of anybody."""
    what = shown(bearer("anything"), peer, forwarded, user_id="alice")
    if served:
        assert (await open_desk.identity.identify(what)).caller == Caller("local", "alice")
    else:
        assert await code_of(open_desk, what) is Code.FORBIDDEN


@pytest.mark.parametrize(
    ("headers", "served"),
    [
        ({"Origin": "http://localhost:8080"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://localhost:8080", "Sec-Fetch-Site": "cross-site"}, False),
        ({"Origin": "http://localhost:81", "Sec-Fetch-Site": "same-origin"}, True),
    ],
)
async def test_the_open_tenant_is_for_the_gateways_own_page(
    open_desk: Desk, headers: dict[str, str], served: bool
) -> None:
    """Any page that is open in a browser on this machine could ask otherwise, and spend its owner's money."""
    if served:
        assert await open_desk.identity.identify(shown(headers, "127.0.0.1"))
    else:
        assert await code_of(open_desk, shown(headers, "127.0.0.1")) is Code.ORIGIN_NOT_ALLOWED


@pytest.mark.parametrize(
    ("host", "peer", "forwarded", "served"),
    [
        ("localhost", "127.0.0.1", "", True),
        ("LocalHost:8080", "127.0.0.1", "", True),
        ("127.0.0.1:8080", "127.0.0.1", "", True),
        ("127.8.0.1", "127.0.0.1", "", True),
        ("[::1]:8080", "::1", "", True),
        ("[::1]", "::1", "", True),
        ("", "127.0.0.1", "", True),
        ("evil.example:8080", "127.0.0.1", "", False),
        ("evil.example", "127.0.0.1", "127.0.0.1", False),
        ("localhost.evil.example", "127.0.0.1", "", False),
        ("127.0.0.1.evil.example", "127.0.0.1", "", False),
        ("192.0.2.1", "127.0.0.1", "", False),
        ("0.0.0.0:8080", "127.0.0.1", "", False),
        ("[::1].evil.example", "127.0.0.1", "", False),
        ("chat.example", "", "", True),
        ("chat.example", "", "127.0.0.1", True),
    ],
)
async def test_the_open_tenant_answers_to_the_names_of_this_machine_only(
    open_desk: Desk, host: str, peer: str, forwarded: str, served: bool
) -> None:
    """A name that its owner lets point here would make its pages ours; a browser reaches no unix socket but by a
    proxy, and who claims to be one is none."""
    what = Shown({"Sec-Fetch-Site": "same-origin"}, {}, peer, forwarded, host)
    if served:
        assert await open_desk.identity.identify(what)
    else:
        assert await code_of(open_desk, what) is Code.FORBIDDEN


@pytest.mark.parametrize(
    ("site", "served"), [("cross-site", False), ("same-site", False), ("same-origin", True), ("none", True)]
)
async def test_the_open_tenant_is_not_for_another_pages_images_and_links(
    open_desk: Desk, site: str, served: bool
) -> None:
    """A browser sends them without an origin, and says so in a header that no page can write."""
    what = shown({"Sec-Fetch-Site": site}, "127.0.0.1")
    if served:
        assert await open_desk.identity.identify(what)
    else:
        assert await code_of(open_desk, what) is Code.ORIGIN_NOT_ALLOWED
