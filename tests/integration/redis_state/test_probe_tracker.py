"""What is made of canaries that come, come late, and do not come."""

from __future__ import annotations

from gateway.state.redis.liveness import ProbeTracker


def test_a_round_trip_is_from_sending_to_hearing() -> None:
    canaries = ProbeTracker(now=0)
    number = canaries.send(10)

    assert canaries.receive(number, 10.5) == 0.5
    assert canaries.lag(11) == 0.5


def test_the_age_is_since_the_last_one_came() -> None:
    canaries = ProbeTracker(now=3)
    assert canaries.age(5) == 2

    canaries.receive(canaries.send(6), 7)

    assert canaries.age(10) == 3


def test_while_one_is_on_its_way_the_lag_grows() -> None:
    canaries = ProbeTracker(now=0)
    canaries.receive(canaries.send(1), 1.1)

    canaries.send(2)
    canaries.send(4)

    assert canaries.lag(7) == 5


def test_one_that_got_lost_is_not_taken_for_the_next() -> None:
    canaries = ProbeTracker(now=0)
    canaries.send(2)
    second = canaries.send(4)

    assert canaries.receive(second, 4.25) == 0.25
    assert canaries.lag(9) == 0.25


def test_while_redis_takes_none_the_lag_grows_and_is_over_with_the_first_that_comes() -> None:
    canaries = ProbeTracker(now=0)
    canaries.receive(canaries.send(2), 2.5)

    for second in range(4, 200, 2):
        canaries.send(second)
    assert canaries.lag(200) == 196

    canaries.receive(canaries.send(200), 200.25)
    assert canaries.lag(201) == 0.25


def test_one_that_nobody_sent_tells_nothing_but_that_it_came() -> None:
    canaries = ProbeTracker(now=0)

    assert canaries.receive(7, 5) is None
    assert (canaries.age(5), canaries.lag(5)) == (0, 0)


def test_however_many_are_lost_the_lag_is_that_of_the_first() -> None:
    canaries = ProbeTracker(now=0)

    sent = [canaries.send(second) for second in range(1_000)]

    assert canaries.lag(1_000) == 1_000
    assert canaries.receive(sent[-1], 1_000) == 1
    assert canaries.lag(2_000) == 1
