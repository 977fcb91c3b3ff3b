"""Age and lag of probes that arrive, arrive late, and do not arrive."""

from __future__ import annotations

from gateway.state.redis.liveness import ProbeTracker


def test_round_trip_is_from_sending_to_receiving() -> None:
    probes = ProbeTracker(now=0)
    number = probes.send(10)

    assert probes.receive(number, 10.5) == 0.5
    assert probes.lag(11) == 0.5


def test_age_counts_from_the_last_received_probe() -> None:
    probes = ProbeTracker(now=3)
    assert probes.age(5) == 2

    probes.receive(probes.send(6), 7)

    assert probes.age(10) == 3


def test_lag_grows_while_a_probe_is_in_flight() -> None:
    probes = ProbeTracker(now=0)
    probes.receive(probes.send(1), 1.1)

    probes.send(2)
    probes.send(4)

    assert probes.lag(7) == 5


def test_lost_probe_is_not_taken_for_the_next_one() -> None:
    probes = ProbeTracker(now=0)
    probes.send(2)
    second = probes.send(4)

    assert probes.receive(second, 4.25) == 0.25
    assert probes.lag(9) == 0.25


def test_lag_grows_while_probes_are_missing_and_ends_with_the_first_received() -> None:
    probes = ProbeTracker(now=0)
    probes.receive(probes.send(2), 2.5)

    for second in range(4, 200, 2):
        probes.send(second)
    assert probes.lag(200) == 196

    probes.receive(probes.send(200), 200.25)
    assert probes.lag(201) == 0.25


def test_unknown_probe_sets_the_age_and_no_round_trip() -> None:
    probes = ProbeTracker(now=0)

    assert probes.receive(7, 5) is None
    assert (probes.age(5), probes.lag(5)) == (0, 0)


def test_lag_is_that_of_the_first_missing_probe() -> None:
    probes = ProbeTracker(now=0)

    sent = [probes.send(second) for second in range(1_000)]

    assert probes.lag(1_000) == 1_000
    assert probes.receive(sent[-1], 1_000) == 1
    assert probes.lag(2_000) == 1
