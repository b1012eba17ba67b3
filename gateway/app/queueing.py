"""The waiting room, as the settings say."""

from gateway.admission.charges import Charges, HouseLimits
from gateway.admission.waiting import WaitingRoom
from gateway.limits import Limiter
from gateway.settings import Settings
from gateway.telemetry.metrics import Metrics


def make_room(settings: Settings, limiter: Limiter, metrics: Metrics) -> WaitingRoom:
    """Where streams get their slots, or wait for them."""
    queue = settings.queue
    return WaitingRoom(
        limiter,
        slots=queue.slots,
        max_waiting=queue.max_waiting,
        patience_s=queue.patience_s,
        premium_run=queue.premium_run,
        metrics=metrics,
    )


def make_charges() -> Charges:
    """What tenants' own limits say; the house has none yet."""
    return Charges(HouseLimits(), unlimited=lambda _address: False)
