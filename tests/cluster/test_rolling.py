"""Three processes are renewed one after the other under live streams: nobody loses, repeats or is refused anything."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest
import pytest_asyncio

from tests.clients import node
from tests.clients.heard import Heard
from tests.clients.node import Browser
from tests.cluster.play import STREAMS, Play, faultless, play
from tests.cluster.stage import TOKENS_PER_S, Stage, stage
from tests.house import eventually
from tests.load import FULL, at_scale

pytestmark = pytest.mark.asyncio(loop_scope="module")

WAVES = at_scale(3, 1)
"""Before each restart some streams are opened; or all of them at once, whose answers outlast all restarts."""

PAUSE_S = at_scale(0, 3)
LENGTH_S = at_scale(5, 60)
TABS = 3
"""Of the browser, each time."""

ENDS = ("complete", "error")
DRAIN = {"GATEWAY_DRAIN__LIMIT_S": str(at_scale(1, 2))}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """Three processes, whose answers take as long."""
    words = LENGTH_S * TOKENS_PER_S
    async with stage(tmp_path_factory.mktemp("rolling"), processes=3, words=words, settings=DRAIN) as here:
        yield here


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A running browser."""
    if node.CHROMIUM is None or node.MISSING:
        pytest.skip("chromium or Node is not installed")
    browser = Browser("chromium", node.CHROMIUM, tmp_path_factory.mktemp("chromium"))
    try:
        yield browser
    finally:
        browser.close()


async def test_no_reader_notices_a_rolling_restart(house: Stage, chromium: Browser) -> None:
    """Browsers and others, a real one among them: 0 lost, 0 repeated, 0 refused, and the browser never gives up."""
    await chromium.ask("goto", url=f"{house.cluster.edge.tls_url}/")
    heard: list[Heard] = []
    async with contextlib.AsyncExitStack() as stack:
        plays: list[Play] = []
        for number in range(3):
            if number < WAVES:
                plays.append(await stack.enter_async_context(play(house, STREAMS // WAVES)))
                heard += [await chromium.watch(f"/stream?query={topic}", ENDS) for topic in _topics(house)]
                await plays[-1].opened()
                await eventually(partial(_all_begun, heard), 10)
            await house.cluster.supervisor.restart(number)
            await asyncio.sleep(PAUSE_S)
        outlasted = sum(not history.finished for on in plays for history in on.histories)
        for on in plays:
            seen = await on.seen()
            faultless(f"rolling restart of 3, outlasted by {outlasted}", seen)
            assert seen.moved
        await eventually(lambda: all(one.ended for one in heard), LENGTH_S + 20)
    for one, topic in zip(heard, [*range(TABS)] * WAVES, strict=True):
        assert one.text == house.document.answer(topic)
        places = [line["id"].rpartition("-")[2] for line in one.saw("event") if line["name"] == "text"]
        assert len(places) == len(set(places))
        assert one.names[-1] == "complete"
        assert not any(line["readyState"] == 2 for line in one.saw("lost"))
    assert any(one.opens > 1 for one in heard)
    assert (outlasted == STREAMS) >= FULL


def _topics(house: Stage) -> list[str]:
    return [house.document.question(number) for number in range(TABS)]


def _all_begun(heard: list[Heard]) -> bool:
    return all("text" in one.names for one in heard)
