"""Presence as backends see it: exact while clients connect, upgrade their transport and disconnect in every way."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import datetime
from typing import Any

import aiohttp
import pytest

from tests.support.clients import Clients, NodeClients
from tests.support.gateway_process import GatewayProcess
from tests.support.ports import free_port
from tests.support.raw_clients import RawPolling, RawSocket
from tests.support.redis_server import RedisServer
from tests.support.waiter import wait_until


def wait_until_closed(gateway: GatewayProcess, sid: str) -> None:
    """Wait until the gateway has logged the end of this connection."""
    gateway.log.wait(lambda line: line.get("event") == "connection.closed" and line["sid"] == sid)


def transports(gateway: GatewayProcess, user: str) -> dict[str, str]:
    """The transport of each connection of the user, by ``sid``."""
    return {each["sid"]: each["transport"] for each in gateway.backend.presence(user)["connections"]}


def unix_seconds(timestamp: str) -> float:
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", timestamp)
    return datetime.fromisoformat(timestamp).timestamp()


def test_user_who_never_connected_is_offline_and_has_no_last_seen(
    gateway_process: GatewayProcess, user: str
) -> None:
    assert gateway_process.backend.presence(user) == {
        "user": user,
        "online": False,
        "recoverable": 0,
        "connections": [],
        "last_seen": None,
    }
    assert gateway_process.push_user(user, "note")["online"] is False


@pytest.mark.parametrize("letter", ["x", "ü", "😀"])
def test_user_id_of_255_characters_works_everywhere(
    own_redis: RedisServer, clients: Clients, letter: str
) -> None:
    gateway = GatewayProcess(redis_url=own_redis.url, room_claims="realm_access.roles=role:,team=team:")
    user = letter * 255
    try:
        content = {"realm_access": {"roles": ["admin"]}, "team": letter * 100, "role": {"not": "a room"}}
        client = clients.open(gateway.url, token=gateway.token(user, **content)).connected()
        backend = gateway.backend

        assert backend.presence(user)["online"] is True
        answers = [
            backend.push_user(user, "note", 1),
            backend.push_room(f"user:{user}", "note", 2),
            backend.push_room([f"team:{letter * 100}", "role:admin"], "note", 3),
            backend.push_room("role:admin", "note", 4, **{"except": [f"user:{user}"]}),
        ]
        assert [answer.status for answer in answers] == [200] * 4
        gateway.wait_until_delivered(client)
        assert client.events("note") == [[1], [2], [3]]
        assert backend.push_user(letter * 256, "note").status == 400
        assert backend.push_user(user + "e\u0301", "note").status == 400
        assert backend.disconnect(user).body == {"disconnected": 1}
        client.wait("disconnect")
    finally:
        assert gateway.stop() == 0
    assert gateway.failures() == []


def test_each_device_and_namespace_is_a_connection_until_it_disconnects(
    gateway_process: GatewayProcess, clients: Clients, user: str
) -> None:
    gateway, started = gateway_process, time.time()
    token = gateway.token(user)
    phone = clients.open(gateway.url, token=token, transports=["polling"]).connected()
    main, events = clients.open_together(gateway.url, ["/", "/events"], token=token, transports=["websocket"])
    main.connected()
    events.connected()

    presence = gateway.backend.presence(user)

    assert (presence["user"], presence["online"], presence["last_seen"]) == (user, True, None)
    found = {each["sid"]: each for each in presence["connections"]}
    assert {sid: (each["namespace"], each["transport"]) for sid, each in found.items()} == {
        phone.sid: ("/", "polling"),
        main.sid: ("/", "websocket"),
        events.sid: ("/events", "websocket"),
    }
    assert len({each["replica"] for each in found.values()}) == 1
    assert all(started - 1 < unix_seconds(each["connected_at"]) < time.time() + 1 for each in found.values())
    assert [each["connected_at"] for each in presence["connections"]] == sorted(
        each["connected_at"] for each in found.values()
    )

    counts = {
        namespace: gateway.push_user(user, "note", namespace=namespace) for namespace in ("/", "/events")
    }
    assert {namespace: push["connections"] for namespace, push in counts.items()} == {"/": 2, "/events": 1}
    phone.disconnect()
    wait_until_closed(gateway, phone.sid)
    assert set(transports(gateway, user)) == {main.sid, events.sid}
    main.disconnect()
    events.disconnect()
    wait_until_closed(gateway, main.sid)
    wait_until_closed(gateway, events.sid)
    presence = gateway.backend.presence(user)
    assert (presence["online"], presence["connections"]) == (False, [])
    assert started < unix_seconds(presence["last_seen"]) < time.time() + 1
    assert gateway.push_user(user, "note")["connections"] == 0


def test_upgrade_changes_the_transport_and_nothing_else(
    gateway_process: GatewayProcess, node: NodeClients, user: str
) -> None:
    gateway = gateway_process
    client = node.open(gateway.url, token=gateway.token(user)).connected()
    client.wait("upgrade")
    gateway.wait_until_delivered(client)  # it sends on the WebSocket only after it has processed the upgrade

    presence = gateway.backend.presence(user)["connections"]

    assert [(each["sid"], each["transport"]) for each in presence] == [(client.sid, "websocket")]
    client.disconnect()


async def test_presence_shows_the_websocket_only_when_the_upgrade_is_complete(
    gateway_process: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    gateway = gateway_process
    polling = await RawPolling(http, gateway.url).open()
    sid = (await polling.join(gateway.token(user)))["socketId"]
    assert transports(gateway, user) == {sid: "polling"}

    socket = await http.ws_connect(polling.address.replace("transport=polling", "transport=websocket"))
    await socket.send_str("2probe")
    assert await socket.receive_str() == "3probe"
    assert transports(gateway, user) == {sid: "polling"}
    assert gateway.push_user(user, "while it upgrades")["connections"] == 1
    await socket.send_str("5")

    assert await socket.receive_str() == '42["while it upgrades",null]'
    assert transports(gateway, user) == {sid: "websocket"}
    await socket.close()
    await asyncio.to_thread(wait_until_closed, gateway, sid)
    assert gateway.backend.presence(user)["online"] is False


async def test_failed_upgrade_leaves_the_connection_on_polling(
    gateway_process: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    gateway = gateway_process
    polling = await RawPolling(http, gateway.url).open()
    sid = (await polling.join(gateway.token(user)))["socketId"]
    socket = await http.ws_connect(polling.address.replace("transport=polling", "transport=websocket"))
    await socket.send_str("2probe")
    assert await socket.receive_str() == "3probe"

    await socket.close()

    gateway.push_user(user, "note", 1)
    packets: list[str] = []
    while len(packets) < 1:
        packets += [packet for packet in await polling.packets() if packet != "6"]
    assert packets == ['42["note",1]']
    assert transports(gateway, user) == {sid: "polling"}
    await polling.close()


async def test_connections_that_end_abruptly_are_removed_from_presence(
    gateway_process: GatewayProcess, http: aiohttp.ClientSession, user: str
) -> None:
    gateway = gateway_process
    socket, polling = await RawSocket.open(http, gateway.url), await RawPolling(http, gateway.url).open()
    stays = await RawSocket.open(http, gateway.url)
    sids = [(await each.join(gateway.token(user)))["socketId"] for each in (socket, polling, stays)]
    assert set(transports(gateway, user)) == set(sids)

    socket.abort()
    with pytest.raises(TimeoutError):
        await polling.poll(0.1)

    for sid in sids[:2]:
        await asyncio.to_thread(wait_until_closed, gateway, sid)
    assert transports(gateway, user) == {sids[2]: "websocket"}
    assert gateway.backend.presence(user)["last_seen"] is None


@pytest.mark.parametrize(
    ("fields", "disconnected"),
    [
        ({}, {"phone", "laptop", "events"}),
        ({"namespace": "/"}, {"phone", "laptop"}),
        ({"namespace": "/notifications"}, set()),
        ({"except": ["phone"]}, {"laptop", "events"}),
        ({"except": ["phone", "laptop"], "namespace": "/"}, set()),
        ({"except": ["role:USER-boss"]}, {"phone", "events"}),
    ],
)
def test_disconnect_request_ends_the_connections_that_it_selects(
    gateway_process: GatewayProcess,
    node: NodeClients,
    user: str,
    fields: dict[str, Any],
    disconnected: set[str],
) -> None:
    gateway, token = gateway_process, gateway_process.token(user)
    boss = gateway.token(user, role=f"{user}-boss")
    clients = {
        "phone": node.open(gateway.url, token=token, transports=["polling"]),
        "laptop": node.open(gateway.url, token=boss, transports=["websocket"]),
        "events": node.open(gateway.url, token=token, namespace="/events", transports=["websocket"]),
    }
    sids = {name: client.connected().sid for name, client in clients.items()}
    excepted = [sids.get(name, name.replace("USER", user)) for name in fields.get("except", ())]

    answer = gateway.backend.disconnect(user, **(fields | ({"except": excepted} if excepted else {}))).body

    # The answer is given before it is known how many excepted connections are the user's. With `except`, it contains
    # an upper bound and `exact: false`.
    in_namespace = sum(fields.get("namespace", each) == each for each in ("/", "/", "/events"))
    assert answer == {"disconnected": in_namespace} | ({"exact": False} if excepted else {})
    for name in disconnected:
        assert clients[name].wait("disconnect")["reason"] == "io server disconnect"
        wait_until_closed(gateway, sids[name])
    assert set(transports(gateway, user)) == {sid for name, sid in sids.items() if name not in disconnected}
    for name, client in clients.items():
        if name not in disconnected:
            gateway.wait_until_delivered(client, namespace="/events" if name == "events" else "/")
            assert not [entry for entry in client.entries if entry["type"] == "disconnect"]
        client.disconnect()


def test_client_that_lost_its_connection_is_recoverable_until_it_resumes(
    gateway_process: GatewayProcess, node: NodeClients, user: str
) -> None:
    gateway = gateway_process

    def counted() -> list[tuple[int, int]]:
        """Connections and recoverable ones, as a push and the presence report them."""
        pushed, shown = gateway.push_user(user, "note"), gateway.backend.presence(user)
        return [
            (pushed["connections"], pushed["recoverable"]),
            (len(shown["connections"]), shown["recoverable"]),
        ]

    client = node.open(gateway.url, token=gateway.token(user), transports=["websocket"]).connected()
    assert counted() == [(1, 0)] * 2

    client.close_engine(f"http://127.0.0.1:{free_port()}")
    wait_until_closed(gateway, client.sid)
    wait_until(lambda: counted() == [(0, 1)] * 2, "the session is parked")
    client.set_url(gateway.url)
    wait_until(lambda: counted() == [(1, 0)] * 2, "the session is resumed")

    client.disconnect()
    wait_until(lambda: counted() == [(0, 0)] * 2, "the session is deleted")
