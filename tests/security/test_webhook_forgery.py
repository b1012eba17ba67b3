"""Forged and repeated webhooks: the check that the documentation gives to receivers takes none of them."""

import base64
import hmac
import re
import secrets
from typing import Any

import pytest

from gateway.webhooks.message import Message, message, signed
from tests.documents import blocks
from tests.receiver import new_secret

CHECK = next(block.code for block in blocks() if "def verified(" in block.code)
NOW = 1_795_253_400.5


@pytest.fixture
def verified() -> Any:
    """The function of the documentation, with a memory of its own."""
    names: dict[str, Any] = {}
    exec(CHECK, names)
    return names["verified"]


@pytest.fixture
def secret() -> str:
    """One that both sides know."""
    return new_secret()


def sent(secret: str, at: float = NOW) -> tuple[dict[str, str], Message]:
    """A genuine message, with its headers."""
    made = message("stream.opened", "s", {"stream_id": "s"}, NOW)
    return signed(made, [base64.b64decode(secret.removeprefix("whsec_"))], at), made


def test_a_genuine_message_is_taken_once(verified: Any, secret: str) -> None:
    """The same again is known, at whichever attempt."""
    headers, made = sent(secret)
    assert verified(headers, made.body, secret, now=lambda: NOW)["data"] == {"stream_id": "s"}
    assert verified(headers, made.body, secret, now=lambda: NOW + 10) is None
    later = signed(made, [base64.b64decode(secret.removeprefix("whsec_"))], NOW + 3600)
    assert verified(later, made.body, secret, now=lambda: NOW + 3600) is None


def test_a_byte_that_was_changed_is_noticed_wherever_it_is(verified: Any, secret: str) -> None:
    """Each byte of the body, and one more or less."""
    headers, made = sent(secret)
    bodies = [made.body[:at] + bytes([made.body[at] ^ 1]) + made.body[at + 1 :] for at in range(len(made.body))]
    for body in [*bodies, made.body + b" ", made.body[:-1], b""]:
        with pytest.raises(ValueError, match="no signature"):
            verified(headers, body, secret, now=lambda: NOW)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_header_that_was_changed_or_taken_away_is_noticed(verified: Any, secret: str, name: str) -> None:
    """Id and time are signed as well, so that neither can be made new."""
    headers, made = sent(secret)
    changed = headers[name][:-3] + {"webhook-timestamp": "399"}.get(name, "abc")
    for wrong in (changed, ""):
        with pytest.raises(ValueError, match=r"signature|timestamp|int\(\)"):
            verified({**headers, name: wrong}, made.body, secret, now=lambda: NOW)
    del headers[name]
    with pytest.raises(ValueError, match=r"signature|int\(\)"):
        verified(headers, made.body, secret, now=lambda: NOW)


@pytest.mark.parametrize("seconds", [-302, 302, 3600, 1e9])
def test_what_was_signed_too_long_ago_or_ahead_is_not_taken(verified: Any, secret: str, seconds: float) -> None:
    """Five minutes either way."""
    headers, made = sent(secret, NOW - seconds)
    with pytest.raises(ValueError, match="timestamp"):
        verified(headers, made.body, secret, now=lambda: NOW)
    near = sent(secret, NOW - 298 if seconds > 0 else NOW + 298)
    assert verified(near[0], near[1].body, secret, now=lambda: NOW)


def test_another_ones_secret_signs_nothing(verified: Any, secret: str) -> None:
    """Nor does an empty key, a plain hash, or a scheme that is not ours."""
    headers, made = sent(new_secret())
    content = f"{made.id}.{headers['webhook-timestamp']}.".encode() + made.body
    empty = base64.b64encode(hmac.digest(b"", content, "sha256")).decode()
    own = base64.b64encode(hmac.digest(base64.b64decode(secret[6:]), content, "sha256")).decode()
    for signature in (headers["webhook-signature"], f"v1,{empty}", f"v0,{own}", own, f"v1a,{own}", "v1,", "v1,é"):
        with pytest.raises(ValueError, match="no signature"):
            verified({**headers, "webhook-signature": signature}, made.body, secret, now=lambda: NOW)


def test_any_of_the_signatures_may_be_the_good_one(verified: Any, secret: str) -> None:
    """While a secret is changed there are two."""
    headers, made = sent(secret)
    other = base64.b64encode(secrets.token_bytes(32)).decode()
    headers["webhook-signature"] = f"v1,{other} {headers['webhook-signature']}"
    assert verified(headers, made.body, secret, now=lambda: NOW)


def test_the_check_compares_in_constant_time() -> None:
    """Every signature, with the function that is made for it, and by no other comparison."""
    assert "hmac.compare_digest(expected, " in CHECK
    assert not re.search(r"expected\s*(==|in)|(==|in)\s*expected", CHECK)
    assert "any([" in CHECK
