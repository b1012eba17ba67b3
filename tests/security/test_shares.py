"""What all tenants have together: a page of one of them, or a tenant, takes no more of it than its share."""

from pathlib import Path

import aiohttp

from tests.house import house, see
from tests.tenancy import ACME_KEY, RIVAL_HASH, RIVAL_PAGE, bearer, write

PAGE = {"X-Tenant-Hash": RIVAL_HASH, "Origin": RIVAL_PAGE}


async def test_a_page_cannot_take_the_tickets_of_all(tmp_path: Path) -> None:
    """429 after as many as it might ask questions, whatever session it makes up; a backend goes on to make them."""
    async with (
        house(GATEWAY_TENANTS__FILE=str(write(tmp_path)), GATEWAY_LIMITS__REQUESTS_PER_IP="5") as gateway,
        aiohttp.ClientSession(gateway.urls[0]) as web,
    ):
        asked = [
            await see(web, "POST", "/stream/tickets", headers=PAGE, json={"session_id": f"made-up-session-{number}"})
            for number in range(8)
        ]
        assert [seen.status for seen in asked] == [200] * 5 + [429] * 3
        assert asked[-1].json()["code"] == "RATE_LIMITED"
        assert asked[-1].headers["X-RateLimit-Limit"] == "5"
        assert int(asked[-1].headers["Retry-After"]) > 0
        ticket = asked[0].json()["ticket"]
        assert (await see(web, "GET", f"/stream?query=hi&ticket={ticket}")).status == 200
        for _ in range(8):
            assert (await see(web, "POST", "/stream/tickets", headers=bearer(ACME_KEY), json={})).status == 200
