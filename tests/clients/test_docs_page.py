"""The API page in real browsers: it draws all of the description, and its lines can be copied and run."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson

from gateway.routes.description.document import document
from tests.clients.node import Browser
from tests.house import house

DOCUMENT = orjson.loads(orjson.dumps(document()))
OPERATIONS = {
    said["operationId"]: (method, path, said)
    for path, methods in DOCUMENT["paths"].items()
    for method, said in methods.items()
}
READY = "!document.querySelector('#routes').hasAttribute('aria-busy')"


def resolved(parameter: dict[str, Any]) -> dict[str, Any]:
    """The parameter itself, which may stand among the components."""
    if "$ref" not in parameter:
        return parameter
    found: dict[str, Any] = DOCUMENT["components"]["parameters"][parameter["$ref"].rsplit("/", 1)[1]]
    return found


class Page:
    """What a person sees and does there."""

    def __init__(self, browser: Browser, base: str) -> None:
        self._browser = browser
        self.base = base

    async def open(self, fragment: str = "") -> None:
        """Go there from elsewhere, and wait until it is drawn."""
        await self._browser.ask("goto", url=f"{self.base}/health/live")
        await self._browser.ask("goto", url=f"{self.base}/docs{fragment}")
        await self._browser.ask("until", expression=READY, limit=10_000)

    async def see(self, expression: str) -> Any:
        """The value of an expression in the page."""
        return await self._browser.ask("evaluate", expression=expression)

    async def type(self, at: str, text: str) -> None:
        """Write."""
        await self._browser.ask("type", at=at, text=text)


@asynccontextmanager
async def visited(browser: Browser, fragment: str = "") -> AsyncIterator[Page]:
    """The page of a running gateway."""
    async with house() as gateway:
        page = Page(browser, gateway.urls[0])
        await page.open(fragment)
        yield page


async def test_it_draws_every_route_with_its_parameters_answers_and_codes(browser: Browser) -> None:
    """Nothing of the description is left out."""
    async with visited(browser) as page:
        drawn = dict(await page.see("[...document.querySelectorAll('.route')].map((r) => [r.id, r.textContent])"))
    assert set(drawn) == set(OPERATIONS)
    for name, (method, path, said) in OPERATIONS.items():
        wanted = [method.upper(), path, said["summary"], *said["responses"]]
        wanted += [resolved(each)["name"] for each in said["parameters"]]
        wanted += [line.split("`")[1] for answer in said["responses"].values()
                   for line in answer["description"].split("\n") if line.startswith("- ")]  # fmt: skip
        missing = [word for word in wanted if word not in drawn[name]]
        assert not missing, (name, missing)


async def test_it_shows_every_event_of_a_stream(browser: Browser) -> None:
    """By name, to be opened."""
    async with visited(browser) as page:
        shown = await page.see("document.querySelector('#openStream').textContent")
    kinds = DOCUMENT["components"]["schemas"]["StreamEvent"]["oneOf"]
    assert len(kinds) > 15
    assert all(kind["description"].replace("`", "") in shown for kind in kinds)


async def test_an_address_leads_to_its_route(browser: Browser) -> None:
    """Opened, and in sight."""
    async with visited(browser, "#cancelStream") as page:
        opened = await page.see("[...document.querySelectorAll('.route[open]')].map((r) => r.id)")
        top = await page.see("document.querySelector('#cancelStream').getBoundingClientRect().top")
        height = await page.see("innerHeight")
    assert opened == ["cancelStream"]
    assert 0 <= top < height


async def test_the_filter_leaves_what_holds_all_of_its_words(browser: Browser) -> None:
    """Codes are words too."""
    async with visited(browser) as page:
        await page.type("#filter", "idempotency_mismatch get")
        left = await page.see(
            "[...document.querySelectorAll('.route')].filter((r) => r.checkVisibility()).map((r) => r.id)"
        )
    assert left == ["openStreamByQuery"]


async def test_it_does_not_scroll_sideways_on_a_phone(browser: Browser) -> None:
    """All of it opened, in a frame of 360 pixels."""
    script = (
        "(async () => { const frame = document.createElement('iframe'); frame.width = 360; frame.height = 700;"
        " frame.srcdoc = document.documentElement.outerHTML.replaceAll('<details', '<details open')"
        ".replace(/<script.*?<\\/script>/g, ''); document.body.append(frame);"
        " await new Promise((done) => { frame.onload = done; });"
        " const page = frame.contentDocument.documentElement;"
        " return [page.scrollWidth, page.clientWidth]; })()"
    )
    async with visited(browser) as page:
        wide, seen = await page.see(script)
    assert seen <= 360
    assert wide <= seen


async def test_every_line_to_copy_runs_and_is_answered_as_described(browser: Browser) -> None:
    """In a shell, against this very gateway."""
    async with visited(browser) as page:
        lines = dict(
            await page.see(
                "[...document.querySelectorAll('.route')].map((r) => [r.id, r.querySelector('pre').textContent])"
            )
        )
        for name, line in lines.items():
            assert line.startswith("curl ")
            told = await _run(line)
            assert told in OPERATIONS[name][2]["responses"], (name, line, told)
            assert told == "200" or "{" in OPERATIONS[name][1], (name, line, told)


async def _run(line: str) -> str:
    silent = line.replace("curl ", "curl -s -o /dev/null --max-time 10 -w '%{http_code}' ", 1)
    done = await asyncio.to_thread(subprocess.run, ["sh", "-c", silent], capture_output=True, text=True, check=True)
    return done.stdout
