"""Sessions: the memory of a conversation, and the few verbs of its keeper."""

from typing import NamedTuple, Protocol

from gateway.request import Caller


class Said(NamedTuple):
    """One turn of a conversation: `role` is `user` or `assistant`; `at_s` in seconds of Unix time."""

    role: str
    content: str
    at_s: int


class SessionStore(Protocol):
    """Keeps conversations, each for a time after its last turn. A session belongs to its owner: tenant and user,
    or tenant alone where no user is named; the same name under another owner is another session."""

    async def read(self, owner: Caller, session: str) -> list[Said]:
        """What was said, the oldest first; nothing where nothing is known. Raises `STORE_AWAY`."""

    def write(self, owner: Caller, session: str, said: list[Said]) -> None:
        """Add turns at its end, and keep it for its time again; never waits."""

    async def delete(self, owner: Caller, session: str) -> bool:
        """Forget it; whether there was anything. Raises `STORE_AWAY`."""
