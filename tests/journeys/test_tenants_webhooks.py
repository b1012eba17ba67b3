"""Webhooks of tenants: each is told of its own streams where the tenants file says, and waits for no other."""

from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.admission.keys import digest_of, new_key, written
from gateway.app.house import Gateway
from gateway.settings import SettingsError, load
from tests.house import eventually, house, see
from tests.receiver import LOOPBACK, Receiver, new_secret

KEYS = {"acme": new_key(), "beta": new_key()}


def tenants_file(path: Path, **urls: str) -> dict[str, Any]:
    """Settings with tenants that are told at these URLs."""
    text = ""
    for name, url in urls.items():
        text += f'[tenants.{name}]\nkeys = ["{written(digest_of(KEYS[name]))}"]\n'
        if url:
            text += f'[tenants.{name}.webhook]\nurl = "{url}"\nsecrets = ["{new_secret()}"]\n'
    path.write_text(text)
    path.chmod(0o600)
    return {"GATEWAY_TENANTS__FILE": str(path), "GATEWAY_WEBHOOKS__ALLOW_NETWORKS": LOOPBACK}


async def ask(gateway: Gateway, tenant: str) -> None:
    """One question of theirs, answered."""
    headers = {"Authorization": f"Bearer {KEYS[tenant]}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        seen = await see(session, "POST", f"{gateway.urls[0]}/stream", json={"query": "hi"})
    assert seen.status == 200


async def test_a_receiver_that_hangs_holds_up_no_other_tenants(tmp_path: Path) -> None:
    """The operator's neither; and each tenant hears of its own streams alone."""
    async with Receiver(hanging=True) as stuck, Receiver() as well, Receiver() as operator:
        settings = tenants_file(tmp_path / "tenants.toml", acme=stuck.url, beta=well.url) | {
            "GATEWAY_WEBHOOKS__URL": operator.url,
            "GATEWAY_WEBHOOKS__SECRETS": new_secret(),
            "GATEWAY_WEBHOOKS__DRAIN_S": "0",
        }
        async with house(**settings) as gateway:
            for _ in range(6):
                await ask(gateway, "acme")
            await ask(gateway, "beta")
            await eventually(lambda: len(well.got) == 2 and len(operator.got) == 14)
    assert {delivery.told["data"]["tenant"] for delivery in well.got} == {"beta"}
    assert {delivery.told["data"]["tenant"] for delivery in stuck.got} == {"acme"}


async def test_a_target_that_changes_in_the_file_is_used_from_the_next_message_on(tmp_path: Path) -> None:
    """One that cannot be used leaves everything as it was."""
    path = tmp_path / "tenants.toml"
    async with Receiver() as before, Receiver() as after, house(**tenants_file(path, acme=before.url)) as gateway:
        await ask(gateway, "acme")
        await eventually(lambda: len(before.got) == 2)
        tenants_file(path, acme="http://10.0.0.1/")
        assert "tenants.acme.webhook.url" in await gateway.tenants.reload()
        tenants_file(path, acme=after.url)
        assert await gateway.tenants.reload() == ""
        await ask(gateway, "acme")
        await eventually(lambda: len(after.got) == 2)
        tenants_file(path, acme="")
        assert await gateway.tenants.reload() == ""
        await ask(gateway, "acme")
    assert (len(before.got), len(after.got)) == (2, 2)


@pytest.mark.parametrize("url", ["https://169.254.169.254/latest/meta-data/", "https://user@example.com/", "http://x/"])
def test_a_tenant_whose_target_is_inside_stops_the_start(tmp_path: Path, url: str) -> None:
    """With its place in the file, and without repeating what stands there."""
    environment = tenants_file(tmp_path / "tenants.toml", acme=url)
    del environment["GATEWAY_WEBHOOKS__ALLOW_NETWORKS"]
    with pytest.raises(SettingsError, match=r"tenants\.acme\.webhook\.url: must") as refused:
        Gateway(load(None, environment))
    assert url not in str(refused.value)
