"""What goes over the wire to a client that can come back, and to one that does."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.domain.messages import Message, new_id
from gateway.transport.session import EngineSession, Handshake
from tests.contract.values import newest_position
from tests.unit.socketio_server.harness import Doorway, Visitor
from tests.unit.transport.recording import SEND_BUFFER_BYTES, RecordingWire


def asks(**auth: Any) -> str:
    return f"0{json.dumps({'token': 'alice', **auth})}"


async def push(doorway: Doorway, event: str) -> str:
    receipt = await doorway.house.broker.append(Message(new_id(), "/", ("user:alice",), event, ()))
    await doorway.house.wait_delivered()
    return receipt.position


async def greeted(doorway: Doorway, **auth: Any) -> tuple[Visitor, dict[str, Any]]:
    visitor = doorway.open()
    await visitor.say(asks(**auth))
    return visitor, json.loads(visitor.heard[0][1:])


async def left(doorway: Doorway, visitor: Visitor) -> None:
    visitor.session.lost("transport_close")
    await doorway.house.disconnector.flush()


async def test_a_fresh_connection_gets_a_pid_and_its_first_position_and_then_a_position_with_each_event(
    doorway: Doorway,
) -> None:
    await push(doorway, "before")
    newest = await newest_position(doorway.house.state.broker)

    visitor, accepted = await greeted(doorway)
    position = await push(doorway, "news")

    assert set(accepted) == {"sid", "pid"}
    assert len(accepted["pid"]) == 32
    (greeting,) = visitor.events()
    assert greeting[2:] == [newest]
    assert visitor.heard[2] == f"news@{position}"


async def test_who_comes_back_hears_connect_then_what_it_missed_then_the_greeting(doorway: Doorway) -> None:
    before, accepted = await greeted(doorway)
    seen = await push(doorway, "seen")
    await left(doorway, before)
    missed = await push(doorway, "missed")
    newest = await newest_position(doorway.house.state.broker)

    after, again = await greeted(doorway, pid=accepted["pid"], offset=seen)
    live = await push(doorway, "live")

    assert again == accepted
    assert after.heard[1] == f"missed@{missed}"
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
    assert after.heard[3:] == [f"live@{live}"]
    assert doorway.counted("recoveries_total") == {"recovered": 1}


async def test_who_cannot_go_on_is_greeted_as_new_and_told_why(doorway: Doorway) -> None:
    visitor, accepted = await greeted(doorway, pid="unknown", offset="0-0")

    greeting, reason = visitor.events()
    assert accepted["pid"] != "unknown"
    assert greeting[:2] == [
        "authenticated",
        {"success": True, "userId": "alice", "email": None, "socketId": accepted["sid"]},
    ]
    assert reason == ["recovery:failed", {"code": "unknown_session"}]
    assert doorway.counted("recoveries_total") == {"unknown_session": 1}


async def test_nothing_is_said_of_recovery_to_who_did_not_ask(doorway: Doorway) -> None:
    visitor, _ = await greeted(doorway)

    assert [event[0] for event in visitor.events()] == ["authenticated"]
    assert doorway.counted("recoveries_total") == {}


async def test_who_declines_by_auth_gets_neither_pid_nor_positions(doorway: Doorway) -> None:
    visitor, accepted = await greeted(doorway, recovery=False, pid="whatever", resume="0-0")
    await push(doorway, "news")

    assert set(accepted) == {"sid"}
    (greeting,) = visitor.events()
    assert len(greeting) == 2
    assert visitor.heard[2:] == ["news"]


async def test_who_declines_by_the_query_gets_neither(doorway: Doorway) -> None:
    handshake = Handshake(authorization=None, query_token=None, address="192.0.2.1", declines_recovery=True)
    writer = RecordingWire()
    session = EngineSession(
        "engine",
        handshake=handshake,
        observer=doorway.door,
        send_buffer_bytes=SEND_BUFFER_BYTES,
        writer=writer,
    )
    doorway.door.session_opened(session)
    visitor = Visitor(doorway.door, session, writer)

    await visitor.say(asks())

    assert set(json.loads(visitor.heard[0][1:])) == {"sid"}


@pytest.mark.parametrize("recovery", [None, True, 0, "", "false"])
async def test_only_false_declines(doorway: Doorway, recovery: object) -> None:
    _, accepted = await greeted(doorway, recovery=recovery)

    assert "pid" in accepted


async def test_who_says_goodbye_cannot_come_back_and_who_is_only_gone_can(doorway: Doorway) -> None:
    leaves, first = await greeted(doorway)
    drops, second = await greeted(doorway)
    await leaves.say("1")
    await left(doorway, drops)

    await greeted(doorway, pid=first["pid"])
    await greeted(doorway, pid=second["pid"])

    assert doorway.counted("recoveries_total") == {"unknown_session": 1, "recovered": 1}


async def test_an_ending_that_is_final_takes_the_session_with_it(doorway: Doorway) -> None:
    visitor, accepted = await greeted(doorway)
    await doorway.house.publisher.disconnect_user("alice", namespace=None, exclude=frozenset(), revoke=False)
    await doorway.house.wait_delivered()
    await doorway.house.disconnector.flush()
    assert visitor.heard[-1] == "1"

    await greeted(doorway, pid=accepted["pid"])

    assert doorway.counted("recoveries_total") == {"unknown_session": 1}
