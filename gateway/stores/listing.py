"""Listing: the streams of a user or session, in whatever process they are made."""

import orjson

from gateway.request import Caller
from gateway.stores.entries import BrokenEntry, decode_request
from gateway.stores.keys import Keys
from gateway.stores.redis_log import RedisLog
from gateway.streams.store import Summary
from gateway.streams.stream import State

LISTED_MAX = 100
"""The newest ones; a list is for people."""


async def list_streams(logs: RedisLog, keys: Keys, caller: Caller) -> list[Summary]:
    """The newest streams of `caller` whose logs are still kept. Raises what redis-py raises when Redis is away."""
    (sids,) = await logs.ask([("ZREVRANGE", keys.mine(caller), 0, LISTED_MAX - 1)])
    names = [sid.decode() for sid in sids]
    facts = await logs.ask([("HMGET", keys.meta(sid), "state", "created", "request") for sid in names])
    there = await logs.ask([("EXISTS", keys.log(sid)) for sid in names])
    return [
        _summary(sid, *fact) for sid, fact, kept in zip(names, facts, there, strict=True) if kept and None not in fact
    ]


def _summary(sid: str, state: bytes, created: bytes, request: bytes) -> Summary:
    try:
        asked = decode_request(request)
        return Summary(sid, State(state.decode()), int(created), asked.model, asked.session_id)
    except (ValueError, orjson.JSONDecodeError) as error:
        raise BrokenEntry(f"a stream without its facts: {error!r}") from error
