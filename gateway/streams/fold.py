"""Folding: adjacent pieces of one kind become one piece, under the id of the last."""

from collections.abc import Sequence

from gateway.events import Reasoning, Record, Text


def fold(records: Sequence[Record]) -> list[Record]:
    """The same content in fewer records: neighbouring text joined, neighbouring reasoning joined, the rest kept."""
    folded: list[Record] = []
    run: list[str] = []
    kind: type[Text] | type[Reasoning] | None = None
    replace = False
    last = 0

    def close() -> None:
        nonlocal kind, replace
        if kind is Text:
            folded.append(Record(last, Text("".join(run), replace)))
        elif kind is Reasoning:
            folded.append(Record(last, Reasoning("".join(run))))
        run.clear()
        kind, replace = None, False

    for record in records:
        seq, event = record
        if isinstance(event, (Text, Reasoning)):
            starts_over = isinstance(event, Text) and event.replace
            if type(event) is not kind:
                close()
                kind = type(event)
            if starts_over:
                run.clear()
                replace = True
            run.append(event.token)
            last = seq
        else:
            close()
            folded.append(record)
    close()
    return folded
