"""A provider that dies in mid-answer, and a gateway that goes on: what the provider is asked, what clients see."""

from collections.abc import Iterable
from time import monotonic
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.app.house import Gateway
from tests.house import eventually, house, see
from tests.journeys.asking import (
    QUESTION,
    ask_all,
    ask_native,
    ask_openai,
    assert_all_failed,
    choices,
    openai_text,
    seqs,
    succeeded,
)
from tests.upstream import Call, Step, Upstream, answer, chunk, chunked, streamed, upstream

FIRST, SECOND = ["The quick brown ", "fox jumps over ", "the lazy "], ["dog, and ", "sleeps."]
WHOLE = "".join(FIRST + SECOND)
TOOL_CALL = {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "look", "arguments": '{"a'}}]}
METRIC = "ssegw_continuations_total"


def on(**environment: str) -> dict[str, str]:
    """The settings of a gateway whose model may go on."""
    return {"GATEWAY_OPENAI__CONTINUE_MODELS": "up-1", **environment}


def events_of(tokens: Iterable[str]) -> list[bytes]:
    """The beginning of an answer."""
    return [chunk({"role": "assistant", "content": ""}), *(chunk({"content": token}) for token in tokens)]


def cut_after(events: Iterable[bytes], end: str = "fin") -> list[Step]:
    """A stream that breaks off."""
    return ["headers", *map(chunked, events), end]


def is_second(call: Call) -> bool:
    """Whether a call is to go on."""
    return bool(call.body["messages"][-1]["role"] == "assistant")


def in_two(second: list[Step], first: list[Step] | None = None) -> Upstream:
    """A provider that breaks off, and when it is asked to go on does what is said here."""
    return Upstream(lambda call: second if is_second(call) else first or cut_after(events_of(FIRST)))


def counted(gateway: Gateway) -> dict[str, float]:
    """Continuations by result."""
    value = gateway.metrics.registry.get_sample_value
    found = {result: value(METRIC, {"result": result}) for result in ("continued", "failed", "refused")}
    return {result: count for result, count in found.items() if count}


@pytest.mark.parametrize("end", ["fin", "rst"])
async def test_a_cut_answer_goes_on_as_one_stream(end: str) -> None:
    """One log without gaps, the text without a repetition or a loss, the end as the provider gave it."""
    async with (
        in_two(streamed(answer(SECOND, finish_reason="length")), cut_after(events_of(FIRST), end)) as service,
        house(OPENAI_BASE_URL=service.url, **on()) as gateway,
        aiohttp.ClientSession() as session,
    ):
        seen = await ask_native(session, gateway, max_tokens=100, temperature=0.5)
        first, second = (call.body for call in service.calls)
        assert counted(gateway) == {"continued": 1}
    assert seen.text == WHOLE
    assert seqs(seen) == list(range(1, len(seen.logged) + 1))
    assert [data["state"] for data in seen.data("status")] == ["opened", "continued", "text_complete"]
    (end_of,) = seen.data("complete")
    assert end_of["finish_reason"] == "length"
    usage = end_of["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (5, 7 + len("".join(FIRST)) // 4)
    prefix = {"role": "assistant", "content": "".join(FIRST)}
    assert second == {
        **first,
        "messages": [*first["messages"], prefix],
        "max_tokens": 100 - len(prefix["content"]) // 4,
    }


async def test_a_client_of_openais_sees_one_unbroken_answer() -> None:
    """Streamed or not: the same text, one finish_reason, [DONE], and nothing that says that there was a break."""
    async with in_two(streamed(answer(SECOND))) as service, house(OPENAI_BASE_URL=service.url, **on()) as gateway:
        native, openai, whole = await ask_all(gateway)
        assert len(service.calls) == 6
    assert native.text == openai_text(openai) == whole.json()["choices"][0]["message"]["content"] == WHOLE
    assert [choice["finish_reason"] for choice in choices(openai) if choice["finish_reason"]] == ["stop"]
    assert openai.events[-1].data == "[DONE]"
    assert len({orjson.loads(event.data)["id"] for event in openai.events[:-1]}) == 1
    assert b"error" not in b"".join(event.data.encode() for event in openai.events)
    assert whole.json()["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "said",
    [["over the", " lazy ", *SECOND], ["The ", "quick brown fox jumps over the lazy ", *SECOND], [" ", *SECOND]],
    ids=["its last words", "everything", "a space"],
)
async def test_what_the_model_repeats_is_cut_at_the_seam(said: list[str]) -> None:
    """No client sees it."""
    async with in_two(streamed(answer(said))) as service, house(OPENAI_BASE_URL=service.url, **on()) as gateway:
        native, openai, whole = await ask_all(gateway)
    assert native.text == openai_text(openai) == whole.json()["choices"][0]["message"]["content"] == WHOLE


@pytest.mark.parametrize(
    ("second", "code", "said"),
    [
        (cut_after(events_of(["dog"])), "UPSTREAM_TRUNCATED", "dog"),
        ([b"HTTP/1.1 500 no\r\nContent-Length: 0\r\n\r\n"], "UPSTREAM_ERROR", ""),
        ([b"HTTP/1.1 400 no\r\nContent-Length: 0\r\n\r\n"], "UPSTREAM_REJECTED", ""),
    ],
    ids=["cut", "500", "400"],
)
async def test_a_second_failure_is_the_end(second: list[Step], code: str, said: str) -> None:
    """Honest, with all the text that came, and the provider is left alone."""
    async with (
        in_two(second) as service,
        house(OPENAI_BASE_URL=service.url, **on()) as gateway,
        aiohttp.ClientSession() as session,
    ):
        native, openai = await ask_native(session, gateway), await ask_openai(session, gateway)
        assert len(service.calls) == 4
        assert counted(gateway) == {"failed": 2}
    assert native.data("error")[0]["code"] == orjson.loads(openai.events[-1].data)["error"]["code"] == code
    assert native.text == openai_text(openai) == "".join(FIRST) + said
    assert not succeeded(native)
    assert not succeeded(openai)


@pytest.mark.parametrize("listed", ["", "up-2, up-1-mini"], ids=["none", "others"])
async def test_a_model_that_is_not_named_is_called_once(listed: str) -> None:
    """As it was without the setting: the answer is truncated, and says so."""
    settings = on(GATEWAY_OPENAI__CONTINUE_MODELS=listed)
    async with in_two(streamed(answer(SECOND))) as service, house(OPENAI_BASE_URL=service.url, **settings) as gateway:
        answers = await ask_all(gateway)
        assert len(service.calls) == 3
        assert counted(gateway) == {}
    assert_all_failed(answers, "UPSTREAM_TRUNCATED", 502, "".join(FIRST))


async def test_an_open_tool_call_is_not_gone_on_with() -> None:
    """Half a call and half of another are no call."""
    first = cut_after([*events_of(FIRST), chunk(TOOL_CALL)])
    async with in_two([], first) as service, house(OPENAI_BASE_URL=service.url, **on()) as gateway:
        answers = await ask_all(gateway)
        assert len(service.calls) == 3
        assert counted(gateway) == {"refused": 3}
    assert_all_failed(answers, "UPSTREAM_TRUNCATED", 502, "".join(FIRST))


async def test_an_answer_in_json_is_not_gone_on_with() -> None:
    """The provider would begin the object anew."""
    async with (
        in_two([]) as service,
        house(OPENAI_BASE_URL=service.url, **on()) as gateway,
        aiohttp.ClientSession() as session,
    ):
        seen = await ask_openai(session, gateway, response_format={"type": "json_object"})
        assert len(service.calls) == 1
    assert not succeeded(seen)


@pytest.mark.parametrize("style", ["vllm", "prefix"])
async def test_a_service_is_told_in_its_own_way(style: str) -> None:
    """By setting, for each part but the first."""
    settings = on(GATEWAY_OPENAI__CONTINUE_STYLE=style, GATEWAY_OPENAI__CONTINUE_MAX="2")
    calls = [cut_after(events_of(["a "])), cut_after(events_of(["b "])), streamed(answer(["c"]))]
    async with (
        upstream(lambda _: calls.pop(0)) as service,
        house(OPENAI_BASE_URL=service.url, **settings) as gateway,
        aiohttp.ClientSession() as session,
    ):
        assert (await ask_native(session, gateway)).text == "a b c"
        asked = [call.body for call in service.calls]
    mark: dict[str, Any] = {"prefix": True} if style == "prefix" else {}
    assert [body["messages"][1:] for body in asked] == [
        [],
        [{"role": "assistant", "content": "a ", **mark}],
        [{"role": "assistant", "content": "a b ", **mark}],
    ]
    told = [(body.get("continue_final_message"), body.get("add_generation_prompt")) for body in asked]
    assert told == [(None, None), *[(True, False) if style == "vllm" else (None, None)] * 2]


async def test_a_provider_that_falls_silent_is_gone_on_with() -> None:
    """Its connection is closed, and another part asked for."""
    first: list[Step] = [*cut_after(events_of(FIRST))[:-1], "hang"]
    settings = on(GATEWAY_STREAM__SILENCE_S="0.2")
    async with (
        in_two(streamed(answer(SECOND)), first) as service,
        house(OPENAI_BASE_URL=service.url, **settings) as gateway,
        aiohttp.ClientSession() as session,
    ):
        assert (await ask_native(session, gateway)).text == WHOLE
        await service.calls[0].wait_closed(1)


async def test_a_client_that_leaves_in_the_second_part_stops_it() -> None:
    """Within a second, as in the first one."""
    second: list[Step] = ["headers", *map(chunked, events_of(SECOND)), "hang"]
    leaving = {**QUESTION, "on_disconnect": "cancel"}
    async with (
        in_two(second) as service,
        house(OPENAI_BASE_URL=service.url, **on()) as gateway,
        aiohttp.ClientSession() as session,
    ):
        seen = await see(session, "POST", f"{gateway.urls[0]}/stream", json=leaving, upto=10)
        left = monotonic()
        assert seen.text == WHOLE
        assert await service.calls[1].wait_closed() - left < 1
        await eventually(lambda: gateway.hub.running == 0)
        assert len(service.calls) == 2
