"""Questions: what may be asked, how much of it, and what is taken out of it before anybody hears it."""

import re
from dataclasses import replace
from typing import Any

from gateway.admission.tenant import Tenant
from gateway.errors import Code, GatewayError
from gateway.request import Caps, StreamRequest

_UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202d\u202e]")
"""Control characters (C0 and C1 but tab, line feed and return), and the two overrides of direction.

The overrides show text in another order than it has, and are typed by nobody. What right-to-left text and emoji need
stays: marks, embeddings, isolates, joiners.
"""

_PAYLOADS = frozenset(("image_url", "input_audio", "file"))
"""Types of parts that are no text, and the names under which they hold it; the bound of the body holds for them."""

_TYPES = _PAYLOADS | {"text", "refusal", "function", "content", "json_schema", "json_object"}
_TYPES |= {"object", "array", "string", "number", "integer", "boolean", "null"}
"""What the API and its schemas call things; any other type may be text that goes by that name."""

_USUAL = """
    role content name type text refusal id function arguments tool_calls tool_call_id image_url input_audio file
    url detail data format file_data file_id filename description parameters properties required items enum strict
    additionalProperties json_schema schema include_usage
"""
_NAMES = frozenset(_USUAL.split())
"""Names of fields that cost nothing; of the rest, which the caller made up, each character counts."""

Json = dict[str, Any]


class Questions:
    """Refuses what is too much or not the tenant's, and cleans the rest. All of it is done before anything is called.

    A question has at most `max_chars` characters of text in all that is asked with it (messages, tools and other
    parameters, context), and `max_messages` messages; a tenant's own limits hold where they are smaller.
    """

    def __init__(self, max_chars: int, max_messages: int) -> None:
        self._max_chars = max_chars
        self._max_messages = max_messages

    def accept(self, asked: StreamRequest, tenant: Tenant, dialect: str) -> StreamRequest:
        """`asked` without what nobody types; the same object where there is nothing of it.

        Raises `FEATURE_NOT_ALLOWED`, `MODEL_NOT_ALLOWED` and `INPUT_TOO_LARGE`.
        """
        features = tenant.features
        if features.dialects and dialect not in features.dialects:
            raise GatewayError(Code.FEATURE_NOT_ALLOWED, "this tenant is not answered in this dialect", param="dialect")
        if features.models and asked.model not in features.models:
            raise GatewayError(Code.MODEL_NOT_ALLOWED, param="model", allowed=list(features.models))
        if asked.voice is not None and not features.voice:
            raise GatewayError(Code.FEATURE_NOT_ALLOWED, "this tenant has no voice", param="voice")
        messages = asked.messages
        _refuse_more(len(messages), smaller(self._max_messages, tenant.limits.max_messages), "messages")
        characters = 0
        for message in messages:
            characters += _characters(message)
        most = smaller(self._max_chars, tenant.limits.max_input_chars)
        _refuse_more(characters, most, "characters of text")
        if asked.parameters or asked.context:
            _refuse_more(characters + _beside(asked), most, "characters of text, in all that belongs to it", param=None)
        for message in messages:
            if _is_unclean(message.get("content")):
                return replace(asked, messages=tuple(map(_cleaned, messages)))
        return asked


def caps_of(own: Caps, tenant: Tenant) -> Caps:
    """How long the tenant's answers may become; what it does not say is as in `own`."""
    theirs = tenant.caps or own
    return Caps(
        theirs.words or own.words,
        theirs.tokens or own.tokens,
        theirs.bytes or own.bytes,
        theirs.seconds or own.seconds,
    )


def smaller(own: int, theirs: int) -> int:
    """The smaller of two limits; 0 is none."""
    return min(own, theirs) if theirs else own


def _refuse_more(found: int, limit: int, what: str, param: str | None = "messages") -> None:
    if found > limit:
        raise GatewayError(Code.INPUT_TOO_LARGE, f"a question has at most {limit} {what}", param=param)


def _characters(message: Json) -> int:
    """All text of a message, wherever it stands."""
    total = 0
    for name, value in message.items():
        if isinstance(value, str):
            # Who may speak is a closed set of words.
            total += 0 if name == "role" else len(value)
        elif name == "content" and isinstance(value, list):
            total += sum(map(_in_part, value))
        else:
            total += _within(value)
        if name not in _NAMES:
            total += len(name)
    return total


def _in_part(part: Json) -> int:
    """All text of a part, but what it holds that is none."""
    kind = part.get("type")
    payload = part.get(kind) if isinstance(kind, str) and kind in _PAYLOADS else None
    return _within(part) - _within(payload)


def _beside(asked: StreamRequest) -> int:
    """All text that is asked with the messages. The name of an end user is short, and for nobody to read."""
    total = sum(_within(value) for name, value in asked.parameters.items() if name != "user")
    for value in asked.context.values():
        total += sum(map(_in_part, value)) if isinstance(value, list) else _within(value)
    return total


def _within(value: Any) -> int:
    """The characters of all strings in a value, and of the names in it. It nests no deeper than its dialect allows."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_in_field, value.items()))
    return sum(map(_within, value)) if isinstance(value, list) else 0


def _in_field(field: tuple[str, Any]) -> int:
    name, value = field
    if name == "type" and isinstance(value, str) and value in _TYPES:
        return 0
    return _within(value) + (0 if name in _NAMES else len(name))


def _is_unclean(content: Any) -> bool:
    if isinstance(content, list):
        return any(_is_unclean_text(part.get("text")) for part in content)
    return _is_unclean_text(content)


def _is_unclean_text(text: Any) -> bool:
    # Printable text, which is most of it, holds nothing unwanted, and is told faster.
    return isinstance(text, str) and not text.isprintable() and _UNWANTED.search(text) is not None


def _cleaned(message: Json) -> Json:
    content = message.get("content")
    if not _is_unclean(content):
        return message
    if isinstance(content, str):
        return {**message, "content": _UNWANTED.sub("", content)}
    parts = [
        {**part, "text": _UNWANTED.sub("", part["text"])} if _is_unclean_text(part.get("text")) else part
        for part in content or ()
    ]
    return {**message, "content": parts}
