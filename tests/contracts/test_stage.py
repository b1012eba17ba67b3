"""What every Stage promises: events in, events out, in line, in order, remembering only its own stream."""

from collections.abc import Callable

import pytest

from gateway.events import Event, Metadata, Opened, Text
from gateway.request import Caps
from gateway.stages.base import Chain, Stage
from gateway.stages.batched import Batched
from gateway.stages.discreet import Discreet
from gateway.stages.truncate import Truncate
from tests.doubles import END, uncapped

STAGES: dict[str, Callable[[], Stage]] = {
    "truncate": lambda: Truncate(Caps(words=20, tokens=300), max_bytes=1000, asked_tokens=lambda: 0),
    "uncapped": lambda: uncapped(1000),
    "chain": lambda: Chain([uncapped(1000), uncapped(1000)]),
    "empty chain": lambda: Chain([]),
    "batched": Batched,
    "discreet": Discreet,
    "batched chain": lambda: Chain([uncapped(1000), Discreet(), Batched()]),
}
EVENTS: list[Event] = [Opened("m"), Metadata({"k": 1}), Text("a"), Text("b"), END]


@pytest.fixture(params=STAGES)
def make(request: pytest.FixtureRequest) -> Callable[[], Stage]:
    """Makes a stage of one kind."""
    return STAGES[request.param]


def test_the_end_of_the_text_always_passes(make: Callable[[], Stage]) -> None:
    """A stage that swallowed it would turn every answer into a truncated one."""
    assert list(make().feed(EVENTS))[-1] == END


def test_an_empty_batch_stays_empty(make: Callable[[], Stage]) -> None:
    """Nothing is made of nothing."""
    assert list(make().feed([])) == []


def test_batches_make_no_difference(make: Callable[[], Stage]) -> None:
    """How the upstream's bytes were cut must not show in the text."""
    one, other = make(), make()
    whole = list(one.feed(EVENTS))
    pieces = [event for item in EVENTS for event in other.feed([item])]
    assert pieces == whole


def test_two_streams_have_two_stages(make: Callable[[], Stage]) -> None:
    """What one has seen the other does not remember."""
    busy = make()
    for _ in range(5):
        busy.feed([Text("x" * 150)])
    fresh = make()
    made = [*fresh.feed([Text("x" * 900)]), *fresh.last()]
    assert "".join(event for event in made if isinstance(event, Text)) == "x" * 900


def test_nothing_is_lost_where_no_end_comes(make: Callable[[], Stage]) -> None:
    """What a stage holds is its last words; it has them once."""
    stage = make()
    made = [*stage.feed(EVENTS[:-1]), *stage.last()]
    assert "".join(event for event in made if isinstance(event, Text)) == "ab"
    assert list(stage.last()) == []


def test_what_was_given_is_not_changed(make: Callable[[], Stage]) -> None:
    """The batch belongs to the source."""
    batch = list(EVENTS)
    make().feed(batch)
    assert batch == EVENTS
