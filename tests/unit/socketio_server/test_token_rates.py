"""How often a client may send tokens, and how often one user may connect."""

from __future__ import annotations

import asyncio
import json

from gateway.socketio_server.connect_handshake import CONNECTS_PER_SECOND, HOLD_SECONDS
from gateway.socketio_server.server import TOKEN_BURST, TOKENS_PER_SECOND
from tests.support.waiter import await_until
from tests.unit.socketio_server.harness import CONNECT_BURST, ServerHarness, SocketClient, connect

BURST = TOKEN_BURST + 2 * 2
"""With the two namespaces of the harness."""


async def test_client_that_joins_and_leaves_in_a_loop_is_closed_with_1008(harness: ServerHarness) -> None:
    client = harness.open()

    for _ in range(BURST):
        await client.send(connect("alice"), "1")
    assert client.writer.closed == []
    await client.send(connect("alice"))

    assert client.writer.closed == [1008]
    assert harness.counted("connections_opened_total") == {"/ websocket": BURST}


async def test_client_that_sends_bad_tokens_in_a_loop_is_closed_with_1008(harness: ServerHarness) -> None:
    client = harness.open()

    for _ in range(BURST + 1):
        await client.send(connect("forged"))

    assert client.writer.closed == [1008]
    assert sum(harness.counted("connections_rejected_total").values()) == BURST


async def test_client_may_send_a_token_each_second_for_long(harness: ServerHarness) -> None:
    client = harness.open()

    for _ in range(5 * BURST):
        await client.send(connect("alice"), "1")
        harness.services.schedule.advance(1 / TOKENS_PER_SECOND)

    assert client.writer.closed == []


async def test_tokens_beyond_the_rate_are_not_verified_and_answered_with_a_time(
    harness: ServerHarness,
) -> None:
    client = await harness.connected()

    answers = []
    for _ in range(BURST):
        client.writer.frames.clear()
        await client.send('21["auth:refresh","alice"]')
        answers.append(json.loads(client.packets[-1][2:])[0])

    assert [answer["ok"] for answer in answers] == [True] * (BURST - 1) + [False]
    assert (answers[-1]["code"], answers[-1]["retryAfter"]) == ("rate_limited", 1)
    assert harness.counted("token_refreshes_total") == {"refreshed": BURST - 1, "rate_limited": 1}
    assert client.writer.closed == []


# the pace of a user


async def connect_all(harness: ServerHarness, number: int, user: str) -> list[SocketClient]:
    clients = [harness.open() for _ in range(number)]
    for client in clients:
        await client.send(connect(user))
    return clients


async def test_user_beyond_the_burst_is_held_and_then_connected(harness: ServerHarness) -> None:
    await connect_all(harness, CONNECT_BURST, "alice")
    harness.verifier.known["bob"] = harness.services.identity("bob")
    late, other = harness.open(), harness.open()

    waiting = asyncio.create_task(late.send(connect("alice")))
    await other.send(connect("bob"))
    assert (late.session.joined, other.session.joined) == (False, True)

    harness.services.schedule.advance(1 / CONNECTS_PER_SECOND)
    await waiting
    assert late.session.joined


async def test_user_far_beyond_the_burst_reconnects_after_some_seconds(harness: ServerHarness) -> None:
    held = int(HOLD_SECONDS * CONNECTS_PER_SECOND)
    clients = [harness.open() for _ in range(CONNECT_BURST + held + 5)]
    tasks = [asyncio.create_task(client.send(connect("alice"))) for client in clients]
    await await_until(lambda: sum(client.session.joined for client in clients) >= CONNECT_BURST, "the burst")

    harness.services.schedule.advance(HOLD_SECONDS + 0.01)
    await asyncio.gather(*tasks)

    ended = [client for client in clients if client.writer.closed]
    assert [client.writer.closed for client in ended] == [[None]] * 5
    assert sum(client.session.joined for client in clients) == CONNECT_BURST + held
    assert harness.counted("connections_rejected_total") == {"connect_rate": 5}


async def test_client_that_closes_while_it_is_held_leaves_nothing(harness: ServerHarness) -> None:
    await connect_all(harness, CONNECT_BURST, "alice")
    late = harness.open()
    waiting = asyncio.create_task(late.send(connect("alice")))
    await asyncio.sleep(0)

    late.session.lost("transport_close")
    harness.services.schedule.advance(HOLD_SECONDS)
    await waiting

    assert len(harness.services.hub.connections) == CONNECT_BURST
