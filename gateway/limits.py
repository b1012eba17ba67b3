"""Limits: how much a caller may ask at once, in a while and in a day; and the few verbs of whoever keeps count."""

from typing import NamedTuple, Protocol

CLIENT = "client"
"""The scope of slots of one client among a tenant's."""


class Window(NamedTuple):
    """At most `limit` requests (1 or more) in `window_s` seconds, for `who` in `scope`.

    Scopes are ip, session, user, tenant and global. `who` may be any string, of any length; a session's or a user's
    begins with its tenant, so that no two share one.
    """

    scope: str
    who: str
    limit: int
    window_s: float


class Slots(NamedTuple):
    """At most `limit` streams at once, for `who` in `scope` (client, tenant, global).

    A stream waits for a slot of a scope that `waits`, and is refused at once where another has none.
    """

    scope: str
    who: str
    limit: int
    waits: bool


class Budget(NamedTuple):
    """At most `limit` tokens in a day of UTC, for `who` in `scope` (tenant, global)."""

    scope: str
    who: str
    limit: int


class Charge(NamedTuple):
    """What one new stream is counted against. Everything of one request, so that it is one question to the keeper."""

    windows: tuple[Window, ...] = ()
    slots: tuple[Slots, ...] = ()
    budgets: tuple[Budget, ...] = ()


def clients_in(charge: Charge) -> tuple[str, ...]:
    """The names under which a stream is counted among those of its client."""
    return tuple([slots.who for slots in charge.slots if slots.scope == CLIENT]) if charge.slots else ()


class Standing(NamedTuple):
    """How a caller stands in the window that is nearest to its limit: what the rate-limit headers say.

    `reset_s` is when all of the window is free again, in seconds of Unix time.
    """

    limit: int
    remaining: int
    reset_s: float
    window_s: float


class Verdict(NamedTuple):
    """What the keeper says to a charge: it is taken (`refused` is None), or nothing of it is.

    A taken charge whose slots were not all free has only those that nobody waits for (`has_slots` is false), and its
    stream waits for the rest; whether it gets them or not, it must `leave` in the end.
    """

    refused: Window | Slots | Budget | None
    retry_after_s: float
    standing: Standing | None
    has_slots: bool


class Limiter(Protocol):
    """Keeps count, atomically among all who share it; while the shared count is away, with this process's own.

    A slot belongs to a stream, by its id, until it is left; the slots of a process that died come back by themselves.
    """

    @property
    def shared(self) -> bool:
        """Whether the count is that of all processes now; false while the store is away, or there is none."""

    async def charge(self, sid: str, charge: Charge, *, may_wait: bool, take: bool = True) -> Verdict:
        """Count a new stream, or refuse it and count nothing.

        With `may_wait` a stream may be taken without its slots where those that `waits` are full; without it that is
        a refusal. Without `take` it waits in any case: this process has none to give. Slots that nobody waits for are
        taken at once even so, or a client with one slot could fill the room where streams wait.
        """

    async def take(self, sid: str, slots: tuple[Slots, ...]) -> bool:
        """Take all of `slots` for a stream that waited, or none besides those it has; whether it has them all."""

    def adopt(self, sid: str, slots: tuple[Slots, ...]) -> None:
        """A stream that another process began runs here now, and keeps its slots whatever the count; never waits."""

    def leave(self, sid: str) -> None:
        """Give back the slots of a stream that has ended; never waits, harmless if it has none."""

    def forget(self, sid: str) -> None:
        """Another process makes the stream now: its slots are kept, but not renewed from here; never waits."""

    def spent(self, budgets: tuple[Budget, ...], tokens: int) -> None:
        """Tokens were made (or, negative, were counted too many); never waits."""

    def exhausted(self, budgets: tuple[Budget, ...]) -> bool:
        """Whether one of the budgets is used up, as far as is known here; never waits."""
