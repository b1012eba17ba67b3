"""OpenAISource: which answers can go on behind a text, and how a service is told to."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.sources.openai import ContinueStyle, OpenAISource
from gateway.transport.route import route_to
from gateway.turn import Turn
from tests.doubles import question
from tests.upstream import Upstream, upstream

ASSISTANT = {"role": "assistant", "content": "Once"}
PARAMETERS = {"continue_final_message", "add_generation_prompt"}


@pytest.fixture
async def service() -> AsyncIterator[Upstream]:
    """Answers everything."""
    async with upstream() as service:
        yield service


def source(service: Upstream, style: ContinueStyle = "plain") -> OpenAISource:
    """One whose model `m` can go on."""
    return OpenAISource(
        route_to(service.url),
        Turn(),
        api_key="k",
        connect_s=5,
        models_s=5,
        max_connections=10,
        keepalive_s=5,
        max_event_bytes=1 << 18,
        continue_models=["m"],
        continue_style=style,
    )


async def test_only_models_that_are_named_go_on(service: Upstream) -> None:
    """By their full name."""
    assert source(service).continues(question())
    assert not source(service).continues(question(model="m2"))
    assert not source(service).continues(question(model=""))


@pytest.mark.parametrize("name", ["response_format", "structured_outputs", "guided_json", "guided_regex", "grammar"])
async def test_an_answer_that_is_held_to_a_grammar_does_not_go_on(service: Upstream, name: str) -> None:
    """The service would begin the grammar again in the middle of the answer."""
    assert not source(service).continues(question(parameters={name: {"type": "json_object"}}))
    assert source(service).continues(question(parameters={name: None}))


@pytest.mark.parametrize(
    ("style", "last", "beside"),
    [
        ("plain", ASSISTANT, {}),
        ("vllm", ASSISTANT, {"continue_final_message": True, "add_generation_prompt": False}),
        ("prefix", {**ASSISTANT, "prefix": True}, {}),
    ],
)
async def test_a_service_is_told_to_go_on_in_its_own_way(
    service: Upstream, style: ContinueStyle, last: dict[str, Any], beside: dict[str, Any]
) -> None:
    """And only then: a question that the caller himself ended with words of the assistant goes up as it came."""
    made = source(service, style)
    asked = question(messages=({"role": "user", "content": "hi"}, ASSISTANT))
    await made.pour(question().continued("Once"), lambda _: None)
    await made.pour(asked, lambda _: None)
    await made.close()
    more, own = (call.body for call in service.calls)
    assert more["messages"][-1] == last
    assert {name: value for name, value in more.items() if name in PARAMETERS} == beside
    assert own["messages"] == list(asked.messages)
    assert not PARAMETERS & set(own)
