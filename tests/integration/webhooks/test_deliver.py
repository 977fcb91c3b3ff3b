"""Deliveries of events to real servers: one request, its signature, and what became of it."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
from structlog.testing import capture_logs

from gateway.domain.errors import CallDropped
from gateway.domain.webhooks import Delivery, DeliveryOutcome, WebhookEvent, decode_secret
from gateway.metrics import MetricFactory
from gateway.webhooks.answers import MAX_ANSWER_BYTES
from gateway.webhooks.circuit import MAX_FAILURES
from gateway.webhooks.signing import signature_headers
from tests.integration.webhooks.conftest import NEW_SECRET, OLD_SECRET, MakeClient, call, failure, webhook
from tests.support.metrics import counted
from tests.support.ports import free_port
from tests.support.raw_webhook_server import Request, WebhookServer, answer, response, serving
from tests.support.waiter import TIMEOUT_SECONDS, await_until

ACCEPTED = Delivery(DeliveryOutcome.ACCEPTED, 204)
NO_ANSWER = Delivery(DeliveryOutcome.FAILED)


def event(number: int = 1, data: str = '{"sequence":1}') -> WebhookEvent:
    return WebhookEvent(f"e-{number}", "client.event", 1795262400.0, data)


async def test_delivery_is_signed_and_names_no_time_that_is_left(make_client: MakeClient) -> None:
    async with serving(answer(204)) as server:
        client = make_client(webhook(server.port, secrets=(NEW_SECRET, OLD_SECRET)))

        assert await client.deliver("app", [event(data='{"args":["ä"],"sequence":1}')]) == ACCEPTED

    (request,) = server.requests
    assert json.loads(request.body)["data"] == {"args": ["ä"], "sequence": 1}
    assert "gateway-timeout" not in request.headers
    assert request.headers["webhook-id"] == "e-1"
    assert (
        request.headers.items()
        >= signature_headers(
            event_id="e-1",
            timestamp=int(request.headers["webhook-timestamp"]),
            body=request.body,
            keys=[decode_secret(NEW_SECRET), decode_secret(OLD_SECRET)],
        ).items()
    )


async def test_batch_is_one_signed_request(make_client: MakeClient) -> None:
    async with serving(answer(204)) as server:
        client = make_client(webhook(server.port))

        assert await client.deliver("app", [event(number) for number in range(100)]) == ACCEPTED

    (request,) = server.requests
    body = json.loads(request.body)
    assert [each["id"] for each in body["data"]] == [f"e-{number}" for number in range(100)]
    assert (
        request.headers.items()
        >= signature_headers(
            event_id=request.headers["webhook-id"],
            timestamp=int(request.headers["webhook-timestamp"]),
            body=request.body,
            keys=[decode_secret(OLD_SECRET)],
        ).items()
    )


@pytest.mark.parametrize(
    ("status", "headers", "outcome", "retry_after"),
    [
        (200, (), DeliveryOutcome.ACCEPTED, None),
        (422, (), DeliveryOutcome.REJECTED, None),
        (404, (), DeliveryOutcome.FAILED, None),
        (410, (), DeliveryOutcome.FAILED, None),
        (429, ("retry-after: 7",), DeliveryOutcome.FAILED, 7.0),
        (503, ("retry-after: 99999",), DeliveryOutcome.FAILED, 3600.0),
        (302, ("location: http://127.0.0.1/",), DeliveryOutcome.FAILED, None),
        (500, (), DeliveryOutcome.FAILED, None),
    ],
)
async def test_status_decides_and_is_counted(  # noqa: PLR0917  # one for each column
    make_client: MakeClient,
    metrics: MetricFactory,
    status: int,
    headers: tuple[str, ...],
    outcome: DeliveryOutcome,
    retry_after: float | None,
) -> None:
    async with serving(answer(status, b"no JSON", *headers)) as server:
        delivery = await make_client(webhook(server.port)).deliver("app", [event()])

    assert delivery == Delivery(outcome, status, retry_after)
    assert len(server.requests) == 1
    assert counted(metrics, "webhook_deliveries_total")[f"app {outcome.value}"] == 1
    assert sum(counted(metrics, "webhook_requests_total").values()) == 0


async def test_large_or_encoded_body_of_an_acceptance_changes_nothing(make_client: MakeClient) -> None:
    for reply in (
        answer(200, b"a" * (MAX_ANSWER_BYTES + 1)),
        answer(200, b"\x1f\x8b\x08", "content-encoding: gzip"),
    ):
        async with serving(reply) as server:
            client = make_client(webhook(server.port), metrics=MetricFactory())

            assert (await client.deliver("app", [event()])).outcome is DeliveryOutcome.ACCEPTED
            assert (await client.deliver("app", [event()])).outcome is DeliveryOutcome.ACCEPTED


async def test_deliveries_in_a_row_use_one_connection(make_client: MakeClient) -> None:
    async with serving(answer(200, b"thank you")) as server:
        client = make_client(webhook(server.port))

        for number in range(20):
            await client.deliver("app", [event(number)])

    assert server.connections == 1


async def test_delivery_without_an_answer_failed(make_client: MakeClient) -> None:
    async def hangs(_request: Request, _writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(TIMEOUT_SECONDS)

    async def ends_early(_request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}")

    for reply in (hangs, ends_early):
        async with serving(reply) as server:
            client = make_client(webhook(server.port), metrics=MetricFactory(), delivery_seconds=0.2)
            assert await client.deliver("app", [event()]) == NO_ANSWER

    client = make_client(webhook(free_port()), metrics=MetricFactory())
    assert await client.deliver("app", [event()]) == NO_ANSWER


async def test_webhook_that_is_not_configured_has_no_answer(make_client: MakeClient) -> None:
    assert await make_client().deliver("app", [event()]) == NO_ANSWER


async def test_kept_connection_that_was_closed_is_replaced_at_once(make_client: MakeClient) -> None:
    async def closes_after_each(_request: Request, writer: asyncio.StreamWriter) -> bool:
        writer.write(response(204))
        await writer.drain()
        # Without "connection: close": the client finds the end only when it sends again, or a moment before.
        writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
        return False

    async with serving(closes_after_each) as server:
        client = make_client(webhook(server.port))
        for number in range(50):
            assert await client.deliver("app", [event(number)]) == ACCEPTED

    assert [request.headers["webhook-id"] for request in server.requests] == [f"e-{n}" for n in range(50)]


async def test_failed_deliveries_open_no_circuit_and_an_open_one_stops_none(make_client: MakeClient) -> None:
    status = 500

    async def reply(_request: Request, writer: asyncio.StreamWriter) -> bool:
        writer.write(response(status))
        return True

    async with serving(reply) as server:
        client = make_client(webhook(server.port))
        for _ in range(2 * MAX_FAILURES):
            await client.deliver("app", [event()])
        status = 200
        await call(client)
        status = 500
        for _ in range(MAX_FAILURES):
            await failure(client)
        before = len(server.requests)
        assert (await failure(client)).message == "the backend does not work at the moment"
        assert len(server.requests) == before
        status = 204
        assert await client.deliver("app", [event()]) == ACCEPTED
        assert (await failure(client)).message == "the backend does not work at the moment"


class Gate:
    """Answers once it is opened."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()

    async def __call__(self, _request: Request, writer: asyncio.StreamWriter) -> bool:
        await self.opened.wait()
        writer.write(response(204))
        return True


def ids(server: WebhookServer) -> list[str]:
    return [request.headers["webhook-id"] for request in server.requests]


async def test_deliveries_that_hang_leave_half_of_the_requests_to_calls(make_client: MakeClient) -> None:
    gate = Gate()
    async with serving(gate) as server:
        client = make_client(webhook(server.port, in_flight=4))
        deliveries = [asyncio.create_task(client.deliver("app", [event(number)])) for number in range(20)]
        await await_until(lambda: len(server.requests) == 2, "two deliveries are under way")
        calls = [asyncio.create_task(call(client)) for _ in range(2)]
        await await_until(lambda: len(server.requests) == 4, "two calls are under way, too")
        gate.opened.set()
        assert {delivery.outcome for delivery in await asyncio.gather(*deliveries)} == {
            DeliveryOutcome.ACCEPTED
        }
        await asyncio.gather(*calls)

    assert sorted(ids(server)[:4]) == ["e-0", "e-1", "e-1", "e-1"]


async def test_only_slot_is_shared_in_turn(make_client: MakeClient) -> None:
    gate = Gate()
    async with serving(gate) as server:
        client = make_client(webhook(server.port, in_flight=1))
        tasks: list[asyncio.Task[object]] = []
        for number in range(3):
            tasks.append(asyncio.create_task(client.deliver("app", [event(10 + number)])))
            await asyncio.sleep(0)
            tasks.append(asyncio.create_task(call(client)))
            await asyncio.sleep(0)
        gate.opened.set()
        await asyncio.gather(*tasks)

    assert ids(server) == ["e-10", "e-1", "e-11", "e-1", "e-12", "e-1"]


async def test_delivery_that_waits_goes_to_the_webhook_of_a_reload(make_client: MakeClient) -> None:
    gate = Gate()
    async with serving(gate) as former, serving(answer(204)) as latter:
        client = make_client(webhook(former.port, in_flight=1))
        under_way = asyncio.create_task(client.deliver("app", [event(1)]))
        await await_until(lambda: bool(former.requests), "the first delivery is under way")
        waiting = asyncio.create_task(client.deliver("app", [event(2)]))
        await asyncio.sleep(0)
        client.change([webhook(latter.port, in_flight=1)])
        gate.opened.set()

        assert (await under_way, await waiting) == (ACCEPTED, ACCEPTED)

    assert (ids(former), ids(latter)) == (["e-1"], ["e-2"])


async def test_delivery_that_is_unwanted_when_its_turn_comes_is_not_sent(make_client: MakeClient) -> None:
    gate = Gate()
    async with serving(gate) as server:
        client = make_client(webhook(server.port, in_flight=1))
        under_way = asyncio.create_task(client.deliver("app", [event(1)]))
        await await_until(lambda: bool(server.requests), "the first delivery is under way")
        is_wanted = [True]
        waiting = asyncio.create_task(client.deliver("app", [event(2)], is_wanted=lambda: is_wanted[0]))
        await asyncio.sleep(0)
        is_wanted[0] = False
        gate.opened.set()

        assert await under_way == ACCEPTED
        with pytest.raises(CallDropped):
            await waiting

    assert ids(server) == ["e-1"]


async def test_event_that_cannot_be_sent_is_rejected_and_logged(make_client: MakeClient) -> None:
    async with serving(answer(204)) as server:
        client = make_client(webhook(server.port))
        with capture_logs() as lines:
            delivery = await client.deliver("app", [event()._replace(id="a.b")])

    assert delivery == Delivery(DeliveryOutcome.REJECTED)
    assert [line["event"] for line in lines] == ["webhook.event_invalid"]
    assert server.requests == []
