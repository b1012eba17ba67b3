"""Listing: the streams of a user or session, in whatever process they are made."""

import logging

from gateway.request import Caller
from gateway.stores.entries import BrokenEntry, decode_request
from gateway.stores.keys import Keys
from gateway.stores.redis_log import RedisLog
from gateway.streams.store import Summary
from gateway.streams.stream import State

log = logging.getLogger(__name__)

LISTED_MAX = 100
"""The newest ones; a list is for people."""


async def list_streams(logs: RedisLog, keys: Keys, caller: Caller) -> list[Summary]:
    """The newest streams of `caller` whose logs are still kept. Raises what redis-py raises when Redis is away."""
    (sids,) = await logs.ask([("ZREVRANGE", keys.mine(caller), 0, LISTED_MAX - 1)])
    names = [sid.decode() for sid in sids]
    facts = await logs.ask([("HMGET", keys.meta(sid), "state", "created", "request") for sid in names])
    there = await logs.ask([("EXISTS", keys.log(sid)) for sid in names])
    kept = [(sid, fact) for sid, fact, here in zip(names, facts, there, strict=True) if here and None not in fact]
    return [summary for sid, fact in kept if (summary := _summary(sid, *fact)) is not None]


def _summary(sid: str, state: bytes, created: bytes, request: bytes) -> Summary | None:
    """None for what cannot be read: another version may have written it, and the others are to be listed."""
    try:
        asked = decode_request(request)
        return Summary(sid, State(state.decode()), int(created), asked.model, asked.session_id)
    except (ValueError, BrokenEntry) as error:
        log.error("a stream cannot be listed", extra={"stream_id": sid, "error": repr(error)[:200]})
        return None
