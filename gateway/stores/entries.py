"""Entries: how events, requests and callers are written down in Redis, and read again.

Text is a JSON string, every other event an object that names its class under `t`. Whatever is found in Redis and is not
that raises `BrokenEntry`: another version may have written it.
"""

import base64
import dataclasses
import json
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from gateway import events
from gateway.events import Audio, AudioEvicted, Event, JsonObject, Metadata, Record, Text, Usage, WholeText
from gateway.request import Caller, Caps, OnDisconnect, Preferences, StreamRequest, Voice

ENTRY_MAX_BYTES = 64 * 1024
"""Of one entry's events: a reader takes in at most so much at once. A single larger event has an entry of its own."""


_TEXTS = (str, Text)


class BrokenEntry(Exception):
    """What stands in Redis cannot be read."""


class Entry(NamedTuple):
    """Events `first` to `last` of a log, written down together.

    Fewer events than places: one folded piece, that stands at `last`. `poured` is how many of the stream's events had
    come from its source by then; it is exact for the last entry of a log.
    """

    epoch: int
    first: int
    last: int
    poured: int
    events: list[Event]

    @property
    def folded(self) -> bool:
        """Whether its places no longer have an event each."""
        return len(self.events) != self.last - self.first + 1

    def records(self, after: int = 0) -> list[Record]:
        """Its events at their places, without those up to `after`: a retried entry may overlap the one before it."""
        if self.folded:
            return [Record(self.last, event) for event in self.events if self.last > after]
        return [Record(seq, event) for seq, event in enumerate(self.events, self.first) if seq > after]


def parse_entry(entry_id: bytes, fields: Sequence[bytes]) -> Entry:
    """The entry that Redis holds under `entry_id`."""
    try:
        pairs = dict(zip(fields[::2], fields[1::2], strict=True))
        epoch, last = parse_id(entry_id)
        entry = Entry(epoch, int(pairs[b"f"]), last, int(pairs[b"p"]), decode(pairs[b"b"]))
    except (KeyError, ValueError) as error:
        raise BrokenEntry(f"an entry without its fields: {error!r}") from error
    if not entry.events or entry.first > last or (entry.folded and len(entry.events) != 1):
        raise BrokenEntry(f"{len(entry.events)} events for the places {entry.first} to {last}")
    return entry


def parse_id(entry_id: bytes) -> tuple[int, int]:
    """Epoch and seq of the last event of the entry with this id."""
    epoch, _, last = entry_id.partition(b"-")
    return int(epoch), int(last)


# Events.


def encode(batch: Sequence[Event | str], *, with_audio: bool = False) -> bytes:
    """A JSON list; a plain string is a text. Speech is left out unless `with_audio`: a tombstone holds its place."""
    plain = [event if type(event) in _TEXTS else _plain(event, with_audio) for event in batch]
    try:
        return orjson.dumps(plain, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return b"[" + b",".join(map(_encode_odd, plain)) + b"]"


def decode(body: bytes) -> list[Event]:
    """The events of a JSON list."""
    found = _loads(body)
    if not isinstance(found, list):
        raise BrokenEntry("not a list of events")
    return [Text(item) if type(item) is str else _event(item) for item in found]


def _encode_odd(plain: Any) -> bytes:
    """What orjson does not take: half a surrogate pair, huge numbers. What is no JSON at all, no client can be told."""
    try:
        return _dumps_odd(plain)
    except (TypeError, ValueError, RecursionError):
        return orjson.dumps(_plain(Metadata({}), False))


def _loads(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(body.decode(errors="surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise BrokenEntry("not JSON") from error


def _plain(event: Event | str, with_audio: bool) -> dict[str, Any]:
    if isinstance(event, WholeText):
        return {"t": "WholeText", "token": event.token}
    if isinstance(event, Audio) and not with_audio:
        event = AudioEvicted(event.index)
    name = type(event).__name__
    return {"t": name, **{field: _plain_value(getattr(event, field)) for field in _FIELDS[name]}}


def _plain_value(value: Any) -> Any:
    if type(value) is bytes:
        return base64.b64encode(value).decode()
    return dataclasses.asdict(value) if type(value) is Usage else value


def _event(plain: Any) -> Event:
    if not isinstance(plain, dict):
        raise BrokenEntry(f"{type(plain).__name__} instead of an event")
    name = plain.get("t")
    if name == "WholeText":
        return WholeText(_string(plain.get("token")))
    kind = _KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise BrokenEntry(f"no event of ours: {name!r}")
    return typing.cast(Event, _build(kind, _FIELDS[kind.__name__], plain))


# Requests and callers.


def encode_request(request: StreamRequest) -> bytes:
    """The request as one JSON object."""
    return _dumps(dataclasses.asdict(request))


def decode_request(body: bytes) -> StreamRequest:
    """The request that was written down: equal to the first, with the same fingerprint."""
    return typing.cast(StreamRequest, _build(StreamRequest, _REQUEST, _object(_loads(body))))


def encode_caller(caller: Caller) -> bytes:
    """The caller as one JSON object."""
    return _dumps(dataclasses.asdict(caller))


def decode_caller(body: bytes) -> Caller:
    """The caller that was written down."""
    return typing.cast(Caller, _build(Caller, _CALLER, _object(_loads(body))))


def _dumps(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        return _dumps_odd(value)


def _dumps_odd(value: Any) -> bytes:
    """JSON in which halves of surrogate pairs stay what they are, as in Python's strings."""
    return json.dumps(value, default=str, ensure_ascii=False).encode(errors="surrogatepass")


# Fields: what each may be, by the type that its class declares.

Check = Callable[[Any], Any]


def _build(kind: type, fields: Mapping[str, Check], plain: Mapping[str, Any]) -> Any:
    """A `kind` from its fields; those that another version knows besides are passed over."""
    try:
        return kind(**{name: check(plain[name]) for name, check in fields.items() if name in plain})
    except (TypeError, ValueError) as error:
        raise BrokenEntry(f"{kind.__name__}: {error}") from error


def _of(*kinds: type) -> Check:
    def check(value: Any) -> Any:
        if type(value) not in kinds:
            raise BrokenEntry(f"{type(value).__name__} instead of {kinds[0].__name__}")
        return value

    return check


def _or_none(check: Check) -> Check:
    return lambda value: None if value is None else check(value)


def _list_of(check: Check) -> Check:
    return lambda value: tuple(map(check, _of(list)(value)))


_string, _object, _whole, _number = _of(str), _of(dict), _of(int), _of(float, int)
_USAGE: dict[str, Check] = {
    "prompt_tokens": _whole,
    "completion_tokens": _whole,
    "reported": _of(bool),
    "details": _object,
}


def _usage(value: Any) -> Usage:
    return typing.cast(Usage, _build(Usage, _USAGE, _object(value)))


def _voice(value: Any) -> Voice:
    return typing.cast(Voice, _build(Voice, _VOICE, _object(value)))


def _caps(value: Any) -> Caps:
    return typing.cast(Caps, _build(Caps, _CAPS, _object(value)))


def _preferences(value: Any) -> Preferences:
    return typing.cast(Preferences, _build(Preferences, _PREFERENCES, _object(value)))


_CHECKS: dict[Any, Check] = {
    str: _string,
    str | None: _or_none(_string),
    int: _whole,
    int | None: _or_none(_whole),
    bool: _of(bool),
    bool | None: _or_none(_of(bool)),
    float: _number,
    float | None: _or_none(_number),
    bytes: lambda value: base64.b64decode(_string(value), validate=True),
    JsonObject: _object,
    JsonObject | None: _or_none(_object),
    dict[str, Any]: _object,
    dict[str, Any] | None: _or_none(_object),
    tuple[str, ...]: _list_of(_string),
    tuple[dict[str, Any], ...]: _list_of(_object),
    Usage | None: _or_none(_usage),
    Voice | None: _or_none(_voice),
    Caps | None: _or_none(_caps),
    Preferences | None: _or_none(_preferences),
    OnDisconnect: OnDisconnect,
    Any: lambda value: value,
}


def _fields_of(kind: type) -> dict[str, Check]:
    hints = typing.get_type_hints(kind)
    return {field.name: _CHECKS[hints[field.name]] for field in dataclasses.fields(kind)}


_KINDS: dict[str, type] = {
    name: kind
    for name, kind in vars(events).items()
    if dataclasses.is_dataclass(kind) and isinstance(kind, type) and issubclass(kind, Event)
}
_FIELDS = {name: _fields_of(kind) for name, kind in _KINDS.items()}
_VOICE = _fields_of(Voice)
_CAPS = _fields_of(Caps)
_PREFERENCES = _fields_of(Preferences)
_REQUEST = _fields_of(StreamRequest)
_CALLER = _fields_of(Caller)
