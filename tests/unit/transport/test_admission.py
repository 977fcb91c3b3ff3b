"""Which handshakes are admitted."""

from __future__ import annotations

import pytest

from gateway.metrics import MetricFactory
from gateway.transport.admission import (
    ADDRESS_BURST_SECONDS,
    DEFAULT_ADDRESS_RATE,
    MAX_ADDRESSES,
    AddressRates,
    Admission,
    AdmissionLimits,
    may_be_proxy,
)
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
    limits_any_address: bool = True,
) -> Admission:
    limits = AdmissionLimits(
        max_connections=connections,
        max_unauthenticated=unauthenticated,
        connects_per_second=rate,
        connects_per_second_and_address=address_rate,
        limits_any_address=limits_any_address,
    )
    return Admission(clock or FakeClock(), limits, metrics=MetricFactory())


def has_no_room() -> bool:
    """Close no session."""
    return False


def count_admitted(admission: Admission, attempts: int, address: str = ADDRESS, *, open_now: int = 0) -> int:
    """How many of these attempts are admitted while so many sessions are open and unauthenticated."""
    return sum(
        admission.decide(address, sessions=open_now, unauthenticated=open_now, make_room=has_no_room) is None
        for _ in range(attempts)
    )


def rejection_of(admission: Admission, address: str = ADDRESS, *, open_now: int = 0) -> HandshakeError:
    rejection = admission.decide(address, sessions=open_now, unauthenticated=open_now, make_room=has_no_room)
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

    assert (rejection.reason, rejection.retry_after_seconds) == ("unauthenticated_limit", 2)
    assert count_admitted(admission, 1, open_now=1) == 1


@pytest.mark.parametrize("limit", ["connections", "unauthenticated"])
def test_client_that_has_long_joined_nothing_makes_room_for_one_other(limit: str) -> None:
    admission = make(connections=3 if limit == "connections" else None, unauthenticated=3)
    closed: list[int] = []

    def make_room() -> bool:
        closed.append(1)
        return True

    assert admission.decide(ADDRESS, sessions=3, unauthenticated=3, make_room=make_room) is None
    assert len(closed) == 1


def test_rejected_handshake_closes_no_other_client() -> None:
    admission = make(unauthenticated=0, rate=1)
    assert count_admitted(make(rate=1), 1) == 1

    def make_room() -> bool:
        raise AssertionError("a client was closed for one that is rejected")

    admission.draining = True
    assert admission.decide(ADDRESS, sessions=1, unauthenticated=1, make_room=make_room) is not None
    admission.draining = False
    assert admission.decide(ADDRESS, sessions=1, unauthenticated=1, make_room=lambda: True) is None
    rejection = admission.decide(ADDRESS, sessions=1, unauthenticated=1, make_room=make_room)
    assert rejection is not None
    assert rejection.reason == "rate"


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

    counts = [count_admitted(admission, 500), count_admitted(admission, 500, OTHER_ADDRESS)]
    for seconds in (0.5, 1.0, 100.0):
        clock.advance(seconds)
        counts.append(count_admitted(admission, 500))

    assert counts == [200, 200, 5, 10, 200]


def test_address_over_its_rate_learns_how_long_to_wait_and_is_admitted_then() -> None:
    clock = FakeClock()
    admission = make(clock, address_rate=0.05)
    assert count_admitted(admission, 2) == 1

    rejection = rejection_of(admission)
    clock.advance(20)

    assert (rejection.reason, rejection.retry_after_seconds) == ("address_rate", 20)
    assert count_admitted(admission, 2) == 1


def test_address_over_its_rate_takes_nothing_from_the_rate_of_the_replica() -> None:
    admission = make(rate=100, address_rate=0.15)

    assert [count_admitted(admission, 100, address) for address in (ADDRESS, OTHER_ADDRESS)] == [3, 3]


def test_replica_over_its_rate_takes_nothing_from_the_rate_of_an_address() -> None:
    clock = FakeClock()
    admission = make(clock, rate=1, address_rate=0.05)
    assert count_admitted(admission, 1, OTHER_ADDRESS) == 1
    assert rejection_of(admission).reason == "rate"

    clock.advance(1)

    assert count_admitted(admission, 100) == 1


def test_addresses_of_one_ipv6_network_share_a_rate() -> None:
    admission = make(address_rate=0.05)

    assert count_admitted(admission, 1, "2001:db8::1") == 1
    assert count_admitted(admission, 1, "2001:db8::ffff:1") == 0
    assert count_admitted(admission, 1, "2001:db8:0:1::1") == 1


@pytest.mark.parametrize("rate", [0.1, 1.0, 100.0])
def test_addresses_are_forgotten_once_their_buckets_are_full(rate: float) -> None:
    clock = FakeClock()
    rates = AddressRates(clock, rate)
    rates.consume(ADDRESS)

    for _ in range(2):
        clock.advance(max(ADDRESS_BURST_SECONDS, 1 / rate))
        rates.consume(OTHER_ADDRESS)

    assert len(rates) == 2
    assert rates.allow(ADDRESS)
    clock.advance(1_000)
    rates.consume("192.0.2.3")
    assert len(rates) == 1


def test_number_of_addresses_is_bounded_and_the_latest_are_remembered() -> None:
    rates = AddressRates(FakeClock(), 0.05)

    for number in range(2 * MAX_ADDRESSES):
        rates.consume(f"address {number}")

    assert len(rates) <= MAX_ADDRESSES
    assert not rates.allow(f"address {2 * MAX_ADDRESSES - MAX_ADDRESSES // 2}")


# addresses that may be those of a proxy

PRIVATE = ("10.0.0.7", "172.16.3.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "169.254.1.1")
PRIVATE_IPV6 = ("::1", "fd00::1", "fe80::1", "::ffff:10.0.0.7", "")


@pytest.mark.parametrize("address", [*PRIVATE, *PRIVATE_IPV6])
def test_private_address_may_be_that_of_a_proxy_and_is_limited_only_if_the_operator_asks_for_it(
    address: str,
) -> None:
    assert may_be_proxy(address)
    assert count_admitted(make(address_rate=0.05, limits_any_address=False), 100, address) == 100
    assert count_admitted(make(address_rate=0.05), 100, address) == 1


@pytest.mark.parametrize("address", ["203.0.113.9", "8.8.8.8", "2001:db8::1", "::ffff:8.8.8.8", "172.32.0.1"])
def test_other_address_is_limited_by_default(address: str) -> None:
    assert not may_be_proxy(address)
    assert count_admitted(make(address_rate=0.05, limits_any_address=False), 100, address) == 1


def test_two_thousand_users_of_one_office_reconnect_at_the_same_moment() -> None:
    admission = make(address_rate=DEFAULT_ADDRESS_RATE, limits_any_address=False)

    assert count_admitted(admission, 2_000, "203.0.113.9") == 2_000
    assert rejection_of(admission, "203.0.113.9").retry_after_seconds == 1
