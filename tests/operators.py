"""Operators: what asks a gateway's admin listener in tests."""

from typing import Any

import aiohttp

from tests.house import Seen, free_port, see

TOKEN = "an-operators-token"


class Operator:
    """One of them, by name. `settings` are what the gateway is to be started with."""

    def __init__(self, web: aiohttp.ClientSession, port: int, name: str = "anna") -> None:
        self._web = web
        self.url = f"http://127.0.0.1:{port}"
        self._headers = {"Authorization": f"Bearer {TOKEN}", "X-Actor": name}

    async def ask(self, method: str, path: str, headers: dict[str, str] | None = None, **options: Any) -> Seen:
        """One request; a header that is given as '' is left out."""
        said = {name: value for name, value in {**self._headers, **(headers or {})}.items() if value}
        return await see(self._web, method, self.url + path, headers=said, **options)

    async def flag(self) -> dict[str, Any]:
        """The streaming flag as it is in force."""
        seen = await self.ask("GET", "/admin/flags/streaming")
        assert seen.status == 200, seen.body
        return dict(seen.json())

    async def change(self, **changes: Any) -> dict[str, Any]:
        """The streaming flag, changed."""
        seen = await self.ask("PATCH", "/admin/flags/streaming", json=changes)
        assert seen.status == 200, seen.body
        return dict(seen.json())


def admin(port: int | None = None) -> tuple[int, dict[str, str]]:
    """A free port, and the settings that put the admin listener there."""
    port = port or free_port()
    return port, {"GATEWAY_ADMIN__PORT": str(port), "GATEWAY_ADMIN__TOKEN": TOKEN}
