"""The chat page in real browsers: asked, read as it is written, reloaded, cut off, stopped."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from tests.clients.node import Browser
from tests.cutter import Cutter, cutter
from tests.house import eventually, house
from tests.upstream import Call, Step, Upstream, answer, streamed, upstream

TOKENS = [f"word {number} " for number in range(30)]
WHOLE = " ".join("".join(TOKENS).split())
PAUSE = 12
"""Steps of the upstream before it pauses: ten tokens."""
FIRST = " ".join("".join(TOKENS[:10]).split())
STOPPED_S = 1.0


class Page:
    """What a person sees and does."""

    def __init__(self, browser: Browser, base: str) -> None:
        self._browser = browser
        self._base = base

    async def open(self) -> None:
        """Go there, with nothing left over from an earlier visit."""
        await self._browser.ask("goto", url=f"{self._base}/")

    async def ask(self, question: str) -> None:
        """Write a question and send it off."""
        await self._browser.ask("type", at="#prompt", text=question)
        await self._browser.ask("click", at="#send")

    async def press(self, button: str) -> None:
        """Click it."""
        await self._browser.ask("click", at=button)

    async def reload(self) -> None:
        """As with F5."""
        await self._browser.ask("reload")

    async def text(self, at: str) -> str:
        """What can be read there, in one line."""
        found = await self._browser.ask("evaluate", expression=f"document.querySelector('{at}').innerText")
        return " ".join(str(found).split())

    async def shows(self, at: str, what: str, limit_s: float = 10.0) -> None:
        """Wait until it does."""
        said = f"document.querySelector('{at}').innerText.replace(/\\s+/g, ' ').includes('{what}')"
        await self._browser.ask("until", expression=said, limit=limit_s * 1000)


class Script:
    """An answer that pauses in its middle until it is let go on."""

    def __init__(self) -> None:
        self.goes_on = False

    def __call__(self, call: Call) -> Iterator[Step]:
        steps = streamed(answer(TOKENS))
        yield from steps[:PAUSE]
        while not self.goes_on:
            yield 0.01
        yield from steps[PAUSE:]


@asynccontextmanager
async def visited(browser: Browser, service: Upstream) -> AsyncIterator[tuple[Page, Cutter]]:
    """The page of a running gateway, on a line that can be cut."""
    async with (
        house(OPENAI_BASE_URL=service.url, GATEWAY_DELIVERY__RETRY_MS="100") as gateway,
        cutter(gateway.urls[0]) as line,
    ):
        page = Page(browser, line.url)
        await page.open()
        yield page, line


async def test_the_page_shows_the_answer_as_it_is_written(browser: Browser) -> None:
    """The first words stand there while the last are not yet made; the end says so, with time and speed."""
    script = Script()
    async with upstream(script) as service, visited(browser, service) as (page, _):
        await page.ask("How does resume work?")
        await page.shows("#messages", FIRST)
        await page.shows("#state", "streaming")
        assert "How does resume work?" in await page.text("#messages")
        script.goes_on = True
        await page.shows("#state", "done")
        await page.shows("#messages", WHOLE)
        await page.shows("#ttft", " ms")
        await page.shows("#rate", " tok/s")


@pytest.mark.parametrize("how", ["reload", "cut"])
async def test_an_answer_goes_on_after_a_reload_or_a_lost_connection(browser: Browser, how: str) -> None:
    """In mid-answer; what was there stays, what follows comes, and the upstream is asked once."""
    script = Script()
    async with upstream(script) as service, visited(browser, service) as (page, line):
        await page.ask("How does resume work?")
        await page.shows("#messages", FIRST)
        if how == "reload":
            await page.reload()
        else:
            line.cut()
        await eventually(lambda: len(line.streams) == 2)
        await page.shows("#state", "streaming")
        await page.shows("#messages", FIRST)
        script.goes_on = True
        await page.shows("#state", "done")
        shown = await page.text("#messages")
        assert (shown.count(WHOLE), shown.count("word 0 ")) == (1, 1)
    assert len(service.calls) == 1


async def test_the_stop_button_stops_the_upstream_and_keeps_what_came(browser: Browser) -> None:
    """Within a second; then another question can be asked."""
    script = Script()
    async with upstream(script) as service, visited(browser, service) as (page, _):
        await page.ask("How does resume work?")
        await page.shows("#messages", FIRST)
        await page.press("#stop")
        await service.calls[0].wait_closed(STOPPED_S)
        await page.shows("#state", "stopped")
        assert FIRST in await page.text("#messages")
        script.goes_on = True
        await page.ask("And again?")
        await page.shows("#state", "done")
        await page.shows("#messages", WHOLE)
    assert len(service.calls) == 2
