"""A wire that can be cut: a network namespace for clients, whose peer then hears nothing, not even a reset."""

import ctypes
import os
import shutil
import socket
import subprocess
import threading
from types import TracebackType
from typing import Self

IP = shutil.which("ip", path="/bin:/usr/bin:/sbin:/usr/sbin")
CLONE_NEWNET = 0x40000000


def why_not() -> str:
    """Why there can be no such wire on this machine; empty where there can."""
    if IP is None:
        return "ip (iproute2) is not installed"
    name = f"ssegw-try-{os.getpid()}"
    tried = subprocess.run([IP, "netns", "add", name], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"no network namespaces here: {tried.stderr.strip()}"
    _ip("netns", "del", name)
    return ""


def _ip(*arguments: str) -> None:
    subprocess.run([IP or "ip", *arguments], check=True, capture_output=True, timeout=20)


class Wire:
    """Between `here`, where the gateway listens, and `there`, where clients are."""

    def __init__(self) -> None:
        self.here, self.there = (f"10.213.{os.getpid() % 256}.{end}" for end in (1, 2))
        self._name = f"ssegw-{os.getpid()}"
        self._ours, self._theirs = f"sg{os.getpid()}a", f"sg{os.getpid()}b"

    def __enter__(self) -> Self:
        _ip("netns", "add", self._name)
        try:
            _ip("link", "add", self._ours, "type", "veth", "peer", "name", self._theirs)
            _ip("link", "set", self._theirs, "netns", self._name)
            _ip("addr", "add", f"{self.here}/30", "dev", self._ours)
            _ip("link", "set", self._ours, "up")
            _ip("-n", self._name, "addr", "add", f"{self.there}/30", "dev", self._theirs)
            _ip("-n", self._name, "link", "set", self._theirs, "up")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        subprocess.run([IP or "ip", "link", "del", self._ours], check=False, capture_output=True, timeout=20)
        _ip("netns", "del", self._name)

    def connect(self, port: int) -> socket.socket:
        """A client over there. A socket belongs to the namespace of the thread that makes it."""
        made: list[socket.socket] = []

        def make() -> None:
            with open(f"/var/run/netns/{self._name}") as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                    return
            made.append(socket.create_connection((self.here, port), timeout=5))

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        if not made:
            raise OSError("no connection through the wire")
        return made[0]

    def cut(self) -> None:
        """From now on what is sent there is lost: nobody has that address any more, and nobody says so."""
        _ip("-n", self._name, "addr", "del", f"{self.there}/30", "dev", self._theirs)
