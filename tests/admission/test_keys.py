"""API keys: made of chance, kept as digests, compared in constant time."""

import hmac
import io

import pytest

from gateway.admission import keys
from gateway.admission.keys import digest_of, new_key, parse_digest, written
from gateway.admission.tenant import Tenant
from gateway.admission.tenants import Tenants
from gateway.admission.tenants_file import Entry
from gateway.cli import main


def test_a_key_has_256_random_bits_and_no_two_are_alike() -> None:
    """So it can be neither guessed nor met by accident."""
    made = {new_key() for _ in range(1000)}
    assert len(made) == 1000
    assert all(key.startswith("sk-") and len(key) == 3 + 43 for key in made)


def test_a_digest_is_read_back_as_it_was_written() -> None:
    """The one form that stands in a file."""
    assert parse_digest(written(digest_of("x"))) == digest_of("x")


@pytest.mark.parametrize("text", ["", "sha256:", "sha256:zz", new_key(), "sha256:" + "A" * 64, "md5:" + "0" * 64])
def test_what_is_no_digest_is_refused_without_being_repeated(text: str) -> None:
    """It may be a key that somebody put there by mistake."""
    with pytest.raises(ValueError, match="must be sha256:") as refused:
        parse_digest(text)
    assert not text or text not in str(refused.value).replace("sha256:", "")


def test_a_key_is_looked_up_by_its_digest_and_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """How far a guess is right can be seen from no time: the table holds digests, and even those are compared so."""
    key, compared = new_key(), list[tuple[str, str]]()
    tenants = Tenants([Entry(Tenant("acme"), (digest_of(key),))])

    def noted(one: str, other: str) -> bool:
        compared.append((one, other))
        return hmac.compare_digest(one, other)

    monkeypatch.setattr(keys, "same", noted)
    assert tenants.by_key(key) is not None
    assert tenants.by_key(key[:-1]) is None
    assert compared == [(digest_of(key), digest_of(key)), ("", digest_of(key[:-1]))]
    assert key not in repr(vars(tenants))


def test_keys_are_compared_by_what_the_library_has_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And by nothing that returns early."""
    monkeypatch.setattr(hmac, "compare_digest", lambda one, other: (one, other) == ("a", "b"))
    assert keys.same("a", "b")
    assert not keys.same("a", "a")


def test_keys_new_prints_a_key_once_and_the_line_for_the_file(capsys: pytest.CaptureFixture[str]) -> None:
    """What it prints can be copied as it is."""
    assert main(["keys", "new", "--tenant", "acme"]) == 0
    key, *rest = capsys.readouterr().out.splitlines()
    assert key.startswith("sk-")
    assert "tenants.acme" in rest[0]
    assert rest[-1] == f'"{written(digest_of(key))}"'


def test_keys_hash_reads_a_key_and_prints_its_digest_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From standard input: on a command line all processes of the machine could see it."""
    monkeypatch.setattr("sys.stdin", io.StringIO("sk-mine\n"))
    assert main(["keys", "hash"]) == 0
    assert capsys.readouterr().out == f'"{written(digest_of("sk-mine"))}"\n'
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    assert main(["keys", "hash"]) == 2
