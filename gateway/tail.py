"""tail: asks a question or follows a stream, and prints events as they come; comes back when the connection is lost."""

import argparse
import asyncio
import os
import re
import sys
import uuid
from typing import Any

import aiohttp
import orjson

from gateway.sse import Parser, ServerEvent
from gateway.streams.ids import SID_PATTERN

TRIES_MAX = 8
"""Connections in a row that bring nothing new."""

KEY_VARIABLE = "SSE_GATEWAY_KEY"
"""The API key to show; on the command line all processes of the machine could see it."""


class Refused(Exception):
    """The gateway said no, in words for the user."""


class _Tail:
    """One stream, over as many connections as it takes."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._base = options.url.rstrip("/")
        self._sid = options.what if re.fullmatch(SID_PATTERN, options.what) else ""
        self._last_id = ""
        self._key = str(uuid.uuid4())
        self._retry_s = 1.0
        self.tries = 0
        self.ended = ""

    async def connect(self, session: aiohttp.ClientSession) -> None:
        """One connection, to its end."""
        headers = {"Accept": "text/event-stream"}
        if key := os.environ.get(KEY_VARIABLE):
            headers["Authorization"] = f"Bearer {key}"
        if self._last_id:
            headers["Last-Event-ID"] = self._last_id
        async with self._request(session, headers) as response:
            if response.status == 204:
                self.ended = "complete"
                return
            if response.status != 200:
                raise Refused(_refusal(await response.read()))
            parser = Parser()
            async for chunk in response.content.iter_any():
                for event in parser.feed(chunk):
                    if event.id:
                        self._last_id = event.id
                        self.tries = 0
                    self._heard(event)
                if parser.retry_ms:
                    self._retry_s = parser.retry_ms / 1000

    def _request(self, session: aiohttp.ClientSession, headers: dict[str, str]) -> Any:
        owner = {"session_id": self._options.session, "user_id": self._options.user}
        owner = {name: value for name, value in owner.items() if value}
        if self._sid:
            return session.get(f"{self._base}/stream/{self._sid}", params=owner, headers=headers)
        # With a key, because it is not known whether a question that got no answer has arrived.
        headers["Idempotency-Key"] = self._key
        return session.post(f"{self._base}/stream", json={"query": self._options.what, **owner}, headers=headers)

    def _heard(self, event: ServerEvent) -> None:
        data = orjson.loads(event.data)
        if event.event == "connected":
            self._sid = data["stream_id"]
        if event.event in ("complete", "error"):
            self.ended = event.event
        if not self._options.text:
            print(f"{event.id or '-':36} {event.event:12} {event.data}", flush=True)
        elif event.event == "text":
            print(data["token"], end="", flush=True)
        elif event.event == "error":
            print(f"\n{data['code']}: {data['message']}", file=sys.stderr)

    async def pause(self) -> None:
        """Before the next try."""
        await asyncio.sleep(self._retry_s)


def _refusal(body: bytes) -> str:
    try:
        answer = orjson.loads(body)
        return f"{answer['code']}: {answer['message']}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return "the answer is not a gateway's"


async def tail(options: argparse.Namespace) -> int:
    """0 when the stream completed, 1 when it failed, was refused, or could not be reached."""
    follower = _Tail(options)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=60)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        while follower.tries < TRIES_MAX:
            try:
                await follower.connect(session)
            except aiohttp.InvalidURL:
                print("--url is not a URL that can be asked", file=sys.stderr)
                return 1
            except Refused as refused:
                print(refused, file=sys.stderr)
                return 1
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                print(f"connection lost ({type(error).__name__}), coming back", file=sys.stderr)
            if follower.ended:
                if options.text:
                    print()
                return 0 if follower.ended == "complete" else 1
            follower.tries += 1
            await follower.pause()
    print("gave up", file=sys.stderr)
    return 1
