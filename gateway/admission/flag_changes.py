"""Flag changes: what an operator may say of a flag, over the admin listener or in a file, checked and applied."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from gateway.dialects.fields import validate
from gateway.errors import Code, GatewayError
from gateway.flags import Flag, Step, Variant, to_dict

STEPS_MAX = 100
NAMED_MAX = 1000
VARIANTS_MAX = 16

_RELATIVE = re.compile(r"\+(\d{1,9})([smhd])")
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

_SINCE, _UNTIL = datetime(2000, 1, 1, tzinfo=UTC).timestamp(), datetime(2100, 1, 1, tzinfo=UTC).timestamp()
"""No rollout has steps outside of it. It does not move with the clock: a file that was right once must not go bad."""

_FIRST_S, _LAST_S = -62_135_596_800, 253_402_300_799
"""All that a datetime can hold, from the year 1 to the end of the year 9999, in seconds of Unix time."""

Percent = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
TenantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
UserName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}/[^\x00-\x1f\x7f]{1,200}$")]
VariantName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Step(_Part):
    at: str | datetime
    percent: Percent


class _Variant(_Part):
    weight: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
    model: str = Field("", max_length=200)


class _Change(_Part):
    enabled: StrictBool | None = None
    percent: Percent | None = None
    steps: Annotated[list[_Step], Field(max_length=STEPS_MAX)] | None = None
    tenants: Annotated[list[TenantName], Field(max_length=NAMED_MAX)] | None = None
    users: Annotated[list[UserName], Field(max_length=NAMED_MAX)] | None = None
    variants: Annotated[dict[VariantName, _Variant], Field(max_length=VARIANTS_MAX)] | None = None
    clear_rollback: StrictBool = False


def changed(flag: Flag, said: Mapping[str, Any], now: float) -> Flag:
    """`flag` with what was `said` of it at `now` (Unix time). Raises `INVALID_REQUEST`, naming the field.

    A percentage ends the schedule, if no new one comes with it; a new schedule begins at the percentage now in force.
    Either is a person's decision, and ends the mark of a rollback.
    """
    change = validate(_Change, dict(said))
    values: dict[str, Any] = {}
    if change.enabled is not None:
        values["enabled"] = change.enabled
    if change.percent is not None:
        values |= {"percent": change.percent, "steps": (), "rolled_back": None}
    if change.steps is not None:
        values |= {"steps": _steps(change.steps, now), "rolled_back": None}
        values.setdefault("percent", flag.percent_at(now))
    if change.tenants is not None:
        values["tenants"] = tuple(change.tenants)
    if change.users is not None:
        values["users"] = tuple(change.users)
    if change.variants is not None:
        values["variants"] = _variants(change.variants)
    if change.clear_rollback:
        values["rolled_back"] = None
    return replace(flag, **values)


def _steps(said: list[_Step], now: float) -> tuple[Step, ...]:
    steps = sorted(Step(_when(step.at, now), step.percent) for step in said)
    if steps and not _SINCE <= steps[0].at_s <= steps[-1].at_s < _UNTIL:
        raise _wrong("steps", "at must not be before 2000, and must be before 2100")
    return tuple(steps)


def _when(said: str | datetime, now: float) -> float:
    """ISO 8601 with its offset from UTC, or `+10m` from now (s, m, h, d)."""
    if isinstance(said, str):
        relative = _RELATIVE.fullmatch(said)
        if relative:
            return now + int(relative[1]) * _UNITS_S[relative[2]]
        try:
            said = datetime.fromisoformat(said)
        except ValueError:
            raise _wrong("steps", "at is a time like 2030-01-31T09:00:00Z, or +10m (s, m, h, d) from now") from None
    if said.tzinfo is None:
        raise _wrong("steps", "at needs its offset from UTC, as in 2030-01-31T09:00:00Z")
    return said.timestamp()


def _variants(said: Mapping[str, _Variant]) -> tuple[Variant, ...]:
    if said and not any(variant.weight for variant in said.values()):
        raise _wrong("variants", "one of the weights must be more than 0")
    return tuple(Variant(name, variant.weight, variant.model) for name, variant in said.items())


def shown(told: Mapping[str, Any]) -> dict[str, Any]:
    """What `flags.to_dict` told, for people: times in ISO 8601, variants by their names."""
    if not told:
        return {}
    mark, changed_s = told["rolled_back"], told["changed_s"]
    return {
        **{name: value for name, value in told.items() if name != "changed_s"},
        "steps": [{"at": iso(step["at_s"]), "percent": step["percent"]} for step in told["steps"]],
        "variants": {
            variant["name"]: {"weight": variant["weight"], "model": variant["model"]} for variant in told["variants"]
        },
        "rolled_back": mark and {"reason": mark["reason"], "at": iso(mark["at_s"])},
        "changed": iso(changed_s) if changed_s else None,
    }


def shown_now(flag: Flag, now: float) -> dict[str, Any]:
    """The same of `flag`, and the percentage that is in force at `now`."""
    return {**shown(to_dict(flag)), "percent_now": flag.percent_at(now) if flag.enabled else 0.0}


def iso(at_s: float) -> str:
    """A Unix time as people and programs read it, in UTC; the nearest that can be written where there is no such year.

    What is stored must be readable whoever stored it: an operator who cannot look cannot mend it either.
    """
    # In this order what is no number at all is the first moment.
    at_s = min(_LAST_S, max(_FIRST_S, at_s))
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _wrong(param: str, message: str) -> GatewayError:
    return GatewayError(Code.INVALID_REQUEST, f"{param}: {message}", param=param)
