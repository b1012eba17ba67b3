"""What is remembered of callers: their conversations, and how they like to be answered."""

from gateway.admission.preferences import BELIEVED_S, Likings
from gateway.resilience.remembering import Remembering
from gateway.sessions import SessionBounds, SessionStore
from gateway.settings import Settings
from gateway.stores.keys import Keys
from gateway.stores.preferences_redis import RedisPreferences
from gateway.stores.redis import RedisStore
from gateway.stores.sessions_memory import MemoryPreferences, MemorySessions
from gateway.stores.sessions_redis import RedisSessions


class Memories:
    """The keepers, in Redis where processes share one, and who reads and writes them."""

    def __init__(self, settings: Settings, shared: RedisStore | None) -> None:
        chosen = settings.sessions
        bounds = SessionBounds(chosen.max_sessions, chosen.max_turns, chosen.max_bytes, chosen.ttl_s)
        users_max, ttl_s = chosen.preferences_max, chosen.preferences_ttl_s
        self.sessions: SessionStore
        if shared is None:
            self.sessions = MemorySessions(bounds, memory_bytes=chosen.memory_bytes)
            self.likings = Likings(MemoryPreferences(max_users=users_max, ttl_s=ttl_s), believed_s=0.0)
        else:
            keys = Keys(settings.redis.prefix)
            self.sessions = RedisSessions(shared.courier, keys, bounds, memory_bytes=chosen.memory_bytes)
            stored = RedisPreferences(shared.courier, keys, max_users=users_max, ttl_s=ttl_s)
            self.likings = Likings(stored, believed_s=BELIEVED_S)
        self.remembering = Remembering(self.sessions, context_tokens=chosen.context_tokens)
