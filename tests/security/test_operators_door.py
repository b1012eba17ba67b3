"""What is the operator's alone cannot be had from outside: the flags, the figures, and every change of them."""

import re
from collections.abc import AsyncIterator, Iterator
from http.client import HTTPConnection

import aiohttp
import pytest

from gateway.app.house import Gateway
from gateway.routes.admin import FAILURES_MAX, FAILURES_S
from gateway.settings import load
from tests.documents import ROOT
from tests.house import gateway_process, house, see
from tests.nginx import MISSING, Nginx
from tests.operators import TOKEN, Operator, admin

OUTSIDE = "127.0.0.2"  # an address of loopback that is not the one the rules call "this host"
ADMIN_PATHS = ("/admin/flags", "/admin/flags/streaming", "/admin/flags/streaming/audit", "/admin/tenants/reload")
FIGURES = ("/metrics", "/metrics/streaming", "/health/streaming")
CREDENTIAL = {"Authorization": f"Bearer {TOKEN}", "X-Actor": "anna"}


@pytest.fixture
async def operator() -> AsyncIterator[Operator]:
    """At a gateway of his own."""
    port, settings = admin()
    async with house(**settings), aiohttp.ClientSession() as web:
        yield Operator(web, port)


# The operator's routes are not where clients come.


def test_no_route_of_the_public_listener_is_an_operators() -> None:
    """All of its routes are looked at, whatever is configured."""
    _, settings = admin()
    routes = [route for route in Gateway(load(None, settings))._runner.app.router.routes() if route.resource]
    assert len(routes) > 10
    for route in routes:
        assert route.resource is not None
        assert not re.search(r"admin|flag|reload|debug|audit", route.resource.canonical)
        assert route.method != "PATCH"


async def test_the_public_listener_knows_nothing_of_them_even_with_the_token() -> None:
    """404 for every method; and the admin listener has none of the public routes."""
    port, settings = admin()
    async with house(**settings) as gateway, aiohttp.ClientSession() as web:
        for path in ADMIN_PATHS:
            for method in ("GET", "PATCH", "POST", "DELETE"):
                assert (await see(web, method, gateway.urls[0] + path, headers=CREDENTIAL)).status == 404
        for path in ("/", "/stream?query=hi", *FIGURES):
            assert (await Operator(web, port).ask("GET", path)).status == 404


def test_the_shipped_nginx_configuration_names_no_way_to_them() -> None:
    """Neither the path nor the port; what is not named is 404."""
    for path in (ROOT / "nginx").iterdir():
        directives = re.sub(r"(?m)#.*$", "", path.read_text("utf-8"))
        assert not re.search(r"admin|9901", directives)


# Through the shipped nginx.


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """The shipped nginx before a gateway that has an admin listener."""
    if MISSING:
        pytest.skip("nginx or openssl is not installed")
    _, settings = admin()
    with (
        gateway_process(port=None, **settings) as gateway,
        Nginx(tmp_path_factory.mktemp("edge"), [f"127.0.0.1:{gateway.port}"]) as edge,
    ):
        yield edge


def asked(edge: Nginx, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    """What somebody outside is answered, though with the operator's token."""
    connection = HTTPConnection("127.0.0.1", edge.port, timeout=10, source_address=(OUTSIDE, 0))
    try:
        connection.request(method, path, headers=CREDENTIAL)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("path", [*ADMIN_PATHS, "//admin/flags", "/stream/../admin/flags", "/%61dmin/flags"])
@pytest.mark.parametrize("method", ["GET", "PATCH", "POST"])
def test_nginx_leads_nobody_to_the_admin_routes(edge: Nginx, path: str, method: str) -> None:
    """However the path is spelled."""
    assert asked(edge, path, method)[0] in (400, 404)


@pytest.mark.parametrize("path", [*FIGURES, "/debug", "/openapi.json", "/docs"])
def test_nginx_shows_nobody_outside_figures_or_descriptions(edge: Nginx, path: str) -> None:
    """403 or 404, and not a word of what stands there."""
    status, _, body = asked(edge, path)
    assert status in (403, 404)
    assert b"ssegw_" not in body
    assert b"openapi" not in body


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_health_shows_no_versions(edge: Nginx, path: str) -> None:
    """One word, and a server's name without a number."""
    status, headers, body = asked(edge, path)
    assert status == 200
    assert re.fullmatch(rb'\{"status":"\w+"\}', body)
    assert not re.search(r"\d", headers.get("server", ""))


# Who may come near, and what stays of what they do.


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:9901"])
@pytest.mark.parametrize("method", ["GET", "PATCH", "POST", "OPTIONS"])
async def test_a_page_in_a_browser_is_refused_though_it_has_the_token(
    operator: Operator, method: str, origin: str
) -> None:
    """403 before anything else is looked at, preflights too; nothing is changed."""
    seen = await operator.ask(method, "/admin/flags/streaming", {"Origin": origin}, json={"percent": 0})
    assert (seen.status, seen.json()["code"]) == (403, "ORIGIN_NOT_ALLOWED")
    assert not any(name.lower().startswith("access-control") for name in seen.headers)
    assert (await operator.flag())["version"] == 0


async def test_every_change_stands_in_the_trail_with_who_made_it(operator: Operator) -> None:
    """No change without an actor, no entry that can be changed or taken out."""
    for percent in (5, 10, 25):
        await operator.change(percent=percent)
    trail = "/admin/flags/streaming/audit"
    changes = (await operator.ask("GET", trail)).json()["changes"]
    told = [(change["actor"], change["before"]["percent"], change["after"]["percent"]) for change in changes]
    assert told == [("anna", 10, 25), ("anna", 5, 10), ("anna", 100, 5)]
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert (await operator.ask(method, trail, json={})).status == 405
    assert (await operator.ask("GET", trail)).json()["changes"] == changes


async def test_guessing_the_token_ends_after_a_few_tries(operator: Operator) -> None:
    """One answer for every wrong token; then 429 for all but the right one, until the time is over."""
    answers = set()
    for number in range(FAILURES_MAX):
        wrong = {"Authorization": f"Bearer {'x' * (number * 3)}"} if number else {"Authorization": ""}
        seen = await operator.ask("GET", "/admin/flags", wrong)
        answers.add((seen.status, seen.json()["message"], seen.headers["WWW-Authenticate"]))
    assert answers == {(401, "the admin token is needed", "Bearer")}
    seen = await operator.ask("GET", "/admin/flags", {"Authorization": "Bearer wrong"})
    assert (seen.status, seen.json()["code"]) == (429, "RATE_LIMITED")
    assert 1 <= int(seen.headers["Retry-After"]) <= FAILURES_S
    # Whoever guesses, or makes a browser ask, must not keep the operator from taking back a rollout.
    assert (await operator.ask("GET", "/admin/flags")).status == 200


@pytest.mark.parametrize("site", ["cross-site", "same-site", "same-origin"])
async def test_a_page_whose_browser_names_no_origin_is_told_by_its_site_and_counts_for_nothing(
    operator: Operator, site: str
) -> None:
    """As an image's address on a strange page: no wrong token, so nobody has to wait for it."""
    for _ in range(FAILURES_MAX + 1):
        seen = await operator.ask("GET", "/admin/flags", {"Authorization": "", "Sec-Fetch-Site": site})
        assert (seen.status, seen.json()["code"]) == (403, "ORIGIN_NOT_ALLOWED")
    assert (await operator.ask("GET", "/admin/flags", {"Sec-Fetch-Site": site})).status == 403
    assert (await operator.ask("GET", "/admin/flags", {"Authorization": "Bearer wrong"})).status == 401
    assert (await operator.ask("GET", "/admin/flags", {"Sec-Fetch-Site": "none"})).status == 200


async def test_the_token_is_in_no_log_metric_or_answer(
    operator: Operator, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Right or wrong."""
    caplog.set_level("DEBUG")
    bodies = [(await operator.ask("GET", path)).body.decode() for path in ("/admin/flags", "/admin/flags/x")]
    bodies.append((await operator.ask("GET", "/admin/flags", {"Authorization": f"Bearer {TOKEN}y"})).body.decode())
    said = "".join((*bodies, caplog.text, *capfd.readouterr()))
    assert TOKEN not in said
    _, settings = admin()
    assert TOKEN not in repr(load(None, settings))


def test_tokens_are_compared_in_constant_time() -> None:
    """By the one function that is made for it; there is no other comparison of them in the file."""
    text = (ROOT / "gateway" / "routes" / "admin.py").read_text("utf-8")
    assert text.count("self._token") == 2
    assert "compare_digest(token" in text
