"""Receiver: a real endpoint for webhooks on loopback, which answers as it is told and remembers what it was sent."""

import asyncio
import base64
import secrets
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

LOOPBACK = "127.0.0.0/8"


def new_secret() -> str:
    """One that nobody used before."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


@dataclass
class Delivery:
    """One attempt, as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def told(self) -> dict[str, Any]:
        """The message."""
        told: dict[str, Any] = orjson.loads(self.body)
        return told


@dataclass
class Receiver:
    """Answers with `status`, or what stands in `statuses` first; while `hanging` is set it says nothing."""

    status: int = 204
    statuses: list[int] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    hanging: bool = False
    got: list[Delivery] = field(default_factory=list)
    port: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where it stands."""
        return f"http://127.0.0.1:{self.port}/hook"

    @property
    def types(self) -> list[str]:
        """What was told, in order."""
        return [delivery.told["type"] for delivery in self.got]

    async def start(self, port: int = 0) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.port = int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Close everything."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def __aenter__(self) -> "Receiver":
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def _take(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.append(Delivery(request.path, headers, await request.read()))
        if self.hanging:
            await asyncio.sleep(60)
        return web.Response(status=self.statuses.pop(0) if self.statuses else self.status, headers=self.headers)
