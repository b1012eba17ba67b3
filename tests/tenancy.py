"""Tenancy: tenants files, keys and tokens for tests; all of them made up when the tests begin."""

import time
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.admission.addresses import Proxies
from gateway.admission.attempts import Attempts
from gateway.admission.identity import Identity
from gateway.admission.keys import digest_of, new_key, written
from gateway.admission.tenants import Registry
from gateway.admission.tickets import Tickets
from gateway.stores.tickets_memory import MemoryTickets
from tests.doubles import ManualClock

ACME_KEY, SECOND_KEY, RIVAL_KEY = new_key(), new_key(), new_key()
ACME_HASH, RIVAL_HASH = "acme-public-1", "rival-public-1"
ACME_PAGE, RIVAL_PAGE = "https://www.acme.example", "https://rival.example"
SESSION, OTHER_SESSION = "a-session-of-one-page", "a-session-of-another"
ISSUER, AUDIENCE = "https://login.acme.example", "sse-gateway"

RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
ED_KEY = ed25519.Ed25519PrivateKey.generate()
SMALL_RSA_KEY = rsa.generate_private_key(65537, 1024)


def pem(key: Any) -> str:
    """The public half, as it stands in a file."""
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


JWT = f"""
[tenants.acme.jwt]
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
algorithms = ["RS256", "ES256"]
[tenants.acme.jwt.keys]
one = '''{pem(RSA_KEY)}'''
two = '''{pem(EC_KEY)}'''
"""

RIVAL = f"""
[tenants.rival]
keys = ["{written(digest_of(RIVAL_KEY))}"]
public_hash = "{RIVAL_HASH}"
origins = ["{RIVAL_PAGE}"]
"""

TWO = f"""
[tenants.acme]
keys = ["{written(digest_of(ACME_KEY))}", {{ hash = "{written(digest_of(SECOND_KEY))}", name = "second" }}]
public_hash = "{ACME_HASH}"
origins = ["{ACME_PAGE}"]
{JWT}
{RIVAL}
"""
"""Two tenants, the first with everything by which a caller can be known."""


def token(key: Any = RSA_KEY, algorithm: str = "RS256", kid: str | None = "one", **claims: Any) -> str:
    """A token of Alice's that is good, but for `claims`; one that is None is left out."""
    now = time.time()
    facts = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 3600, **claims}
    facts = {name: value for name, value in facts.items() if value is not None}
    return jwt.encode(facts, key, algorithm=algorithm, headers={"kid": kid} if kid is not None else None)


def write(folder: Path, text: str = TWO) -> Path:
    """A tenants file, which only its owner can read."""
    path = folder / "tenants.toml"
    path.write_text(text)
    path.chmod(0o600)
    return path


class Desk:
    """An identity with what it needs, and a clock that stands still; without `text` there is no tenants file."""

    def __init__(self, folder: Path, text: str | None = TWO, trusted: tuple[str, ...] = ("10.0.0.0/8",)) -> None:
        self.clock = ManualClock()
        self.path = folder / "tenants.toml" if text is None else write(folder, text)
        self.registry = Registry(self.path, optional=text is None)
        self.tickets = Tickets(MemoryTickets(unused_s=30, used_s=600, clock=self.clock))
        self.identity = Identity(self.registry, self.tickets, Proxies(trusted), Attempts(self.clock))


def bearer(secret: str) -> dict[str, str]:
    """The header of a key or a token."""
    return {"Authorization": f"Bearer {secret}"}
