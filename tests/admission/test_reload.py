"""Tenants that are read again: beside everything that goes on, one after the other, and with a result that is told."""

import asyncio
import threading
from pathlib import Path

import pytest

from gateway.admission.tenant import Tenant
from gateway.admission.tenants import Registry
from tests.house import eventually
from tests.tenancy import write

LIMIT_S = 5.0


class Held:
    """A check of tenants that waits, for the first one that it is asked of once it is `closed`, until it is let go."""

    def __init__(self) -> None:
        self.closed = False
        self.begun, self.go = threading.Event(), threading.Event()

    def check(self, tenant: Tenant) -> None:
        """As `Registry` asks it, in whatever thread."""
        if self.closed:
            self.closed = False
            self.begun.set()
            assert self.go.wait(LIMIT_S)


async def test_streams_go_on_while_the_file_is_read_again(tmp_path: Path) -> None:
    """Thousands of tenants take a second to check: the loop is free meanwhile, and swaps them itself at the end."""
    held, where = Held(), list[int]()
    registry = Registry(write(tmp_path), check=held.check, on_change=lambda _: where.append(threading.get_ident()))
    before, held.closed = registry.now, True
    reading = asyncio.create_task(registry.reload())
    assert await asyncio.to_thread(held.begun.wait, LIMIT_S)
    assert registry.now is before
    assert not where
    held.go.set()
    assert await reading == ""
    assert registry.now is not before
    assert where == [threading.get_ident()]


async def test_what_was_read_first_does_not_win_over_what_was_read_last(tmp_path: Path) -> None:
    """Two reloads at once: each is told what came of its own, and the newest file counts."""
    held = Held()
    registry = Registry(write(tmp_path), check=held.check)
    held.closed = True
    first = asyncio.create_task(registry.reload())
    assert await asyncio.to_thread(held.begun.wait, LIMIT_S)
    write(tmp_path, "[tenants.newest]\n")
    second = asyncio.create_task(registry.reload())
    # It waits for the first one; were it faster, the first would put the former tenants back.
    await asyncio.wait((second,), timeout=0.1)
    held.go.set()
    assert [*await asyncio.gather(first, second)] == ["", ""]
    assert registry.now.named("newest") is not None
    assert registry.now.named("acme") is None


async def test_a_reload_that_nobody_waits_for_any_more_changes_nothing_later(tmp_path: Path) -> None:
    """And those that come after it are not held up."""
    held = Held()
    registry = Registry(write(tmp_path), check=held.check)
    held.closed = True
    given_up = asyncio.create_task(registry.reload())
    assert await asyncio.to_thread(held.begun.wait, LIMIT_S)
    given_up.cancel()
    await asyncio.wait((given_up,))
    write(tmp_path, "[tenants.newest]\n")
    async with asyncio.timeout(LIMIT_S):
        assert await registry.reload() == ""
    held.go.set()
    assert registry.now.named("newest") is not None


async def test_a_signal_begins_a_reload_and_the_log_says_what_came_of_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What handles a signal cannot wait."""
    changed = asyncio.Event()
    registry = Registry(write(tmp_path), on_change=lambda _: changed.set())
    write(tmp_path, "[tenants.acme\n")
    registry.reload_soon()
    await eventually(lambda: "not valid TOML" in caplog.text)
    assert len(registry.now) == 2
    write(tmp_path, "[tenants.acme]\n")
    registry.reload_soon()
    async with asyncio.timeout(LIMIT_S):
        await changed.wait()
    assert len(registry.now) == 1
