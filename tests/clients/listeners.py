"""Every client that is tested, each reading one answer in the way of its users: `await LISTENERS[name](base_url)`."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import httpx
import httpx_sse
import openai
import orjson

from gateway.sse import Parser
from tests.clients.heard import FULL, Heard
from tests.clients.node import hear

QUESTION = {"query": "hi"}
ASKED: Any = {"model": "up-1", "messages": [{"role": "user", "content": "hi"}], "stream": True}
READ_LIMIT_S = 20.0 if FULL else 1.0
"""How long httpx waits for the next byte: longer than it takes a heartbeat to come, shorter than the silence."""

Listener = Callable[[str], Coroutine[Any, Any, Heard]]


def _failed(heard: Heard, error: Exception) -> None:
    """What an application finds in the exception."""
    found = {name: getattr(error, name, None) for name in ("status_code", "code")}
    heard.say("failure", name=type(error).__name__, status=found["status_code"], code=found["code"], text=str(error))


async def openai_python(base: str) -> Heard:
    """The OpenAI SDK for Python, asyncio."""
    heard = Heard()
    async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="not-needed") as client:
        try:
            stream = await client.chat.completions.create(**ASKED)
            heard.say("open")
            async for chunk in stream:
                heard.say("event", name="chunk", data=chunk.model_dump_json())
        except openai.APIError as error:
            _failed(heard, error)
    heard.say("end")
    return heard


async def openai_python_sync(base: str) -> Heard:
    """The same, blocking, in a thread."""

    def read() -> Heard:
        heard = Heard()
        with openai.OpenAI(base_url=f"{base}/v1", api_key="not-needed") as client:
            try:
                stream = client.chat.completions.create(**ASKED)
                heard.say("open")
                for chunk in stream:
                    heard.say("event", name="chunk", data=chunk.model_dump_json())
            except openai.APIError as error:
                _failed(heard, error)
        heard.say("end")
        return heard

    return await asyncio.to_thread(read)


async def openai_npm(base: str) -> Heard:
    """The OpenAI SDK for Node."""
    return await hear("openai.mjs", f"{base}/v1")


async def httpx_sse_client(base: str, resume: Heard | None = None) -> Heard:
    """httpx-sse: POST first; with `resume`, GET from where that one had come."""
    heard = Heard()
    limits = httpx.Timeout(5.0, read=READ_LIMIT_S)
    async with httpx.AsyncClient(trust_env=False, timeout=limits) as client:
        try:
            async with _asked_by_httpx(client, base, resume) as source:
                heard.say("open", status=source.response.status_code)
                if source.response.status_code == 200:
                    async for event in source.aiter_sse():
                        heard.say("event", name=event.event, data=event.data, id=event.id)
        except httpx.HTTPError as error:
            _failed(heard, error)
    heard.say("end")
    return heard


def _asked_by_httpx(
    client: httpx.AsyncClient, base: str, resume: Heard | None
) -> contextlib.AbstractAsyncContextManager[httpx_sse.EventSource]:
    if resume is None:
        return httpx_sse.aconnect_sse(client, "POST", f"{base}/stream", json=QUESTION)
    headers = {"Last-Event-ID": resume.last_id}
    return httpx_sse.aconnect_sse(client, "GET", f"{base}/stream/{sid_of(resume)}", headers=headers)


async def curl(base: str, resume: Heard | None = None) -> Heard:
    """`curl -N` on GET; with `resume`, by the stream's own URL and the last id."""
    what = [f"{base}/stream?query=hi"]
    if resume is not None:
        what = ["-H", f"Last-Event-ID: {resume.last_id}", f"{base}/stream/{sid_of(resume)}"]
    heard = Heard()
    async with _process("curl", "-sN", "--noproxy", "*", "-w", "%{stderr}%{http_code}", *what) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        parser = Parser()
        while data := await process.stdout.read(65536):
            for event in parser.feed(data):
                heard.say("event", name=event.event, data=event.data, id=event.id)
        status = int(await process.stderr.read())
        heard.say("open", status=status)
        if code := await process.wait():
            heard.say("failure", name=f"exit {code}", status=status)
    heard.say("end")
    return heard


@contextlib.asynccontextmanager
async def _process(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def fetch_event_source(base: str, **request: str) -> Heard:
    """@microsoft/fetch-event-source on POST."""
    return await hear("fetch-event-source.mjs", f"{base}/stream", orjson.dumps({**QUESTION, **request}).decode())


async def eventsource_npm(base: str, close_on: str = "complete,error", query: str = "query=hi") -> Heard:
    """The npm EventSource on GET."""
    return await hear("eventsource.mjs", f"{base}/stream?{query}", close_on)


def sid_of(heard: Heard) -> str:
    """The stream that was read."""
    return str(heard.data("connected")[0]["stream_id"])


OPENAI: dict[str, Listener] = {
    "openai-python": openai_python,
    "openai-python-sync": openai_python_sync,
    "openai-npm": openai_npm,
}
BY_HAND: dict[str, Callable[..., Coroutine[Any, Any, Heard]]] = {"httpx-sse": httpx_sse_client, "curl": curl}
