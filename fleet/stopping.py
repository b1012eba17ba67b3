"""Work that SIGINT, SIGTERM or SIGHUP end in order: it is cancelled once, and may then clear up undisturbed."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def unless_told(work: Coroutine[Any, Any, T]) -> T | None:
    """What the work returns; None when a signal ended it."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    told = False

    def stop() -> None:
        nonlocal told
        if not told:
            told = True
            task.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if not told:
            raise
        return None
    finally:
        for number in SIGNALS:
            loop.remove_signal_handler(number)
