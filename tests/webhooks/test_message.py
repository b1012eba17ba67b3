"""A message and its signature: what Standard Webhooks says, and nothing that could be mistaken."""

import base64
import hmac
import secrets

import orjson
import pytest
from pydantic import SecretStr

from gateway.admission.tenant import WebhookTarget
from gateway.transport.guard import networks_of
from gateway.webhooks.message import TYPES, key_of, message, signed
from gateway.webhooks.target import checked
from tests.receiver import new_secret


def test_a_message_says_what_happened_when_and_under_a_name_of_its_own() -> None:
    """In the form of Standard Webhooks."""
    made = message("stream.opened", "s", {"stream_id": "s"}, 1795253400.25)
    told = orjson.loads(made.body)
    assert told == {
        "type": "stream.opened",
        "id": made.id,
        "timestamp": "2026-11-21T09:30:00.250+00:00",
        "data": {"stream_id": "s"},
    }
    assert made.id.startswith("msg_")
    assert len({message("stream.opened", "s", {}, 0).id for _ in range(100)}) == 100


def test_the_signature_is_over_id_timestamp_and_body() -> None:
    """Computed here a second time, by the words of the specification."""
    made, key = message("stream.opened", "s", {}, 0), secrets.token_bytes(32)
    headers = signed(made, [key], 1795253400.9)
    content = f"{made.id}.1795253400.".encode() + made.body
    expected = base64.b64encode(hmac.new(key, content, "sha256").digest()).decode()
    assert headers == {
        "webhook-id": made.id,
        "webhook-timestamp": "1795253400",
        "webhook-signature": f"v1,{expected}",
    }


def test_each_key_signs() -> None:
    """With a space between, in their order."""
    made, keys = message("stream.opened", "s", {}, 0), [secrets.token_bytes(32), secrets.token_bytes(32)]
    both = signed(made, keys, 5)["webhook-signature"]
    assert both.split(" ") == [signed(made, [key], 5)["webhook-signature"] for key in keys]


@pytest.mark.parametrize("size", [24, 32, 64])
def test_a_secret_is_random_bytes_in_base64(size: int) -> None:
    """24 to 64 of them, behind a prefix."""
    key = secrets.token_bytes(size)
    assert key_of(SecretStr("whsec_" + base64.b64encode(key).decode())) == key


@pytest.mark.parametrize(
    "secret",
    ["", "whsec_", "whsec_short", "whsec_" + "A" * 28, "A" * 44, "whsec_" + "A" * 92, "whsec_" + "A" * 40 + "!!!!"],
)
def test_a_secret_that_is_weak_or_none_is_refused_and_not_repeated(secret: str) -> None:
    """Before anything is signed by it."""
    with pytest.raises(ValueError, match="whsec_ and 24 to 64") as refused:
        key_of(SecretStr(secret))
    assert len(secret) < 20 or secret not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "keys", "events", "reason"),
    [
        ("https://127.0.0.1/", 1, (), "url: "),
        ("https://example.com/", 0, (), "secrets: there must be one"),
        ("https://example.com/", -1, (), "secrets: must be whsec_"),
        ("https://example.com/", 1, ("stream.opned",), "events: must be of stream.opened"),
    ],
)
def test_a_target_that_cannot_be_used_is_refused_with_the_reason(
    url: str, keys: int, events: tuple[str, ...], reason: str
) -> None:
    """And without a secret in it."""
    held = ("CANARY",) if keys < 0 else tuple(new_secret() for _ in range(keys))
    with pytest.raises(ValueError, match=reason) as refused:
        checked(WebhookTarget(url, tuple(map(SecretStr, held)), events))
    assert not any(secret in str(refused.value) for secret in held)


def test_a_target_without_events_wants_all_of_them() -> None:
    """The usual case needs no list."""
    held = (SecretStr(new_secret()),)
    target = checked(WebhookTarget("http://10.0.0.1/", held), networks_of(["10.0.0.0/8"]))
    assert target.types == set(TYPES)
    assert checked(WebhookTarget("https://example.com/", held, ("stream.failed",))).types == {"stream.failed"}
