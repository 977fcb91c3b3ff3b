"""MessagePublisher: messages and disconnect commands of backends."""

from __future__ import annotations

import asyncio

import pytest

from gateway.domain.dedup import DedupKey
from gateway.domain.disconnects import DISCONNECTED_BY_BACKEND
from gateway.domain.errors import NonceReplayed
from gateway.domain.messages import Message, PublishResult, new_id
from tests.support.metrics import counted
from tests.unit.services.harness import Services

PUBLISHED = "messages_published_total"


def message(*rooms: str) -> Message:
    return Message(new_id(), "/", rooms, "news", ())


async def test_result_is_the_brokers_and_a_replica_gets_its_own_message_through_it(
    services: Services,
) -> None:
    _, transport = await services.connect_live(services.identity("alice", "org:7"))
    pushed = message("org:7")

    result = await services.publisher.publish(pushed)
    await services.wait_delivered()

    assert (result.id, result.connections, result.exact) == (pushed.id, 1, True)
    assert (transport.events, counted(services.metrics, PUBLISHED)) == (["news"], {"message": 1})


async def test_messages_arrive_in_the_order_in_which_they_were_accepted(services: Services) -> None:
    _, transport = await services.connect_live(services.identity("alice", "org:7"))

    for number in range(50):
        await services.publisher.publish(Message(new_id(), "/", ("org:7",), str(number), ()))
    await services.wait_delivered()

    assert transport.events == [str(number) for number in range(50)]


async def test_message_that_the_broker_rejects_is_not_counted(services: Services) -> None:
    dedup_key = DedupKey("key", "nonce", services.clock.now() + 300, None, "", "")
    await services.publisher.publish(message("org:7"), dedup_key)

    with pytest.raises(NonceReplayed):
        await services.publisher.publish(message("org:7"), dedup_key)

    assert counted(services.metrics, PUBLISHED) == {"message": 1}


async def test_message_published_now_is_counted_timed_and_delivered_in_that_step(services: Services) -> None:
    _, transport = await services.connect_live(services.identity("alice", "org:7"))
    await asyncio.sleep(0)  # so that the listener waits
    pushed, dedup_key = message("org:7"), DedupKey("key", "nonce", services.clock.now() + 300)

    result = services.publisher.publish_now(pushed, dedup_key)

    assert isinstance(result, PublishResult)
    assert (result.id, result.connections) == (pushed.id, 1)
    assert (transport.events, counted(services.metrics, PUBLISHED)) == (["news"], {"message": 1})
    assert counted(services.metrics, "delivery_duration_seconds_count") == {"": 1}


async def test_message_that_is_not_published_now_is_neither_counted_nor_timed(services: Services) -> None:
    await services.connect_live(services.identity("alice", "org:7"))
    dedup_key = DedupKey("key", "nonce", services.clock.now() + 300)
    await services.publisher.publish(message(), dedup_key)
    services.hub.delivery_timer.started.clear()

    assert services.publisher.publish_now(message("org:7"), dedup_key) is None

    assert counted(services.metrics, PUBLISHED) == {"message": 1}
    assert not services.hub.delivery_timer.started


@pytest.mark.parametrize("fails", [False, True])
async def test_message_whose_result_comes_later_is_counted_once_it_is_accepted(
    services: Services, fails: bool
) -> None:
    appended: asyncio.Future[PublishResult] = asyncio.get_running_loop().create_future()
    services.broker.append_now = lambda message, dedup_key: appended  # noqa: ARG005
    pushed = message("org:7")

    result = services.publisher.publish_now(pushed, DedupKey("key", "nonce", services.clock.now() + 300))
    assert result is appended
    assert counted(services.metrics, PUBLISHED) == {}
    if fails:
        appended.set_exception(NonceReplayed("used"))
    else:
        appended.set_result(await services.broker.append(pushed))
    await asyncio.wait([appended])
    await asyncio.sleep(0)

    assert counted(services.metrics, PUBLISHED) == ({} if fails else {"message": 1})


@pytest.mark.parametrize(("namespace", "ended"), [(None, 2), ("/", 1)])
async def test_disconnect_command_ends_a_user_in_one_namespace_or_in_all(
    services: Services, namespace: str | None, ended: int
) -> None:
    _, main = await services.connect_live(services.identity("alice"))
    _, events = await services.connect_live(services.identity("alice"), "/events")

    result = await services.publisher.disconnect_user(
        "alice", namespace=namespace, exclude=frozenset(), revoke=False
    )
    await services.wait_delivered()

    assert (result.connections, counted(services.metrics, PUBLISHED)) == (ended, {"disconnect": 1})
    assert [*main.disconnects, *events.disconnects] == [DISCONNECTED_BY_BACKEND] * ended


async def test_repeat_with_an_idempotency_key_is_no_second_message(services: Services) -> None:
    def dedup_key(nonce: str) -> DedupKey:
        return DedupKey("key", nonce, services.clock.now() + 300, "once", "scope", "digest")

    await services.publisher.publish(message("org:7"), dedup_key("first"))
    await services.publisher.publish(message("org:7"), dedup_key("second"))

    assert counted(services.metrics, PUBLISHED) == {"message": 1}
    assert counted(services.metrics, "idempotent_replays_total") == {"": 1}


async def test_accepted_entries_are_counted_by_kind(services: Services) -> None:
    await services.publisher.publish(message("org:7")._replace(volatile=True))
    await services.publisher.disconnect_user("alice", namespace=None, exclude=frozenset(), revoke=False)

    assert counted(services.metrics, PUBLISHED) == {"volatile": 1, "disconnect": 1}
