"""Dialler: a name is looked up once for all that dial at the same time."""

import asyncio
import socket
from typing import Any

import pytest

from gateway.transport.dial import Dialler
from gateway.transport.route import route_to


async def test_who_dials_together_asks_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the answer is on its way; and one that gives up takes nothing from the others."""
    asked: list[str] = []
    known = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 1))]

    async def slow(host: str, *_: Any, **__: Any) -> Any:
        asked.append(host)
        await asyncio.sleep(0.01)
        return known

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", slow)
    dialler = Dialler(route_to("http://upstream.example/v1"))
    waiting = [asyncio.create_task(dialler._resolve()) for _ in range(20)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == [known] * 19
    assert asked == ["upstream.example"]
    assert await dialler._resolve() == known
    assert len(asked) == 1


async def test_an_address_is_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of either family."""
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", None)
    for host, family in (("127.0.0.1", socket.AF_INET), ("[::1]", socket.AF_INET6)):
        ((found, *_, address),) = await Dialler(route_to(f"http://{host}:81/v1"))._resolve()
        assert (found, address[:2]) == (family, (host.strip("[]"), 81))
