"""Broker: accepting a plain message without waiting for anything but a shared state."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from gateway.domain import positions
from gateway.domain.dedup import DedupKey
from gateway.domain.errors import FreshnessUnknown, NonceReplayed
from gateway.domain.messages import Address, LogEntry, Message, PublishResult
from gateway.domain.positions import Position
from tests.contract.recording_listener import RecordingListener, listening
from tests.contract.states import StateUnderTest
from tests.contract.values import at, connection, dedup_key, message, newest_position
from tests.support.waiter import TIMEOUT_SECONDS


async def accept(state: StateUnderTest, entry: Message, key: DedupKey | None = None) -> PublishResult | None:
    """Return the result of ``append_now``, or None if it did nothing."""
    result = state.broker.append_now(entry, key or dedup_key(state))
    if isinstance(result, asyncio.Future):
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await result
    return result


async def accept_or_append(state: StateUnderTest, entry: Message, key: DedupKey) -> PublishResult:
    """Accept a message as a caller does."""
    return await accept(state, entry, key) or await state.broker.append(entry, key)


async def test_result_is_that_of_append(state: StateUnderTest) -> None:
    for number in range(3):
        await state.presence.register(connection(f"sid-{number}", "ann"), ["user:ann"])
    pushed = message("user:ann")

    accepted = await accept_or_append(state, pushed, dedup_key(state))
    appended = await state.broker.append(message("user:ann"), dedup_key(state))

    assert accepted.id == pushed.id
    assert accepted._replace(id="", position=Position("")) == appended._replace(id="", position=Position(""))
    assert accepted.connections == 3
    assert positions.is_after(appended.position, accepted.position)


async def test_message_is_in_the_history_and_reaches_the_listener_once(state: StateUnderTest) -> None:
    start = await state.broker.subscribe([at("a")])
    sent = [message("a") for _ in range(5)]
    async with listening(state.broker) as listener:
        for each in sent:
            await accept_or_append(state, each, dedup_key(state))
        assert await listener.entries() == sent
    page = await state.broker.history(start, [at("a")], max_entries=10, max_bytes=1000)
    assert [entry for _, entry in page.entries] == sent


async def test_messages_accepted_one_after_the_other_arrive_in_that_order(state: StateUnderTest) -> None:
    await state.broker.subscribe([at("a"), at(None)])
    sent = [message("a") if number % 3 else message() for number in range(30)]
    async with listening(state.broker) as listener:
        for number, each in enumerate(sent):
            if number % 4:
                await accept_or_append(state, each, dedup_key(state))
            else:
                await state.broker.append(each, dedup_key(state))
        assert await listener.entries() == sent


async def test_replayed_nonce_is_not_accepted(state: StateUnderTest) -> None:
    await accept_or_append(state, message("a"), dedup_key(state, nonce="once"))
    before = await newest_position(state.broker)

    with suppress(NonceReplayed):  # A shared state knows it only when it is asked.
        assert await accept(state, message("a"), dedup_key(state, nonce="once")) is None
    with pytest.raises(NonceReplayed):
        await state.broker.append(message("a"), dedup_key(state, nonce="once"))
    assert await newest_position(state.broker) == before


async def test_nonce_is_consumed_for_everything(state: StateUnderTest) -> None:
    await accept_or_append(state, message("a"), dedup_key(state, nonce="once"))

    with pytest.raises(NonceReplayed):
        await state.dedup.consume_nonce(dedup_key(state, nonce="once"))
    with pytest.raises(NonceReplayed):
        await state.broker.append(message("a"), dedup_key(state, nonce="once"))


async def test_nonce_that_is_not_accepted_any_more_is_not_accepted_now(state: StateUnderTest) -> None:
    expired = dedup_key(state, lives_seconds=-1.0)
    before = await newest_position(state.broker)

    with suppress(FreshnessUnknown):
        assert await accept(state, message("a"), expired) is None
    with pytest.raises(FreshnessUnknown):
        await state.broker.append(message("a"), expired)
    assert await newest_position(state.broker) == before


async def test_append_of_a_known_id_returns_the_first_result(state: StateUnderTest) -> None:
    pushed = message("a")
    first = await accept_or_append(state, pushed, dedup_key(state))
    await state.broker.append(message("a"), dedup_key(state))

    assert await state.broker.append(pushed, dedup_key(state)) == first


class NowListener(RecordingListener):
    """Delivers what the state offers in the step that appends it."""

    accepts = True

    def deliver_now(
        self, entry: Message, position: Position, _address: Address, /, *, more: bool = False
    ) -> bool:
        if self.accepts:
            self.record(entry, position)
        return self.accepts


async def test_entries_delivered_at_once_keep_their_order_among_all(state: StateUnderTest) -> None:
    await state.broker.subscribe([at("a")])
    listener = NowListener(state.broker)
    task = asyncio.create_task(state.broker.listen(listener.deliver, _no_flush, listener.deliver_now))
    sent: list[LogEntry] = []
    for number in range(40):
        listener.accepts = number % 5 != 0
        each = message("a")
        sent.append(each)
        if number % 7 == 0:
            await state.broker.append(each, dedup_key(state))
        else:
            await accept_or_append(state, each, dedup_key(state))
        if number % 3 == 0:
            await asyncio.sleep(0)
    assert await listener.entries() == sent
    task.cancel()
    await asyncio.wait([task])


async def _no_flush() -> None:
    pass
