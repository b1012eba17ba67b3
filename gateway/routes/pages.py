"""The demo page and its parts, read once at start: a gateway does not send files from disk while it streams."""

from pathlib import Path

from aiohttp import web

STATIC = Path(__file__).parent.parent / "static"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_SECURITY = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


class PageRoutes:
    """`/` and `/static/…`, from a closed set of names."""

    def __init__(self, folder: Path = STATIC) -> None:
        self._files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in _TYPES}

    def table(self) -> list[web.RouteDef]:
        """The routes."""
        return [web.get("/", self.index), web.get("/static/{name}", self.part)]

    async def index(self, request: web.Request) -> web.Response:
        """The chat page."""
        return self.file("index.html")

    async def part(self, request: web.Request) -> web.Response:
        """A style sheet or a script of it."""
        return self.file(request.match_info["name"])

    def file(self, name: str) -> web.Response:
        """A file of the folder. Raises `HTTPNotFound` where there is none of that name."""
        body = self._files.get(name)
        if body is None:
            raise web.HTTPNotFound
        return web.Response(body=body, content_type=_TYPES[Path(name).suffix], charset="utf-8", headers=_SECURITY)
