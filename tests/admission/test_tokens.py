"""Tokens: what is wrong with one, in whatever way, is no token."""

import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gateway.admission.attempts import StaleError
from gateway.admission.tenants import Registry, Tenants
from gateway.admission.tokens import TOKEN_MAX_BYTES
from tests.tenancy import AUDIENCE, EC_KEY, ED_KEY, ISSUER, RSA_KEY, TWO, pem, token, write

OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048)
SHARED = "a secret of thirty-two bytes, or more"


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    """Of whom Acme takes RS256 by the key `one` and ES256 by the key `two`."""
    return Registry(write(tmp_path_factory.mktemp("tenants"))).now


def part(value: Any) -> str:
    """JSON as it stands in a token."""
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def made(header: Any, claims: Any | None = None, signature: str = "") -> str:
    """A token put together by hand."""
    facts = claims if claims is not None else {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": 9_999_999_999}
    return f"{part(header)}.{part(facts)}.{signature}"


def raw(claims: str) -> str:
    """The same around claims that no library would write."""
    return f"{part({'alg': 'RS256', 'kid': 'one'})}.{base64.urlsafe_b64encode(claims.encode()).decode()}.x"


def signed_with_public_key() -> str:
    """HS256 with the public key as the secret, which everybody knows (CVE-2015-9235)."""
    text = made({"alg": "HS256", "typ": "JWT", "kid": "one"})[:-1]
    mac = hmac.new(pem(RSA_KEY).encode(), text.encode(), hashlib.sha256).digest()
    return f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


NOW = time.time()

BAD = {
    "no algorithm": made({"alg": "none"}),
    "no algorithm, with a key": made({"alg": "none", "kid": "one"}),
    "None in other letters": made({"alg": "nOnE", "kid": "one"}),
    "no algorithm at all": made({"kid": "one"}),
    "the public key as a secret": signed_with_public_key(),
    "an algorithm that is not allowed": token(algorithm="RS512"),
    "a stranger's key": token(OTHER_RSA_KEY),
    "a stranger's key of the other kind": token(ec.generate_private_key(ec.SECP256R1()), "ES256", kid="two"),
    "a good key under the other's name": token(kid="two"),
    "a key that nobody has": token(kid="three"),
    "no name of a key": token(kid=None),
    "a path as the name of a key": token(kid="../../dev/null"),
    "a query as the name of a key": token(kid="one' OR '1'='1"),
    "a number as the name of a key": made({"alg": "RS256", "kid": 1}),
    "a list as the name of a key": made({"alg": "RS256", "kid": ["one"]}),
    "a key inside": made({"alg": "RS256", "jwk": {"kty": "oct", "k": "AAAA"}, "kid": "one"}),
    "expired": token(exp=NOW - 60),
    "not yet valid": token(nbf=NOW + 86_400),
    "issued in the future": token(iat=NOW + 86_400),
    "another audience": token(aud="somebody-else"),
    "no audience": token(aud=None),
    "another issuer": token(iss="https://login.rival.example"),
    "no issuer": token(iss=None),
    "an issuer that is a list": made({"alg": "RS256", "kid": "one"}, {"iss": [ISSUER], "aud": AUDIENCE}),
    "no expiry": token(exp=None),
    "an expiry that is no number": token(exp="soon"),
    "no user": token(sub=None),
    "an empty user": token(sub=""),
    "a user that is a number": token(sub=7),
    "a user of too many letters": token(sub="x" * 201),
    "a user that breaks lines": token(sub="alice\nadmin"),
    "an unknown demand": jwt.encode(
        {"iss": ISSUER, "aud": AUDIENCE, "sub": "a", "exp": NOW + 300}, RSA_KEY, "RS256", {"kid": "one", "crit": ["x"]}
    ),
    "huge": token(padding="x" * TOKEN_MAX_BYTES),
    "deep": raw("[" * 5000 + "]" * 5000),
    "a number of 5,000 digits": raw('{"iss":' + "9" * 5000 + "}"),
    "an endless expiry": token(exp=float("inf")),
    "a start that is no number": token(nbf=float("nan")),
    "no base64": "a.b.c",
    "only dots": "..",
    "too many parts": token() + ".x",
    "too few parts": token().rpartition(".")[0],
    "a signature that is cut": token()[:-8],
    "a changed word": token().replace(".", ".x", 1),
    "garbage": "\x00\xff\ud800",
    "nothing": "",
}  # fmt: skip

USERS_THAT_ARE_NONE = ("an empty user", "a user of too many letters", "a user that breaks lines")


def test_a_good_token_says_whose_it_is(tenants: Tenants) -> None:
    """The tenant by its issuer, the user by its subject, the credential by tenant and key."""
    for good in (
        token(),
        token(EC_KEY, "ES256", kid="two"),
        token(exp=time.time() - 20),
        token(aud=[AUDIENCE, "other"]),
    ):
        found = tenants.by_token(good)
        assert found is not None
        (tenant, credential), claims = found
        assert (tenant.name, claims.user, claims.session) == ("acme", "alice", None)
        assert credential.startswith("jwt:acme:")
        assert tenants.honours(credential, "acme")


@pytest.mark.parametrize("name", BAD)
def test_anything_that_is_wrong_with_a_token_makes_it_none(tenants: Tenants, name: str) -> None:
    """Never an exception, and never a part of it believed."""
    try:
        found = tenants.by_token(BAD[name])
    except StaleError:
        assert name == "expired"
        return
    # Whether a name can be a user's is the identity's to say; the rest is decided here.
    assert found is None or name in USERS_THAT_ARE_NONE


def test_only_a_well_signed_token_was_ever_good(tenants: Tenants) -> None:
    """An old date makes no guess an honest one."""
    with pytest.raises(StaleError):
        tenants.by_token(token(exp=NOW - 60))
    assert tenants.by_token(token(OTHER_RSA_KEY, exp=NOW - 60)) is None
    assert tenants.by_token(token(exp=NOW - 60)[:-8]) is None


@pytest.mark.parametrize(
    ("key", "algorithm", "public"),
    [
        (RSA_KEY, "RS256", pem(RSA_KEY)), (RSA_KEY, "RS384", pem(RSA_KEY)), (RSA_KEY, "PS256", pem(RSA_KEY)),
        (EC_KEY, "ES256", pem(EC_KEY)), (ED_KEY, "EdDSA", pem(ED_KEY)), (SHARED, "HS256", SHARED),
        (SHARED * 2, "HS512", SHARED * 2),
    ],
)  # fmt: skip
def test_one_key_without_a_name_is_good_for_tokens_of_any_name(
    tmp_path: Path, key: Any, algorithm: str, public: str
) -> None:
    """Of each kind of key that there is."""
    text = (
        f"[tenants.a.jwt]\nissuer='{ISSUER}'\naudience='{AUDIENCE}'\nalgorithms=['{algorithm}']\nkey='''{public}'''\n"
    )
    tenants = Registry(write(tmp_path, text)).now
    assert tenants.by_token(token(key, algorithm, kid=None)) is not None
    assert tenants.by_token(token(key, algorithm, kid="any")) is not None
    assert tenants.by_token(signed_with_public_key()) is None


def test_the_claims_that_name_user_and_session_are_the_tenants_choice(tmp_path: Path) -> None:
    """Logins differ."""
    text = TWO.replace(
        "[tenants.acme.jwt.keys]", "user_claim = 'email'\nsession_claim = 'sid'\n[tenants.acme.jwt.keys]"
    )
    tenants = Registry(write(tmp_path, text)).now
    found = tenants.by_token(token(email="a@acme.example", sid="s9"))
    assert found is not None
    assert found[1][:2] == ("a@acme.example", "s9")
    assert tenants.by_token(token()) is None
    assert tenants.by_token(token(email="a@acme.example", sid=7)) is None


async def test_another_key_issuer_or_audience_is_another_credential(tmp_path: Path) -> None:
    """What the former one opened ends when the file is read again."""
    registry = Registry(write(tmp_path))
    found = registry.now.by_token(token())
    assert found is not None
    for text in (
        TWO.replace(pem(RSA_KEY), pem(OTHER_RSA_KEY)),
        TWO.replace(f'issuer = "{ISSUER}"', 'issuer = "https://new.example"'),
        TWO.replace(f'audience = "{AUDIENCE}"', 'audience = "new"'),
    ):
        write(tmp_path, text)
        assert await registry.reload() == ""
        assert not registry.now.honours(found[0].credential, "acme")
    write(tmp_path, TWO.replace(pem(EC_KEY), pem(ec.generate_private_key(ec.SECP256R1()))))
    await registry.reload()
    assert registry.now.honours(found[0].credential, "acme")
