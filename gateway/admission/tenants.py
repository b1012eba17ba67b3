"""Tenants: all of them, found by what their callers show; and the one place that says which of them are in force."""

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from gateway.admission import keys
from gateway.admission.tenant import OPEN, Limits, Tenant
from gateway.admission.tenants_file import Entry, TenantsError, is_world_readable, load_tenants
from gateway.admission.visitor import KEY

if TYPE_CHECKING:
    from gateway.admission.tokens import Claims, TokenRule

log = logging.getLogger(__name__)


class Grant(NamedTuple):
    """A tenant, and the name of what was shown for it, which is no secret."""

    tenant: Tenant
    credential: str


class Tenants:
    """What one tenants file says; never changed. Without entries it is the open tenant's alone."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._named: dict[str, Tenant] = {}
        self._by_digest: dict[str, tuple[str, Grant]] = {}
        self._by_hash: dict[str, Grant] = {}
        self._by_issuer: dict[str, tuple[Tenant, TokenRule]] = {}
        self._credentials: set[str] = set()
        for entry in entries:
            self._add(entry)
        self.is_open = not self._named
        if self.is_open:
            self._named[OPEN.name] = OPEN
        self.origins = frozenset(origin for tenant in self._named.values() for origin in tenant.origins)
        """Of all tenants together."""

    def _add(self, entry: Entry) -> None:
        """Raises `TenantsError` where two tenants would be known by the same thing."""
        tenant = entry.tenant
        where = f"tenants.{tenant.name}"
        self._named[tenant.name] = tenant
        for number, digest in enumerate(entry.digests):
            if digest in self._by_digest:
                raise TenantsError(f"{where}.keys.{number}: this key stands in the file already")
            grant = Grant(tenant, self._credential(KEY, tenant, digest[:16]))
            self._by_digest[digest] = (digest, grant)
        if entry.public_hash:
            if entry.public_hash in self._by_hash:
                raise TenantsError(f"{where}.public_hash: another tenant has the same")
            self._by_hash[entry.public_hash] = Grant(tenant, self._credential("public", tenant, entry.public_hash))
        if entry.tokens is not None:
            if entry.tokens.issuer in self._by_issuer:
                raise TenantsError(f"{where}.jwt.issuer: another tenant has the same")
            self._by_issuer[entry.tokens.issuer] = (tenant, entry.tokens)
            for name in entry.tokens.names:
                self._credential("jwt", tenant, name)

    def _credential(self, kind: str, tenant: Tenant, name: str) -> str:
        credential = credential_of(kind, tenant, name)
        self._credentials.add(credential)
        return credential

    def by_key(self, key: str) -> Grant | None:
        """Whose key it is."""
        digest = keys.digest_of(key)
        kept, grant = self._by_digest.get(digest, ("", None))
        return grant if keys.same(kept, digest) else None

    def by_hash(self, public_hash: str) -> Grant | None:
        """Whose public hash it is."""
        return self._by_hash.get(public_hash)

    def by_token(self, token: str) -> "tuple[Grant, Claims] | None":
        """Whose user's token it is, and what it proves: the issuer that it names only says whose keys it must fit.

        Raises `StaleError` for one that was good.
        """
        if not self._by_issuer:
            return None
        from gateway.admission.tokens import issuer_of

        tenant, rule = self._by_issuer.get(issuer_of(token), (None, None))
        claims = rule.verify(token) if rule is not None else None
        if tenant is None or claims is None:
            return None
        return Grant(tenant, credential_of("jwt", tenant, claims.key)), claims

    def named(self, name: str) -> Tenant | None:
        """The tenant of that name."""
        return self._named.get(name)

    def honours(self, credential: str, tenant: str) -> bool:
        """Whether what was shown once is still good for `tenant`; where nothing was kept of it, the tenant must do."""
        return tenant in self._named and (not credential or credential in self._credentials)

    def __len__(self) -> int:
        return 0 if self.is_open else len(self._named)


def credential_of(kind: str, tenant: Tenant, name: str) -> str:
    """The name of something that was shown: of which kind, for which tenant, and which of them."""
    return f"{kind}:{tenant.name}:{name}"


class Registry:
    """The tenants in force. They change all at once, or not at all, and only between two turns of the event loop.

    While there is no file, where it is `optional`, there is the open tenant; never again once there was one.
    `check` raises a TenantsError for a tenant that cannot be served; `on_change` is called with the new ones after each
    reload. Raises `TenantsError` where the first file is not usable.
    """

    def __init__(
        self,
        path: Path,
        *,
        optional: bool = False,
        limits: Limits | None = None,
        environment: Mapping[str, str] = os.environ,
        check: Callable[[Tenant], None] = lambda _tenant: None,
        on_change: Callable[[Tenants], None] = lambda _tenants: None,
    ) -> None:
        self._path = path
        self._optional = optional
        self._limits = limits
        self._environment = environment
        self._check = check
        self.on_change = on_change
        self._turn = asyncio.Lock()
        self._begun: set[asyncio.Task[str]] = set()
        self.now = self._load()
        self._optional = optional and self.now.is_open

    async def reload(self) -> str:
        """Read the file again. Empty where that went well; else what is wrong with it, and everything is as before.

        It is read and checked in a thread, since thousands of tenants take a second; and by one after the other, or
        what was read first could be put in place of what was read last.
        """
        async with self._turn:
            try:
                found = await asyncio.to_thread(self._load)
            except TenantsError as error:
                log.error("the tenants file was not taken: %s", error)
                return str(error)
            self._put(found)
        return ""

    def reload_soon(self) -> None:
        """The same for whoever cannot wait, as a signal; what came of it stands in the log."""
        task = asyncio.get_running_loop().create_task(self.reload(), name="read tenants")
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)

    def _put(self, found: Tenants) -> None:
        self._optional = self._optional and found.is_open
        self.now = found
        log.info("tenants reloaded", extra={"tenants": len(found)})
        self.on_change(found)

    def _load(self) -> Tenants:
        if self._optional and not self._path.exists():
            return Tenants()
        try:
            entries = load_tenants(self._path, self._environment, self._limits)
            for entry in entries:
                self._check(entry.tenant)
            tenants = Tenants(entries)
        except TenantsError as error:
            raise TenantsError(f"{self._path}: {error}") from None
        if any(entry.has_secrets for entry in entries) and is_world_readable(self._path):
            log.warning("everybody on this machine can read %s, and it holds secrets", self._path)
        return tenants
