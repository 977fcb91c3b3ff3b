"""Which handshakes are let in."""

from __future__ import annotations

from gateway.transport.admission import Admission


class ManualClock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> float:
        return self.seconds

    def monotonic(self) -> float:
        return self.seconds


def make(
    clock: ManualClock, *, maximum: int | None = None, rate: float | None = None, there: int = 0
) -> Admission:
    return Admission(clock, max_connections=maximum, connects_per_second=rate, open_now=lambda: there)


def let_in(admission: Admission, attempts: int) -> int:
    return sum(admission.decide() is None for _ in range(attempts))


def test_without_limits_everybody_comes_in() -> None:
    assert let_in(make(ManualClock(), there=10_000), 100) == 100


def test_a_replica_that_is_full_says_so_and_when_to_try_again() -> None:
    refusal = make(ManualClock(), maximum=2, there=2).decide()

    assert refusal is not None
    assert (refusal.status, refusal.retry_after_seconds) == (503, 5)
    assert let_in(make(ManualClock(), maximum=2, there=1), 1) == 1


def test_a_replica_that_drains_takes_nobody() -> None:
    admission = make(ManualClock())
    admission.draining = True

    refusal = admission.decide()

    assert refusal is not None
    assert refusal.status == 503


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

    refusal = admission.decide()
    clock.seconds += 5

    assert refusal is not None
    assert refusal.retry_after_seconds == 5
    assert let_in(admission, 2) == 1


def test_who_is_refused_for_another_reason_takes_nothing_from_the_rate() -> None:
    admission = make(ManualClock(), rate=3)
    admission.draining = True
    let_in(admission, 100)
    admission.draining = False

    assert let_in(admission, 100) == 3
