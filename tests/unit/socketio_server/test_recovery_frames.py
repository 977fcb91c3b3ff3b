"""The packets that a client gets which can resume its connection, and one which does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.domain.messages import Message, new_id
from gateway.transport.admission import Handshake
from gateway.transport.session import EngineSession
from tests.contract.values import newest_position
from tests.unit.socketio_server.harness import ServerHarness, SocketClient
from tests.unit.transport.recording import SEND_BUFFER_BYTES, RecordingWriter


def connect_packet(**auth: Any) -> str:
    return f"0{json.dumps({'token': 'alice', **auth})}"


async def push(harness: ServerHarness, event: str) -> str:
    receipt = await harness.services.broker.append(Message(new_id(), "/", ("user:alice",), event, ()))
    await harness.services.wait_delivered()
    return receipt.position


async def connect_client(harness: ServerHarness, **auth: Any) -> tuple[SocketClient, dict[str, Any]]:
    client = harness.open()
    await client.send(connect_packet(**auth))
    return client, json.loads(client.packets[0][1:])


async def close_client(harness: ServerHarness, client: SocketClient) -> None:
    client.session.lost("transport_close")
    await harness.services.disconnector.flush()


async def test_fresh_connection_gets_a_pid_a_first_position_and_a_position_with_each_event(
    harness: ServerHarness,
) -> None:
    await push(harness, "before")
    newest = await newest_position(harness.services.state.broker)

    client, accepted = await connect_client(harness)
    position = await push(harness, "news")

    assert set(accepted) == {"sid", "pid"}
    assert len(accepted["pid"]) == 32
    (authenticated,) = client.events()
    assert authenticated[2:] == [newest]
    assert client.packets[2] == f"news@{position}"


async def test_resumed_connection_gets_connect_then_missed_messages_then_authenticated(
    harness: ServerHarness,
) -> None:
    before, accepted = await connect_client(harness)
    seen = await push(harness, "seen")
    await close_client(harness, before)
    missed = await push(harness, "missed")
    newest = await newest_position(harness.services.state.broker)

    after, again = await connect_client(harness, pid=accepted["pid"], offset=seen)
    live = await push(harness, "live")

    assert again == accepted
    assert after.packets[1] == f"missed@{missed}"
    assert after.events() == [
        [
            "authenticated",
            {
                "success": True,
                "userId": "alice",
                "email": None,
                "socketId": accepted["sid"],
                "recovered": True,
            },
            newest,
        ]
    ]
    assert after.packets[3:] == [f"live@{live}"]
    assert harness.counted("recoveries_total") == {"recovered": 1}


async def test_client_that_cannot_resume_gets_a_fresh_connection_and_the_reason(
    harness: ServerHarness,
) -> None:
    client, accepted = await connect_client(harness, pid="unknown", offset="0-0")

    authenticated, reason = client.events()
    assert accepted["pid"] != "unknown"
    assert authenticated[:2] == [
        "authenticated",
        {"success": True, "userId": "alice", "email": None, "socketId": accepted["sid"]},
    ]
    assert reason == ["recovery:failed", {"code": "unknown_session"}]
    assert harness.counted("recoveries_total") == {"unknown_session": 1}


async def test_client_that_requests_no_recovery_gets_no_recovery_event(harness: ServerHarness) -> None:
    client, _ = await connect_client(harness)

    assert [event[0] for event in client.events()] == ["authenticated"]
    assert harness.counted("recoveries_total") == {}


async def test_client_that_declines_recovery_in_auth_gets_neither_pid_nor_positions(
    harness: ServerHarness,
) -> None:
    client, accepted = await connect_client(harness, recovery=False, pid="whatever", resume="0-0")
    await push(harness, "news")

    assert set(accepted) == {"sid"}
    (authenticated,) = client.events()
    assert len(authenticated) == 2
    assert client.packets[2:] == ["news"]


async def test_client_that_declines_recovery_in_the_query_gets_no_pid(harness: ServerHarness) -> None:
    handshake = Handshake(authorization=None, query_token=None, address="192.0.2.1", declines_recovery=True)
    writer = RecordingWriter()
    session = EngineSession(
        "engine",
        handshake=handshake,
        observer=harness.server,
        send_buffer_bytes=SEND_BUFFER_BYTES,
        writer=writer,
    )
    harness.server.session_opened(session)
    client = SocketClient(harness.server, session, writer)

    await client.send(connect_packet())

    assert set(json.loads(client.packets[0][1:])) == {"sid"}


@pytest.mark.parametrize("recovery", [None, True, 0, "", "false"])
async def test_recovery_is_declined_by_false_only(harness: ServerHarness, recovery: object) -> None:
    _, accepted = await connect_client(harness, recovery=recovery)

    assert "pid" in accepted


async def test_client_that_disconnects_cannot_resume_and_one_that_drops_can(harness: ServerHarness) -> None:
    leaves, first = await connect_client(harness)
    drops, second = await connect_client(harness)
    await leaves.send("1")
    await close_client(harness, drops)

    await connect_client(harness, pid=first["pid"])
    await connect_client(harness, pid=second["pid"])

    assert harness.counted("recoveries_total") == {"unknown_session": 1, "recovered": 1}


async def test_final_disconnect_deletes_the_session(harness: ServerHarness) -> None:
    client, accepted = await connect_client(harness)
    await harness.services.publisher.disconnect_user(
        "alice", namespace=None, exclude=frozenset(), revoke=False
    )
    await harness.services.wait_delivered()
    await harness.services.disconnector.flush()
    assert client.packets[-1] == "1"

    await connect_client(harness, pid=accepted["pid"])

    assert harness.counted("recoveries_total") == {"unknown_session": 1}
