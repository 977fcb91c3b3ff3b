"""The circuit breaker."""

from __future__ import annotations

import pytest

from gateway.webhooks.circuit import CircuitBreaker, CircuitOpen
from tests.support.clock import FakeClock


def fail(circuit: CircuitBreaker, times: int = 1) -> None:
    for _ in range(times):
        circuit.failed(probe=circuit.enter())


def retry_after(circuit: CircuitBreaker) -> float:
    with pytest.raises(CircuitOpen) as raised:
        circuit.enter()
    return raised.value.retry_after_seconds


def test_fifth_failure_in_a_row_opens_the_circuit_for_one_second() -> None:
    clock = FakeClock()
    circuit = CircuitBreaker(clock)

    fail(circuit, 4)
    assert not circuit.is_open
    fail(circuit)

    assert circuit.is_open
    assert retry_after(circuit) == 1.0
    clock.advance(1.0)
    assert circuit.enter() is True


def test_success_between_failures_begins_to_count_anew() -> None:
    circuit = CircuitBreaker(FakeClock())

    fail(circuit, 4)
    circuit.enter()
    circuit.succeeded()
    fail(circuit, 4)

    assert not circuit.is_open


def test_each_failed_probe_doubles_the_time_to_30_seconds() -> None:
    clock = FakeClock()
    circuit = CircuitBreaker(clock)
    fail(circuit, 5)
    times = []

    for _ in range(7):
        times.append(retry_after(circuit))
        clock.advance(times[-1])
        fail(circuit)

    assert times == [1, 2, 4, 8, 16, 30, 30]


def test_one_probe_passes_and_others_wait_for_its_result() -> None:
    clock = FakeClock()
    circuit = CircuitBreaker(clock)
    fail(circuit, 5)
    clock.advance(1.0)

    assert circuit.enter() is True
    assert retry_after(circuit) == 1.0
    circuit.succeeded()

    assert circuit.enter() is False


def test_abandoned_probe_lets_another_one_pass() -> None:
    clock = FakeClock()
    circuit = CircuitBreaker(clock)
    fail(circuit, 5)
    clock.advance(1.0)

    circuit.abandoned(probe=circuit.enter())

    assert circuit.enter() is True


def test_failures_of_requests_that_began_before_do_not_open_it_for_longer() -> None:
    circuit = CircuitBreaker(FakeClock())
    requests = [circuit.enter() for _ in range(50)]

    for probe in requests:
        circuit.failed(probe=probe)

    assert retry_after(circuit) == 1.0


def test_each_change_is_reported_once() -> None:
    clock = FakeClock()
    changes: list[bool] = []
    circuit = CircuitBreaker(clock, changes.append)

    fail(circuit, 5)
    clock.advance(1.0)
    fail(circuit)
    clock.advance(2.0)
    circuit.enter()
    circuit.succeeded()
    circuit.succeeded()

    assert changes == [True, False]
