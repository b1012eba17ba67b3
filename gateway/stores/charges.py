"""What a charge is in Redis: the keys and words of its script, and what the script's answer means."""

from collections.abc import Sequence

from gateway.limits import Charge, Slots, Standing, Verdict
from gateway.stores.batch import Word
from gateway.stores.keys import Keys

SECOND = 1_000_000
"""Times in the script are whole microseconds, which a number of Lua holds exactly."""


def put_charge(keys: Keys, charge: Charge, day: int) -> tuple[list[str], list[Word]]:
    """The keys, and the words that begin with how many windows and slots there are."""
    windows, slots, budgets = charge
    names = [keys.window(window.scope, window.who, window.window_s) for window in windows]
    names += slot_keys(keys, slots)
    words: list[Word] = [len(windows), len(slots)]
    for window in windows:
        words += (window.limit, int(window.window_s * SECOND))
    for wanted in slots:
        words += (wanted.limit, int(wanted.waits))
    for budget in budgets:
        names.append(keys.budget(budget.scope, budget.who, day))
        words.append(budget.limit)
    return names, words


def slot_keys(keys: Keys, slots: tuple[Slots, ...]) -> tuple[str, ...]:
    """Of each of the slots its key."""
    return tuple(keys.slots(wanted.scope, wanted.who) for wanted in slots)


def verdict_of(charge: Charge, reply: Sequence[int]) -> Verdict:
    """What the script said."""
    place, wait, has_slots, nearest, left, reset = reply
    standing = None
    if nearest:
        window = charge.windows[nearest - 1]
        standing = Standing(window.limit, left, reset / SECOND, window.window_s)
    if not place:
        return Verdict(None, 0.0, standing, bool(has_slots))
    windows, slots, budgets = charge
    place -= 1
    if place < len(windows):
        return Verdict(windows[place], wait / SECOND, standing, False)
    place -= len(windows)
    refused = slots[place] if place < len(slots) else budgets[place - len(slots)]
    return Verdict(refused, wait / SECOND, standing, False)
