"""DeliveryQueue: entries that are accepted faster than they are delivered."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.domain.errors import BrokerUnavailable
from gateway.domain.messages import Address, LogEntry, Message
from gateway.domain.positions import Position
from gateway.interfaces import no_flush
from tests.contract.recording_listener import BlockedListener, RecordingListener, listening
from tests.contract.values import at, connection, dedup_key, message, newest_position
from tests.support.clock import FakeClock
from tests.support.waiter import TIMEOUT_SECONDS


async def test_append_without_space_fails_and_changes_nothing(make_memory, clock) -> None:
    state = make_memory(delivery_queue_length=2, delivery_queue_wait_seconds=0.02)
    await state.broker.subscribe([at("a")])
    accepted = [message("a"), message("a")]
    for entry in accepted:
        await state.broker.append(entry)
    before = (await newest_position(state.broker), state.sizes())
    rejected, its_dedup_key = message("a"), dedup_key(clock, idempotency_key="key")

    with pytest.raises(BrokerUnavailable):
        await state.broker.append(rejected, its_dedup_key)

    assert (await newest_position(state.broker), state.sizes()) == before
    async with listening(state.broker) as listener:
        assert await listener.entries() == accepted
        assert not (await state.broker.append(rejected, its_dedup_key)).replayed


async def test_space_is_counted_in_bytes_too_and_one_entry_of_any_size_fits(make_memory) -> None:
    state = make_memory(delivery_queue_bytes=1_000, delivery_queue_wait_seconds=0.02)
    await state.broker.subscribe([at("a")])
    await state.broker.append(message("a", arguments=(f'"{"x" * 500}"',)))
    await state.broker.append(message("a", arguments=(f'"{"x" * 5000}"',)))

    with pytest.raises(BrokerUnavailable):
        await state.broker.append(message("a"))


async def test_batch_is_accepted_only_if_it_fits_as_a_whole(make_memory) -> None:
    state = make_memory(delivery_queue_length=5, delivery_queue_wait_seconds=0.02)
    await state.broker.subscribe([at("a")])
    accepted = [message("a") for _ in range(3)]
    await state.broker.append_all(accepted)
    before = (await newest_position(state.broker), state.sizes())

    with pytest.raises(BrokerUnavailable):
        await state.broker.append_all([message("a") for _ in range(3)])

    assert (await newest_position(state.broker), state.sizes()) == before
    fitting = [message("a") for _ in range(2)]
    await state.broker.append_all(fitting)
    assert state.sizes()["delivery_queue_entries"] == 5
    async with listening(state.broker) as listener:
        assert [entry for _, entry in await listener.first(5)] == accepted + fitting


async def test_append_behind_a_batch_that_found_no_space_takes_what_there_is(make_memory) -> None:
    state = make_memory(delivery_queue_length=5, delivery_queue_wait_seconds=10)
    await state.broker.subscribe([at("a")])
    await state.broker.append_all([message("a") for _ in range(3)])
    appends = (state.broker.append_all([message("a") for _ in range(3)]), state.broker.append(message("a")))
    batch, single = [asyncio.create_task(each) for each in appends]
    await asyncio.wait([batch, single], timeout=0.01)
    assert not single.done(), "it may not overtake the batch"

    batch.cancel()

    await asyncio.wait_for(single, 5)
    assert state.sizes()["delivery_queue_entries"] == 4


async def test_bytes_of_a_batch_are_counted_as_those_of_single_entries(make_memory) -> None:
    state = make_memory(delivery_queue_bytes=1_000, delivery_queue_wait_seconds=0.02)
    await state.broker.subscribe([at("a")])
    half = f'"{"x" * 498}"'
    batch = [message("a", arguments=(half,)) for _ in range(2)]
    await state.broker.append_all(batch)
    with pytest.raises(BrokerUnavailable):
        await state.broker.append_all([message("a", arguments=(half,))])

    async with listening(state.broker) as listener:
        assert await listener.entries() == batch
        with pytest.raises(BrokerUnavailable):
            await state.broker.append_all([message("a", arguments=(half,)) for _ in range(3)])
        await state.broker.append_all([*batch[1:], message("a", arguments=(f'"{"x" * 5_000}"',))])


async def test_batch_larger_than_the_queue_is_rejected_without_a_wait(make_memory) -> None:
    state = make_memory(delivery_queue_length=2, delivery_queue_wait_seconds=60)
    await state.broker.subscribe([at("a")])

    async with listening(state.broker):
        with pytest.raises(BrokerUnavailable):
            await asyncio.wait_for(state.broker.append_all([message("a") for _ in range(3)]), 10)


async def test_batches_that_wait_stay_within_the_bound_and_in_order(make_memory) -> None:
    state = make_memory(delivery_queue_length=5, delivery_queue_wait_seconds=10)
    lengths: list[int] = []

    class Measure(RecordingListener):
        async def deliver(self, entry: LogEntry, position: Position, *, more: bool) -> None:
            lengths.append(state.sizes()["delivery_queue_entries"])
            await super().deliver(entry, position, more=more)

    await state.broker.subscribe([at("a")])
    batches = [[message("a") for _ in range(1 + number % 4)] for number in range(40)]
    async with listening(state.broker, Measure(state.broker)) as listener:
        await asyncio.gather(*(state.broker.append_all(batch) for batch in batches))
        delivered = [entry for _, entry in await listener.first(100)]

    assert delivered == [entry for batch in batches for entry in batch]
    assert max(lengths) == 4


async def test_entry_without_a_subscription_takes_no_space(make_memory) -> None:
    state = make_memory(delivery_queue_length=1, delivery_queue_wait_seconds=0.02)

    for _ in range(10):
        await state.broker.append(message("a"))

    assert state.sizes()["delivery_queue_entries"] == 0


async def test_waiting_appends_are_accepted_in_turn_and_delivered_in_the_order_of_positions(
    make_memory,
) -> None:
    state = make_memory(delivery_queue_length=3, delivery_queue_wait_seconds=10)
    await state.broker.subscribe([at("a")])
    entries = [message("a") for _ in range(100)]
    blocked = BlockedListener(state.broker)

    async with listening(state.broker, blocked):
        appends = [asyncio.create_task(state.broker.append(entry)) for entry in entries]
        await blocked.entered.wait()
        assert not all(append.done() for append in appends)
        blocked.released.set()
        results = await asyncio.gather(*appends)

        positions = [result.position for result in results]
        assert await blocked.first(100) == list(zip(positions, entries, strict=True))


async def test_later_append_does_not_overtake_a_waiting_one(make_memory) -> None:
    state = make_memory(delivery_queue_length=1, delivery_queue_wait_seconds=10)
    await state.broker.subscribe([at("a")])
    delivered_first, queued, waiting, later = (message("a") for _ in range(4))
    blocked = BlockedListener(state.broker)

    async with listening(state.broker, blocked):
        await state.broker.append(delivered_first)
        await blocked.entered.wait()
        await state.broker.append(queued)
        first_append = asyncio.create_task(state.broker.append(waiting))
        await asyncio.wait([first_append], timeout=0.01)
        blocked.released.set()
        second_append = asyncio.create_task(state.broker.append(later))
        await asyncio.gather(first_append, second_append)

        delivered = [entry for _, entry in await blocked.first(4)]
        assert delivered == [delivered_first, queued, waiting, later]


async def test_delivery_queue_never_exceeds_its_bound(make_memory) -> None:
    state = make_memory(delivery_queue_length=5, delivery_queue_wait_seconds=10)
    lengths: list[int] = []

    class Measure(RecordingListener):
        async def deliver(self, entry: LogEntry, position: Position, *, more: bool) -> None:
            lengths.append(state.sizes()["delivery_queue_entries"])
            await super().deliver(entry, position, more=more)

    await state.broker.subscribe([at("a")])
    async with listening(state.broker, Measure(state.broker)) as listener:
        await asyncio.gather(*(state.broker.append(message("a")) for _ in range(60)))
        await listener.first(60)

    # The entry that is being delivered has left the queue.
    assert max(lengths) == 4


async def test_cancelled_append_leaves_its_turn_to_the_next(make_memory) -> None:
    state = make_memory(delivery_queue_length=1, delivery_queue_wait_seconds=10)
    await state.broker.subscribe([at("a")])
    first, cancelled, next_one = message("a"), message("a"), message("a")
    await state.broker.append(first)
    appends = [asyncio.create_task(state.broker.append(entry)) for entry in (cancelled, next_one)]
    await asyncio.wait(appends, timeout=0.01)  # both are waiting for space now

    appends[0].cancel()

    async with listening(state.broker) as listener:
        assert [entry for _, entry in await listener.first(2)] == [first, next_one]
    assert appends[0].cancelled()


async def test_waiting_appends_get_all_the_space_in_one_turn_of_the_event_loop(make_memory) -> None:
    state = make_memory(delivery_queue_length=50, delivery_queue_wait_seconds=10)
    await state.broker.subscribe([at("a")])
    blocked = BlockedListener(state.broker)

    async with listening(state.broker, blocked):
        appends = [asyncio.create_task(state.broker.append(message("a"))) for _ in range(101)]
        await blocked.entered.wait()
        blocked.released.set()
        await blocked.first(52)  # the first one, the fifty that were queued, and one that waited

        assert all(append.done() for append in appends)


async def test_waiting_append_that_needs_no_space_leaves_it_to_the_next(make_memory) -> None:
    state = make_memory(delivery_queue_length=1, delivery_queue_wait_seconds=10)
    await state.broker.subscribe([at("a")])
    first, elsewhere, next_one = message("a"), message("b"), message("a")
    await state.broker.append(first)
    appends = [asyncio.create_task(state.broker.append(entry)) for entry in (elsewhere, next_one)]
    await asyncio.wait(appends, timeout=0.01)  # both are waiting for space now

    async with listening(state.broker) as listener:
        assert [entry for _, entry in await listener.first(2)] == [first, next_one]
        await asyncio.gather(*appends)


async def test_broker_has_one_listener_once(make_memory) -> None:
    state = make_memory()
    async with listening(state.broker) as listener:
        await listener.all_so_far()

        with pytest.raises(RuntimeError, match="one listener"):
            await state.broker.listen(listener.deliver)


async def test_listener_knows_whether_another_entry_is_at_hand(make_memory) -> None:
    state = make_memory()
    others: list[bool] = []

    class Note(RecordingListener):
        async def deliver(self, entry: LogEntry, position: Position, *, more: bool) -> None:
            others.append(more)
            await super().deliver(entry, position, more=more)

    await state.broker.subscribe([at("a")])
    async with listening(state.broker, Note(state.broker)) as listener:
        await asyncio.gather(*(state.broker.append(message("a")) for _ in range(3)))
        await listener.first(3)
        await state.broker.append(message("a"))
        await listener.first(4)

    assert others == [True, True, False, False]


async def test_error_of_a_delivery_at_once_ends_the_listener_and_the_message_is_accepted(
    make_memory, clock
) -> None:
    state = make_memory()
    await state.broker.subscribe([at("a")])

    def fail(_message: Message, _position: Position, _address: Address) -> bool:
        raise ZeroDivisionError

    listener = RecordingListener(state.broker)
    task = asyncio.create_task(state.broker.listen(listener.deliver, no_flush, fail))
    await asyncio.sleep(0)
    first, second = message("a"), message("a")

    result = state.broker.append_now(first, dedup_key(clock))
    state.broker.append_now(second, dedup_key(clock))

    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(task, TIMEOUT_SECONDS)
    assert listener.received == []
    assert await state.broker.append(first, dedup_key(clock)) == result


async def test_busy_listener_gets_every_message_itself(make_memory, clock) -> None:
    state = make_memory()
    await state.broker.subscribe([at("a")])
    listener = BlockedListener(state.broker)
    at_once = list[Message]()

    def deliver_now(each: Message, _position: Position, _address: Address, /, *, more: bool = False) -> bool:
        at_once.append(each)
        return True

    task = asyncio.create_task(state.broker.listen(listener.deliver, no_flush, deliver_now))
    await asyncio.sleep(0)
    sent = [message("a") for _ in range(4)]
    state.broker.append_now(sent[0], dedup_key(clock))
    await state.broker.append(sent[1])
    await listener.entered.wait()
    for each in sent[2:]:
        state.broker.append_now(each, dedup_key(clock))
    assert at_once == sent[:1]

    listener.released.set()
    assert await listener.entries() == sent[1:]
    task.cancel()
    await asyncio.wait([task])


async def test_full_queue_accepts_nothing_now_and_nothing_is_done(make_memory, clock) -> None:
    state = make_memory(delivery_queue_length=1, delivery_queue_wait_seconds=0.02)
    await state.broker.subscribe([at("a")])
    await state.broker.append(message("a"))
    before = (await newest_position(state.broker), state.sizes())

    assert state.broker.append_now(message("a"), dedup_key(clock)) is None

    assert (await newest_position(state.broker), state.sizes()) == before


# The bound of deliveries.


async def many(state: Any, clock: FakeClock, connections: int) -> None:
    """Let a room have so many connections, and one user another one."""
    await state.broker.subscribe([at("crowd"), at("user:ann")])
    for number in range(connections):
        await state.presence.register(connection(f"sid-{number}", f"user-{number}"), ["crowd"])
    await state.presence.register(connection("sid-ann", "ann"), ["user:ann"])


@pytest.fixture
def crowded(make_memory) -> Any:
    """A state whose queue is behind with more than 100 deliveries; it waits for as long as a test may."""
    return make_memory(delivery_queue_deliveries=100, delivery_queue_deliveries_wait_seconds=TIMEOUT_SECONDS)


async def test_messages_to_many_wait_until_those_before_them_are_delivered(crowded, clock) -> None:
    await many(crowded, clock, 50)
    listener = BlockedListener(crowded.broker)
    async with listening(crowded.broker, listener):
        sent = [message("crowd") for _ in range(6)]
        appends = [asyncio.create_task(crowded.broker.append(each, dedup_key(clock))) for each in sent]
        await asyncio.wait_for(listener.entered.wait(), TIMEOUT_SECONDS)
        await turns()
        # One is being delivered and two are in the queue.
        assert [each.done() for each in appends] == [True] * 3 + [False] * 3
        assert crowded.sizes()["delivery_queue_deliveries"] == 100
        assert crowded.broker.append_now(message("crowd"), dedup_key(clock)) is None
        assert crowded.broker.append_now(pushed := message("user:ann"), dedup_key(clock)) is not None

        listener.released.set()
        await asyncio.wait_for(asyncio.gather(*appends), TIMEOUT_SECONDS)
        assert await listener.entries() == [*sent[:3], pushed, *sent[3:]]
    assert crowded.sizes()["delivery_queue_deliveries"] == 0


async def test_message_to_more_than_the_bound_waits_only_for_an_empty_queue(crowded, clock) -> None:
    await many(crowded, clock, 150)
    listener = BlockedListener(crowded.broker)
    async with listening(crowded.broker, listener):
        sent = [message("crowd") for _ in range(3)]
        appends = [asyncio.create_task(crowded.broker.append(each, dedup_key(clock))) for each in sent]
        await asyncio.wait_for(listener.entered.wait(), TIMEOUT_SECONDS)
        await turns()
        assert [each.done() for each in appends] == [True, True, False]

        listener.released.set()
        await asyncio.wait_for(asyncio.gather(*appends), TIMEOUT_SECONDS)
        assert await listener.entries() == sent


async def test_wait_for_deliveries_ends_in_an_accepted_message(make_memory, clock) -> None:
    state = make_memory(delivery_queue_deliveries=100, delivery_queue_deliveries_wait_seconds=0.02)
    await many(state, clock, 60)
    sent = [message("crowd") for _ in range(3)]
    for each in sent:
        await asyncio.wait_for(state.broker.append(each, dedup_key(clock)), TIMEOUT_SECONDS)
    assert state.sizes()["delivery_queue_deliveries"] == 180

    async with listening(state.broker) as listener:
        assert await listener.entries() == sent


async def test_batches_and_events_of_clients_wait_for_deliveries_too(crowded, clock) -> None:
    await many(crowded, clock, 60)
    await crowded.broker.append(first := message("crowd"))
    batch, event = [message("user:ann"), message("crowd")], message("crowd")
    appends = [
        asyncio.create_task(crowded.broker.append_all(batch, dedup_key(clock))),
        asyncio.create_task(crowded.broker.append(event)),
    ]
    await turns()
    assert not any(each.done() for each in appends)

    async with listening(crowded.broker) as listener:
        await asyncio.wait_for(asyncio.gather(*appends), TIMEOUT_SECONDS)
        assert await listener.entries() == [first, *batch, event]


async def test_caller_that_gives_up_lets_the_next_one_continue(crowded, clock) -> None:
    await many(crowded, clock, 60)
    await crowded.broker.append(message("crowd"))
    waiting = [asyncio.create_task(crowded.broker.append(message("crowd"))) for _ in range(2)]
    await turns()
    waiting[0].cancel()
    await asyncio.wait([waiting[0]])

    async with listening(crowded.broker) as listener:
        await asyncio.wait_for(waiting[1], TIMEOUT_SECONDS)
        assert len(await listener.entries()) == 2


async def turns() -> None:
    """Let everything run that waits for nothing."""
    for _ in range(20):
        await asyncio.sleep(0)
