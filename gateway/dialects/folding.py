"""Folding: the pieces of a whole answer put together, for clients that do not stream."""

from collections.abc import Sequence
from typing import Any

from gateway import events
from gateway.events import Event

Json = dict[str, Any]


def joined(said: Sequence[Event], kind: type[events.Text] | type[events.Reasoning] | type[events.Refusal]) -> str:
    """The tokens of one kind of event as one text; what replaces the text so far does."""
    tokens: list[str] = []
    for event in said:
        if isinstance(event, kind):
            if isinstance(event, events.WholeText):
                tokens.clear()
            tokens.append(event.token)
    return "".join(tokens)


def tool_calls(said: Sequence[Event]) -> list[Json]:
    """The fragments of each tool call joined, in the order of their index."""
    calls: dict[int, Json] = {}
    for event in said:
        if isinstance(event, events.ToolCall):
            empty = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            call = calls.setdefault(event.index, empty)
            call["id"] = event.id or call["id"]
            call["function"]["name"] += event.name or ""
            call["function"]["arguments"] += event.arguments
    return [calls[index] for index in sorted(calls)]


def logprobs_of(event: Event) -> Json | None:
    """The log probabilities that an event brings, as the upstream gave them."""
    found = event.data.get("logprobs") if isinstance(event, events.Metadata) else None
    return found if isinstance(found, dict) else None


def joined_logprobs(said: Sequence[Event]) -> Json | None:
    """The pieces of `logprobs` joined, where they were asked for."""
    joined: Json = {}
    for event in said:
        for kind, entries in (logprobs_of(event) or {}).items():
            if isinstance(entries, list):
                joined.setdefault(kind, []).extend(entries)
    return joined or None
