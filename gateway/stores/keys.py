"""Keys: the one place where names in Redis are built."""

import hashlib

import orjson

from gateway.request import Caller


class Keys:
    """Names under one prefix. All of one stream, or of one instance, share a hash tag, as a cluster would need it."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self.instances = f"{prefix}:instances"
        """Hash of all instances that have not said goodbye, each with its probe address."""
        self.era = f"{prefix}:era"
        """A random value; missing or changed, Redis has lost its data."""
        self.probe = f"{prefix}:probe"
        """Written to hear whether Redis takes writes."""
        self.flags = f"{prefix}:{{flags}}:now"
        """Hash: the flags that were changed at run time, by name."""
        self.flag_changes = f"{prefix}:{{flags}}:changes"
        """Redis stream: who changed a flag, when, from what to what."""
        self.sessions = f"{prefix}:{{sessions}}:all"
        """Sorted set: the names of all conversations, by the time of their last turn."""
        self.likings = f"{prefix}:{{likings}}:all"
        """Sorted set: the names of all users' preferences, by the time at which they were said."""
        self.tickets_unused = f"{prefix}:{{tickets}}:unused"
        """Sorted set: the names of tickets that wait to be used, each until the millisecond that is its score.

        With `:` and a tenant behind it, the same of that tenant's.
        """
        self.tickets_used = f"{prefix}:{{tickets}}:used"
        """Sorted set: the same of used ones."""
        self._log_of = f"{prefix}:{{%s}}:log"

    def log(self, sid: str) -> str:
        """Redis stream: the entries of a stream."""
        return self._log_of % sid

    def meta(self, sid: str) -> str:
        """Hash: what is known of a stream beside its events."""
        return f"{self._prefix}:{{{sid}}}:meta"

    def lease(self, instance: str) -> str:
        """String: the probe address of an instance that lives."""
        return f"{self._prefix}:inst:{{{instance}}}:lease"

    def beats(self, instance: str) -> str:
        """Number: how often an instance has renewed its lease."""
        return f"{self._prefix}:inst:{{{instance}}}:beats"

    def inbox(self, instance: str) -> str:
        """Redis stream: small messages to an instance."""
        return f"{self._prefix}:inst:{{{instance}}}:in"

    def streams(self, instance: str) -> str:
        """Set: the running streams that an instance produces."""
        return f"{self._prefix}:inst:{{{instance}}}:streams"

    def outcomes(self, number: int) -> str:
        """Hash: what came of the streams that ended within a short while, by all processes; `number` counts whiles."""
        return f"{self._prefix}:{{flags}}:outcomes:{number}"

    def idempotency(self, owner: Caller, key: str) -> str:
        """String: which stream has an idempotency key of this owner, and for which request."""
        return f"{self._prefix}:key:{_digest(owner.tenant, owner.user, owner.session, key)}"

    def orphans(self, owner: Caller, session: str) -> str:
        """Set: the streams of a session that nobody reads."""
        return f"{self._prefix}:orphans:{_digest(owner.tenant, owner.user, owner.session, session)}"

    def mine(self, owner: Caller) -> str:
        """Sorted set: the streams of an owner, who is the same whatever the session once a user is named."""
        session = owner.session if owner.user is None else None
        return f"{self._prefix}:mine:{_digest(owner.tenant, owner.user, session)}"

    def session(self, owner: Caller, session: str) -> str:
        """List: the turns of a conversation, the oldest first."""
        return f"{self._prefix}:session:{_digest(owner.tenant, owner.user, session)}"

    def sessions_of(self, tenant: str) -> str:
        """Sorted set: the same as `sessions`, of one tenant."""
        return f"{self._prefix}:{{sessions}}:of:{_digest(tenant)}"

    def likings_of(self, tenant: str) -> str:
        """Sorted set: the same as `likings`, of one tenant."""
        return f"{self._prefix}:{{likings}}:of:{_digest(tenant)}"

    def liking(self, owner: Caller) -> str:
        """String: how a user likes to be answered."""
        return f"{self._prefix}:liking:{_digest(owner.tenant, owner.user)}"

    def ticket(self, digest: str) -> str:
        """Hash: for whom a ticket was made, and the stream that it has opened."""
        return f"{self._prefix}:{{tickets}}:{digest}"

    # Everything that one request is counted against shares a hash tag: it is one question.

    def window(self, scope: str, who: str, window_s: float) -> str:
        """String: requests of `who` in the current span of a window's length, and in the one before."""
        return f"{self._prefix}:{{limits}}:window:{_digest_of_any(scope, who, window_s)}"

    def slots(self, scope: str, who: str) -> str:
        """Sorted set: the streams that hold a slot of `who`, each until the millisecond that is its score."""
        return f"{self._prefix}:{{limits}}:slots:{_digest_of_any(scope, who)}"

    def budget(self, scope: str, who: str, day: int) -> str:
        """Hash: tokens that each instance made for `who` on a day, and their sum."""
        return f"{self._prefix}:{{limits}}:budget:{_digest_of_any(scope, who, day)}"


def _digest(*words: str | None) -> str:
    """A name of fixed length that says nothing of its words; no two lists of words share one."""
    return hashlib.sha256(orjson.dumps(words)).hexdigest()[:40]


def _digest_of_any(scope: str, who: str, *numbers: float) -> str:
    """The same for a name that somebody made up, of whatever characters and length."""
    numbered = " ".join(map(str, (scope, *numbers)))
    name = f"{numbered}\n{who}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(name, digest_size=20).hexdigest()
