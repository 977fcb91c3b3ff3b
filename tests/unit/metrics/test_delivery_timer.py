"""Which pushes are timed, and what is made of them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from gateway.domain.messages import Address, Message, new_id
from gateway.metrics.messages import MIN_INTERVAL_SECONDS, SAMPLE_EVERY, DeliveryTimer, MessageMetrics

HERE = Address("/", "here")


class World:
    """A stopwatch whose time a test moves."""

    def __init__(self, *, most: int = 10) -> None:
        self.seconds = 100.0
        self.watch = DeliveryTimer(
            HERE.__eq__, now=lambda: self.seconds, max_pending=most, timeout_seconds=60.0
        )

    def push(self, room: str = "here", *, later: float = 1.0) -> str:
        """One push, so many seconds after the last."""
        self.seconds += later
        message = Message(new_id(), "/", (room,), "news", ())
        self.watch.start(message)
        return message.id


def test_a_push_is_timed_from_its_start_to_its_delivery() -> None:
    world = World()
    pushed = world.push()

    world.seconds += 0.25

    assert world.watch.stop(pushed) == 0.25


def test_it_is_timed_once() -> None:
    world = World()
    pushed = world.push()
    world.watch.stop(pushed)

    assert world.watch.stop(pushed) is None
    assert len(world.watch.started) == 0


def test_a_push_of_another_replica_is_not_timed() -> None:
    assert World().watch.stop(new_id()) is None


def test_nobody_waits_for_a_push_that_is_for_nobody_here() -> None:
    world = World()

    assert world.watch.stop(world.push("elsewhere")) is None
    assert len(world.watch.started) == 0


def test_of_pushes_that_come_fast_one_in_eight_is_timed() -> None:
    world = World(most=1_000)

    pushed = [world.push(later=MIN_INTERVAL_SECONDS / 100) for _ in range(10 * SAMPLE_EVERY)]

    timed = [number for number, each in enumerate(pushed) if world.watch.stop(each) is not None]
    assert timed == list(range(0, 10 * SAMPLE_EVERY, SAMPLE_EVERY))


def test_pushes_that_come_one_by_one_are_all_timed() -> None:
    world = World(most=1_000)

    pushed = [world.push(later=MIN_INTERVAL_SECONDS) for _ in range(20)]

    assert None not in [world.watch.stop(each) for each in pushed]


def test_where_too_many_wait_those_that_come_are_left_out_and_not_those_that_take_long() -> None:
    world = World(most=2)
    first, second, third = world.push(), world.push(), world.push()

    assert world.watch.stop(third) is None
    assert world.watch.stop(first) == 2.0
    assert world.watch.stop(second) == 1.0


def test_one_that_never_came_is_forgotten_when_its_place_is_needed() -> None:
    world = World(most=1)
    lost = world.push()

    after = world.push(later=61.0)

    assert world.watch.stop(lost) is None
    assert world.watch.stop(after) == 0.0


def test_a_push_that_reached_nobody_and_one_that_was_a_repetition_say_nothing_about_time() -> None:
    registry = CollectorRegistry()
    metrics = MessageMetrics(registry)
    metrics.watch(lambda _: True)
    unheard, repeated = (Message(new_id(), "/", ("here",), "news", ()) for _ in range(2))

    metrics.publish_started(unheard)
    metrics.delivered(unheard, 0)
    metrics.publish_started(repeated)
    metrics.replayed(repeated.id)
    metrics.delivered(repeated, 1)

    assert registry.get_sample_value("sio_gateway_delivery_duration_seconds_count") == 0
    assert registry.get_sample_value("sio_gateway_idempotent_replays_total") == 1
