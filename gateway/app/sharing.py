"""How streams are shared among processes, as the settings say."""

from gateway.settings import Settings
from gateway.stores.redis import Shared

LOOPBACK = "127.0.0.1"


def shared_by(settings: Settings) -> Shared:
    """How streams are shared. What a stream may take at the longest bounds how long an unfinished log is kept."""
    redis, stream, server = settings.redis, settings.stream, settings.server
    return Shared(
        url=redis.url.get_secret_value(),
        prefix=redis.prefix,
        flush_s=redis.flush_ms / 1000,
        command_s=redis.command_s,
        lease_s=redis.lease_s,
        accept_when_away=redis.when_away == "accept",
        probe_host=redis.probe_host or (LOOPBACK if server.uds else server.host),
        probe_port=redis.probe_port,
        retention_s=stream.retention_s,
        running_s=stream.total_s + stream.follower_s + stream.grace_max_s,
    )
