"""Supervisor: N gateway processes, each kept alive as the shipped systemd unit would, all ended when it ends."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fleet.life import Times
from fleet.unit import Unit


class Supervisor:
    """The processes that serve these ports of loopback; inside `async with` all of them have been ready.

    `directory` is for their sockets, `environment` is all that they get, `say` is told each line of theirs with the
    port in front. Raises WrongSettingError when they refuse their settings.
    """

    def __init__(
        self,
        ports: Sequence[int],
        directory: Path,
        environment: Mapping[str, str],
        say: Callable[[str], None],
        times: Times | None = None,
    ) -> None:
        self.units = [Unit(port, directory, environment, say, times or Times()) for port in ports]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pids(self) -> list[int | None]:
        """Their process ids; None where one has ended and the next has not begun."""
        return [unit.pid for unit in self.units]

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(unit.run(), name=f"unit {unit.port}") for unit in self.units]
        try:
            await self.until_ready()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.stop()

    async def until_ready(self) -> None:
        """Wait until all of them serve."""
        await self._or_fail(asyncio.gather(*(unit.ready.wait() for unit in self.units)))

    async def restart(self, number: int) -> None:
        """Renew one of them as `systemctl restart` does: SIGTERM, its drain, the next one, until that is ready."""
        await self._or_fail(asyncio.ensure_future(self.units[number].restart()))

    def signal(self, number: int, what: int) -> int:
        """Send one of them a signal; the pid that got it."""
        return self.units[number].signal(what)

    async def watch(self) -> None:
        """Wait for what never comes unless the settings are wrong: raises WrongSettingError then."""
        await self._or_fail(asyncio.get_running_loop().create_future())

    async def stop(self) -> None:
        """End all of them within seconds, whatever state they are in."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _or_fail(self, waited: "asyncio.Future[Any]") -> None:
        """Wait for something, unless a unit fails before."""
        try:
            several: list[asyncio.Future[Any]] = [waited, *self._tasks]
            await asyncio.wait(several, return_when=asyncio.FIRST_COMPLETED)
            for task in self._tasks:
                if task.done():
                    task.result()
            await waited
        finally:
            waited.cancel()
            await asyncio.gather(waited, return_exceptions=True)
