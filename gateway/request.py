"""What a client asked, validated and free of any dialect, and who asks."""

import hashlib
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import orjson

from gateway.events import weigh_json

CHARACTERS_PER_TOKEN = 4
"""For estimates where a provider gave no usage: right within a third for European languages."""


class OnDisconnect(StrEnum):
    """What becomes of a stream when its last reader has left."""

    CANCEL = "cancel"
    GRACE = "grace"
    DETACH = "detach"


STRANGERS = "\x1f"
"""What the session of a stranger begins with wherever it is a name: no client can write it, so that a session that a
tenant's backend names is never a stranger's, however it is spelt.
"""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a tenant, and perhaps one of its users or sessions."""

    tenant: str
    user: str | None = None
    session: str | None = None

    @property
    def shown_session(self) -> str | None:
        """The session as its caller names it."""
        return None if self.session is None else self.session.removeprefix(STRANGERS)

    def kept_as(self, session: str) -> str:
        """The name under which this caller's `session` is kept: a stranger's is apart from all others."""
        return STRANGERS + session if self.session is not None and self.session.startswith(STRANGERS) else session

    def may_read_what(self, owner: "Caller") -> bool:
        """Whether this caller may attach to or cancel a stream that `owner` opened.

        The owner is the tenant and the user; the session where no user was named; the tenant alone
        where neither was.
        """
        if self.tenant != owner.tenant:
            return False
        if owner.user is not None:
            return self.user == owner.user
        return owner.session is None or self.session == owner.session

    def opened(self, stream_owner: "Caller") -> bool:
        """Whether a stream of that owner is this very caller's: of its user, or of its session where it has no user.

        Narrower than what it may read: what nobody in particular opened is in nobody's list.
        """
        if self.tenant != stream_owner.tenant or self.user != stream_owner.user:
            return False
        return self.user is not None or (self.session is not None and self.session == stream_owner.session)


@dataclass(frozen=True, slots=True)
class Voice:
    """How the answer is to be spoken."""

    language: str | None = None
    name: str | None = None
    rate: float | None = None
    format: str | None = None


@dataclass(frozen=True, slots=True)
class Caps:
    """How long an answer may become; it ends at the end of a sentence before the first of them. 0 is no bound."""

    words: int = 0
    tokens: int = 0
    bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Preferences:
    """How a caller likes to be answered."""

    updates: str = ""
    """`realtime` or `batched`: each token as it comes, or a sentence at a time. Empty: not said, as the next."""
    response: str = ""
    """`detailed` or `concise`; empty is as the model likes."""
    metadata: bool | None = None
    """Whether facts beside the answer are told; they are where nothing is said."""


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """One question. `messages` are chat messages as OpenAI's; `parameters` go to the upstream as they are.

    `is_continuation` says that the last message is the beginning of the answer, to be gone on with. `caps`,
    `preferences` and `variant` (of an experiment) are the door's additions to what the client asked.
    """

    messages: tuple[dict[str, Any], ...]
    model: str
    on_disconnect: OnDisconnect
    grace_s: float
    session_id: str | None = None
    message_id: str | None = None
    user_id: str | None = None
    language: str | None = None
    voice: Voice | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    full_text: bool = False
    metadata: dict[str, Any] | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] = field(default_factory=dict)
    is_continuation: bool = False
    caps: Caps | None = None
    preferences: Preferences | None = None
    variant: str = ""

    def fingerprint(self) -> bytes:
        """A digest of the whole request: equal for equal questions, whatever the spelling of the body.

        What becomes of the answer when nobody reads it is no part of the question: a client that cannot stream any
        more may ask the same for a plain answer.
        """
        question = replace(self, on_disconnect=OnDisconnect.GRACE)
        return hashlib.sha256(orjson.dumps(question, option=orjson.OPT_SORT_KEYS)).digest()

    def size(self) -> int:
        """Bytes that it takes to keep, roughly."""
        return weigh_json(orjson.dumps(self))

    def without_question(self) -> "StreamRequest":
        """What is still needed to tell a finished answer: how it was asked for, but not what."""
        options = {name: value for name, value in self.parameters.items() if name == "stream_options"}
        return StreamRequest(
            messages=(),
            model=self.model,
            on_disconnect=self.on_disconnect,
            grace_s=self.grace_s,
            session_id=self.session_id,
            message_id=self.message_id,
            user_id=self.user_id,
            language=self.language,
            voice=self.voice,
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            full_text=self.full_text,
            parameters=options,
        )

    def continued(self, text: str) -> "StreamRequest":
        """The same question, with `text` as what the assistant has said of the answer so far.

        Where the caller began the answer for the assistant, the text goes on behind it. Limits of tokens are lowered
        by what the text took, as an estimate; one token is always left.
        """
        messages, begun = self.messages, ""
        if messages and messages[-1].get("role") == "assistant" and isinstance(messages[-1].get("content"), str):
            messages, begun = messages[:-1], messages[-1]["content"]
        took, parameters = len(text) // CHARACTERS_PER_TOKEN, dict(self.parameters)
        if parameters.get("max_completion_tokens") is not None:
            parameters["max_completion_tokens"] = max(1, parameters["max_completion_tokens"] - took)
        return replace(
            self,
            messages=(*messages, {"role": "assistant", "content": begun + text}),
            max_tokens=None if self.max_tokens is None else max(1, self.max_tokens - took),
            parameters=parameters,
            is_continuation=True,
        )

    def asked_tokens(self) -> int:
        """How many tokens the question takes, as an estimate."""
        return sum(len(str(message.get("content") or "")) for message in self.messages) // CHARACTERS_PER_TOKEN

    def question(self) -> str:
        """The last thing that the user said, as plain text; empty when nothing was."""
        for message in reversed(self.messages):
            if message.get("role") == "user":
                return plain_text(message.get("content"))
        return ""


def plain_text(content: Any) -> str:
    """The text of a message's content, which may be a string or a list of typed parts."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return " ".join(
            str(part["text"]) for part in content if isinstance(part, dict) and part.get("text") is not None
        )
    return ""
