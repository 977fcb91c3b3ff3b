"""What is accepted faster than it is handed over."""

from __future__ import annotations

import asyncio

import pytest

from gateway.domain import positions
from gateway.domain.errors import BrokerUnavailable
from gateway.domain.messages import Entry
from gateway.domain.positions import START, Position
from tests.contract.listening import listening
from tests.contract.values import at, claim, message


class Gate:
    """A callback that is stuck until it is opened."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.open = asyncio.Event()
        self.heard: list[tuple[Position, Entry]] = []

    async def deliver(self, entry: Entry, position: Position) -> None:
        self.entered.set()
        await self.open.wait()
        self.heard.append((position, entry))


async def test_without_room_an_append_gives_up_certain_that_nothing_happened(make_memory) -> None:
    state = make_memory(backlog_length=2, backlog_wait_seconds=0.02)
    await state.broker.subscribe([at("a")])
    accepted = [await state.broker.append(message("a")) for _ in range(2)]
    refused = message("a")

    with pytest.raises(BrokerUnavailable):
        await state.broker.append(refused, Moment(state).claim())

    assert await state.broker.newest() == accepted[-1].position
    assert state.sizes()["history_entries"] == 2
    assert state.sizes()["nonces"] == 0
    async with listening(state.broker) as ear:
        assert [entry.id for entry in await ear.entries()] == [receipt.id for receipt in accepted]
        again = await state.broker.append(refused, Moment(state).claim())
        assert not again.replayed


async def test_room_is_counted_in_bytes_too_and_one_entry_of_any_size_fits(make_memory) -> None:
    state = make_memory(backlog_bytes=1_000, backlog_wait_seconds=0.02)
    await state.broker.subscribe([at("a")])
    await state.broker.append(message("a", arguments=(f'"{"x" * 500}"',)))
    await state.broker.append(message("a", arguments=(f'"{"x" * 5000}"',)))

    with pytest.raises(BrokerUnavailable):
        await state.broker.append(message("a"))


async def test_what_nobody_here_listens_for_takes_no_room(make_memory) -> None:
    state = make_memory(backlog_length=1, backlog_wait_seconds=0.02)

    for _ in range(10):
        await state.broker.append(message("a"))

    assert state.sizes()["backlog_entries"] == 0


async def test_whoever_waited_is_accepted_in_the_order_of_coming_and_handed_over_in_that_of_positions(
    make_memory,
) -> None:
    state = make_memory(backlog_length=3, backlog_wait_seconds=10)
    gate = Gate()
    await state.broker.subscribe([at("a")])
    listener = asyncio.create_task(state.broker.listen(gate.deliver))
    entries = [message("a") for _ in range(100)]
    appends = [asyncio.create_task(state.broker.append(entry)) for entry in entries]
    await gate.entered.wait()
    gate.open.set()

    receipts = await asyncio.gather(*appends)

    async with listening_to_the_end(state, listener):
        assert [receipt.position for receipt in receipts] == sorted(
            [receipt.position for receipt in receipts], key=positions.order
        )
        assert gate.heard == [(receipt.position, entry) for receipt, entry in zip(receipts, entries, strict=True)]


async def test_the_backlog_never_holds_more_than_its_bound(make_memory) -> None:
    state = make_memory(backlog_length=5, backlog_wait_seconds=10)
    lengths: list[int] = []

    async def deliver(entry: Entry, position: Position) -> None:
        lengths.append(state.sizes()["backlog_entries"])

    await state.broker.subscribe([at("a")])
    appends = [asyncio.create_task(state.broker.append(message("a"))) for _ in range(60)]
    listener = asyncio.create_task(state.broker.listen(deliver))
    await asyncio.gather(*appends)

    async with listening_to_the_end(state, listener):
        assert len(lengths) == 60
        assert max(lengths) <= 5


async def test_one_who_gave_up_leaves_its_turn_to_the_next(make_memory) -> None:
    state = make_memory(backlog_length=1, backlog_wait_seconds=10)
    gate = Gate()
    await state.broker.subscribe([at("a")])
    await state.broker.append(message("a"))
    impatient, patient = (asyncio.create_task(state.broker.append(message("a"))) for _ in range(2))
    await asyncio.wait([impatient], timeout=0.01)

    impatient.cancel()
    gate.open.set()
    listener = asyncio.create_task(state.broker.listen(gate.deliver))
    receipt = await patient

    async with listening_to_the_end(state, listener):
        assert impatient.cancelled()
        assert [position for position, _ in gate.heard][1:] == [receipt.position]


async def test_there_is_one_listener_once(make_memory) -> None:
    state = make_memory()
    async with listening(state.broker) as ear:
        await ear.everything()

        with pytest.raises(RuntimeError, match="one listener"):
            await state.broker.listen(ear.deliver)

    assert await state.broker.newest() != START


class Moment:
    """Claims by the clock of a memory state."""

    def __init__(self, state) -> None:
        self._clock = state.clock

    def now(self) -> float:
        return self._clock.now()

    def claim(self):
        return claim(self, nonce="the same nonce")


def listening_to_the_end(state, listener: asyncio.Task):
    """Everything accepted so far was handed over inside the block; the listener is stopped after it."""
    return _Ending(state, listener)


class _Ending:
    def __init__(self, state, listener: asyncio.Task) -> None:
        self._state = state
        self._listener = listener

    async def __aenter__(self) -> None:
        async with asyncio.timeout(10):
            while self._state.sizes()["backlog_entries"]:
                await turn_of_the_loop()
            await turn_of_the_loop()

    async def __aexit__(self, *_: object) -> None:
        self._listener.cancel()
        await asyncio.wait([self._listener])


async def turn_of_the_loop() -> None:
    turned = asyncio.Event()
    asyncio.get_running_loop().call_soon(turned.set)
    await turned.wait()
