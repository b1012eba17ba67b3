"""What the journeys of this folder share."""

from collections.abc import AsyncIterator

import pytest

from gateway.app.house import Gateway
from tests.house import house


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """One with small limits."""
    async with house(GATEWAY_SERVER__BODY_S="0.2", GATEWAY_SERVER__MAX_BODY_BYTES="300000") as gateway:
        yield gateway
