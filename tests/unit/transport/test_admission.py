"""Which handshakes are let in."""

from __future__ import annotations

import pytest

from gateway.transport.admission import MAX_ADDRESSES, AddressRates, Admission, AdmissionLimits
from gateway.transport.errors import HandshakeError

HERE = "192.0.2.1"


class ManualClock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


def make(
    clock: ManualClock,
    *,
    maximum: int | None = None,
    newcomers: int | None = None,
    rate: float | None = None,
    address_rate: float | None = None,
    there: int = 0,
) -> Admission:
    limits = AdmissionLimits(
        max_connections=maximum,
        max_unauthenticated=newcomers,
        connects_per_second=rate,
        connects_per_second_and_address=address_rate,
    )
    return Admission(clock, limits, open_now=lambda: there, unauthenticated_now=lambda: there)


def let_in(admission: Admission, attempts: int, address: str = HERE) -> int:
    return sum(admission.decide(address) is None for _ in range(attempts))


def refused(admission: Admission, address: str = HERE) -> HandshakeError:
    refusal = admission.decide(address)
    assert refusal is not None
    assert (refusal.status, refusal.code) == (503, 4)
    return refusal


def test_without_limits_everybody_comes_in() -> None:
    assert let_in(make(ManualClock(), there=10_000), 100) == 100


def test_a_replica_that_is_full_says_so_and_when_to_try_again() -> None:
    refusal = refused(make(ManualClock(), maximum=2, there=2))

    assert (refusal.reason, refusal.retry_after_seconds) == ("connection_limit", 5)
    assert let_in(make(ManualClock(), maximum=2, there=1), 1) == 1


def test_a_replica_with_too_many_strangers_says_so_and_when_to_try_again() -> None:
    refusal = refused(make(ManualClock(), newcomers=2, there=2))

    assert (refusal.reason, refusal.retry_after_seconds) == ("unauthenticated_limit", 5)
    assert let_in(make(ManualClock(), newcomers=2, there=1), 1) == 1


def test_a_replica_that_drains_takes_nobody() -> None:
    admission = make(ManualClock())
    admission.draining = True

    assert refused(admission).reason == "draining"


def test_a_burst_of_one_second_is_let_in_and_then_as_many_as_the_rate_says() -> None:
    clock = ManualClock()
    admission = make(clock, rate=10)

    counts = [let_in(admission, 50)]
    for seconds in (0.5, 1.0, 100.0):
        clock.seconds += seconds
        counts.append(let_in(admission, 50))

    assert counts == [10, 5, 10, 10]


def test_a_rate_below_one_lets_one_in_and_says_how_long_to_wait() -> None:
    clock = ManualClock()
    admission = make(clock, rate=0.2)
    assert let_in(admission, 2) == 1

    refusal = refused(admission)
    clock.seconds += 5

    assert (refusal.reason, refusal.retry_after_seconds) == ("rate", 5)
    assert let_in(admission, 2) == 1


def test_who_is_refused_for_another_reason_takes_nothing_from_the_rate() -> None:
    admission = make(ManualClock(), rate=3)
    admission.draining = True
    let_in(admission, 100)
    admission.draining = False

    assert let_in(admission, 100) == 3


# by address


@pytest.mark.parametrize("started_at", [0.0, 1_234_567.8])
def test_each_address_has_its_own_rate(started_at: float) -> None:
    clock = ManualClock()
    clock.seconds = started_at
    admission = make(clock, address_rate=10)

    counts = [let_in(admission, 50), let_in(admission, 50, "192.0.2.2")]
    for seconds in (0.5, 1.0, 100.0):
        clock.seconds += seconds
        counts.append(let_in(admission, 50))

    assert counts == [10, 10, 5, 10, 10]


def test_an_address_that_comes_too_fast_is_told_how_long_to_wait_and_is_let_in_then() -> None:
    clock = ManualClock()
    admission = make(clock, address_rate=0.2)
    assert let_in(admission, 2) == 1

    refusal = refused(admission)
    clock.seconds += 5

    assert (refusal.reason, refusal.retry_after_seconds) == ("address_rate", 5)
    assert let_in(admission, 2) == 1


def test_one_address_takes_nothing_from_the_others_but_what_it_was_let_in_with() -> None:
    admission = make(ManualClock(), rate=10, address_rate=3)

    assert [let_in(admission, 100, address) for address in ("192.0.2.1", "192.0.2.2")] == [3, 3]


def test_a_replica_that_is_busy_takes_nothing_from_the_rate_of_an_address() -> None:
    clock = ManualClock()
    admission = make(clock, rate=1, address_rate=1)
    assert let_in(admission, 1, "192.0.2.2") == 1
    assert refused(admission).reason == "rate"

    clock.seconds += 1

    assert let_in(admission, 100) == 1


def test_addresses_of_one_ipv6_network_count_as_one() -> None:
    admission = make(ManualClock(), address_rate=1)

    assert let_in(admission, 1, "2001:db8::1") == 1
    assert let_in(admission, 1, "2001:db8::ffff:1") == 0
    assert let_in(admission, 1, "2001:db8:0:1::1") == 1


@pytest.mark.parametrize("rate", [0.1, 1.0, 100.0])
def test_addresses_are_forgotten_once_their_buckets_are_full(rate: float) -> None:
    clock = ManualClock()
    rates = AddressRates(clock, rate)
    rates.consume("192.0.2.1")

    for _ in range(2):
        clock.seconds += max(1.0, 1 / rate)
        rates.consume("192.0.2.2")

    assert len(rates) == 2
    assert rates.allow("192.0.2.1")
    clock.seconds += 1_000
    rates.consume("192.0.2.3")
    assert len(rates) == 1


def test_the_number_of_addresses_is_bounded_and_the_last_ones_are_remembered() -> None:
    rates = AddressRates(ManualClock(), 1.0)

    for number in range(2 * MAX_ADDRESSES):
        rates.consume(f"address {number}")

    assert len(rates) <= MAX_ADDRESSES
    assert not rates.allow(f"address {2 * MAX_ADDRESSES - MAX_ADDRESSES // 2}")
