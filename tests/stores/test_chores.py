"""Chores over a real Redis: what it knows of streams beside their logs."""

from gateway.request import Caller
from gateway.stores.chores import Chores
from tests.redis_server import RedisServer
from tests.stores.shared import KEYS, clients_of, log_of

OWNER = Caller("t", "u", None)


async def test_the_list_of_one_who_asks_all_day_does_not_grow_for_ever(redis_server: RedisServer) -> None:
    """Streams of which nothing is kept any more leave it when new ones come."""
    async with clients_of(redis_server) as clients:
        chores = Chores(log_of(clients), KEYS, "us", kept_s=100)
        for number in range(50):
            chores.begins(f"s{number}", OWNER, 1000 + 10 * number)
        await chores.work_off()
    listed = redis_server.command("ZRANGE", KEYS.mine(OWNER), 0, -1)
    assert listed == [f"s{number}" for number in range(40, 50)]
    assert 0 < redis_server.command("TTL", KEYS.mine(OWNER)) <= 100
