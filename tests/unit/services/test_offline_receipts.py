"""``OfflineReceipts``: removes what clients received from the offline queue, a part at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import pytest

from gateway.domain.errors import BrokerUnavailable
from gateway.domain.messages import Address
from gateway.domain.positions import Position
from gateway.metrics import MetricFactory
from gateway.services import offline_receipts
from gateway.services.offline_receipts import OfflineReceipts
from tests.support.waiter import await_until
from tests.unit.services.harness import Services


class Queue:
    """Keeps the requests. It rejects as many as ``fails``, and each lets other tasks run."""

    def __init__(self) -> None:
        self.requests: list[int] = []
        self.removed: set[tuple[Address, str]] = set()
        self.fails = 0

    async def append_copies(self, *_: object, **__: object) -> Position | None:
        raise AssertionError

    async def remove(self, received: Mapping[Address, Collection[str]]) -> None:
        await asyncio.sleep(0)
        if self.fails:
            self.fails -= 1
            raise BrokerUnavailable("no Redis")
        self.requests.append(sum(map(len, received.values())))
        self.removed |= {(address, id_) for address, ids in received.items() for id_ in ids}


async def test_ten_thousand_receipts_at_once_are_removed_in_parts_between_other_tasks(
    services: Services,
) -> None:
    receipts, queue = OfflineReceipts(metrics=MetricFactory()), Queue()
    connections = [(await services.connect_live(services.identity(f"u{number}")))[0] for number in range(100)]
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(receipts.run(queue)), asyncio.create_task(count_turns())]
    try:
        for connection in connections:
            receipts.put(connection, [f"m{number}" for number in range(100)])
        await await_until(lambda: len(receipts) == 0, "all receipts are removed")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    assert len(queue.removed) == 10_000
    assert queue.requests == [200] * 50
    assert turns >= len(queue.requests)


async def test_receipts_wait_until_the_state_is_reachable_again(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline_receipts, "_RETRY_SECONDS", 0.01)
    receipts, queue = OfflineReceipts(metrics=MetricFactory()), Queue()
    queue.fails = 3
    connection, _ = await services.connect_live(services.identity("ann"))
    task = asyncio.create_task(receipts.run(queue))
    try:
        receipts.put(connection, ["m1", "m2"])
        await await_until(lambda: len(receipts) == 0, "the receipts are removed")
    finally:
        task.cancel()
        await asyncio.wait([task])

    assert queue.removed == {(Address("/", "user:ann"), "m1"), (Address("/", "user:ann"), "m2")}


async def test_oldest_receipts_are_dropped_beyond_the_bound(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(offline_receipts, "MAX_WAITING", 3)
    receipts, queue = OfflineReceipts(metrics=MetricFactory()), Queue()
    connection, _ = await services.connect_live(services.identity("ann"))

    receipts.put(connection, ["m1", "m2", "m3", "m4"])

    assert len(receipts) == 3
    task = asyncio.create_task(receipts.run(queue))
    await await_until(lambda: len(receipts) == 0, "the receipts are removed")
    task.cancel()
    await asyncio.wait([task])
    assert {id_ for _, id_ in queue.removed} == {"m2", "m3", "m4"}
