"""Many measured times in little memory, and their quantiles."""

from array import array
from collections.abc import Sequence

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


def quantile(ordered: Sequence[int], share: float) -> int:
    """The value below which this share of the values lies."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


class Samples:
    """Times in nanoseconds."""

    def __init__(self) -> None:
        self._values = array("q")
        self.add = self._values.append

    def __len__(self) -> int:
        return len(self._values)

    def in_ms(self) -> dict[str, float]:
        """How many, the quantiles and the greatest, in milliseconds; only how many if there are none."""
        if not self._values:
            return {"n": 0}
        ordered = sorted(self._values)
        told = {name: round(quantile(ordered, share) / 1e6, 3) for name, share in QUANTILES.items()}
        return {"n": len(ordered), **told, "max": round(ordered[-1] / 1e6, 3)}
