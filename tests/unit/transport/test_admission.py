"""Which handshakes are admitted."""

from __future__ import annotations

import pytest

from gateway.metrics import MetricFactory
from gateway.transport.admission import MAX_ADDRESSES, AddressRates, Admission, AdmissionLimits
from gateway.transport.errors import HandshakeError
from tests.support.clock import FakeClock

ADDRESS, OTHER_ADDRESS = "192.0.2.1", "192.0.2.2"


def make(
    clock: FakeClock | None = None,
    *,
    connections: int | None = None,
    unauthenticated: int | None = None,
    rate: float | None = None,
    address_rate: float | None = None,
) -> Admission:
    limits = AdmissionLimits(
        max_connections=connections,
        max_unauthenticated=unauthenticated,
        connects_per_second=rate,
        connects_per_second_and_address=address_rate,
    )
    return Admission(clock or FakeClock(), limits, metrics=MetricFactory())


def count_admitted(admission: Admission, attempts: int, address: str = ADDRESS, *, open_now: int = 0) -> int:
    """How many of these attempts are admitted while so many sessions are open and unauthenticated."""
    return sum(
        admission.decide(address, sessions=open_now, unauthenticated=open_now) is None
        for _ in range(attempts)
    )


def rejection_of(admission: Admission, address: str = ADDRESS, *, open_now: int = 0) -> HandshakeError:
    rejection = admission.decide(address, sessions=open_now, unauthenticated=open_now)
    assert rejection is not None
    assert (rejection.status, rejection.code) == (503, 4)
    return rejection


def test_admission_without_limits_admits_every_handshake() -> None:
    assert count_admitted(make(), 100, open_now=10_000) == 100


def test_replica_at_its_connection_limit_rejects_with_a_retry_time() -> None:
    admission = make(connections=2)

    rejection = rejection_of(admission, open_now=2)

    assert (rejection.reason, rejection.retry_after_seconds) == ("connection_limit", 5)
    assert count_admitted(admission, 1, open_now=1) == 1


def test_replica_at_its_limit_of_unauthenticated_clients_rejects_with_a_retry_time() -> None:
    admission = make(unauthenticated=2)

    rejection = rejection_of(admission, open_now=2)

    assert (rejection.reason, rejection.retry_after_seconds) == ("unauthenticated_limit", 5)
    assert count_admitted(admission, 1, open_now=1) == 1


def test_draining_replica_rejects_every_handshake() -> None:
    admission = make()
    admission.draining = True

    assert rejection_of(admission).reason == "draining"


def test_burst_of_one_second_is_admitted_and_then_as_many_as_the_rate_allows() -> None:
    clock = FakeClock()
    admission = make(clock, rate=10)

    counts = [count_admitted(admission, 50)]
    for seconds in (0.5, 1.0, 100.0):
        clock.advance(seconds)
        counts.append(count_admitted(admission, 50))

    assert counts == [10, 5, 10, 10]


def test_rate_below_one_admits_one_and_states_how_long_to_wait() -> None:
    clock = FakeClock()
    admission = make(clock, rate=0.2)
    assert count_admitted(admission, 2) == 1

    rejection = rejection_of(admission)
    clock.advance(5)

    assert (rejection.reason, rejection.retry_after_seconds) == ("rate", 5)
    assert count_admitted(admission, 2) == 1


def test_handshake_that_is_rejected_for_another_reason_takes_nothing_from_the_rate() -> None:
    admission = make(rate=3)
    admission.draining = True
    count_admitted(admission, 100)
    admission.draining = False

    assert count_admitted(admission, 100) == 3


# by address


@pytest.mark.parametrize("started_at", [0.0, 1_234_567.8])
def test_each_address_has_its_own_rate(started_at: float) -> None:
    clock = FakeClock(ticks=started_at)
    admission = make(clock, address_rate=10)

    counts = [count_admitted(admission, 50), count_admitted(admission, 50, OTHER_ADDRESS)]
    for seconds in (0.5, 1.0, 100.0):
        clock.advance(seconds)
        counts.append(count_admitted(admission, 50))

    assert counts == [10, 10, 5, 10, 10]


def test_address_over_its_rate_learns_how_long_to_wait_and_is_admitted_then() -> None:
    clock = FakeClock()
    admission = make(clock, address_rate=0.2)
    assert count_admitted(admission, 2) == 1

    rejection = rejection_of(admission)
    clock.advance(5)

    assert (rejection.reason, rejection.retry_after_seconds) == ("address_rate", 5)
    assert count_admitted(admission, 2) == 1


def test_address_over_its_rate_takes_nothing_from_the_rate_of_the_replica() -> None:
    admission = make(rate=10, address_rate=3)

    assert [count_admitted(admission, 100, address) for address in (ADDRESS, OTHER_ADDRESS)] == [3, 3]


def test_replica_over_its_rate_takes_nothing_from_the_rate_of_an_address() -> None:
    clock = FakeClock()
    admission = make(clock, rate=1, address_rate=1)
    assert count_admitted(admission, 1, OTHER_ADDRESS) == 1
    assert rejection_of(admission).reason == "rate"

    clock.advance(1)

    assert count_admitted(admission, 100) == 1


def test_addresses_of_one_ipv6_network_share_a_rate() -> None:
    admission = make(address_rate=1)

    assert count_admitted(admission, 1, "2001:db8::1") == 1
    assert count_admitted(admission, 1, "2001:db8::ffff:1") == 0
    assert count_admitted(admission, 1, "2001:db8:0:1::1") == 1


@pytest.mark.parametrize("rate", [0.1, 1.0, 100.0])
def test_addresses_are_forgotten_once_their_buckets_are_full(rate: float) -> None:
    clock = FakeClock()
    rates = AddressRates(clock, rate)
    rates.consume(ADDRESS)

    for _ in range(2):
        clock.advance(max(1.0, 1 / rate))
        rates.consume(OTHER_ADDRESS)

    assert len(rates) == 2
    assert rates.allow(ADDRESS)
    clock.advance(1_000)
    rates.consume("192.0.2.3")
    assert len(rates) == 1


def test_number_of_addresses_is_bounded_and_the_latest_are_remembered() -> None:
    rates = AddressRates(FakeClock(), 1.0)

    for number in range(2 * MAX_ADDRESSES):
        rates.consume(f"address {number}")

    assert len(rates) <= MAX_ADDRESSES
    assert not rates.allow(f"address {2 * MAX_ADDRESSES - MAX_ADDRESSES // 2}")
