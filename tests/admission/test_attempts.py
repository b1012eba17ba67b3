"""Attempts that fail are counted, by address, in bounded memory."""

from gateway.admission.attempts import ADDRESSES_MAX, FAILURES_MAX, WINDOW_S, Attempts
from tests.doubles import ManualClock


def test_an_address_that_failed_too_often_must_wait_until_its_first_failure_is_old() -> None:
    """A window that slides, not one that begins anew at each full minute."""
    clock = ManualClock()
    attempts = Attempts(clock)
    for _ in range(FAILURES_MAX):
        assert attempts.wait_s("198.51.100.1") == 0
        attempts.failed("198.51.100.1")
        clock.advance(1)
    assert attempts.wait_s("198.51.100.1") == WINDOW_S - FAILURES_MAX
    assert attempts.wait_s("198.51.100.2") == 0
    clock.advance(WINDOW_S - FAILURES_MAX)
    assert attempts.wait_s("198.51.100.1") == 0
    attempts.failed("198.51.100.1")
    assert attempts.wait_s("198.51.100.1") == 1


def test_one_ipv6_network_has_one_count() -> None:
    """Its owner has all its addresses to try from."""
    attempts = Attempts(ManualClock())
    for number in range(FAILURES_MAX):
        attempts.failed(f"2001:db8::{number + 1:x}")
    assert attempts.wait_s("2001:db8::ffff") > 0
    assert attempts.wait_s("2001:db8:0:1::1") == 0


def test_however_many_addresses_fail_only_so_many_are_remembered() -> None:
    """Those that failed last."""
    attempts = Attempts(ManualClock())
    for number in range(ADDRESSES_MAX + 1000):
        attempts.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(attempts._failures) == ADDRESSES_MAX
