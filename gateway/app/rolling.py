"""How streaming is rolled out, as the settings say."""

from pathlib import Path

from gateway.admission.flags_file import FlagsError, flags_of
from gateway.admission.rollback import Rollback, Triggers
from gateway.admission.rollout import Rollout
from gateway.flags import Flag
from gateway.settings import Flags, Settings, SettingsError
from gateway.stores.flags_memory import MemoryFlags
from gateway.stores.flags_redis import RedisFlags
from gateway.stores.keys import Keys
from gateway.stores.outcomes_redis import RedisOutcomes
from gateway.stores.redis import RedisStore
from gateway.telemetry.metrics import Metrics


class Rolling:
    """The flags, who is in by them (`rollout`), and what takes them back (`rollback`, a witness of the hub).

    Raises `SettingsError` as `configured_flags` does.
    """

    def __init__(self, settings: Settings, shared: RedisStore | None, metrics: Metrics) -> None:
        configured = configured_flags(settings)
        self._shared: RedisFlags | None = None
        self.flags: MemoryFlags | RedisFlags
        outcomes: RedisOutcomes | None = None
        if shared is None:
            self.flags = MemoryFlags(configured)
        else:
            keys = Keys(settings.redis.prefix)
            poll_s = settings.flags.poll_ms / 1000
            self.flags = self._shared = RedisFlags(configured, shared.courier, keys, poll_s=poll_s)
            outcomes = RedisOutcomes(shared.courier, keys)
        self.rollout = Rollout(self.flags, enabled=settings.stream.enabled)
        self.rollback = Rollback(self.flags, triggers_of(settings.flags), metrics, shared=outcomes)

    async def start(self) -> None:
        """Know the flags as they are now, and watch."""
        if self._shared is not None:
            await self._shared.start()
        self.rollback.start()

    def stop(self) -> None:
        """Watch no more."""
        self.rollback.stop()
        if self._shared is not None:
            self._shared.stop()


def configured_flags(settings: Settings) -> list[Flag]:
    """The flags as they are before anybody changes them. Raises `SettingsError` where their file is wrong."""
    try:
        return flags_of(Path(settings.flags.file) if settings.flags.file else None)
    except FlagsError as error:
        raise SettingsError(f"flags.file: {error}") from None


def triggers_of(flags: Flags) -> Triggers:
    """What takes a rollout back."""
    return Triggers(
        window_s=flags.window_s,
        min_streams=flags.min_streams,
        error_rate=flags.error_rate,
        first_token_p99_s=flags.first_token_p99_s,
        total_p99_s=flags.total_p99_s,
        cost_multiple=flags.cost_multiple,
        projected_cost=flags.projected_cost_per_stream,
        price_prompt=flags.price_per_1k_prompt,
        price_completion=flags.price_per_1k_completion,
        min_rating=flags.min_rating,
        min_ratings=flags.min_ratings,
        to_previous=flags.rollback_to == "previous",
    )
