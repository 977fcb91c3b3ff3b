"""Which pushes are timed, and how."""

from __future__ import annotations

from gateway.domain.messages import Address, Message, new_id
from gateway.domain.positions import Position
from gateway.hub import Hub
from gateway.metrics import MetricFactory
from gateway.metrics.push import MIN_INTERVAL_SECONDS, SAMPLE_EVERY, DeliveryTimer
from tests.support.metrics import counted
from tests.unit.hub.transports import connection, encode

HERE = Address("/", "here")
COUNT = "delivery_duration_seconds_count"
SUM = "delivery_duration_seconds_sum"


class Timing:
    """A timer whose clock a test advances."""

    def __init__(self, *, max_pending: int = 10) -> None:
        self.seconds = 100.0
        self.metrics = MetricFactory()
        self.timer = DeliveryTimer(
            HERE.__eq__, self.metrics, now=lambda: self.seconds, max_pending=max_pending, timeout_seconds=60.0
        )

    def push(self, room: str = "here", *, later: float = 1.0) -> str:
        """Start one push, ``later`` seconds after the last; returns its id."""
        self.seconds += later
        message = Message(new_id(), "/", (room,), "news", ())
        self.timer.start(message)
        return message.id

    def stop(self, pushed: str) -> float | None:
        """Deliver a push to one connection; returns the seconds that were observed, None without an observation."""
        count, seconds = self._observed()
        self.timer.stop(pushed, 1)
        more, until = self._observed()
        return None if more == count else until - seconds

    def _observed(self) -> tuple[float, float]:
        return counted(self.metrics, COUNT).get("", 0), counted(self.metrics, SUM).get("", 0)


def test_push_is_timed_from_its_start_to_its_delivery() -> None:
    timing = Timing()
    pushed = timing.push()

    timing.seconds += 0.25

    assert timing.stop(pushed) == 0.25


def test_push_is_timed_once() -> None:
    timing = Timing()
    pushed = timing.push()
    timing.stop(pushed)

    assert timing.stop(pushed) is None
    assert len(timing.timer.started) == 0


def test_push_through_another_replica_is_not_timed() -> None:
    assert Timing().stop(new_id()) is None


def test_push_without_a_connection_here_is_not_timed() -> None:
    timing = Timing()

    assert timing.stop(timing.push("elsewhere")) is None
    assert len(timing.timer.started) == 0


def test_one_in_eight_of_fast_pushes_is_timed() -> None:
    timing = Timing(max_pending=1_000)

    pushed = [timing.push(later=MIN_INTERVAL_SECONDS / 100) for _ in range(10 * SAMPLE_EVERY)]

    timed = [number for number, each in enumerate(pushed) if timing.stop(each) is not None]
    assert timed == list(range(0, 10 * SAMPLE_EVERY, SAMPLE_EVERY))


def test_slow_pushes_are_all_timed() -> None:
    timing = Timing(max_pending=1_000)

    pushed = [timing.push(later=MIN_INTERVAL_SECONDS) for _ in range(20)]

    assert None not in [timing.stop(each) for each in pushed]


def test_new_pushes_are_left_out_when_too_many_are_pending() -> None:
    timing = Timing(max_pending=2)
    first, second, third = timing.push(), timing.push(), timing.push()

    assert timing.stop(third) is None
    assert timing.stop(first) == 2.0
    assert timing.stop(second) == 1.0


def test_push_that_was_never_delivered_is_dropped_when_its_place_is_needed() -> None:
    timing = Timing(max_pending=1)
    lost = timing.push()

    after = timing.push(later=61.0)

    assert timing.stop(lost) is None
    assert timing.stop(after) == 0.0


def test_cancelled_push_and_push_that_reached_no_connection_are_not_observed() -> None:
    timing = Timing()
    unreached, repeated = timing.push(), timing.push()

    timing.timer.stop(unreached, 0)
    timing.timer.cancel(repeated)
    timing.timer.stop(repeated, 1)

    assert counted(timing.metrics, COUNT) == {}


async def test_hub_observes_a_push_that_was_started() -> None:
    metrics = MetricFactory()
    hub = Hub(encode, metrics=metrics)
    hub.add(connection("s1")[0], {"here"})
    message = Message(new_id(), "/", ("here",), "news", ())
    hub.delivery_timer.start(message)

    await hub.deliver(message, Position("1-0"))

    assert counted(metrics, COUNT) == {"": 1}
