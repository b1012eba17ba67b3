"""Who is told of streams outside, as the settings say."""

from collections.abc import Callable

from gateway.admission.tenant import Tenant, WebhookTarget
from gateway.admission.tenants_file import TenantsError
from gateway.settings import Settings, SettingsError
from gateway.telemetry.metrics import Metrics
from gateway.transport.guard import Network, networks_of
from gateway.webhooks.lane import Policy
from gateway.webhooks.post import HttpPost
from gateway.webhooks.target import checked
from gateway.webhooks.teller import TargetOf, Teller


def make_teller(settings: Settings, target_of: TargetOf, metrics: Metrics) -> Teller:
    """Who tells tenants, as `target_of` knows them, and the operator. Raises `SettingsError` as `own_target` does."""
    chosen = settings.webhooks
    return Teller(
        HttpPost(allowed_networks(settings), timeout_s=chosen.timeout_s),
        Policy(chosen.attempts, chosen.max_waiting),
        own=own_target(settings),
        target_of=target_of,
        networks=allowed_networks(settings),
        metrics=metrics,
    )


def webhook_check(settings: Settings) -> Callable[[Tenant], None]:
    """Raises `TenantsError` for a tenant whose webhook cannot be used."""
    networks = allowed_networks(settings)

    def check(tenant: Tenant) -> None:
        if tenant.webhook is not None:
            try:
                checked(tenant.webhook, networks)
            except ValueError as error:
                raise TenantsError(f"tenants.{tenant.name}.webhook.{error}") from None

    return check


def own_target(settings: Settings) -> WebhookTarget | None:
    """Where the operator is told; None where it is not. Raises `SettingsError` where that cannot be used."""
    chosen, networks = settings.webhooks, allowed_networks(settings)
    if not chosen.url:
        return None
    target = WebhookTarget(chosen.url, tuple(chosen.secrets), tuple(chosen.events))
    try:
        checked(target, networks)
    except ValueError as error:
        raise SettingsError(f"webhooks.{error}") from None
    return target


def allowed_networks(settings: Settings) -> tuple[Network, ...]:
    """The networks inside that receivers may stand in. Raises `SettingsError` where they are none."""
    try:
        return networks_of(settings.webhooks.allow_networks)
    except ValueError as error:
        raise SettingsError(f"webhooks.allow_networks: {error}") from None
