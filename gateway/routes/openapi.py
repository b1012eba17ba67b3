"""`/openapi.json` and `/docs`: what the gateway says of itself, made once at the start."""

import orjson
from aiohttp import web

from gateway.routes.description.document import document
from gateway.routes.pages import PageRoutes


class DescriptionRoutes:
    """The OpenAPI document, and the page that shows it."""

    def __init__(self, pages: PageRoutes) -> None:
        self._pages = pages
        self._document = orjson.dumps(document())

    def table(self) -> list[web.RouteDef]:
        """The routes."""
        return [web.get("/openapi.json", self.description), web.get("/docs", self.page)]

    async def description(self, request: web.Request) -> web.Response:
        """The document."""
        headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        return web.Response(body=self._document, content_type="application/json", headers=headers)

    async def page(self, request: web.Request) -> web.Response:
        """The page that shows it."""
        return self._pages.file("docs.html")
