"""Clients that other components disconnect: at a drain, and while the subscription is stalled."""

from __future__ import annotations

from gateway.domain.disconnects import DRAINING
from tests.unit.socketio_server.harness import ServerHarness


async def test_disconnect_all_closes_joined_clients_and_aborts_the_others(harness: ServerHarness) -> None:
    joined, unauthenticated = await harness.connected(), harness.open()

    harness.clients.disconnect_all(DRAINING)

    assert (joined.writer.closed, joined.writer.aborted) == ([DRAINING.close_code], False)
    assert (unauthenticated.writer.closed, unauthenticated.writer.aborted) == ([], True)
    assert (harness.clients.by_sid, len(harness.clients.unauthenticated)) == ({}, 0)
    assert await harness.services.is_empty()


async def test_disconnect_does_nothing_to_a_closed_session(harness: ServerHarness) -> None:
    client = await harness.connected()
    (found,) = harness.clients.by_sid.values()
    client.session.lost("transport_close")

    harness.clients.disconnect(found, DRAINING)

    assert (client.writer.closed, client.writer.aborted) == ([], False)
    assert harness.counted("connections_closed_total") == {"/ transport_close": 1}
