"""Tokens: the JWTs that a tenant's own login gives to its users (RFC 7519), checked as RFC 8725 advises."""

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from gateway.admission.attempts import StaleError

TOKEN_MAX_BYTES = 8192
SECRET_MIN_BYTES = 32
"""For HMAC with SHA-256 (RFC 7518 section 3.2): whoever has a token can try shorter ones at leisure."""
RSA_MIN_BITS = 2048

_HMAC = ("HS256", "HS384", "HS512")
_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVES = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}

_WRONG = (jwt.PyJWTError, ValueError, TypeError, ArithmeticError, RecursionError)
"""What a malformed token can raise on its way through base64, JSON, dates and keys."""


class Key(NamedTuple):
    """A key, and those of the allowed algorithms that it is made for: a public key is never taken for a secret."""

    material: Any
    algorithms: tuple[str, ...]
    digest: str


class Claims(NamedTuple):
    """What a token proves: a user, its session if it names one, and by which key."""

    user: str
    session: str | None
    key: str


def parse_key(text: str, allowed: tuple[str, ...]) -> Key:
    """A public key in PEM, or a secret where HMAC is allowed. Raises ValueError, which never repeats the key."""
    digest = hashlib.sha256(text.encode()).hexdigest()
    if allowed[0] in _HMAC:
        if "-----BEGIN" in text:
            raise ValueError("must be a secret: a key in PEM does not go with HS256, HS384 or HS512")
        if len(text.encode()) < SECRET_MIN_BYTES:
            raise ValueError(f"must be a secret of at least {SECRET_MIN_BYTES} bytes")
        return Key(text.encode(), allowed, digest)
    try:
        public = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("must be a public key in PEM") from None
    fitting = tuple(name for name in allowed if name in _fit(public))
    if not fitting:
        raise ValueError("is of a kind, or a size, that none of the algorithms takes")
    return Key(public, fitting, digest)


def _fit(public: Any) -> tuple[str, ...]:
    """The algorithms that a public key is made for."""
    if isinstance(public, RSAPublicKey):
        return _RSA if public.key_size >= RSA_MIN_BITS else ()
    if isinstance(public, EllipticCurvePublicKey):
        return (_CURVES.get(public.curve.name, ""),)
    return ("EdDSA",) if isinstance(public, Ed25519PublicKey) else ()


class TokenRule:
    """Which tokens one tenant's users show. `keys` by their `kid`; one without a name is for all tokens."""

    def __init__(
        self,
        issuer: str,
        audience: str,
        keys: Mapping[str, Key],
        *,
        user_claim: str = "sub",
        session_claim: str = "",
        leeway_s: float = 0.0,
    ) -> None:
        self.issuer = issuer
        self._audience = audience
        self._keys = dict(keys)
        self._user_claim = user_claim
        self._session_claim = session_claim
        self._leeway_s = leeway_s
        self._names = {kid: self._name_of(key) for kid, key in keys.items()}

    @property
    def names(self) -> frozenset[str]:
        """Of all its keys, by what they are good for: another key, issuer or audience has another name."""
        return frozenset(self._names.values())

    def verify(self, token: str) -> Claims | None:
        """What the token proves, or nothing where anything at all is wrong with it.

        Raises `StaleError` for one that is well signed, and whose time is over.
        """
        try:
            kid = "" if "" in self._keys else jwt.get_unverified_header(token).get("kid", "")
            # Nothing but a look into a dictionary is ever done with the name that a token gives.
            key = self._keys[kid]
            claims = jwt.decode(
                token,
                key.material,
                algorithms=list(key.algorithms),
                audience=self._audience,
                issuer=self.issuer,
                leeway=self._leeway_s,
                options={"require": ["exp", "aud", "iss"]},
            )
        except jwt.ExpiredSignatureError:
            # PyJWT looks at claims behind the signature alone.
            raise StaleError from None
        except (*_WRONG, KeyError):
            return None
        user = claims.get(self._user_claim)
        session = claims.get(self._session_claim) if self._session_claim else None
        if not isinstance(user, str) or not (session is None or isinstance(session, str)):
            return None
        return Claims(user, session, self._names[kid])

    def _name_of(self, key: Key) -> str:
        facts = "\n".join((self.issuer, self._audience, key.digest))
        return hashlib.sha256(facts.encode()).hexdigest()[:16]


def issuer_of(token: str) -> str:
    """Who is said to have made a token; nothing is checked. Empty where it is none."""
    if len(token) > TOKEN_MAX_BYTES:
        return ""
    try:
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except _WRONG:
        return ""
    return issuer if isinstance(issuer, str) else ""
