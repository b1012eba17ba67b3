"""Leases: what a process's streams hold in Redis, and what of it is still to be written."""

from gateway.stores.leases import AT_ONCE, LEFT_MAX, Leases


def pieces(leases: Leases) -> dict[str, set[str]]:
    """All that is renewed: by key, the streams."""
    held: dict[str, set[str]] = {}
    for keys, words in leases.rounds():
        at = 0
        for key in keys:
            count = int(words[at])
            names = words[at + 1 : at + 1 + count]
            held.setdefault(key, set()).update(map(str, names))
            at += count + 1
        assert at == len(words)
    return held


def test_all_leases_are_renewed_in_pieces() -> None:
    """Each stream with each of its keys, once."""
    leases = Leases()
    for number in range(3 * AT_ONCE + 1):
        leases.add(f"s{number}", ("all", f"k{number % 2}"), written=True)
    held = pieces(leases)
    assert held["all"] == {f"s{number}" for number in range(3 * AT_ONCE + 1)}
    assert held["k0"] | held["k1"] == held["all"]
    assert len(list(leases.rounds())) == 4
    assert list(leases.fresh()) == []


def test_what_is_left_is_given_back_once_and_not_renewed() -> None:
    """Until Redis has heard of it."""
    leases = Leases()
    leases.add("a", ("k", "l"), written=True)
    assert leases.leave("a")
    assert not leases.leave("a")
    assert not leases.leave("never")
    assert pieces(leases) == {}
    some = leases.left()
    assert some == [("a", ("k", "l"))]
    assert leases.left() == some, "nobody has said that they were given back"
    leases.given_back(some)
    assert leases.left() == []


def test_who_comes_back_before_redis_has_heard_keeps_its_slots() -> None:
    """A stream that was left and taken over again at once."""
    leases = Leases()
    leases.add("a", ("k", "l"), written=True)
    leases.leave("a")
    some = leases.left()
    leases.add("a", ("k",), written=False)
    assert leases.left() == [("a", ("l",))]
    leases.given_back(some)
    assert leases.left() == [("a", ("l",))], "that was another leaving"
    assert list(leases.fresh()) == [(["k"], [1, "a"])]
    assert list(leases.fresh()) == []


def test_a_doubt_takes_back_only_what_is_not_held() -> None:
    """A stream that waits keeps what it has when it is not known whether it got the rest."""
    leases = Leases()
    leases.add("a", ("client",), written=True)
    leases.doubt("a", ("client", "tenant"))
    assert leases.left() == [("a", ("tenant",))]
    leases.ask("a")
    assert leases.left() == []
    leases.doubt("a", ("client", "tenant"))
    assert leases.leave("a")
    assert leases.left() == [("a", ("tenant", "client"))]


def test_what_is_to_be_given_back_is_bounded_while_redis_is_away() -> None:
    """The oldest leases end by themselves."""
    leases = Leases()
    for number in range(LEFT_MAX + 10):
        leases.add(f"s{number}", ("k",), written=True)
        leases.leave(f"s{number}")
    given_back = 0
    while some := leases.left():
        assert given_back or some[0][0] == "s10"
        given_back += len(some)
        leases.given_back(some)
    assert given_back == LEFT_MAX
