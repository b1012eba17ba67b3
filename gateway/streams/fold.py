"""Folding: adjacent pieces of one kind become one piece, under the id of the last."""

from collections.abc import Sequence

from gateway.events import Reasoning, Record, Text, WholeText

FOLDED_MAX_CHARACTERS = 32 * 1024
"""Of one piece: a reader gets a folded piece in one write, however slowly it takes it."""


def fold(records: Sequence[Record]) -> list[Record]:
    """The same content in fewer records: neighbouring text joined, neighbouring reasoning joined, the rest kept.

    A piece that has reached `FOLDED_MAX_CHARACTERS` is full, and the next one begins.
    """
    folded: list[Record] = []
    run: list[str] = []
    kind: type[Text] | type[Reasoning] | None = None
    replace = False
    last = characters = 0

    def close() -> None:
        nonlocal kind, replace, characters
        if kind is Text:
            folded.append(Record(last, (WholeText if replace else Text)("".join(run))))
        elif kind is Reasoning:
            folded.append(Record(last, Reasoning("".join(run))))
        run.clear()
        kind, replace, characters = None, False, 0

    for record in records:
        seq, event = record
        if isinstance(event, (Text, Reasoning)):
            starts_over = isinstance(event, WholeText)
            if not isinstance(event, kind or ()):
                close()
                kind = Text if isinstance(event, Text) else Reasoning
            if starts_over:
                run.clear()
                replace, characters = True, 0
            run.append(event.token)
            characters += len(event.token)
            last = seq
            if characters >= FOLDED_MAX_CHARACTERS:
                close()
        else:
            close()
            folded.append(record)
    close()
    return folded
