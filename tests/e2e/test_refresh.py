"""Events of a client: ``auth:refresh`` with a newer token for its connection; any other is answered with an error."""

from __future__ import annotations

import json
import time
from typing import Any

import aiohttp
import pytest

from tests.support.clients import Clients, NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_clients import RawSocket

TRANSPORTS = pytest.mark.parametrize("transport", ["polling", "websocket"])


@TRANSPORTS
def test_newer_token_extends_the_connection_and_changes_its_rooms_at_once(
    gateway_process: GatewayProcess, clients: Clients, transport: str, user: str
) -> None:
    gateway, before, after, kept = gateway_process, f"{user}-author", f"{user}-editor", f"{user}-reader"
    client = clients.open(
        gateway.url, token=gateway.token(user, role=[before, kept]), transports=[transport]
    ).connected()
    ends_at = int(time.time()) + 7200

    answer = client.emit_with_ack("auth:refresh", gateway.token(user, exp=ends_at, role=[kept, after]))

    assert answer == {"ok": True, "expiresAt": time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(ends_at))}
    pushes = {
        name: gateway.backend.push_room(f"role:{name}", "note", name).body for name in (before, kept, after)
    }
    gateway.wait_until_delivered(client)
    assert {name: push["connections"] for name, push in pushes.items()} == {before: 0, kept: 1, after: 1}
    assert client.events("note") == [[kept], [after]]
    client.disconnect()


def test_newer_token_postpones_the_end_of_the_connection(
    gateway_process: GatewayProcess, clients: Clients, user: str
) -> None:
    gateway, first_end = gateway_process, time.time() + 8
    client = clients.open(gateway.url, token=gateway.token(user, exp=first_end)).connected()
    client.event("auth:expiring")

    assert client.emit_with_ack("auth:refresh", gateway.token(user))["ok"] is True

    with pytest.raises(AssertionError, match="not within"):
        client.event("auth:expired", timeout=max(0, first_end + 0.2 - time.time()))
    gateway.wait_until_delivered(client)
    client.disconnect()


def test_newer_token_may_have_bearer_in_front(
    gateway_process: GatewayProcess, clients: Clients, user: str
) -> None:
    client = clients.open(gateway_process.url, token=gateway_process.token(user)).connected()

    answer = client.emit_with_ack("auth:refresh", f"Bearer {gateway_process.token(user)}")

    assert answer["ok"] is True
    client.disconnect()


@pytest.mark.parametrize(
    ("shown", "code"),
    [
        (["ANOTHER"], "token_invalid"),
        (["EXPIRED"], "token_expired"),
        (["CUT"], "token_signature_invalid"),
        (["word"], "token_malformed"),
        ([""], "token_malformed"),
        ([], "token_malformed"),
        ([None], "token_malformed"),
        ([{"token": "GOOD"}], "token_malformed"),
        (["GOOD", "GOOD"], "token_malformed"),
    ],
)
def test_bad_newer_token_is_rejected_and_changes_nothing(
    gateway_process: GatewayProcess, node: NodeClients, shown: list[Any], code: str, user: str
) -> None:
    gateway = gateway_process
    tokens = {
        "ANOTHER": gateway.token(f"{user}-else"),
        "EXPIRED": gateway.token(user, lifetime_seconds=-1),
        "CUT": gateway.token(user)[:-3],
        "GOOD": gateway.token(user),
    }
    client = node.open(gateway.url, token=gateway.token(user, role=f"{user}-author")).connected()

    answer = client.emit_with_ack(
        "auth:refresh", *[tokens.get(each, each) if isinstance(each, str) else each for each in shown]
    )

    assert (answer["ok"], answer["code"], set(answer)) == (False, code, {"ok", "code", "message"})
    gateway.backend.push_room(f"role:{user}-author", "note", 1)
    assert client.event("note") == [1]
    client.disconnect()


def test_newer_token_that_was_revoked_is_rejected(
    gateway_process: GatewayProcess, node: NodeClients, user: str
) -> None:
    gateway = gateway_process
    old = gateway.token(user)
    gateway.backend.disconnect(user, revoke=True)
    client = node.open(gateway.url, token=gateway.token(user, iat=time.time())).connected()

    assert client.emit_with_ack("auth:refresh", old)["code"] == "token_revoked"
    client.disconnect()


def test_refresh_changes_only_the_namespace_it_was_sent_in(
    gateway_process: GatewayProcess, node: NodeClients, user: str
) -> None:
    gateway = gateway_process
    main, events = node.open_together(gateway.url, ["/", "/events"], token=gateway.token(user))
    for client in (main.connected(), events.connected()):
        assert (
            client.emit_with_ack("auth:refresh", gateway.token(user, role=f"{user}-{client is main}"))["ok"]
            is True
        )

    for name, expected in ((f"role:{user}-True", (1, 0)), (f"role:{user}-False", (0, 1))):
        counts = [
            gateway.backend.push_room(name, "note", namespace=each).body["connections"]
            for each in ("/", "/events")
        ]
        assert tuple(counts) == expected
    main.disconnect()
    events.disconnect()


@TRANSPORTS
def test_unknown_events_get_an_error_in_each_ack_and_one_error_event(
    gateway_process: GatewayProcess, clients: Clients, transport: str, user: str
) -> None:
    client = clients.open(
        gateway_process.url, token=gateway_process.token(user), transports=[transport], namespace="/events"
    ).connected()

    answer = client.emit_with_ack("chat:send", {"text": "hello"}, 2)
    for number in range(10):
        client.emit("chat:send", number)

    assert set(answer) == {"error"}
    assert answer["error"]["code"] == "unknown_event"
    assert client.emit_with_ack("chat:send")["error"]["code"] == "unknown_event"  # answered after the ten
    errors = client.events("error")
    assert len(errors) == 1
    assert errors[0][0] == {"status": "error", "code": "unknown_event", "message": answer["error"]["message"]}
    client.disconnect()


def test_error_events_for_unknown_events_are_at_least_one_second_apart(
    gateway_process: GatewayProcess, node: NodeClients, user: str
) -> None:
    client = node.open(gateway_process.url, token=gateway_process.token(user)).connected()
    began = time.monotonic()

    while len(client.events("error")) < 3:
        client.emit("chat:send")
        time.sleep(0.02)
    assert client.emit_with_ack("chat:send")["error"]["code"] == "unknown_event"  # answered after all of them

    errors = client.events("error")
    assert len(errors) <= 1 + (time.monotonic() - began)
    assert {each[0]["code"] for each in errors} == {"unknown_event"}
    client.disconnect()


async def test_answers_to_client_events_have_exactly_these_bytes(
    gateway_process: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    socket = await RawSocket.open(http, gateway_process.url)
    await socket.join(gateway_process.token(user))
    await socket.join(gateway_process.token(user), "/events")
    message = "the gateway does not know this event; backends push over REST"

    await socket.send(
        '420["x",1]', '42/events,17["x"]', f"421{json.dumps(['auth:refresh', 'no'])}", '42["x"]'
    )

    unknown = '{"code":"unknown_event","message":"' + message + '"}'
    assert await socket.frame() == f'430[{{"error":{unknown}}}]'
    assert await socket.frame() == f'43/events,17[{{"error":{unknown}}}]'
    rejected = json.loads((await socket.frame()).removeprefix("431"))
    assert rejected == [
        {"ok": False, "code": "token_malformed", "message": "this is not a signed JSON Web Token"}
    ]
    assert (
        await socket.frame()
        == f'42["error",{{"status":"error","code":"unknown_event","message":"{message}"}}]'
    )
