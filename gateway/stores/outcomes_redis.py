"""RedisOutcomes: what came of the streams of all processes, as small hashes that expire by themselves."""

import math
from collections.abc import Collection, Mapping
from typing import Any

from redis.exceptions import ResponseError

from gateway.errors import Code, GatewayError
from gateway.stores.batch import Batch
from gateway.stores.courier import Courier
from gateway.stores.keys import Keys
from gateway.stores.redis_client import AWAY


class RedisOutcomes:
    """Counts that are added up by Redis, told and heard in one round trip."""

    def __init__(self, courier: Courier, keys: Keys) -> None:
        self._courier = courier
        self._keys = keys

    async def exchange(
        self, number: int, new: Mapping[str, int], wanted: Collection[int], kept_s: float
    ) -> Mapping[int, Mapping[str, int]]:
        """Add, and hear the sum. Raises `STORE_AWAY`."""
        key = self._keys.outcomes(number)

        def put(batch: Batch) -> None:
            for name, count in new.items():
                batch.add("HINCRBY", key, name, count)
            batch.add("EXPIRE", key, math.ceil(kept_s))
            for at in wanted:
                batch.add("HGETALL", self._keys.outcomes(at))

        try:
            answers = await self._courier.carry(put)
        except AWAY as error:
            raise GatewayError(Code.STORE_AWAY, retry_after_s=1) from error
        refused = next((answer for answer in answers if isinstance(answer, ResponseError)), None)
        if refused is not None:
            raise GatewayError(Code.STORE_AWAY, retry_after_s=1) from refused
        return dict(zip(wanted, map(_counts, answers[len(new) + 1 :]), strict=True))


def _counts(answer: Any) -> dict[str, int]:
    pairs = answer.items() if isinstance(answer, dict) else zip(answer[::2], answer[1::2], strict=True)
    return {name.decode(): int(count) for name, count in pairs}
