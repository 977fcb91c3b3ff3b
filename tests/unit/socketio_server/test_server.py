"""The way in and out: what a client hears, what is left behind."""

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
    TOKEN_EXPIRED,
    DisconnectReason,
)
from gateway.domain.errors import BrokerTimeout, BrokerUnavailable, KeysUnavailable
from gateway.domain.messages import Message, new_id
from gateway.hub import ConnectionState
from tests.unit.services.harness import TIMEOUT_SECONDS
from tests.unit.socketio_server.harness import (
    CONNECT_TIMEOUT_SECONDS,
    MAX_ATTACHMENTS_BYTES,
    Doorway,
    connect,
)
from tests.unit.transport.recording import RecordingWire

REFUSED = '4{"message":"Authentication error","data":{"code":"%s"}}'


# coming in


async def test_who_proves_who_it_is_hears_connect_and_then_the_greeting(doorway: Doorway) -> None:
    visitor = doorway.open()

    await visitor.say(connect("alice"))

    (connection,) = doorway.house.hub.connections.values()
    session = connection.session
    assert session is not None
    assert visitor.heard[0] == f'0{{"sid":"{connection.sid}","pid":"{session.pid}"}}'
    assert visitor.events() == [
        [
            "authenticated",
            {"success": True, "userId": "alice", "email": None, "socketId": connection.sid},
            session.first_position,
        ]
    ]
    assert doorway.counted("connections_opened_total") == {"/ websocket": 1}
    assert doorway.counted("connections") == {"/": 1}


async def test_a_message_that_is_pushed_meanwhile_comes_after_the_greeting(
    doorway: Doorway,
) -> None:
    visitor = doorway.open()
    doorway.house.presence.gate.clear()
    connecting = asyncio.create_task(visitor.say(connect("alice")))
    await asyncio.wait_for(doorway.house.presence.entered.wait(), TIMEOUT_SECONDS)
    await push(doorway, "early")
    doorway.house.presence.gate.set()
    await connecting

    (connection,) = doorway.house.hub.connections.values()
    async with asyncio.timeout(TIMEOUT_SECONDS):
        while connection.state is not ConnectionState.LIVE:  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0)
    await push(doorway, "late")
    await doorway.house.wait_delivered()

    assert [packet.partition('"')[2].partition('"')[0] for packet in visitor.heard[:2]] == [
        "sid",
        "authenticated",
    ]
    assert [packet.partition("@")[0] for packet in visitor.heard[2:]] == ["early", "late"]


async def test_each_namespace_is_a_connection_of_its_own(doorway: Doorway) -> None:
    visitor = await doorway.welcomed()

    await visitor.say(connect("alice", "/events,"))

    assert visitor.heard[0].startswith('0/events,{"sid":')
    assert {made.namespace for made in doorway.house.hub.connections.values()} == {"/", "/events"}


async def test_who_proves_nothing_is_refused_and_let_go_five_seconds_later(doorway: Doorway) -> None:
    visitor = doorway.open()

    await visitor.say(connect("forged"))
    doorway.house.schedule.advance(4.9)
    before = list(visitor.writer.closed)
    doorway.house.schedule.advance(0.1)

    assert visitor.heard == [REFUSED % "token_signature_invalid"]
    assert (before, visitor.writer.closed) == ([], [1000])
    assert doorway.counted("connections_rejected_total") == {"token_signature_invalid": 1}
    assert await doorway.house.is_empty()


async def test_being_refused_again_and_again_wins_no_time(doorway: Doorway) -> None:
    visitor = doorway.open()

    for _ in range(4):
        await visitor.say("0/nowhere,")
        doorway.house.schedule.advance(1.5)

    assert visitor.writer.closed == [1000]


async def test_an_unknown_namespace_is_refused_in_the_words_of_the_reference_server(doorway: Doorway) -> None:
    visitor = doorway.open()

    await visitor.say(connect("alice", "/random,"))

    assert visitor.heard == ['4/random,{"message":"Invalid namespace"}']


async def test_who_is_refused_may_try_again_and_stays(doorway: Doorway) -> None:
    visitor = doorway.open()

    await visitor.say(connect("forged"), connect("alice"))
    doorway.house.schedule.advance(1000)

    assert visitor.writer.closed == []


async def test_a_token_of_the_handshake_is_taken_when_connect_brings_none(doorway: Doorway) -> None:
    visitor = doorway.open(query_token="alice")

    await visitor.say("0")

    assert visitor.heard[0].startswith("0{")


async def test_who_joins_nothing_is_let_go_after_the_connect_timeout(doorway: Doorway) -> None:
    visitor = doorway.open()

    doorway.house.schedule.advance(CONNECT_TIMEOUT_SECONDS - 1)
    before = list(visitor.writer.closed)
    doorway.house.schedule.advance(1)

    assert (before, visitor.writer.closed, len(doorway.house.schedule)) == ([], [1000], 0)


async def test_a_second_connect_to_a_namespace_closes_the_transport(doorway: Doorway) -> None:
    visitor = await doorway.welcomed()

    await visitor.say(connect("alice"))

    assert visitor.writer.closed == [1002]
    assert await doorway.house.is_empty()


async def test_a_second_connect_while_the_first_is_looked_at_closes_the_transport(doorway: Doorway) -> None:
    visitor = doorway.open()
    doorway.verifier.gate.clear()
    first = asyncio.create_task(visitor.say(connect("alice")))
    await asyncio.wait_for(doorway.verifier.entered.wait(), TIMEOUT_SECONDS)

    await visitor.say(connect("alice"))
    doorway.verifier.gate.set()
    await first

    assert (visitor.writer.closed, visitor.heard) == ([1002], [])
    assert await doorway.house.is_empty()
    assert len(doorway.house.schedule) == 0


@pytest.mark.parametrize("refused", [True, False])
async def test_who_leaves_while_its_token_is_looked_at_leaves_nothing_behind(
    doorway: Doorway, refused: bool
) -> None:
    visitor = doorway.open()
    doorway.verifier.gate.clear()
    connecting = asyncio.create_task(visitor.say(connect("forged" if refused else "alice")))
    await asyncio.wait_for(doorway.verifier.entered.wait(), TIMEOUT_SECONDS)

    visitor.session.lost("transport_close")
    doorway.verifier.gate.set()
    await connecting

    assert await doorway.house.is_empty()
    assert len(doorway.house.schedule) == 0


async def test_who_cannot_even_be_greeted_is_gone(doorway: Doorway) -> None:
    writer = RecordingWire()
    visitor = doorway.open(writer=writer)
    writer.waiting = 10_000

    with structlog.testing.capture_logs() as logs:
        await visitor.say(connect("alice"))

    assert (visitor.heard, writer.aborted) == ([], True)
    assert doorway.counted("connections_opened_total") == {}
    assert doorway.counted("connections_closed_total") == {}
    assert doorway.counted("connections_rejected_total") == {}
    assert [entry["event"] for entry in logs] == ["transport.unused"]
    assert await doorway.house.is_empty()
    assert len(doorway.house.schedule) == 0


@pytest.mark.parametrize(
    "failure", [BrokerUnavailable("away"), BrokerTimeout("?"), KeysUnavailable("none yet")]
)
async def test_when_something_is_away_the_transport_closes_so_that_the_client_comes_back(
    doorway: Doorway, failure: Exception
) -> None:
    visitor = doorway.open()
    doorway.verifier.fails = failure

    await visitor.say(connect("alice"))

    assert (visitor.heard, visitor.writer.closed) == ([], [1012])


async def test_a_bug_on_the_way_in_is_logged_and_the_client_comes_back(doorway: Doorway) -> None:
    visitor = doorway.open()
    doorway.verifier.fails = RuntimeError("a bug")

    with structlog.testing.capture_logs() as logs:
        await visitor.say(connect("alice"))

    assert visitor.writer.closed == [1012]
    assert ("connection.failed", "error") in [(entry["event"], entry["log_level"]) for entry in logs]
    assert doorway.counted("connections_rejected_total") == {"internal_error": 1}


# events


async def test_strangers_are_counted_until_they_join_or_go(doorway: Doorway) -> None:
    counts = [doorway.door.unauthenticated]
    joins, goes = doorway.open(), doorway.open()
    counts.append(doorway.door.unauthenticated)

    await joins.say(connect("forged"))
    counts.append(doorway.door.unauthenticated)
    await joins.say(connect("alice"), connect("alice", "/events,"))
    counts.append(doorway.door.unauthenticated)
    assert (joins.session.joined, goes.session.joined) == (True, False)
    goes.session.lost("transport_close")
    counts.append(doorway.door.unauthenticated)
    await joins.say("1", "1/events,")
    counts.append(doorway.door.unauthenticated)
    joins.session.lost("transport_close")
    counts.append(doorway.door.unauthenticated)

    assert counts == [0, 2, 2, 1, 0, 0, 0]


async def test_who_leaves_while_it_is_let_in_is_no_stranger_any_more(doorway: Doorway) -> None:
    visitor = doorway.open()
    doorway.verifier.gate.clear()
    connecting = asyncio.create_task(visitor.say(connect("alice")))
    await asyncio.wait_for(doorway.verifier.entered.wait(), TIMEOUT_SECONDS)

    visitor.session.lost("transport_close")
    doorway.verifier.gate.set()
    await connecting

    assert (doorway.door.unauthenticated, visitor.session.joined) == (0, False)


async def test_attachments_that_are_too_large_together_close_the_transport(doorway: Doorway) -> None:
    visitor = await doorway.welcomed()

    await visitor.say('53-["message"]', bytes(MAX_ATTACHMENTS_BYTES - 1), b"1")
    before = list(visitor.writer.closed)
    await visitor.say(b"2")

    assert (before, visitor.writer.closed) == ([], [1009])
    assert doorway.counted("connections_closed_total") == {"/ message_too_large": 1}
    assert doorway.door.unauthenticated == 0


async def test_an_event_that_nobody_knows_is_answered_where_an_answer_is_wanted(doorway: Doorway) -> None:
    visitor = await doorway.welcomed()

    await visitor.say('27["chat:message","hello"]')

    (answer,) = visitor.heard
    assert answer.startswith("37[")
    assert json.loads(answer[2:])[0]["error"]["code"] == "unknown_event"


async def test_without_an_acknowledgement_an_error_event_comes_at_most_once_a_second(
    doorway: Doorway,
) -> None:
    visitor = await doorway.welcomed()

    counts = []
    for seconds in (0, 0.5, 0.5, 10):
        doorway.house.schedule.advance(seconds)
        await visitor.say('2["chat:message"]', '2["chat:message"]')
        counts.append(len(visitor.events()))

    assert counts == [1, 1, 2, 3]
    name, payload = visitor.events()[0]
    assert isinstance(payload, dict)
    assert (name, payload["status"], payload["code"]) == ("error", "error", "unknown_event")


async def test_an_event_before_anything_was_joined_closes_the_transport(doorway: Doorway) -> None:
    visitor = doorway.open()

    await visitor.say('2["auth:refresh","alice"]')

    assert visitor.writer.closed == [1002]


async def test_an_event_that_crosses_a_kick_breaks_nothing_and_another_namespace_can_be_joined(
    doorway: Doorway,
) -> None:
    visitor = await doorway.welcomed()
    await doorway.house.publisher.disconnect_user("alice", namespace="/", exclude=frozenset(), revoke=False)
    await doorway.house.wait_delivered()

    await visitor.say('2["late"]', connect("alice", "/events,"))

    assert visitor.writer.closed == []
    assert [connection.namespace for connection in doorway.house.hub.connections.values()] == ["/events"]


async def test_an_event_to_a_namespace_that_was_just_left_is_ignored_while_another_is_joined(
    doorway: Doorway,
) -> None:
    visitor = await doorway.welcomed()
    await visitor.say(connect("alice", "/events,"), "1/events,", '2/events,["late"]')

    assert visitor.writer.closed == []


@pytest.mark.parametrize("packet", ["x", "2{}", b"\x01", "2" + "[" * 100_000, '511-["m"]'])
async def test_a_malformed_packet_closes_the_transport_and_leaves_nothing(
    doorway: Doorway, packet: str | bytes
) -> None:
    visitor = await doorway.welcomed()

    await visitor.say(packet)

    assert visitor.writer.closed == [1002]
    assert await doorway.house.is_empty()


# a newer token


async def refresh(doorway: Doorway, *arguments: object) -> dict[str, object]:
    visitor = await doorway.welcomed()
    await visitor.say("21" + json.dumps(["auth:refresh", *arguments]))
    (answer,) = visitor.heard
    body: list[dict[str, object]] = json.loads(answer[2:])
    return body[0]


async def test_a_newer_token_is_taken_and_its_end_told(doorway: Doorway) -> None:
    doorway.verifier.known["newer"] = doorway.house.identity("alice", "org:8", expires_in=600)

    answer = await refresh(doorway, "newer")

    assert answer["ok"] is True
    assert str(answer["expiresAt"]).endswith("Z")
    assert len(doorway.house.schedule) == 1
    assert doorway.counted("token_refreshes_total") == {"refreshed": 1}


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
async def test_a_token_that_is_no_good_changes_nothing(
    doorway: Doorway, arguments: list[object], code: str
) -> None:
    doorway.verifier.known["bob"] = doorway.house.identity("bob")

    answer = await refresh(doorway, *arguments)

    assert (answer["ok"], answer["code"]) == (False, code)
    assert doorway.counted("token_refreshes_total") == {code: 1}


async def test_a_bug_while_a_token_is_looked_at_is_logged_and_answered(doorway: Doorway) -> None:
    visitor = await doorway.welcomed()
    doorway.verifier.fails = RuntimeError("a bug")

    with structlog.testing.capture_logs() as logs:
        await visitor.say('21["auth:refresh","alice"]')

    assert '"code":"internal_error"' in visitor.heard[0]
    assert visitor.writer.closed == []
    assert [entry["event"] for entry in logs if entry["log_level"] == "error"] == ["refresh.failed"]
    assert doorway.counted("token_refreshes_total") == {"internal_error": 1}


# going out


async def test_leaving_a_namespace_leaves_the_others(doorway: Doorway) -> None:
    visitor = await doorway.welcomed()
    await visitor.say(connect("alice", "/events,"))

    await visitor.say("1/events,")
    doorway.house.schedule.advance(100)

    assert [made.namespace for made in doorway.house.hub.connections.values()] == ["/"]
    assert visitor.writer.closed == []


async def test_who_leaves_the_last_namespace_is_let_go_five_seconds_later(doorway: Doorway) -> None:
    visitor = await doorway.welcomed()

    await visitor.say("1")
    doorway.house.schedule.advance(5)

    assert visitor.writer.closed == [1000]
    assert doorway.counted("connections_closed_total") == {"/ client_disconnect": 1}
    assert await doorway.house.is_empty()


async def test_a_transport_that_goes_takes_all_its_connections_with_it(doorway: Doorway) -> None:
    visitor = await doorway.welcomed()
    await visitor.say(connect("alice", "/events,"))
    await visitor.say('51-["half"]')

    visitor.session.lost("transport_close")

    assert doorway.counted("connections_closed_total") == {
        "/ transport_close": 1,
        "/events transport_close": 1,
    }
    assert doorway.counted("connections") == {}
    assert await doorway.house.is_empty()
    assert len(doorway.house.schedule) == 0


@pytest.mark.parametrize(
    ("ending", "said", "closed", "aborted"),
    [
        (DISCONNECTED_BY_BACKEND, ["error", "goodbye"], [], False),
        (REVOKED, ["error", "goodbye"], [], False),
        (RATE_LIMITED, ["error", "goodbye"], [], False),
        (TOKEN_EXPIRED, [], [4401], False),
        (DRAINING, [], [1012], False),
        (SLOW_CONSUMER, [], [], True),
    ],
    ids=lambda value: value.reason if isinstance(value, DisconnectReason) else "",
)
async def test_a_connection_ends_as_the_table_of_endings_has_it(
    doorway: Doorway, ending: DisconnectReason, said: list[str], closed: list[int], aborted: bool
) -> None:
    visitor = await doorway.welcomed()
    (connection,) = doorway.house.hub.connections.values()

    connection.transport.disconnect(ending)

    heard = ["goodbye" if packet == "1" else json.loads(packet[1:])[0] for packet in visitor.heard]
    assert (heard, visitor.writer.closed, visitor.writer.aborted) == (said, closed, aborted)
    assert doorway.counted("connections_closed_total") == {f"/ {ending.reason}": 1}
    assert await doorway.house.is_empty()


async def test_what_ends_a_transport_takes_all_its_connections_out_at_once_though_nobody_polls(
    doorway: Doorway,
) -> None:
    await doorway.polling("/", "/events")
    first = next(iter(doorway.house.hub.connections.values()))

    first.transport.disconnect(TOKEN_EXPIRED)

    assert doorway.house.hub.connections == {}
    assert await doorway.house.is_empty()


async def test_a_kick_reaches_the_client_and_its_transport_closes_later(doorway: Doorway) -> None:
    visitor = await doorway.welcomed()

    await doorway.house.publisher.disconnect_user("alice", namespace=None, exclude=frozenset(), revoke=False)
    await doorway.house.wait_delivered()
    doorway.house.schedule.advance(5)

    assert visitor.events() == [["error", {"code": "kicked", "message": DISCONNECTED_BY_BACKEND.message}]]
    assert visitor.heard[-1] == "1"
    assert visitor.writer.closed == [1000]


async def test_an_upgrade_is_told_for_every_connection(doorway: Doorway) -> None:
    visitor = await doorway.welcomed()
    await visitor.say(connect("alice", "/events,"))

    doorway.door.session_upgraded(visitor.session)

    assert [made.namespace for made in doorway.upgraded] == ["/", "/events"]


# flooding


async def test_who_floods_is_told_and_put_out() -> None:
    doorway = Doorway(messages_per_second=10)
    visitor = await doorway.welcomed()

    for _ in range(50):
        await visitor.say('2["chat:message"]')

    assert visitor.events()[-1][0] == "error"
    assert '"rate_limited"' in visitor.heard[-2]
    assert (visitor.heard[-1], visitor.writer.closed) == ("1", [1000])
    assert await doorway.house.is_empty()
    await doorway.house.close()


async def test_who_keeps_to_the_rate_stays() -> None:
    doorway = Doorway(messages_per_second=10)
    visitor = await doorway.welcomed()

    for _ in range(200):
        doorway.house.schedule.advance(0.1)
        await visitor.say('2["chat:message"]')

    assert visitor.writer.closed == []
    await doorway.house.close()


async def test_who_floods_before_it_is_in_is_closed() -> None:
    doorway = Doorway(messages_per_second=10)
    visitor = doorway.open()

    for _ in range(50):
        await visitor.say(connect("forged"))

    assert visitor.writer.closed == [1000]
    assert await doorway.house.is_empty()
    await doorway.house.close()


async def push(doorway: Doorway, event: str) -> None:
    await doorway.house.publisher.publish(Message(new_id(), "/", ("user:alice",), event, ()))
