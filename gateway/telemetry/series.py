"""Series as plain numbers: one thread writes them for the price of an addition, another may tell them meanwhile.

Whoever tells takes a copy of what it reads first, which the interpreter makes in one step.
"""

import time
from bisect import bisect_left
from itertools import accumulate

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import INF, floatToGoString

Labels = str | tuple[str, ...]
"""The values of the labels: the value itself where there is one label, else a tuple in the order of their names."""


class Counts(dict[Labels, float]):
    """A counter: `counts["ok"] += 1`."""

    kind = "counter"

    def __init__(self, name: str, text: str, *label_names: str) -> None:
        super().__init__()
        self.name = name
        self.text = text
        self.label_names = label_names
        self._created: dict[Labels, float] = {}
        if not label_names:
            self[()] = self[()]

    def __missing__(self, labels: Labels) -> float:
        self._created[labels] = time.time()
        return 0

    def family(self) -> Metric:
        """What it says now."""
        family = CounterMetricFamily(self.name, self.text, labels=self.label_names)
        for labels, number in self.copy().items():
            family.add_metric(_values(labels), float(number), created=self._created[labels])
        return family


class Gauges(dict[Labels, float]):
    """A gauge: `gauges["native"] -= 1`."""

    kind = "gauge"

    def __init__(self, name: str, text: str, *label_names: str) -> None:
        super().__init__()
        self.name = name
        self.text = text
        self.label_names = label_names
        if not label_names:
            self[()] = 0

    def __missing__(self, labels: Labels) -> float:
        return 0

    def family(self) -> Metric:
        """What it says now."""
        family = GaugeMetricFamily(self.name, self.text, labels=self.label_names)
        for labels, number in self.copy().items():
            family.add_metric(_values(labels), float(number))
        return family


class Tally:
    """One histogram: how many values fell at or below each bound but above the one before, and their sum."""

    __slots__ = ("bounds", "counts", "created", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0
        self.created = time.time()

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Tallies(dict[Labels, Tally]):
    """A histogram by its labels: `tallies["local"].add(0.2)`."""

    kind = "histogram"

    def __init__(self, name: str, text: str, label_names: tuple[str, ...], bounds: tuple[float, ...]) -> None:
        super().__init__()
        self.name = name
        self.text = text
        self.label_names = label_names
        self._bounds = tuple(map(float, bounds))
        # The Prometheus client leaves this function untyped.
        self._told_bounds: list[str] = [floatToGoString(bound) for bound in (*bounds, INF)]  # type: ignore[no-untyped-call]
        if not label_names:
            self[()] = Tally(self._bounds)

    def __missing__(self, labels: Labels) -> Tally:
        tally = self[labels] = Tally(self._bounds)
        return tally

    def family(self) -> Metric:
        """What it says now. A value may be in the sum and not yet in a bucket, or the reverse."""
        family = HistogramMetricFamily(self.name, self.text, labels=self.label_names)
        for labels, tally in self.copy().items():
            values = _values(labels)
            # One copy for the buckets and the count, so that the count is always that of the last bucket.
            totals = map(float, accumulate(tally.counts.copy()))
            family.add_metric(values, list(zip(self._told_bounds, totals, strict=True)), tally.sum)
            family.add_sample(f"{self.name}_created", dict(zip(self.label_names, values, strict=True)), tally.created)
        return family


Series = Counts | Gauges | Tallies


def _values(labels: Labels) -> tuple[str, ...]:
    return (labels,) if isinstance(labels, str) else labels
