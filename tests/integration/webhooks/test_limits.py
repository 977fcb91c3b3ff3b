"""Limits of a webhook, its circuit breaker, and changes while requests are under way."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gateway.domain.errors import CallDropped, ClientEventRejected
from gateway.domain.webhooks import decode_secret
from gateway.metrics import MetricFactory
from gateway.webhooks.signing import signature_headers
from tests.integration.webhooks.conftest import NEW_SECRET, OLD_SECRET, MakeClient, call, failure, webhook
from tests.support.clock import FakeClock
from tests.support.loop_turns import with_turns
from tests.support.metrics import counted
from tests.support.raw_webhook_server import Request, answer, response, serving
from tests.support.waiter import await_until


class Gate:
    """A reply that waits until ``open`` is set."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def reply(self, _request: Request, writer: asyncio.StreamWriter) -> bool:
        await self.open.wait()
        writer.write(response(200, b'{"ack":1}'))
        return True


async def test_event_over_the_limits_is_busy_at_once_and_others_are_answered(
    make_client: MakeClient, metrics: MetricFactory
) -> None:
    gate = Gate()
    async with serving(gate.reply) as slow, serving(answer(200, b'{"ack":2}')) as quick:
        client = make_client(webhook(slow.port, in_flight=2), webhook(quick.port, id="quick"))
        calls = [asyncio.create_task(call(client)) for _ in range(10)]
        await await_until(lambda: len(slow.requests) == 2, "two requests are in flight")

        error, turns = await with_turns(failure(client))
        assert (error.code, error.retry_after_seconds) == ("busy", 1)
        assert turns == 0, "it waited"
        assert counted(metrics, "webhook_in_flight") == {"app": 2}
        assert counted(metrics, "webhook_waiting") == {"app": 8}
        assert (await call(client, webhook="quick")).ack == 2

        gate.open.set()
        assert [result.ack for result in await asyncio.gather(*calls)] == [1] * 10
        assert slow.connections == 2
    assert counted(metrics, "webhook_requests_total") == {"app ok": 10, "app busy": 1, "quick ok": 1}


async def test_event_that_waited_for_its_whole_time_is_busy(make_client: MakeClient) -> None:
    gate = Gate()
    async with serving(gate.reply) as server:
        client = make_client(webhook(server.port, in_flight=1, timeout_seconds=25.0))
        first = asyncio.create_task(call(client))
        await server.received.wait()
        client.change([webhook(server.port, in_flight=1, timeout_seconds=0.1)])

        assert (await failure(client)).code == "busy"

        gate.open.set()
        assert (await first).ack == 1
    assert len(server.requests) == 1


async def test_cancelled_event_leaves_its_place(make_client: MakeClient, metrics: MetricFactory) -> None:
    gate = Gate()
    async with serving(gate.reply) as server:
        client = make_client(webhook(server.port, in_flight=1))
        cancelled = asyncio.create_task(call(client))
        await server.received.wait()
        cancelled.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await cancelled
        gate.open.set()

        assert (await call(client)).ack == 1
    assert counted(metrics, "webhook_requests_total") == {"app cancelled": 1, "app ok": 1}
    assert counted(metrics, "webhook_in_flight") == {}


async def test_call_that_waits_is_not_sent_once_it_is_unwanted(
    make_client: MakeClient, metrics: MetricFactory
) -> None:
    gate = Gate()
    is_open = True
    async with serving(gate.reply) as server:
        client = make_client(webhook(server.port, in_flight=2))
        sent = [asyncio.create_task(call(client, is_wanted=lambda: is_open)) for _ in range(2)]
        await await_until(lambda: len(server.requests) == 2, "two requests are in flight")
        dropped = [asyncio.create_task(call(client, is_wanted=lambda: is_open)) for _ in range(3)]
        wanted = asyncio.create_task(call(client))
        await await_until(lambda: counted(metrics, "webhook_waiting") == {"app": 4}, "four calls wait")

        is_open = False
        gate.open.set()

        assert [result.ack for result in await asyncio.gather(*sent)] == [1, 1]
        assert [type(each) for each in await asyncio.gather(*dropped, return_exceptions=True)] == [
            CallDropped
        ] * 3
        assert (await wanted).ack == 1
        assert (await call(client)).ack == 1, "every slot is free again"
    assert len(server.requests) == 4
    assert counted(metrics, "webhook_requests_total") == {"app ok": 4, "app dropped": 3}
    assert counted(metrics, "webhook_waiting") == counted(metrics, "webhook_in_flight") == {}


async def test_unwanted_calls_leave_their_places_to_others(
    make_client: MakeClient, metrics: MetricFactory
) -> None:
    gate = Gate()
    async with serving(gate.reply) as server:
        client = make_client(webhook(server.port, in_flight=1))
        sent = asyncio.create_task(call(client))
        await server.received.wait()
        is_open = True
        unwanted = [asyncio.create_task(call(client, is_wanted=lambda: is_open)) for _ in range(4)]
        await await_until(lambda: counted(metrics, "webhook_waiting") == {"app": 4}, "no place is left")
        assert (await failure(client)).code == "busy"

        is_open = False
        waiting = asyncio.create_task(call(client))

        assert [type(each) for each in await asyncio.gather(*unwanted, return_exceptions=True)] == [
            CallDropped
        ] * 4
        assert counted(metrics, "webhook_waiting") == {"app": 1}
        gate.open.set()
        assert [(await sent).ack, (await waiting).ack] == [1, 1]


async def test_unwanted_call_has_a_second_try_if_the_backend_may_have_received_the_first(
    make_client: MakeClient,
) -> None:
    is_open = True

    async def hang_up(request: Request, writer: asyncio.StreamWriter) -> bool:
        nonlocal is_open
        if request.connection == 1 and request.number == 2:
            is_open = False
            return False
        writer.write(response(200, b'{"ack":1}'))
        return True

    async with serving(hang_up) as server:
        client = make_client(webhook(server.port))
        await call(client)
        assert (await call(client, is_wanted=lambda: is_open)).ack == 1
        assert len(server.requests) == 3, "the connection that was kept alive ended, so it was sent again"


async def test_unwanted_call_has_no_second_try_if_no_connection_came_about(make_client: MakeClient) -> None:
    async with serving(answer(200)) as server:
        pass
    client = make_client(webhook(server.port))
    looks = 0

    def is_wanted() -> bool:
        """Return whether it is the look when it got its slot, or the one before its first try."""
        nonlocal looks
        looks += 1
        return looks < 3

    with pytest.raises(CallDropped):
        await call(client, is_wanted=is_wanted)


async def test_circuit_opens_after_five_failures_and_closes_after_a_probe(
    make_client: MakeClient, metrics: MetricFactory
) -> None:
    clock = FakeClock(running=True)
    status = 500

    async def reply(_request: Request, writer: asyncio.StreamWriter) -> bool:
        writer.write(response(status))
        return True

    async with serving(reply) as server:
        client = make_client(webhook(server.port), clock=clock)
        for _ in range(5):
            assert (await failure(client)).code == "backend_error"
        assert counted(metrics, "webhook_circuit_open") == {"app": 1}
        error = await failure(client)
        assert error.code == "backend_unavailable"
        assert error.retry_after_seconds == 1.0
        assert len(server.requests) == 5

        clock.advance(1.0)
        assert (await failure(client)).code == "backend_error"
        assert (await failure(client)).retry_after_seconds == pytest.approx(2.0, abs=0.5)
        assert len(server.requests) == 6

        clock.advance(2.0)
        status = 204
        await call(client)
        await call(client)

    assert len(server.requests) == 8
    assert counted(metrics, "webhook_circuit_open") == {}
    assert counted(metrics, "webhook_requests_total") == {
        "app backend_error": 6, "app circuit_open": 2, "app ok": 2
    }  # fmt: skip


async def test_timeouts_open_the_circuit_and_rejections_do_not(make_client: MakeClient) -> None:
    gate = Gate()
    async with serving(gate.reply) as hanging, serving(answer(422)) as rejecting:
        client = make_client(
            webhook(hanging.port, timeout_seconds=0.1), webhook(rejecting.port, id="rejecting")
        )
        codes = [(await failure(client)).code for _ in range(6)]
        rejections = [(await failure(client, webhook="rejecting")).code for _ in range(20)]

    assert codes == ["backend_timeout"] * 5 + ["backend_unavailable"]
    assert rejections == ["rejected"] * 20


async def test_secrets_rotate_without_a_failed_verification(make_client: MakeClient) -> None:
    known, verified, failed = {OLD_SECRET}, 0, 0

    async def verify(request: Request, writer: asyncio.StreamWriter) -> bool:
        nonlocal verified, failed
        headers = request.headers
        expected = signature_headers(
            event_id=headers["webhook-id"],
            timestamp=int(headers["webhook-timestamp"]),
            body=request.body,
            keys=[decode_secret(secret) for secret in known],
        )["webhook-signature"]
        is_valid = not set(expected.split()).isdisjoint(headers["webhook-signature"].split())
        verified, failed = verified + is_valid, failed + (not is_valid)
        writer.write(response(204 if is_valid else 401))
        return True

    async with serving(verify) as server:
        client = make_client(webhook(server.port))
        stopped = asyncio.Event()

        async def send() -> None:
            while not stopped.is_set():
                await call(client)

        async def more() -> None:
            before = verified
            await await_until(lambda: verified > before + 100, "a hundred requests", pause_seconds=0)

        workers = [asyncio.create_task(send()) for _ in range(20)]
        await more()
        client.change([webhook(server.port, secrets=(NEW_SECRET, OLD_SECRET))])
        await more()
        known.add(NEW_SECRET)
        await more()
        client.change([webhook(server.port, secrets=(NEW_SECRET,))])
        await more()
        known.discard(OLD_SECRET)
        await more()
        stopped.set()
        await asyncio.gather(*workers)

    assert failed == 0
    assert server.connections == 20, "a change of secrets keeps the connections"


async def test_change_of_the_url_lets_requests_under_way_finish(make_client: MakeClient) -> None:
    gate = Gate()
    async with serving(gate.reply) as former, serving(answer(200, b'{"ack":2}')) as new:
        client = make_client(webhook(former.port, in_flight=1))
        under_way = [asyncio.create_task(call(client)) for _ in range(3)]
        await former.received.wait()

        client.change([webhook(new.port)])
        assert (await call(client)).ack == 2
        gate.open.set()

        assert [result.ack for result in await asyncio.gather(*under_way)] == [1, 1, 1]
        async with asyncio.timeout(30):
            await former.ended.wait()


async def test_removed_webhook_is_unavailable_and_changes_that_fail_change_nothing(
    make_client: MakeClient,
) -> None:
    async with serving(answer(200, b'{"ack":1}')) as server:
        client = make_client(webhook(server.port))
        with pytest.raises(ValueError, match="secret"):
            client.change([webhook(server.port, id="other", secrets=("wrong",))])
        assert (await call(client)).ack == 1

        client.change([])
        assert (await failure(client)).code == "backend_unavailable"


async def test_close_ends_requests_under_way_without_a_second_try(make_client: MakeClient) -> None:
    gate = Gate()
    async with serving(gate.reply) as server:
        client = make_client(webhook(server.port))
        under_way = asyncio.create_task(call(client))
        await server.received.wait()
        await client.close()

        with pytest.raises(ClientEventRejected) as raised:
            await under_way
        assert raised.value.code == "backend_error"
        assert (await failure(client)).code == "backend_unavailable"
    assert len(server.requests) == 1
