"""A process of its own that takes slots from a Redis: `python limited_process.py URL LEASE_S LIMIT CLIENTS NAME`.

It says `ready`; told `race` on its standard input, its clients race for slots and keep them, and it says how many have
one; then it renews its leases until it is killed.
"""

import asyncio
import contextlib
import sys

from tests.contracts.limiters import redis_limiter, slots, taken


class _At:
    """A Redis that somebody else started."""

    def __init__(self, url: str) -> None:
        self.url = url


async def main(url: str, lease_s: float, limit: int, clients: int, name: str) -> None:
    """Race, and hold on."""
    async with redis_limiter(_At(url), lease_s=lease_s, instance=name) as limiter:
        assert await taken(limiter, f"{name}-warm", slots(10**6, "warm"))
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        won = await asyncio.gather(*[taken(limiter, f"{name}-{n}", slots(limit)) for n in range(clients)])
        assert limiter.shared
        print(sum(won), flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]))
