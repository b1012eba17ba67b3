"""A process of its own that can be asked whether it lives; to be killed and frozen by tests."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

from gateway.stores.probe import Probe

ROOT = Path(__file__).parent.parent


class Peer:
    """Serves a probe that says `instance`; use as a context manager."""

    def __init__(self, instance: str, port: int = 0) -> None:
        self.instance = instance
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.peer", instance, str(port)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.address = self._process.stdout.readline().decode().strip()
        assert self.address, "the peer did not start"

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def port(self) -> int:
        """Of its probe."""
        return int(self.address.partition("@")[0].rpartition(":")[2])

    def freeze(self) -> None:
        """SIGSTOP: the kernel still takes connections, nobody speaks."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self._process.kill()
        self._process.communicate(timeout=10)


async def _serve(instance: str, port: int) -> None:
    probe = Probe(instance, "127.0.0.1", port)
    await probe.start()
    print(probe.address, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
