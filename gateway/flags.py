"""Flags: who gets a feature while it is rolled out, as data and rules; and the few verbs of their keeper."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple, Protocol

STREAMING = "streaming"
"""The flag of everything that streams."""

BUCKETS = 10_000
"""Each subject falls into one of them: a percentage is exact to a hundredth."""


class Step(NamedTuple):
    """From `at_s` (Unix time, seconds) on, `percent` of all subjects."""

    at_s: float
    percent: float


class Variant(NamedTuple):
    """One arm of an experiment: its share is its weight among all weights; `model`, if any, answers instead."""

    name: str
    weight: float
    model: str = ""


class RolledBack(NamedTuple):
    """Why and when (Unix time, seconds) a flag was taken back by the gateway itself."""

    reason: str
    at_s: float


class Subject(NamedTuple):
    """For whom a flag is decided: a user of a tenant, or its session, or else where it comes from."""

    tenant: str
    user: str | None = None
    session: str | None = None
    address: str = ""


@dataclass(frozen=True, slots=True)
class Flag:
    """One feature's rollout. Tenants and users (`tenant/user`) that are named have it as long as it is enabled at all;
    of the others so many percent as the last step that is due says, or `percent` before the first one.

    `version` counts the changes made at run time, the last of them at `changed_s` (Unix time); 0 is as configured.
    """

    name: str
    enabled: bool = True
    tenants: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    percent: float = 100.0
    steps: tuple[Step, ...] = ()
    variants: tuple[Variant, ...] = ()
    rolled_back: RolledBack | None = None
    version: int = 0
    changed_s: float = 0.0
    open: bool = field(init=False, compare=False, repr=False)
    """Whether everybody has it, now and always: then nobody need be looked at."""
    guarded: bool = field(init=False, compare=False, repr=False)
    """Whether it was ever rolled out with care: what was simply on from the beginning is not taken back."""

    def __post_init__(self) -> None:
        is_open = self.enabled and self.percent >= 100 and not self.steps
        object.__setattr__(self, "open", is_open)
        object.__setattr__(self, "guarded", self.version > 0 or not is_open or bool(self.variants))

    def percent_at(self, now: float) -> float:
        """The percentage in force at `now` (Unix time)."""
        return next((step.percent for step in reversed(self.steps) if step.at_s <= now), self.percent)

    def last_good_at(self, now: float) -> float:
        """The percentage of the step before the one in force at `now`, never more than now; 0 where there is none."""
        due = [step.percent for step in self.steps if step.at_s <= now]
        return min([self.percent, *due][-2:]) if due else 0.0

    def taken_back(self, percent: float, reason: str, now: float) -> "Flag":
        """The same flag at `percent`, without its schedule, marked with the reason."""
        return replace(self, percent=percent, steps=(), rolled_back=RolledBack(reason, now))


def is_in(flag: Flag, subject: Subject, now: float, *, at_most: float = 100.0) -> bool:
    """Whether `subject` has the feature at `now` (Unix time); `at_most` is the percentage that its tenant has set.

    Sticky: who is in at one percentage is in at every higher one.
    """
    if not flag.enabled:
        return False
    if subject.tenant in flag.tenants or (subject.user and f"{subject.tenant}/{subject.user}" in flag.users):
        return True
    return bucket_of(flag.name, subject) < min(flag.percent_at(now), at_most) * BUCKETS / 100


def variant_for(flag: Flag, subject: Subject) -> str:
    """The arm of the experiment that `subject` is in, empty where there is none; the same as long as the weights stay.

    It has nothing to do with when the subject came in.
    """
    total = sum(variant.weight for variant in flag.variants)
    if not total:
        return ""
    place, passed = bucket_of(f"{flag.name} variant", subject) / BUCKETS * total, 0.0
    for variant in flag.variants:
        passed += variant.weight
        if place < passed:
            return variant.name
    return flag.variants[-1].name


def bucket_of(name: str, subject: Subject) -> int:
    """Which of the buckets `subject` falls into, as evenly as SHA-256 spreads; no two flags share an order."""
    if subject.user:
        who = f"user\n{subject.user}"
    elif subject.session:
        who = f"session\n{subject.session}"
    else:
        who = f"address\n{subject.address}"
    digest = hashlib.sha256(f"{name}\n{subject.tenant}\n{who}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") * BUCKETS >> 64


def to_dict(flag: Flag) -> dict[str, Any]:
    """The flag in words and numbers; times are Unix time in seconds."""
    told = asdict(flag)
    del told["open"], told["guarded"]
    told["steps"] = [step._asdict() for step in flag.steps]
    told["variants"] = [variant._asdict() for variant in flag.variants]
    told["rolled_back"] = flag.rolled_back and flag.rolled_back._asdict()
    return told


def from_dict(told: Mapping[str, Any]) -> Flag:
    """The flag that `to_dict` told. Raises TypeError, KeyError or ValueError where it is none."""
    values = dict(told)
    rolled_back = values.pop("rolled_back", None)
    return Flag(
        **{
            **values,
            "tenants": tuple(values.get("tenants", ())),
            "users": tuple(values.get("users", ())),
            "steps": tuple(Step(**step) for step in values.get("steps", ())),
            "variants": tuple(Variant(**variant) for variant in values.get("variants", ())),
        },
        rolled_back=RolledBack(**rolled_back) if rolled_back else None,
    )


class Entry(NamedTuple):
    """One line of the audit trail: who changed a flag, when (Unix time, seconds), from what to what."""

    actor: str
    at_s: float
    before: dict[str, Any]
    after: dict[str, Any]


Change = Callable[[Flag], Flag]
"""What makes a new flag of the present one; where it returns the same, nothing is changed."""

AUDIT_MAX = 1000
"""Entries that are kept, about."""


class FlagStore(Protocol):
    """Keeps flags, for this process or for all who share it."""

    def read(self) -> Mapping[str, Flag]:
        """All flags as they are known here now, by name; never waits."""

    async def change(self, name: str, change: Change, actor: str) -> Flag:
        """The flag of that name, changed; the change is seen by all within a second, and stands in the audit trail.

        `change` may be asked several times, where somebody else was faster. Raises what it raises, KeyError where
        there is no such flag, and `STORE_AWAY`.
        """

    async def audit(self, name: str) -> Sequence[Entry]:
        """The changes of that flag, the newest first. Raises `STORE_AWAY`."""
