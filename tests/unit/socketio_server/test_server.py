"""The Socket.IO server: what a client gets at connect, at events and at its end, and what is left."""

from __future__ import annotations

import asyncio
import json

import pytest
import structlog

from gateway.domain.disconnects import (
    DISCONNECTED_BY_BACKEND,
    DRAINING,
    RATE_LIMITED,
    REVOKED,
    SLOW_CONSUMER,
    SUBSCRIPTION_STALLED,
    TOKEN_EXPIRED,
    DisconnectReason,
)
from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, KeysStale, KeysUnavailable, TokenRejected
from gateway.domain.messages import Message, new_id
from gateway.hub import ConnectionState
from tests.support.waiter import TIMEOUT_SECONDS, await_until
from tests.unit.socketio_server.harness import (
    ATTACHMENT_SECONDS,
    CONNECT_TIMEOUT_SECONDS,
    MAX_ARRIVING_BYTES,
    MAX_ATTACHMENTS_BYTES,
    ServerHarness,
    connect,
)
from tests.unit.transport.recording import RecordingWriter

REJECTED = '4{"message":"Authentication error","data":{"code":"%s"}}'


# connect


async def test_authenticated_client_gets_connect_and_then_authenticated(harness: ServerHarness) -> None:
    client = harness.open()

    await client.send(connect("alice"))

    (connection,) = harness.services.hub.connections.values()
    session = connection.session
    assert session is not None
    assert client.packets[0] == f'0{{"sid":"{connection.sid}","pid":"{session.pid}"}}'
    assert client.events() == [
        [
            "authenticated",
            {"success": True, "userId": "alice", "email": None, "socketId": connection.sid},
            session.first_position,
        ]
    ]
    assert harness.counted("connections_opened_total") == {"/ websocket": 1}
    assert harness.counted("connections") == {"/": 1}


async def test_message_published_during_the_handshake_follows_authenticated(
    harness: ServerHarness,
) -> None:
    client = harness.open()
    harness.services.presence.gate.clear()
    connecting = asyncio.create_task(client.send(connect("alice")))
    await asyncio.wait_for(harness.services.presence.entered.wait(), TIMEOUT_SECONDS)
    await push(harness, "early")
    harness.services.presence.gate.set()
    await connecting

    (connection,) = harness.services.hub.connections.values()
    await await_until(lambda: connection.state is ConnectionState.LIVE, "it is live", pause_seconds=0)
    await push(harness, "late")
    await harness.services.wait_delivered()

    assert [packet.partition('"')[2].partition('"')[0] for packet in client.packets[:2]] == [
        "sid",
        "authenticated",
    ]
    assert [packet.partition("@")[0] for packet in client.packets[2:]] == ["early", "late"]


async def test_each_namespace_is_a_connection_of_its_own(harness: ServerHarness) -> None:
    client = await harness.connected()

    await client.send(connect("alice", "/events,"))

    assert client.packets[0].startswith('0/events,{"sid":')
    assert {made.namespace for made in harness.services.hub.connections.values()} == {"/", "/events"}


async def test_client_with_a_bad_token_is_rejected_and_closed_five_seconds_later(
    harness: ServerHarness,
) -> None:
    client = harness.open()

    await client.send(connect("forged"))
    harness.services.schedule.advance(4.9)
    before = list(client.writer.closed)
    harness.services.schedule.advance(0.1)

    assert client.packets == [REJECTED % "token_signature_invalid"]
    assert (before, client.writer.closed) == ([], [1000])
    assert harness.counted("connections_rejected_total") == {"token_signature_invalid": 1}
    assert await harness.services.is_empty()


async def test_repeated_rejections_do_not_extend_the_deadline(harness: ServerHarness) -> None:
    client = harness.open()

    for _ in range(4):
        await client.send("0/nowhere,")
        harness.services.schedule.advance(1.5)

    assert client.writer.closed == [1000]


async def test_unknown_namespace_is_rejected_with_the_message_of_the_reference_server(
    harness: ServerHarness,
) -> None:
    client = harness.open()

    await client.send(connect("alice", "/random,"))

    assert client.packets == ['4/random,{"message":"Invalid namespace"}']


async def test_rejected_client_may_connect_again_and_stays_open(harness: ServerHarness) -> None:
    client = harness.open()

    await client.send(connect("forged"), connect("alice"))
    harness.services.schedule.advance(1000)

    assert client.writer.closed == []


async def test_token_of_the_handshake_is_used_if_connect_has_none(harness: ServerHarness) -> None:
    client = harness.open(query_token="alice")

    await client.send("0")

    assert client.packets[0].startswith("0{")


async def test_client_that_joins_nothing_is_closed_after_the_connect_timeout(harness: ServerHarness) -> None:
    client = harness.open()

    harness.services.schedule.advance(CONNECT_TIMEOUT_SECONDS - 1)
    before = list(client.writer.closed)
    harness.services.schedule.advance(1)

    assert (before, client.writer.closed, len(harness.services.schedule)) == ([], [1000], 0)


async def test_second_connect_to_a_namespace_closes_the_transport(harness: ServerHarness) -> None:
    client = await harness.connected()

    await client.send(connect("alice"))

    assert client.writer.closed == [1002]
    assert await harness.services.is_empty()


async def test_second_connect_during_the_first_closes_the_transport(
    harness: ServerHarness,
) -> None:
    client = harness.open()
    harness.verifier.gate.clear()
    first = asyncio.create_task(client.send(connect("alice")))
    await asyncio.wait_for(harness.verifier.entered.wait(), TIMEOUT_SECONDS)

    await client.send(connect("alice"))
    harness.verifier.gate.set()
    await first

    assert (client.writer.closed, client.packets) == ([1002], [])
    assert await harness.services.is_empty()
    assert len(harness.services.schedule) == 0


@pytest.mark.parametrize("is_rejected", [True, False])
async def test_client_that_closes_while_its_token_is_verified_leaves_no_connection(
    harness: ServerHarness, is_rejected: bool
) -> None:
    client = harness.open()
    harness.verifier.gate.clear()
    connecting = asyncio.create_task(client.send(connect("forged" if is_rejected else "alice")))
    await asyncio.wait_for(harness.verifier.entered.wait(), TIMEOUT_SECONDS)

    client.session.lost("transport_close")
    harness.verifier.gate.set()
    await connecting

    assert await harness.services.is_empty()
    assert len(harness.services.schedule) == 0


async def test_client_that_closes_while_its_token_is_held_is_not_registered(harness: ServerHarness) -> None:
    client = harness.open()
    harness.verifier.gate.clear()
    connecting = asyncio.create_task(client.send(connect("alice")))
    await asyncio.wait_for(harness.verifier.entered.wait(), TIMEOUT_SECONDS)
    client.session.lost("transport_close")
    harness.services.presence.gate.clear()  # a registration would wait here
    harness.verifier.gate.set()

    await asyncio.wait_for(connecting, TIMEOUT_SECONDS)

    assert harness.counted("connections_opened_total") == {}


async def test_client_with_a_full_send_buffer_is_aborted_at_connect(harness: ServerHarness) -> None:
    writer = RecordingWriter()
    client = harness.open(writer=writer)
    writer.waiting = 10_000

    with structlog.testing.capture_logs() as logs:
        await client.send(connect("alice"))

    assert (client.packets, writer.aborted) == ([], True)
    assert harness.counted("connections_opened_total") == {}
    assert harness.counted("connections_closed_total") == {}
    assert harness.counted("connections_rejected_total") == {}
    assert [entry["event"] for entry in logs] == ["transport.unused"]
    assert await harness.services.is_empty()
    assert len(harness.services.schedule) == 0


@pytest.mark.parametrize(
    "failure",
    [BrokerUnavailable("away"), BrokerTimeout("?"), KeysUnavailable("none yet"), KeysStale("in a moment")],
)
async def test_transport_is_closed_when_a_dependency_is_unavailable_so_that_the_client_reconnects(
    harness: ServerHarness, failure: Exception
) -> None:
    client = harness.open()
    harness.verifier.fails = failure

    await client.send(connect("alice"))

    assert (client.packets, client.writer.closed) == ([], [None])


async def test_rejection_that_time_cures_has_the_seconds_to_retry(harness: ServerHarness) -> None:
    client = harness.open()
    harness.verifier.fails = TokenRejected("token_not_active", "too early", retry_after_seconds=7)

    await client.send(connect("alice"))

    assert client.packets == [
        '4{"message":"Authentication error","data":{"code":"token_not_active","retryAfter":7}}'
    ]


async def test_exception_during_connect_is_logged_and_the_client_reconnects(harness: ServerHarness) -> None:
    client = harness.open()
    harness.verifier.fails = RuntimeError("a bug")

    with structlog.testing.capture_logs() as logs:
        await client.send(connect("alice"))

    assert client.writer.closed == [None]
    assert ("connection.failed", "error") in [(entry["event"], entry["log_level"]) for entry in logs]
    assert harness.counted("connections_rejected_total") == {"internal_error": 1}


# events


async def test_unauthenticated_clients_are_counted_until_they_join_or_close(harness: ServerHarness) -> None:
    counts = [len(harness.clients.unauthenticated)]
    joins, goes = harness.open(), harness.open()
    counts.append(len(harness.clients.unauthenticated))

    await joins.send(connect("forged"))
    counts.append(len(harness.clients.unauthenticated))
    await joins.send(connect("alice"), connect("alice", "/events,"))
    counts.append(len(harness.clients.unauthenticated))
    assert (joins.session.joined, goes.session.joined) == (True, False)
    goes.session.lost("transport_close")
    counts.append(len(harness.clients.unauthenticated))
    await joins.send("1", "1/events,")
    counts.append(len(harness.clients.unauthenticated))
    joins.session.lost("transport_close")
    counts.append(len(harness.clients.unauthenticated))

    assert counts == [0, 2, 2, 1, 0, 0, 0]


async def test_client_that_closes_during_connect_is_no_longer_counted_as_unauthenticated(
    harness: ServerHarness,
) -> None:
    client = harness.open()
    harness.verifier.gate.clear()
    connecting = asyncio.create_task(client.send(connect("alice")))
    await asyncio.wait_for(harness.verifier.entered.wait(), TIMEOUT_SECONDS)

    client.session.lost("transport_close")
    harness.verifier.gate.set()
    await connecting

    assert (len(harness.clients.unauthenticated), client.session.joined) == (0, False)


async def test_attachments_that_are_too_large_together_close_the_transport(harness: ServerHarness) -> None:
    client = await harness.connected()

    await client.send('53-["message"]', bytes(MAX_ATTACHMENTS_BYTES - 1), b"1")
    before = list(client.writer.closed)
    await client.send(b"2")

    assert (before, client.writer.closed) == ([], [1009])
    assert harness.counted("connections_closed_total") == {"/ message_too_large": 1}
    assert len(harness.clients.unauthenticated) == 0


@pytest.mark.parametrize("packet", ['53-["message"]', "63-5[]"])
async def test_attachment_that_is_overdue_closes_the_transport(harness: ServerHarness, packet: str) -> None:
    client = await harness.connected()
    timers = len(harness.services.schedule)

    await client.send(packet)
    harness.services.schedule.advance(ATTACHMENT_SECONDS - 1)
    await client.send(b"1")
    harness.services.schedule.advance(ATTACHMENT_SECONDS - 1)
    await client.send(b"2")
    before = list(client.writer.closed)
    harness.services.schedule.advance(ATTACHMENT_SECONDS + 1)

    assert (before, client.writer.closed) == ([], [1002])
    assert harness.counted("connections_closed_total") == {"/ protocol_error": 1}
    assert harness.arriving.bytes == 0
    assert len(harness.services.schedule) <= timers


async def test_packet_whose_attachments_have_arrived_leaves_no_timer_and_no_bytes(
    harness: ServerHarness,
) -> None:
    client = await harness.connected()
    timers = len(harness.services.schedule)

    await client.send('52-["message"]', b"1")
    held = harness.arriving.bytes
    await client.send(b"2")

    assert held > 0
    assert (harness.arriving.bytes, len(harness.services.schedule)) == (0, timers)


async def test_packets_without_their_attachments_make_room_for_others(harness: ServerHarness) -> None:
    clients = [await harness.connected() for _ in range(12)]

    for client in clients:
        await client.send('52-["message"]', bytes(MAX_ATTACHMENTS_BYTES))

    aborted = [client.session.is_closed for client in clients]
    assert aborted == sorted(aborted, reverse=True)
    assert 2 <= aborted.count(True) <= 5
    assert harness.arriving.bytes <= MAX_ARRIVING_BYTES
    assert harness.counted("connections_closed_total") == {"/ payload_rejected": aborted.count(True)}


async def test_unknown_event_is_acknowledged_if_an_acknowledgement_is_requested(
    harness: ServerHarness,
) -> None:
    client = await harness.connected()

    await client.send('27["chat:message","hello"]')

    (answer,) = client.packets
    assert answer.startswith("37[")
    assert json.loads(answer[2:])[0]["error"]["code"] == "unknown_event"


async def test_unknown_events_without_acknowledgement_get_an_error_event_at_most_once_a_second(
    harness: ServerHarness,
) -> None:
    client = await harness.connected()

    counts = []
    for seconds in (0, 0.5, 0.5, 10):
        harness.services.schedule.advance(seconds)
        await client.send('2["chat:message"]', '2["chat:message"]')
        counts.append(len(client.events()))

    assert counts == [1, 1, 2, 3]
    name, payload = client.events()[0]
    assert isinstance(payload, dict)
    assert (name, payload["status"], payload["code"]) == ("error", "error", "unknown_event")


async def test_event_before_any_namespace_is_joined_closes_the_transport(harness: ServerHarness) -> None:
    client = harness.open()

    await client.send('2["auth:refresh","alice"]')

    assert client.writer.closed == [1002]


async def test_event_that_crosses_a_disconnect_is_ignored_and_another_namespace_can_be_joined(
    harness: ServerHarness,
) -> None:
    client = await harness.connected()
    await harness.services.publisher.disconnect_user(
        "alice", namespace="/", exclude=frozenset(), revoke=False
    )
    await harness.services.wait_delivered()

    await client.send('2["late"]', connect("alice", "/events,"))

    assert client.writer.closed == []
    assert [connection.namespace for connection in harness.services.hub.connections.values()] == ["/events"]


async def test_event_to_a_namespace_that_was_left_is_ignored_while_another_is_joined(
    harness: ServerHarness,
) -> None:
    client = await harness.connected()
    await client.send(connect("alice", "/events,"), "1/events,", '2/events,["late"]')

    assert client.writer.closed == []


@pytest.mark.parametrize("packet", ["x", "2{}", b"\x01", "2" + "[" * 100_000, '511-["m"]'])
async def test_malformed_packet_closes_the_transport_and_leaves_no_connection(
    harness: ServerHarness, packet: str | bytes
) -> None:
    client = await harness.connected()

    await client.send(packet)

    assert client.writer.closed == [1002]
    assert await harness.services.is_empty()


# token refresh


async def refresh(harness: ServerHarness, *arguments: object) -> dict[str, object]:
    client = await harness.connected()
    await client.send("21" + json.dumps(["auth:refresh", *arguments]))
    (answer,) = client.packets
    body: list[dict[str, object]] = json.loads(answer[2:])
    return body[0]


async def test_newer_token_is_accepted_and_its_expiry_returned(harness: ServerHarness) -> None:
    harness.verifier.known["newer"] = harness.services.identity("alice", "org:8", expires_in=600)

    answer = await refresh(harness, "newer")

    assert answer["ok"] is True
    assert str(answer["expiresAt"]).endswith("Z")
    assert len(harness.services.schedule) == 1
    assert harness.counted("token_refreshes_total") == {"refreshed": 1}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["forged"], "token_signature_invalid"),
        (["bob"], "token_invalid"),
        ([], "token_malformed"),
        ([7], "token_malformed"),
        ([None], "token_malformed"),
        (["alice", "alice"], "token_malformed"),
    ],
)
async def test_rejected_token_changes_nothing(
    harness: ServerHarness, arguments: list[object], code: str
) -> None:
    harness.verifier.known["bob"] = harness.services.identity("bob")

    answer = await refresh(harness, *arguments)

    assert (answer["ok"], answer["code"]) == (False, code)
    assert harness.counted("token_refreshes_total") == {code: 1}


async def test_exception_during_a_token_refresh_is_logged_and_answered(harness: ServerHarness) -> None:
    client = await harness.connected()
    harness.verifier.fails = RuntimeError("a bug")

    with structlog.testing.capture_logs() as logs:
        await client.send('21["auth:refresh","alice"]')

    assert '"code":"internal_error"' in client.packets[0]
    assert client.writer.closed == []
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["refresh.failed"]
    assert harness.counted("token_refreshes_total") == {"internal_error": 1}


# disconnect


async def test_other_namespaces_stay_connected_after_leaving_one(harness: ServerHarness) -> None:
    client = await harness.connected()
    await client.send(connect("alice", "/events,"))

    await client.send("1/events,")
    harness.services.schedule.advance(100)

    assert [made.namespace for made in harness.services.hub.connections.values()] == ["/"]
    assert client.writer.closed == []


async def test_client_that_leaves_its_last_namespace_is_closed_five_seconds_later(
    harness: ServerHarness,
) -> None:
    client = await harness.connected()

    await client.send("1")
    harness.services.schedule.advance(5)

    assert client.writer.closed == [1000]
    assert harness.counted("connections_closed_total") == {"/ client_disconnect": 1}
    assert await harness.services.is_empty()


async def test_closed_transport_removes_all_its_connections(harness: ServerHarness) -> None:
    client = await harness.connected()
    await client.send(connect("alice", "/events,"))
    await client.send('51-["half"]')

    client.session.lost("transport_close")

    assert harness.counted("connections_closed_total") == {
        "/ transport_close": 1,
        "/events transport_close": 1,
    }
    assert harness.counted("connections") == {}
    assert await harness.services.is_empty()
    assert len(harness.services.schedule) == 0


@pytest.mark.parametrize(
    ("reason", "expected", "closed", "aborted"),
    [
        (DISCONNECTED_BY_BACKEND, ["error", "disconnect"], [], False),
        (REVOKED, ["error", "disconnect"], [], False),
        (RATE_LIMITED, ["error", "disconnect"], [], False),
        (TOKEN_EXPIRED, [], [4401], False),
        (DRAINING, [], [None], False),
        (SUBSCRIPTION_STALLED, [], [None], False),
        (SLOW_CONSUMER, [], [], True),
    ],
    ids=lambda value: value.reason if isinstance(value, DisconnectReason) else "",
)
async def test_connection_ends_as_its_disconnect_reason_requires(
    harness: ServerHarness,
    reason: DisconnectReason,
    expected: list[str],
    closed: list[int | None],
    aborted: bool,
) -> None:
    client = await harness.connected()
    (connection,) = harness.services.hub.connections.values()

    connection.transport.disconnect(reason)

    packets = ["disconnect" if packet == "1" else json.loads(packet[1:])[0] for packet in client.packets]
    assert (packets, client.writer.closed, client.writer.aborted) == (expected, closed, aborted)
    assert harness.counted("connections_closed_total") == {f"/ {reason.reason}": 1}
    assert await harness.services.is_empty()


async def test_reason_that_ends_the_transport_removes_all_connections_without_a_poll(
    harness: ServerHarness,
) -> None:
    await harness.polling("/", "/events")
    first = next(iter(harness.services.hub.connections.values()))

    first.transport.disconnect(TOKEN_EXPIRED)

    assert harness.services.hub.connections == {}
    assert await harness.services.is_empty()


async def test_disconnect_command_reaches_the_client_and_its_transport_closes_later(
    harness: ServerHarness,
) -> None:
    client = await harness.connected()

    await harness.services.publisher.disconnect_user(
        "alice", namespace=None, exclude=frozenset(), revoke=False
    )
    await harness.services.wait_delivered()
    harness.services.schedule.advance(5)

    assert client.events() == [["error", {"code": "kicked", "message": DISCONNECTED_BY_BACKEND.message}]]
    assert client.packets[-1] == "1"
    assert client.writer.closed == [1000]


async def test_upgrade_is_reported_for_every_connection(harness: ServerHarness) -> None:
    client = await harness.connected()
    await client.send(connect("alice", "/events,"))

    harness.server.session_upgraded(client.session)

    assert [made.namespace for made in harness.upgraded] == ["/", "/events"]


# message rate


async def test_client_over_the_message_rate_gets_an_error_and_is_disconnected() -> None:
    harness = ServerHarness(messages_per_second=10)
    client = await harness.connected()

    for _ in range(50):
        await client.send('2["chat:message"]')

    assert client.events()[-1][0] == "error"
    assert '"rate_limited"' in client.packets[-2]
    assert (client.packets[-1], client.writer.closed) == ("1", [1000])
    assert await harness.services.is_empty()
    await harness.services.close()


async def test_client_within_the_message_rate_stays_connected() -> None:
    harness = ServerHarness(messages_per_second=10)
    client = await harness.connected()

    for _ in range(200):
        harness.services.schedule.advance(0.1)
        await client.send('2["chat:message"]')

    assert client.writer.closed == []
    await harness.services.close()


async def test_unauthenticated_client_over_the_message_rate_is_closed() -> None:
    harness = ServerHarness(messages_per_second=10)
    client = harness.open()

    for _ in range(50):
        await client.send("1")

    assert client.writer.closed == [1000]
    assert await harness.services.is_empty()
    await harness.services.close()


async def push(harness: ServerHarness, event: str) -> None:
    await harness.services.publisher.publish(Message(new_id(), "/", ("user:alice",), event, ()))
