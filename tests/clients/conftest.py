"""The clients as fixtures: `listen` is one of them after the other, browsers are started once for this folder."""

from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients import listeners
from tests.clients.heard import LIMIT_S, Heard
from tests.clients.node import CHROMIUM, FIREFOX, MISSING, Browser
from tests.house import eventually

EVENT_SOURCES = ["eventsource-npm", "chromium", "firefox"]
NATIVE = ["httpx-sse", "curl", "fetch-event-source", *EVENT_SOURCES]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without Node and its packages most of this folder has nothing to say."""
    for item in items:
        if MISSING and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="Node or its packages are not installed: make .make/node"))


def _browser(kind: str, executable: str | None, folder: Path) -> Iterator[Browser]:
    if executable is None:
        pytest.skip(f"{kind} is not installed")
    browser = Browser(kind, executable, folder)
    try:
        yield browser
    finally:
        browser.close()


@pytest.fixture(scope="package")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A running Chromium."""
    yield from _browser("chromium", CHROMIUM, tmp_path_factory.mktemp("chromium"))


@pytest.fixture(scope="package")
def firefox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A running Firefox."""
    yield from _browser("firefox", FIREFOX, tmp_path_factory.mktemp("firefox"))


@pytest.fixture(params=["chromium", "firefox"])
def browser(request: pytest.FixtureRequest) -> Browser:
    """One browser after the other."""
    found: Browser = request.getfixturevalue(request.param)
    return found


EventSourceListener = Callable[..., Coroutine[Any, Any, Heard]]


def in_browser(browser: Browser) -> EventSourceListener:
    """An EventSource in a page of the gateway's own."""

    async def listen(base: str, close_on: str = "complete,error", query: str = "query=hi") -> Heard:
        await browser.ask("goto", url=f"{base}/")
        heard = await browser.watch(f"/stream?{query}", tuple(close_on.split(",")))
        await eventually(lambda: heard.ended, LIMIT_S)
        return heard

    return listen


def listener(name: str, request: pytest.FixtureRequest) -> EventSourceListener:
    """The client of that name."""
    if name in ("chromium", "firefox"):
        return in_browser(request.getfixturevalue(name))
    known = {
        **listeners.OPENAI,
        **listeners.BY_HAND,
        "fetch-event-source": listeners.fetch_event_source,
        "eventsource-npm": listeners.eventsource_npm,
    }
    return known[name]


@pytest.fixture(params=EVENT_SOURCES)
def event_source(request: pytest.FixtureRequest) -> EventSourceListener:
    """Every EventSource there is."""
    return listener(request.param, request)


@pytest.fixture(params=NATIVE)
def native(request: pytest.FixtureRequest) -> EventSourceListener:
    """Every client of the native dialect."""
    return listener(request.param, request)


@pytest.fixture(params=list(listeners.OPENAI))
def openai_sdk(request: pytest.FixtureRequest) -> EventSourceListener:
    """Every OpenAI SDK."""
    return listener(request.param, request)
