"""The OpenAI dialect: what an unmodified OpenAI client asks."""

from typing import Any

import orjson
import pytest

from gateway.dialects.openai import OpenAIDialect
from gateway.errors import Code, GatewayError
from gateway.request import OnDisconnect, StreamRequest

OPENAI = OpenAIDialect()
HI: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
WITH_USAGE = {"stream_options": {"include_usage": True}}


def asked(**fields: Any) -> StreamRequest:
    """What a body with these fields asks."""
    return OPENAI.parse(orjson.dumps({**HI, **fields}))


def test_the_least_that_can_be_asked() -> None:
    """Such a client never comes back: when it leaves, its stream is cancelled."""
    assert asked() == StreamRequest(
        messages=({"role": "user", "content": "hi"},), model="m", on_disconnect=OnDisconnect.CANCEL, grace_s=0
    )


def test_what_the_gateway_does_not_know_goes_to_the_upstream() -> None:
    """Parameters and members of messages, exactly as they came."""
    unknown = {"top_p": 0.5, "tools": [{"type": "function"}], "seed": 18446744073709551615, "x": None, "query": "q"}
    message = {"role": "assistant", "content": None, "tool_calls": [{"id": "i"}], "name": "n", "z": {"y": [1]}}
    heard = asked(messages=[message], **unknown)
    assert heard.parameters == unknown
    assert heard.messages == (message,)


def test_what_it_does_know_it_takes_and_passes_on_where_the_upstream_needs_it() -> None:
    """Under the name under which it came."""
    heard = asked(user="u", max_completion_tokens=5, temperature=0, stream=True, n=1, **WITH_USAGE)
    assert (heard.user_id, heard.max_tokens, heard.temperature) == ("u", 5, 0)
    assert heard.parameters == {"user": "u", "max_completion_tokens": 5, **WITH_USAGE}
    assert asked(max_tokens=7).max_tokens == 7
    assert asked(max_tokens=None, n=None, stream=None, stream_options=None, user=None).parameters == {}


@pytest.mark.parametrize("n", [0, 2, 128, True, "1", 1.5])
def test_more_answers_than_one_are_refused(n: object) -> None:
    """One stream is one answer, and a client that asked for two must not wait for the second."""
    with pytest.raises(GatewayError) as raised:
        asked(n=n)
    assert (raised.value.code, raised.value.param) == (Code.INVALID_REQUEST, "n")


@pytest.mark.parametrize("name", ["model", "messages"])
def test_a_model_and_messages_are_needed(name: str) -> None:
    """No default: a client that says nothing gets a clear word."""
    body = {field: value for field, value in HI.items() if field != name}
    with pytest.raises(GatewayError) as raised:
        OPENAI.parse(orjson.dumps(body))
    assert raised.value.message == f"{name}: Field required"


@pytest.mark.parametrize(
    "fields", [{"stream": "yes"}, {"stream": 1}, {"stream_options": True}, {"stream_options": []}, {"user": "a\nb"}]
)
def test_known_parameters_of_the_wrong_type_are_refused(fields: dict[str, Any]) -> None:
    """Here and not by an upstream that has begun to cost."""
    with pytest.raises(GatewayError) as raised:
        asked(**fields)
    assert raised.value.param == next(iter(fields))


@pytest.mark.parametrize(("stream", "wanted"), [(True, True), (False, False), (None, False)])
def test_streaming_is_asked_for(stream: bool | None, wanted: bool) -> None:
    """The default of this dialect is one JSON object."""
    assert OPENAI.read(orjson.dumps({**HI, "stream": stream}))[1] is wanted
    assert OPENAI.read(orjson.dumps(HI))[1] is False
