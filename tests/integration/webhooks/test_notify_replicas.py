"""Replicas that share the partitions of a webhook over one Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from itertools import count

import pytest

from tests.integration.webhooks.conftest import webhook
from tests.integration.webhooks.deliverers import Deliverer, Receiver, redis_state, users
from tests.support.metrics import counted
from tests.support.raw_webhook_server import WebhookServer, serving
from tests.support.redis_server import shared_server
from tests.support.waiter import await_until

PARTITIONS = 16
_numbers = count()


@pytest.fixture
async def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
async def server(receiver: Receiver) -> AsyncIterator[WebhookServer]:
    async with serving(receiver) as server:
        yield server


@pytest.fixture
async def replicas(
    server: WebhookServer,
) -> AsyncIterator[Callable[[], list[Deliverer]]]:
    """Return a function that starts the deliveries of two replicas."""
    settings = webhook(server.port, partitions=PARTITIONS)
    prefix = f"replicas-{next(_numbers)}"
    started: list[Deliverer] = []
    async with AsyncExitStack() as stack:
        states = [
            await stack.enter_async_context(redis_state(shared_server(), prefix=prefix, name=name))
            for name in ("one", "two")
        ]

        def start() -> list[Deliverer]:
            started.extend(Deliverer(state, [settings]) for state in states)
            return started

        yield start
        for each in started:
            await each.stop(finish_seconds=0)


def owned(replica: Deliverer) -> float:
    return counted(replica.metrics, "webhook_partitions").get("app", 0)


async def are_shared(replicas: list[Deliverer]) -> None:
    """Wait until each of two replicas has half of the partitions."""
    await await_until(
        lambda: [owned(each) for each in replicas] == [PARTITIONS / 2, PARTITIONS / 2], "they share evenly"
    )


async def test_replicas_share_the_partitions_and_deliver_each_notification_once(
    replicas: Callable[[], list[Deliverer]], receiver: Receiver
) -> None:
    one, two = replicas()
    await are_shared([one, two])

    ids = await one.queue(users(50), 500)
    await receiver.gets(ids)
    await one.empties()

    assert sorted(receiver.ids) == sorted(ids)
    receiver.check_order()
    accepted = [counted(each.metrics, "webhook_notifications_total")["app accepted"] for each in (one, two)]
    assert sum(accepted) == 500
    assert min(accepted) > 50


async def test_notification_of_one_replica_wakes_the_owner_on_the_other_at_once(
    replicas: Callable[[], list[Deliverer]], receiver: Receiver
) -> None:
    one, two = replicas()
    await are_shared([one, two])

    for user in users(20):
        await receiver.gets(await one.queue([user], 1))


async def test_replica_that_stops_hands_its_partitions_over_without_a_repeat(
    replicas: Callable[[], list[Deliverer]], receiver: Receiver
) -> None:
    one, two = replicas()
    await are_shared([one, two])
    ids = await one.queue(users(50), 1000)
    await await_until(lambda: len(receiver.accepted) > 100, "some are delivered")

    await one.stop()
    ids += await two.queue(users(50), 100, first=1000)
    await receiver.gets(ids)
    await two.empties()

    assert sorted(receiver.ids) == sorted(ids)
    receiver.check_order()
    await await_until(lambda: owned(two) == PARTITIONS, "the other one has all")
