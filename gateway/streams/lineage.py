"""Lineage: the epochs of a stream, and where a place in an earlier one lies today.

An epoch begins whenever another process takes a stream over. What its predecessor had said but not yet written down is
lost with it; an exact source says it again, one place later, since `status continued` stands where the epochs meet.
"""

from collections.abc import Mapping
from typing import NamedTuple

from gateway.streams.ids import Place


class Lost(NamedTuple):
    """Why a place cannot be stood on: `RESET` or `REWIND`, and how many events behind `to` are not to be had again."""

    code: str
    message: str
    to: int
    dropped: int


class Lineage(NamedTuple):
    """`ends` holds the last durable seq of each epoch before `epoch`. `exact`: what was lost is said again the same."""

    epoch: int = 1
    ends: Mapping[int, int] = {}
    exact: bool = False

    def locate(self, place: Place) -> int | Lost:
        """The seq at which a reader that was at `place` stands today."""
        seq = place.seq
        if place.epoch == self.epoch:
            return seq
        end = self.ends.get(place.epoch)
        if end is None or place.epoch > self.epoch:
            return Lost("RESET", "the stream has begun anew since", 0, 0)
        if seq <= end:
            return seq
        if not self.exact:
            return Lost("REWIND", "the end of what you had was lost with its process", end, seq - end)
        for epoch in range(place.epoch, self.epoch):
            seq += seq > self.ends[epoch]
        return seq

    def succeeded(self, last: int) -> "Lineage":
        """The lineage of the next epoch, where `last` is the last durable seq of this one."""
        return Lineage(self.epoch + 1, {**self.ends, self.epoch: last}, self.exact)


FIRST_EPOCH, EXACT = Lineage(), Lineage(exact=True)
"""Of streams that nobody has taken over yet."""
