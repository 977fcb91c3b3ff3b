"""Notifications reach a real backend at least once and in order for each user, whatever it answers."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest

from gateway.domain.errors import BrokerTimeout, BrokerUnavailable
from gateway.domain.notifications import DeadReason, PartitionClaim, QueuePage, partition_of
from gateway.domain.webhooks import Webhook, decode_secret
from gateway.interfaces import Partitions, State
from gateway.services.notifications import RetryRules
from gateway.services.notifications.worker import CONFIRM_SECONDS
from gateway.webhooks.signing import signature_headers
from tests.integration.webhooks.conftest import NEW_SECRET, OLD_SECRET, webhook
from tests.integration.webhooks.deliverers import (
    Deliverer,
    Received,
    Receiver,
    memory_state,
    once_in,
    redis_state,
    users,
)
from tests.support.metrics import counted
from tests.support.ports import free_port
from tests.support.raw_webhook_server import Reply, Request, WebhookServer, response, serving
from tests.support.redis_server import shared_server
from tests.support.waiter import TIMEOUT_SECONDS, await_until

MakeDeliverer = Callable[..., Deliverer]


@pytest.fixture(params=["memory", "redis"])
async def state(request: pytest.FixtureRequest) -> AsyncIterator[State]:
    if request.param == "memory":
        async with memory_state() as state:
            yield state
    else:
        async with redis_state(shared_server()) as state:
            yield state


@pytest.fixture
async def deliver(state: State) -> AsyncIterator[MakeDeliverer]:
    """Return a function that starts a replica for webhooks. It is stopped after the test."""
    started: list[Deliverer] = []

    def start(*webhooks: Webhook, **options: Any) -> Deliverer:
        started.append(Deliverer(state, webhooks, **options))
        return started[-1]

    yield start
    for each in started:
        await each.stop(finish_seconds=0)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Reply], Awaitable[WebhookServer]]]:
    """Return a function that starts a server. It is stopped after the test."""
    async with AsyncExitStack() as servers:
        yield lambda reply: servers.enter_async_context(serving(reply))


Serve = Callable[[Reply], Awaitable[WebhookServer]]


def few_failures(status: int, number: int = 3) -> Callable[[Sequence[Received]], int]:
    """Return a function that answers the first requests with a status."""
    left = number

    def decide(_events: Sequence[Received]) -> int:
        nonlocal left
        left -= 1
        return status if left >= 0 else 204

    return decide


async def test_every_notification_arrives_once_and_in_order_for_each_user(
    deliver: MakeDeliverer, serve: Serve
) -> None:
    receiver = Receiver()
    replica = deliver(webhook((await serve(receiver)).port))

    ids = await replica.queue(users(20), 600)
    await receiver.gets(ids)
    await replica.empties()

    assert sorted(receiver.ids) == sorted(ids)
    receiver.check_order()
    assert counted(replica.metrics, "webhook_notifications_total") == {"app accepted": 600}
    assert await replica.dead() == ()


async def test_notification_is_sent_at_once_when_the_queue_was_empty(
    deliver: MakeDeliverer, serve: Serve
) -> None:
    receiver = Receiver()
    replica = deliver(webhook((await serve(receiver)).port), claim_seconds=3600)
    await receiver.gets(await replica.queue(["alice"], 1))

    for _ in range(20):  # the owner looks for itself only after hours
        await receiver.gets(await replica.queue(["alice"], 1))


# the endpoint is bad


@pytest.mark.parametrize("status", [301, 302, 401, 403, 404, 410, 429, 500, 503])
async def test_status_of_a_bad_endpoint_loses_and_reorders_nothing(
    deliver: MakeDeliverer, serve: Serve, status: int
) -> None:
    receiver = Receiver(few_failures(status, 40))
    replica = deliver(webhook((await serve(receiver)).port, partitions=4))

    ids = await replica.queue(users(10), 100)
    await receiver.gets(ids)
    await replica.empties()

    assert sorted(receiver.ids) == sorted(ids)
    receiver.check_order()
    assert await replica.dead() == ()


async def test_backend_that_is_down_gets_everything_once_it_is_up(deliver: MakeDeliverer) -> None:
    port = free_port()
    replica = deliver(webhook(port))
    ids = await replica.queue(users(10), 100)
    await await_until(
        lambda: counted(replica.metrics, "webhook_deliveries_total").get("app failed", 0) > 20,
        "requests fail",
    )
    receiver = Receiver()

    server = await asyncio.start_server(WebhookServer(receiver).serve, "127.0.0.1", port)
    await receiver.gets(ids)
    await replica.empties()
    server.close()

    assert sorted(receiver.ids) == sorted(ids)
    receiver.check_order()


@pytest.mark.parametrize("kind", ["hangs", "ends early", "ends without an answer", "is no HTTP"])
async def test_backend_that_gives_no_answer_gets_it_again(
    deliver: MakeDeliverer, serve: Serve, kind: str
) -> None:
    receiver = Receiver()
    bad = 0

    async def reply(request: Request, writer: asyncio.StreamWriter) -> bool | None:
        nonlocal bad
        bad += 1
        if bad > 20:
            return await receiver(request, writer)
        if kind == "hangs":
            await asyncio.sleep(TIMEOUT_SECONDS)
        elif kind == "ends early":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}")
        elif kind == "is no HTTP":
            writer.write(b"220 smtp ready\r\n")
        return None

    replica = deliver(
        webhook((await serve(reply)).port, partitions=4), delivery_seconds=0.3 if kind == "hangs" else 15.0
    )
    ids = await replica.queue(users(10), 100)
    await receiver.gets(ids)
    await replica.empties()

    # One that is slower on a busy machine comes twice.
    assert set(receiver.ids) == set(ids)
    receiver.check_order()


@pytest.mark.parametrize("status", [429, 503, 404])
async def test_pause_that_the_backend_asks_for_is_obeyed(
    deliver: MakeDeliverer, serve: Serve, status: int
) -> None:
    receiver = Receiver(few_failures(status, 1), "retry-after: 1")
    replica = deliver(webhook((await serve(receiver)).port))

    await receiver.gets(await replica.queue(["alice"], 3))

    (first, first_status, _), (second, *_) = receiver.tries[:2]
    assert first_status == status
    assert second - first >= 1.0


class RecordingQueues:
    """The queues of a state; ``pages`` are the sizes of what was read of them, without empty ones."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.pages: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def read(self, *arguments: Any, **options: Any) -> QueuePage:
        page: QueuePage = await self._inner.read(*arguments, **options)
        if page.notifications:
            self.pages.append(len(page.notifications))
        return page


async def test_no_more_than_the_first_one_is_read_while_the_backend_fails(
    state: State, deliver: MakeDeliverer, serve: Serve
) -> None:
    receiver = Receiver(few_failures(500, 5))
    queues = RecordingQueues(state.webhook_queues)
    replica = deliver(webhook((await serve(receiver)).port, partitions=1))
    await replica.stop()
    ids = await replica.queue(["alice"], 50)

    deliver(webhook((await serve(receiver)).port, partitions=1), queues=queues)
    await receiver.gets(ids)

    assert queues.pages[0] == 50
    assert set(queues.pages[1:-1]) == {1}
    assert queues.pages[-1] == 49


# the event is bad


async def test_rejected_notification_is_a_dead_letter_and_the_others_of_its_partition_arrive(
    deliver: MakeDeliverer, serve: Serve
) -> None:
    receiver = Receiver(lambda events: 400 if events[0].number == 500 else 204)
    replica = deliver(webhook((await serve(receiver)).port, partitions=1))

    ids = await replica.queue(["alice"], 1001)
    await receiver.gets([*ids[:500], *ids[501:]])
    await replica.empties()

    assert receiver.ids == [*ids[:500], *ids[501:]]
    assert [len(events) for _, status, events in receiver.tries if status == 400] == [1]
    (letter,) = await replica.dead()
    assert (letter.id, letter.user, letter.reason, letter.status) == (
        ids[500],
        "alice",
        DeadReason.REJECTED,
        400,
    )
    assert counted(replica.metrics, "webhook_notifications_total") == {
        "app accepted": 1000,
        "app rejected": 1,
    }


async def test_notification_that_breaks_the_handler_is_given_up_while_others_succeed(
    deliver: MakeDeliverer, serve: Serve
) -> None:
    receiver = Receiver(lambda events: 500 if events[0].user == "poison" else 204)
    replica = deliver(webhook((await serve(receiver)).port, partitions=16))
    neighbour = next(name for name in users(1000) if partition_of(name, 16) == partition_of("poison", 16))
    other = next(name for name in users(1000) if partition_of(name, 16) != partition_of("poison", 16))
    (poison,) = await replica.queue(["poison"], 1)
    behind = await replica.queue([neighbour], 5)

    async def succeed() -> None:
        while True:
            await receiver.gets(await replica.queue([other], 1))

    succeeding = asyncio.create_task(succeed())
    await receiver.gets(behind)
    succeeding.cancel()

    failures = [status for _, status, events in receiver.tries if events[0].id == poison]
    assert 8 <= len(failures) <= 12
    (letter,) = await replica.dead()
    assert (letter.id, letter.reason, letter.status) == (poison, DeadReason.FAILED, 500)


async def test_notification_is_not_given_up_while_no_other_succeeds(
    deliver: MakeDeliverer, serve: Serve
) -> None:
    receiver = Receiver(few_failures(500, 15))
    replica = deliver(webhook((await serve(receiver)).port, partitions=1))

    ids = await replica.queue(["alice"], 3)
    await receiver.gets(ids)

    assert receiver.ids == ids
    assert len(receiver.tries) == 18
    assert await replica.dead() == ()


async def test_notification_over_its_age_is_a_dead_letter(deliver: MakeDeliverer, serve: Serve) -> None:
    receiver = Receiver(lambda _: 503)
    settings = webhook((await serve(receiver)).port, keep_seconds=6.0, partitions=1)
    replica = deliver(settings)

    old = await replica.queue(["alice"], 150)
    await replica.empties()
    receiver.decide = lambda _: 204
    fresh = await replica.queue(["alice"], 2)
    await receiver.gets(fresh)

    assert receiver.ids == fresh
    letters = await replica.dead()
    assert [letter.id for letter in letters] == old
    assert {letter.reason for letter in letters} == {DeadReason.EXPIRED}
    assert letters[0].status == 503


# batches


async def deliver_queued(
    deliver: MakeDeliverer, settings: Webhook, names: Sequence[str], number: int
) -> tuple[Deliverer, list[str]]:
    """Queue notifications while no replica delivers them, then start one."""
    stopped = deliver(settings)
    await stopped.stop()
    ids = await stopped.queue(names, number)
    return deliver(settings), ids


async def test_batches_hold_what_waits_in_its_order(deliver: MakeDeliverer, serve: Serve) -> None:
    receiver = Receiver()
    server = await serve(receiver)
    replica, ids = await deliver_queued(
        deliver, webhook(server.port, batch=100, partitions=4), users(20), 2000
    )
    await receiver.gets(ids)
    await replica.empties()

    assert sorted(receiver.ids) == sorted(ids)
    receiver.check_order()
    assert max(len(events) for _, _, events in receiver.tries) == 100
    assert len(receiver.tries) <= 30


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_batch_that_is_rejected_is_sent_one_by_one(
    deliver: MakeDeliverer, serve: Serve, status: int
) -> None:
    receiver = Receiver(lambda events: status if any(each.number == 30 for each in events) else 204)
    server = await serve(receiver)
    settings = webhook(server.port, batch=50, partitions=1)
    replica, ids = await deliver_queued(deliver, settings, ["alice"], 200)
    await receiver.gets([*ids[:30], *ids[31:]])
    await replica.empties()

    assert receiver.ids == [*ids[:30], *ids[31:]]
    assert [letter.id for letter in await replica.dead()] == [ids[30]]
    # One batch that was rejected, its fifty events, and the other batches.
    assert len(receiver.tries) == 1 + 50 + 3


async def test_batch_that_fails_by_one_event_loses_only_that(deliver: MakeDeliverer, serve: Serve) -> None:
    receiver = Receiver(
        lambda events: 500 if any(each.user == "poison" and each.number == 30 for each in events) else 204
    )
    server = await serve(receiver)
    settings = webhook(server.port, batch=50, partitions=16)
    other = next(name for name in users(1000) if partition_of(name, 16) != partition_of("poison", 16))
    replica, ids = await deliver_queued(deliver, settings, ["poison"], 100)

    async def succeed() -> None:
        while True:
            await receiver.gets(await replica.queue([other], 1))

    succeeding = asyncio.create_task(succeed())
    await receiver.gets([*ids[:30], *ids[31:]])
    succeeding.cancel()

    assert [each.id for each in receiver.accepted if each.user == "poison"] == [*ids[:30], *ids[31:]]
    assert [letter.id for letter in await replica.dead()] == [ids[30]]


# restarts, reloads and the state


async def test_next_owner_continues_with_the_first_one_and_its_pause(
    deliver: MakeDeliverer, serve: Serve
) -> None:
    receiver = Receiver(lambda _: 500)
    settings = webhook((await serve(receiver)).port, partitions=1)
    pauses = RetryRules(delays_seconds=(0.05, 0.05, 2.0), spread=0.0)
    replica = deliver(settings, rules=pauses)
    ids = await replica.queue(["alice"], 3)
    await await_until(lambda: len(receiver.tries) == 3, "three tries")
    await await_until(
        lambda: counted(replica.metrics, "webhook_deliveries_total").get("app failed", 0) == 3, "3 failures"
    )
    await replica.stop()
    receiver.decide = lambda _: 204

    deliver(settings, rules=pauses)
    await receiver.gets(ids)

    assert receiver.ids == ids
    assert 1.9 <= receiver.tries[3][0] - receiver.tries[2][0] < 4


async def test_stop_lets_the_request_under_way_finish_and_begins_no_other(
    deliver: MakeDeliverer, serve: Serve
) -> None:
    receiver = Receiver()
    may_answer = asyncio.Event()

    async def reply(request: Request, writer: asyncio.StreamWriter) -> bool:
        await may_answer.wait()
        return await receiver(request, writer)

    server = await serve(reply)
    settings = webhook(server.port, partitions=1)
    replica = deliver(settings)
    ids = await replica.queue(["alice"], 3)
    await await_until(lambda: len(server.requests) == 1, "the first request")

    stopping = asyncio.create_task(replica.stop())
    await asyncio.sleep(0.1)
    may_answer.set()
    await stopping

    assert receiver.ids == ids[:1]
    deliver(settings)
    await receiver.gets(ids)
    assert receiver.ids == ids


class Gate:
    """A backend that answers once it is opened."""

    def __init__(self) -> None:
        self.receiver = Receiver()
        self.opened = asyncio.Event()

    async def __call__(self, request: Request, writer: asyncio.StreamWriter) -> bool:
        await self.opened.wait()
        return await self.receiver(request, writer)


async def test_stop_sends_nothing_that_still_waits_for_another_request(
    deliver: MakeDeliverer, serve: Serve
) -> None:
    gate = Gate()
    server = await serve(gate)
    settings = webhook(server.port, partitions=16, in_flight=1)
    replica = deliver(settings)
    ids = await replica.queue(users(20), 20)
    await await_until(lambda: len(server.requests) == 1, "the first request")

    stopping = asyncio.create_task(replica.stop())
    await asyncio.sleep(0.1)
    gate.opened.set()
    await stopping

    assert len(gate.receiver.ids) == 1
    deliver(settings)
    await gate.receiver.gets(ids)
    assert sorted(gate.receiver.ids) == sorted(ids)


async def test_nothing_that_waited_for_another_request_is_sent_after_the_lease(
    state: State, deliver: MakeDeliverer, serve: Serve
) -> None:
    gate = Gate()
    server = await serve(gate)
    partitions = LostLease(state.partitions)
    partitions.holds = True
    replica = deliver(webhook(server.port, partitions=16, in_flight=1), partitions=partitions)
    ids = await replica.queue(users(20), 20)
    await await_until(lambda: len(server.requests) == 1, "the first request")

    partitions.holds = False
    gate.opened.set()
    await await_until(lambda: len(gate.receiver.ids) == 1, "the first request is answered")
    await asyncio.sleep(0.1)

    assert len(gate.receiver.ids) == 1
    partitions.holds = True
    await gate.receiver.gets(ids)
    gate.receiver.check_order()


async def test_stop_waits_for_a_bounded_time(deliver: MakeDeliverer, serve: Serve) -> None:
    async def hangs(_request: Request, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(TIMEOUT_SECONDS)

    server = await serve(hangs)
    replica = deliver(webhook(server.port))
    await replica.queue(users(10), 10)
    await await_until(lambda: len(server.requests) > 1, "requests are under way")

    begins = time.monotonic()
    await replica.stop(finish_seconds=0.2)

    assert time.monotonic() - begins < TIMEOUT_SECONDS / 2  # the backend takes the whole of it


class SlowClaims:
    """The partitions of a state, whose claims wait while ``passes`` is not set."""

    def __init__(self, inner: Partitions) -> None:
        self._inner = inner
        self.passes = asyncio.Event()
        self.passes.set()
        self.waiting = asyncio.Event()
        self.release, self.leave, self.holds_lease = inner.release, inner.leave, inner.holds_lease

    async def claim(self, work: str, partitions: int) -> PartitionClaim:
        if not self.passes.is_set():
            self.waiting.set()
        await self.passes.wait()
        return await self._inner.claim(work, partitions)


async def test_stop_during_a_claim_after_a_reload_ends_the_work(state: State, serve: Serve) -> None:
    server = await serve(Receiver())
    partitions = SlowClaims(state.partitions)
    replica = Deliverer(state, [webhook(server.port)], partitions=partitions)
    await await_until(
        lambda: counted(replica.metrics, "webhook_partitions").get("app", 0) == 16, "its workers run"
    )
    partitions.passes.clear()
    replica.reload(webhook(server.port, secrets=(NEW_SECRET,)))
    await partitions.waiting.wait()

    await replica.notifications.stop(finish_seconds=0)
    partitions.passes.set()

    await replica.stop()


async def test_reload_with_another_url_or_secret_delivers_on_at_once(
    deliver: MakeDeliverer, serve: Serve
) -> None:
    failing, receiver = Receiver(lambda _: 404), Receiver()
    former, latter = await serve(failing), await serve(receiver)
    pauses = RetryRules(delays_seconds=(3600.0,))
    replica = deliver(webhook(former.port), rules=pauses)
    ids = await replica.queue(users(10), 50)
    await await_until(lambda: len(failing.tries) >= 5, "requests fail")

    replica.reload(webhook(latter.port, secrets=(NEW_SECRET, OLD_SECRET)))
    await receiver.gets(ids)

    assert sorted(receiver.ids) == sorted(ids)
    receiver.check_order()
    request = latter.requests[0]
    signed = signature_headers(
        event_id=request.headers["webhook-id"],
        timestamp=int(request.headers["webhook-timestamp"]),
        body=request.body,
        keys=[decode_secret(NEW_SECRET), decode_secret(OLD_SECRET)],
    )
    assert request.headers.items() >= signed.items()


async def test_webhook_that_is_removed_keeps_its_queue_until_it_is_added_again(
    deliver: MakeDeliverer, serve: Serve
) -> None:
    receiver = Receiver(lambda _: 503)
    settings = webhook((await serve(receiver)).port)
    replica = deliver(settings)
    ids = await replica.queue(users(10), 50)
    await await_until(lambda: len(receiver.tries) > 10, "requests fail")

    replica.reload()
    await asyncio.sleep(0.3)  # requests under way
    tried = len(receiver.tries)
    receiver.decide = lambda _: 204
    await asyncio.sleep(0.3)
    assert len(receiver.tries) == tried
    replica.reload(settings)
    await receiver.gets(ids)

    assert sorted(receiver.ids) == sorted(ids)
    receiver.check_order()


async def test_queue_of_a_webhook_that_is_no_longer_notified_is_delivered(
    deliver: MakeDeliverer, serve: Serve
) -> None:
    receiver = Receiver()
    replica = deliver(webhook((await serve(receiver)).port), notified=())

    await receiver.gets(await replica.queue(users(5), 20))
    await await_until(
        lambda: counted(replica.metrics, "webhook_partitions").get("app", 0) == 0, "the work ends"
    )
    await receiver.gets(await replica.queue(users(5), 20))


async def test_fewer_partitions_deliver_what_is_in_the_former_ones(
    deliver: MakeDeliverer, serve: Serve
) -> None:
    receiver = Receiver()
    server = await serve(receiver)
    former = deliver(webhook(server.port, partitions=16))
    await former.stop()
    ids = await former.queue(users(50), 100)

    replica = deliver(webhook(server.port, partitions=2))
    await receiver.gets(ids)
    await replica.empties()

    await await_until(
        lambda: counted(replica.metrics, "webhook_partitions").get("app", 0) == 2,
        "the former ones are released",
    )
    receiver.check_order()


class LostLease:
    """The partitions of a state, without its lease until ``holds``."""

    def __init__(self, inner: Partitions) -> None:
        self.holds = False
        self.claim, self.release, self.leave = inner.claim, inner.release, inner.leave

    def holds_lease(self) -> bool:
        return self.holds


async def test_nothing_is_sent_while_the_lease_may_have_expired(
    state: State, deliver: MakeDeliverer, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.services.notifications.worker.STATE_PAUSE_SECONDS", 0.01)
    receiver = Receiver()
    partitions = LostLease(state.partitions)
    replica = deliver(webhook((await serve(receiver)).port), partitions=partitions)
    ids = await replica.queue(users(10), 20)
    await await_until(
        lambda: counted(replica.metrics, "webhook_partitions").get("app", 0) == 16, "its workers run"
    )
    await asyncio.sleep(0.3)
    assert receiver.tries == []

    partitions.holds = True
    await receiver.gets(ids)

    receiver.check_order()


async def test_replica_that_lost_its_partition_during_a_request_begins_no_other(
    state: State, deliver: MakeDeliverer, serve: Serve
) -> None:
    may_answer = asyncio.Event()

    async def reply(_request: Request, writer: asyncio.StreamWriter) -> bool:
        await may_answer.wait()
        writer.write(response(204))
        return True

    server = await serve(reply)
    replica = deliver(webhook(server.port, partitions=1), claim_seconds=3600)
    await replica.queue(["alice"], 10)
    await await_until(lambda: len(server.requests) == 1, "the first request")

    # As if the process had been suspended meanwhile: it has a lease again, and another one has the partition.
    await state.partitions.release("app", [0])
    await asyncio.sleep(CONFIRM_SECONDS)
    may_answer.set()
    await await_until(
        lambda: counted(replica.metrics, "webhook_partitions").get("app", 0) == 0, "its worker ends"
    )

    assert len(server.requests) == 1


async def test_replica_that_is_alone_delivers_what_is_queued_before_it_stops(
    deliver: MakeDeliverer, serve: Serve
) -> None:
    receiver = Receiver()
    replica = deliver(webhook((await serve(receiver)).port), is_alone=True)
    ids = await replica.queue(["alice"], 200)

    await replica.stop()

    assert receiver.ids == ids


async def test_replica_that_is_alone_waits_for_a_bounded_time(deliver: MakeDeliverer, serve: Serve) -> None:
    receiver = Receiver(lambda _: 500)
    replica = deliver(webhook((await serve(receiver)).port), is_alone=True)
    await replica.queue(["alice"], 200)
    begins = time.monotonic()

    await replica.stop(finish_seconds=0.3)

    assert time.monotonic() - begins >= 0.3


class FailingQueues:
    """The queues of a state, of which each call fails at random, before or after it took effect."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._fails, self._took_effect = once_in(0.2), once_in(0.5)
        self.failures = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        async def failing(*arguments: Any, **options: Any) -> Any:
            if not self._fails():
                return await method(*arguments, **options)
            self.failures += 1
            if self._took_effect():
                await method(*arguments, **options)
                raise BrokerTimeout("no answer")
            raise BrokerUnavailable("no connection")

        return failing


async def test_errors_of_the_state_lose_and_reorder_nothing(
    state: State, serve: Serve, deliver: MakeDeliverer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.services.notifications.worker.STATE_PAUSE_SECONDS", 0.01)
    fails = once_in(0.1)
    receiver = Receiver(lambda events: 422 if events[0].number % 50 == 7 else 500 if fails() else 204)
    queues, partitions = FailingQueues(state.webhook_queues), FailingPartitions(state.partitions)
    replica = deliver(
        webhook((await serve(receiver)).port, partitions=4), queues=queues, partitions=partitions
    )

    ids = await replica.queue(users(10), 400)
    good = [each for index, each in enumerate(ids) if index % 50 != 7]
    await receiver.gets(good)
    await replica.empties()

    assert queues.failures > 50
    assert partitions.failures > 0
    receiver.check_order()
    assert sorted(letter.id for letter in await replica.dead()) == sorted(set(ids) - set(good))


class LateRemovals:
    """The queues of a state, of which the first removals fail."""

    def __init__(self, inner: Any, number: int) -> None:
        self._inner = inner
        self._left = number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def remove(self, *arguments: Any) -> None:
        self._left -= 1
        if self._left >= 0:
            raise BrokerUnavailable("no connection")
        await self._inner.remove(*arguments)


@pytest.mark.parametrize("failures", [1, 2, 5])
async def test_accepted_notification_is_not_sent_again_because_its_removal_failed(
    state: State, serve: Serve, deliver: MakeDeliverer, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    monkeypatch.setattr("gateway.services.notifications.worker.STATE_PAUSE_SECONDS", 0.01)
    receiver = Receiver()
    replica = deliver(
        webhook((await serve(receiver)).port, partitions=1),
        queues=LateRemovals(state.webhook_queues, failures),
    )

    ids = await replica.queue(["alice"], 10)
    await receiver.gets(ids)
    await replica.empties()

    assert receiver.ids == ids


class FailingPartitions(FailingQueues):
    """The partitions of a state, of which each call fails at random."""

    def holds_lease(self) -> bool:
        holds: bool = self._inner.holds_lease()
        return holds


async def test_other_webhooks_are_delivered_to_while_one_fails(deliver: MakeDeliverer, serve: Serve) -> None:
    failing, receiver = Receiver(lambda _: 500), Receiver()
    replica = deliver(
        webhook((await serve(failing)).port),
        dataclasses.replace(webhook((await serve(receiver)).port), id="other"),
        notified=("app", "other"),
    )
    await replica.queue(users(10), 50)

    ids = await replica.queue(users(10), 200, webhook="other")
    await receiver.gets(ids)

    assert sorted(receiver.ids) == sorted(ids)
