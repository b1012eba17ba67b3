"""Pieces: what there is of a stream in this process, cut into entries for Redis."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gateway.events import Event
from gateway.stores.batch import Word
from gateway.stores.entries import ENTRY_MAX_BYTES, encode
from gateway.streams.fold import fold
from gateway.streams.stream import Stream


class Piece(NamedTuple):
    """An entry on its way to Redis: its events are JSON already."""

    first: int
    last: int
    poured: int
    body: bytes


def new_pieces(stream: Stream, after: int, *, with_audio: bool) -> list[Piece]:
    """Everything behind `after`, which must still be kept event by event."""
    return list(_cut(stream.plain_after(after), after + 1, stream.poured, with_audio))


def all_pieces(stream: Stream, *, with_audio: bool, folded: bool) -> list[Piece]:
    """Everything that is kept; `folded`, in as few pieces as can be."""
    records = [*stream.folded(), *stream.after(stream.exact_from - 1, stream.bytes + 1)]
    pieces: list[Piece] = []
    run: list[Event] = []
    before = stream.lost
    for seq, event in fold(records) if folded else records:
        if seq == before + 1:
            run.append(event)
        else:
            # This one stands for several places.
            pieces += _cut(run, before - len(run) + 1, stream.poured, with_audio)
            run = []
            pieces.append(Piece(before + 1, seq, stream.poured, encode([event], with_audio=with_audio)))
        before = seq
    pieces += _cut(run, before - len(run) + 1, stream.poured, with_audio)
    return pieces


def _cut(events: Sequence[Event | str], first: int, poured: int, with_audio: bool) -> Iterator[Piece]:
    """As few pieces as hold `events`, none beyond the bound unless one event alone is."""
    if not events:
        return
    body, count = encode(events, with_audio=with_audio), len(events)
    if count > 1 and len(body) > ENTRY_MAX_BYTES:
        yield from _cut(events[: count // 2], first, poured, with_audio)
        yield from _cut(events[count // 2 :], first + count // 2, poured, with_audio)
    else:
        yield Piece(first, first + count - 1, poured, body)


def words_of(pieces: Sequence[Piece]) -> list[Word]:
    """As the scripts take them."""
    return [word for first, last, poured, body in pieces for word in (last, first, poured, body)]
