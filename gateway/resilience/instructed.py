"""Instructed: a question with what its caller likes of answers said to the model."""

from dataclasses import replace
from typing import Any

from gateway.request import StreamRequest

INSTRUCTIONS = {
    "concise": "Answer concisely: as few words as the question allows, the result first, no introduction, no summary.",
    "detailed": "Answer in detail: explain each step and its reasons, with examples where they help.",
}
"""By `Preferences.response`."""


def instruction_of(request: StreamRequest) -> str:
    """What the model is to be told; empty where nothing was liked."""
    return INSTRUCTIONS.get(request.preferences.response, "") if request.preferences is not None else ""


def instructed(request: StreamRequest) -> StreamRequest:
    """The same question with the instruction in front: in the first system message, or as one where there is none.

    Many models' templates take one system message and no second.
    """
    instruction = instruction_of(request)
    if not instruction:
        return request
    first: dict[str, Any] = request.messages[0] if request.messages else {}
    rest = request.messages
    if first.get("role") in ("system", "developer") and isinstance(first.get("content"), str):
        message, rest = {**first, "content": f"{instruction}\n\n{first['content']}"}, rest[1:]
    else:
        message = {"role": "system", "content": instruction}
    return replace(request, messages=(message, *rest))
