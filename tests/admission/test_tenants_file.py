"""The tenants file: read as a whole or not at all, and wrong in words that name the place and never a value."""

import os
from pathlib import Path

import pytest

from gateway.admission.keys import digest_of, written
from gateway.admission.tenant import Limits, Tenant
from gateway.admission.tenants import Registry, Tenants
from gateway.admission.tenants_file import TenantsError, load_tenants
from tests.documents import ROOT
from tests.tenancy import ACME_HASH, ACME_KEY, EC_KEY, ED_KEY, JWT, RSA_KEY, SECOND_KEY, SMALL_RSA_KEY, TWO, pem, write

SECRET = "a value that nobody may ever see printed"
GOOD_DIGEST = written(digest_of("x"))
HMAC = 'issuer = "i"\naudience = "a"\nalgorithms = ["HS256"]'


def asymmetric(algorithm: str, key: str) -> str:
    """A tenant with a public key for tokens."""
    return f"[tenants.a.jwt]\nissuer = 'i'\naudience = 'a'\nalgorithms = ['{algorithm}']\nkey = '''{key}'''"


def test_the_example_that_is_shipped_can_be_loaded() -> None:
    """Every table and every name that it explains exists, and none is missing from it."""
    path = ROOT / "config" / "tenants.example.toml"
    acme, shop = load_tenants(path, {"ACME_WEBHOOK_SECRET": SECRET})
    assert (acme.tenant.name, shop.tenant.name) == ("acme", "small-shop")
    assert len(acme.digests) == 2
    assert acme.tokens is not None
    assert acme.tenant.limits.requests_per_ip == 30
    text = path.read_text()
    for name in (*Limits.__dataclass_fields__, *Tenant.__dataclass_fields__):
        assert name in ("name",) or name in text, name


def test_what_a_tenant_leaves_out_is_as_the_gateway_has_it(tmp_path: Path) -> None:
    """A limit that it names, even with 0, is its own."""
    path = write(tmp_path, "[tenants.a.limits]\nrequests = 0\nrequests_per_ip = 7\n")
    (entry,) = load_tenants(path, {}, Limits(requests=100, concurrent=5, requests_per_ip=30))
    assert entry.tenant.limits == Limits(requests=0, concurrent=5, requests_per_ip=7)


def test_secrets_may_stand_in_the_environment(tmp_path: Path) -> None:
    """And then everybody may read the file."""
    text = '[tenants.a.webhook]\nurl = "https://h.example"\nsecrets = ["env:HOOK"]\n'
    (entry,) = load_tenants(write(tmp_path, text), {"HOOK": SECRET})
    assert entry.tenant.webhook is not None
    assert [secret.get_secret_value() for secret in entry.tenant.webhook.secrets] == [SECRET]
    assert not entry.has_secrets
    assert SECRET not in repr(entry)


WRONG = {
    "": "tenants",
    "[tenants]": "tenants",
    "x = 1\n[tenants.a]": "x",
    "[tenants.'a b']": "tenants.a b",
    f"[tenants.{'a' * 65}]": "tenants.",
    "[tenants.'a:b']": "tenants.a:b",
    "[tenants.a]\ncolour = 'SECRET'": "tenants.a.colour",
    "[tenants.a]\nkeys = ['SECRET']": "tenants.a.keys.0",
    "[tenants.a]\nkeys = [{hash = 'SECRET'}]": "tenants.a.keys.0.hash",
    f"[tenants.a]\nkeys = [{{hash = '{GOOD_DIGEST}', name = 'a b'}}]": "tenants.a.keys.0.name",
    "[tenants.a]\norigins = ['*']": "tenants.a.origins.0",
    "[tenants.a]\norigins = ['https://a.example', 'null']": "tenants.a.origins.1",
    "[tenants.a]\norigins = ['https://a.example/SECRET']": "tenants.a.origins.0",
    "[tenants.a]\npublic_hash = 'SECRETSECRET'": "tenants.a.public_hash: needs origins",
    "[tenants.a]\npublic_hash = 'short'\norigins = ['https://a.example']": "tenants.a.public_hash",
    "[tenants.a]\npriority = 'SECRET'": "tenants.a.priority",
    "[tenants.a.limits]\nrequests = -1": "tenants.a.limits.requests",
    "[tenants.a.limits]\nrequests = '5'": "tenants.a.limits.requests",
    "[tenants.a.limits]\nwindow_s = 0": "tenants.a.limits.window_s",
    "[tenants.a.limits]\nwindow_s = 1e-7": "tenants.a.limits.window_s",
    "[tenants.a.features]\nstreaming_percent = 101": "tenants.a.features.streaming_percent",
    "[tenants.a.caps]\nwords = -1": "tenants.a.caps.words",
    "[tenants.a.preferences]\nupdates = 'SECRET'": "tenants.a.preferences.updates",
    "[tenants.a.webhook]\nurl = 'https://h.example'": "tenants.a.webhook.secrets",
    "[tenants.a.webhook]\nurl = 'https://h.example'\nsecrets = ['env:NOT_THERE']": "tenants.a.webhook.secrets.0",
    "[tenants.a.webhook]\nurl = 'https://h.example'\nsecrets = ['']": "tenants.a.webhook.secrets.0",
    "[tenants.a.jwt]\nissuer = 'i'": "tenants.a.jwt.audience",
    f"[tenants.a.jwt]\n{HMAC}": "tenants.a.jwt: exactly one of key and keys",
    f"[tenants.a.jwt]\n{HMAC}\nkey = 'SECRET'": "tenants.a.jwt.key: must be a secret of at least 32 bytes",
    f"[tenants.a.jwt]\n{HMAC}\nkey = 'env:NOT_THERE'": "tenants.a.jwt.key: the environment",
    f"[tenants.a.jwt]\n{HMAC}\nkey = '''{pem(RSA_KEY)}'''": "tenants.a.jwt.key: must be a secret",
    f"[tenants.a.jwt]\n{HMAC}\n[tenants.a.jwt.keys]\nk = 'SECRET'": "tenants.a.jwt.keys.0: must be a secret",
    "[tenants.a.jwt]\nissuer='i'\naudience='a'\nkey='k'\nalgorithms = ['none']": "tenants.a.jwt.algorithms.0",
    "[tenants.a.jwt]\nissuer='i'\naudience='a'\nkey='k'\nalgorithms = []": "tenants.a.jwt.algorithms",
    "[tenants.a.jwt]\nissuer='i'\naudience='a'\nkey='k'\nalgorithms = ['HS256', 'RS256']": "cannot be mixed",
    asymmetric("RS256", "SECRET"): "tenants.a.jwt.key: must be a public key",
    asymmetric("ES256", pem(RSA_KEY)): "tenants.a.jwt.key: is of a kind",
    asymmetric("RS256", pem(EC_KEY)): "tenants.a.jwt.key: is of a kind",
    asymmetric("ES384", pem(EC_KEY)): "tenants.a.jwt.key: is of a kind",
    asymmetric("RS256", pem(SMALL_RSA_KEY)): "tenants.a.jwt.key: is of a kind, or a size",
    "[tenants.a\nSECRET": "not valid TOML",
    "a = 'SECRET": "not valid TOML",
    f"[tenants.a]\nkeys = ['{GOOD_DIGEST}', '{GOOD_DIGEST}']": "tenants.a.keys.1: this key",
    f"[tenants.a]\nkeys = ['{GOOD_DIGEST}']\n[tenants.b]\nkeys = ['{GOOD_DIGEST}']": "tenants.b.keys.0: this key",
    "".join(
        f"[tenants.{name}]\npublic_hash = 'the-same-hash'\norigins = ['https://a.example']\n" for name in "ab"
    ): "tenants.b.public_hash",
    TWO + JWT.replace("tenants.acme", "tenants.rival"): "tenants.rival.jwt.issuer",
}


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_named_and_never_repeated(tmp_path: Path, text: str) -> None:
    """The dotted key, and what is allowed; what stands there may be a secret at the wrong place."""
    with pytest.raises(TenantsError) as wrong:
        Registry(write(tmp_path, text.replace("SECRET", "S3CR3T-S3CR3T")), environment={})
    assert WRONG[text] in str(wrong.value)
    assert str(tmp_path / "tenants.toml") in str(wrong.value)
    assert "S3CR3T" not in str(wrong.value)


@pytest.mark.parametrize("key", [RSA_KEY, EC_KEY, ED_KEY])
def test_a_private_key_in_the_place_of_a_public_one_is_refused(tmp_path: Path, key: object) -> None:
    """It does not belong on this machine."""
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()  # type: ignore[attr-defined]  # one of three kinds
    with pytest.raises(TenantsError, match=r"tenants\.a\.jwt\.key: must be a public key in PEM"):
        load_tenants(write(tmp_path, asymmetric("RS256", private)), {})


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a" * (16 * 1024**2 + 1)], ids=["not UTF-8", "too large"])
def test_a_file_that_cannot_be_one_is_refused(tmp_path: Path, content: bytes) -> None:
    """Without a traceback."""
    path = tmp_path / "tenants.toml"
    path.write_bytes(content)
    with pytest.raises(TenantsError):
        load_tenants(path, {})


def test_a_named_file_must_be_there(tmp_path: Path) -> None:
    """A wrong path is no wish for an open gateway."""
    with pytest.raises(TenantsError, match="cannot be read"):
        Registry(tmp_path / "nowhere.toml")
    assert Registry(tmp_path / "nowhere.toml", optional=True).now.is_open


async def test_a_reload_changes_everything_at_once_and_a_broken_file_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever looked before goes on with what it saw; what is wrong stands in the log, without values."""
    changes = list[Tenants]()
    path = write(tmp_path)
    registry = Registry(path, on_change=changes.append)
    before = registry.now
    path.write_text("[tenants.acme]\nkeys = ['S3CR3T']\n")
    assert "tenants.acme.keys.0" in await registry.reload()
    assert registry.now is before
    assert not changes
    assert "tenants.acme.keys.0" in caplog.text
    assert "S3CR3T" not in caplog.text
    path.write_text(f"[tenants.acme]\nkeys = ['{written(digest_of(SECOND_KEY))}']\n")
    assert await registry.reload() == ""
    assert changes == [registry.now]
    assert registry.now.by_key(ACME_KEY) is None
    assert registry.now.by_key(SECOND_KEY) is not None
    assert registry.now.by_hash(ACME_HASH) is None
    assert before.by_key(ACME_KEY) is not None


async def test_a_file_that_is_taken_away_does_not_open_the_door(tmp_path: Path) -> None:
    """Once there were tenants there is never an open one again."""
    path = tmp_path / "tenants.toml"
    registry = Registry(path, optional=True)
    assert registry.now.is_open
    write(tmp_path)
    assert await registry.reload() == ""
    path.unlink()
    assert "cannot be read" in await registry.reload()
    assert not registry.now.is_open


async def test_a_credential_is_honoured_as_long_as_it_stands_in_the_file(tmp_path: Path) -> None:
    """By its own name; and a tenant that is gone honours nothing."""
    registry = Registry(write(tmp_path))
    first, second = (registry.now.by_key(key) for key in (ACME_KEY, SECOND_KEY))
    assert first is not None
    assert second is not None
    write(tmp_path, f"[tenants.acme]\nkeys = ['{written(digest_of(SECOND_KEY))}']\n")
    await registry.reload()
    assert not registry.now.honours(first.credential, "acme")
    assert registry.now.honours(second.credential, "acme")
    assert registry.now.honours("", "acme")
    assert not registry.now.honours("", "rival")
    assert not registry.now.honours(second.credential, "rival")


async def test_a_key_that_moves_to_another_tenant_is_another_credential(tmp_path: Path) -> None:
    """What it opened for the first one ends."""
    line = f"keys = ['{written(digest_of(ACME_KEY))}']\n"
    registry = Registry(write(tmp_path, f"[tenants.a]\n{line}[tenants.b]\n"))
    grant = registry.now.by_key(ACME_KEY)
    assert grant is not None
    write(tmp_path, f"[tenants.a]\n[tenants.b]\n{line}")
    await registry.reload()
    assert not registry.now.honours(grant.credential, "a")


@pytest.mark.parametrize(
    ("mode", "text", "warned"),
    [
        (0o644, "[tenants.a.webhook]\nurl = 'https://h.example'\nsecrets = ['a secret in the file itself']\n", True),
        (0o600, "[tenants.a.webhook]\nurl = 'https://h.example'\nsecrets = ['a secret in the file itself']\n", False),
        (0o644, f"[tenants.a.jwt]\n{HMAC}\nkey = '{'k' * 32}'\n", True),
        (0o644, TWO, False),
    ],
)
def test_a_file_with_secrets_that_everybody_can_read_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, text: str, warned: bool
) -> None:
    """Digests and public keys may be seen; secrets may not."""
    path = write(tmp_path, text)
    os.chmod(path, mode)
    Registry(path)
    assert ("everybody on this machine can read" in caplog.text) is warned


def test_what_another_part_cannot_use_is_refused_with_its_place(tmp_path: Path) -> None:
    """For example a webhook that would go to a private address."""

    def check(tenant: Tenant) -> None:
        raise TenantsError(f"tenants.{tenant.name}.webhook.url: is no good")

    with pytest.raises(TenantsError, match=r"tenants\.acme\.webhook\.url: is no good"):
        Registry(write(tmp_path), check=check)
